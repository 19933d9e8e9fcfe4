"""Every event reaches every endpoint that asked for it, at least once, under the same id, whoever dies on the way."""

import asyncio
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY
from standardwebhooks import Webhook

from growth.plumbing.outbox import outbox
from growth.plumbing.outbox.cloud_events import MEDIA_TYPE
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import AuditFilter
from growth.vocabulary.clock import rfc3339
from growth.vocabulary.events.group_buy import GroupBuyPaused
from growth.vocabulary.refusals import Refusal, Unavailable
from growth.webhook import model
from growth.webhook import store as endpoints_store
from growth.webhook.delivery import courier as courier_module
from growth.webhook.delivery import sender as sender_module
from growth.webhook.delivery import store
from growth.webhook.delivery.sender import AHEAD, LEASE_SECONDS, SLOTS
from growth.webhook.model import MAX_ATTEMPTS
from tests.patience import PATIENCE_SECONDS
from tests.webhook.conftest import SOURCE, Room, paused
from tests.webhook.receiving import Heard, answers, hangs, receiving, settled

pytestmark = pytest.mark.anyio


async def test_an_event_arrives_as_a_signed_cloud_event(room: Room) -> None:
    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        event = paused("sale-1")
        await room.happens(event)
        assert await room.sends() == 1
        (heard,) = receiver.heard
    assert endpoint.secret is not None
    told = Webhook(endpoint.secret).verify(heard.body, heard.headers)
    assert told == {
        "specversion": "1.0",
        "id": heard.headers["webhook-id"],
        "source": SOURCE,
        "type": "flash_sale.paused",
        "time": rfc3339(event.at),
        "subject": "sale-1",
        "datacontenttype": "application/json",
        "data": {"sale_id": "sale-1"},
    }
    assert heard.headers["content-type"] == MEDIA_TYPE
    delivery = await room.only(endpoint.endpoint_id)
    assert (delivery.state, delivery.attempts, delivery.event_id) == ("delivered", 1, told["id"])
    assert [(one.status, one.error) for one in delivery.log] == [(200, None)]


async def test_an_endpoint_gets_what_it_asked_for_and_each_gets_its_own(room: Room) -> None:
    async with receiving() as everything, receiving() as group_buys:
        await room.endpoint(everything)
        await room.endpoint(group_buys, "group_buy.*", "flash_sale.ended")
        at = room.hands.now()
        await room.happens(paused("s"), GroupBuyPaused(at=at, group_buy_id="g"))
        assert await room.sends() == 3
    assert [heard.event["type"] for heard in group_buys.heard] == ["group_buy.paused"]
    assert {heard.event["subject"] for heard in everything.heard} == {"s", "g"}


async def test_an_event_is_queued_once_however_often_the_projection_is_handed_it(room: Room) -> None:
    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(*(paused(number) for number in range(20)))
        await room.database.fetchval("DELETE FROM plumbing.cursors RETURNING 1")
        await room.queue_all()
        assert await room.sends() == 20
    assert len(set(receiver.ids)) == len(receiver.ids) == 20
    assert len(await room.log(endpoint.endpoint_id)) == 20


async def test_nothing_is_queued_when_the_cursors_transaction_fails(room: Room) -> None:
    async def fails(tx: object, envelopes: object) -> None:
        await room.queue.take(tx, envelopes)  # type: ignore[arg-type]
        raise Unavailable("just before COMMIT")

    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        async with room.database.transaction() as tx:
            await outbox.emit(tx, paused())
        with pytest.raises(Unavailable, match="COMMIT"):
            await outbox.deliver(room.database, Subscription("shop.webhook_queue", None, fails))
        assert await room.log(endpoint.endpoint_id) == []
        await room.queue_all()
        assert await room.sends() == 1


async def test_what_fails_is_tried_again_on_schedule_under_the_same_id_until_it_is_taken(room: Room) -> None:
    async with receiving(answers("500 Oops")) as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused())
        assert await room.sends() == 1
        assert await room.sends() == 0
        for wait in model.RETRY_SECONDS[:3]:
            room.later(seconds=wait - 1)
            assert await room.sends() == 0
            room.later(seconds=1 + wait * model.JITTER_SHARE)
            assert await room.sends() == 1
        receiver.behave = answers("204 No Content")
        room.later(hours=3)
        assert await room.sends() == 1
        room.later(days=3)
        assert await room.sends() == 0
    assert len(set(receiver.ids)) == 1
    assert len({heard.body for heard in receiver.heard}) == 1
    assert len({heard.headers["webhook-timestamp"] for heard in receiver.heard}) == 5
    delivery = await room.only(endpoint.endpoint_id)
    assert [one.status for one in delivery.log] == [500, 500, 500, 500, 204]
    assert (delivery.state, delivery.attempts) == ("delivered", 5)


async def test_a_receiver_that_asks_for_peace_gets_it(room: Room) -> None:
    async with receiving(answers("429 Slow Down", b"", "retry-after: 3600")) as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused())
        await room.sends()
    delivery = await room.only(endpoint.endpoint_id)
    assert delivery.next_try_at is not None
    wait = delivery.next_try_at - delivery.log[0].at
    assert timedelta(hours=1) <= wait <= timedelta(hours=1.3)


@pytest.mark.parametrize(
    "when",
    [
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "9" * 60,
        "-3",
        "\u00b2",
        "Mon, 99 Foo 2026 99:99:99 GMT",
        ",",
    ],
)
async def test_no_header_of_an_answer_changes_whether_it_was_delivered(room: Room, when: str) -> None:
    header = f"retry-after: {when}"
    async with receiving(answers("200 OK", b"", header)) as taken, receiving(answers("503 No", b"", header)) as busy:
        good, bad = await room.endpoint(taken), await room.endpoint(busy)
        await room.happens(paused())
        await room.sends()
        assert (await room.only(good.endpoint_id)).state == "delivered"
        assert len(taken.heard) == 1
    delivery = await room.only(bad.endpoint_id)
    assert [one.error for one in delivery.log] == ["status"]
    assert delivery.state == "pending"


async def test_after_a_day_of_failures_a_last_try_disables_the_endpoint_with_notice(room: Room) -> None:
    before = REGISTRY.get_sample_value("growth_webhook_disabled_total", {"reason": "failing"}) or 0
    async with receiving(answers("503 No")) as receiver, receiving() as other:
        endpoint = await room.endpoint(receiver, "flash_sale.*")
        watcher = await room.endpoint(other, "webhook.*")
        await room.happens(paused())
        for attempt in range(MAX_ATTEMPTS):
            assert (await room.webhooks.find(endpoint.endpoint_id)).state == "enabled"
            assert await room.sends() == 1, attempt
            room.later(hours=30)
        disabled = await room.webhooks.find(endpoint.endpoint_id)
        assert (disabled.state, disabled.reason, disabled.failures) == ("disabled", "failing", MAX_ATTEMPTS)
        assert (await room.only(endpoint.endpoint_id)).state == "exhausted"
        # Notice: an event to whoever listens, an audit entry, a metric.
        await room.queue_all()
        await room.sends()
    assert [heard.event["data"] for heard in other.heard] == [
        {"endpoint_id": endpoint.endpoint_id, "url": receiver.url, "reason": "failing"}
    ]
    entries = await audit.page(room.database, AuditFilter(action="webhook.disable"), before_entry=None, limit=9)
    assert [(entry.subject, entry.operator) for entry in entries] == [(endpoint.endpoint_id, "(growth itself)")]
    assert REGISTRY.get_sample_value("growth_webhook_disabled_total", {"reason": "failing"}) == before + 1
    assert (await room.webhooks.find(watcher.endpoint_id)).state == "enabled"


async def test_an_endpoint_through_which_something_comes_is_not_given_up(room: Room) -> None:
    """One event that the receiver always chokes on does not take the others down with it."""

    async def picky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard) -> None:
        bad = heard.event["subject"] == "bad"
        await answers("500 Oops" if bad else "200 OK")(reader, writer, heard)

    async with receiving(picky) as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused("bad"))
        for _ in range(MAX_ATTEMPTS):
            await room.happens(paused("good", room.hands.now()))
            assert await room.sends() == 2
            room.later(hours=30)
        states = [one.state for one in await room.log(endpoint.endpoint_id)]
        assert (states.count("exhausted"), states.count("delivered")) == (1, MAX_ATTEMPTS)
        assert (await room.webhooks.find(endpoint.endpoint_id)).state == "enabled"


async def test_gone_disables_at_once_and_enabling_sends_what_waited(room: Room) -> None:
    async with receiving(answers("410 Gone")) as receiver:
        endpoint = await room.endpoint(receiver, "flash_sale.*")
        await room.happens(paused("first"))
        await room.sends()
        assert (await room.webhooks.find(endpoint.endpoint_id)).reason == "gone"
        await room.happens(paused("meanwhile"))
        room.later(days=1)
        assert await room.sends() == 0
        receiver.behave = answers()
        enabled = await room.webhooks.enable(room.act(), endpoint.endpoint_id)
        assert (enabled.state, enabled.reason, enabled.failures) == ("enabled", None, 0)
        await room.happens(paused("after"))
        assert await room.sends() == 1
        assert [heard.event["subject"] for heard in receiver.heard] == ["first", "after"]
        # What happened meanwhile was not queued; the range brings it, and what was given up.
        until = room.hands.now() + timedelta(minutes=1)
        since = until - timedelta(hours=25)
        with pytest.raises(Refusal):
            await room.deliveries.redeliver_range(room.act(), endpoint.endpoint_id, since, until, None, None)
        since = room.hands.now() - timedelta(days=1, minutes=1)
        answer = await room.deliveries.redeliver_range(
            room.act(), endpoint.endpoint_id, since, since + timedelta(days=1), None, None
        )
        assert answer == (3, 3, None)
        assert await room.sends() == 3
    assert [heard.event["subject"] for heard in receiver.heard][2:] == ["first", "meanwhile", "after"]


async def test_pending_deliveries_of_a_disabled_endpoint_wait_for_it(room: Room) -> None:
    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused())
        await room.webhooks.disable(room.act(), endpoint.endpoint_id)
        assert await room.sends() == 0
        with pytest.raises(Refusal):
            await room.webhooks.disable(room.act(), endpoint.endpoint_id)
        await room.webhooks.enable(room.act(), endpoint.endpoint_id)
        with pytest.raises(Refusal):
            await room.webhooks.enable(room.act(), endpoint.endpoint_id)
        assert await room.sends() == 1
        await room.webhooks.delete(room.act(), endpoint.endpoint_id)
        await room.happens(paused("later"))
        assert await room.sends() == 0
    assert await room.database.fetchval("SELECT count(*) FROM webhook.secrets") == 0


async def test_a_worker_killed_between_send_and_record_sends_again_under_the_same_id(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused())

        async def dies(*_: object) -> None:
            raise asyncio.CancelledError

        with monkeypatch.context() as patched:
            patched.setattr(store, "write_down", dies)
            patched.setattr(sender_module, "RECORD_PAUSE_SECONDS", 0.0)
            await room.sender.take()
            await settled(room.sender)
        assert len(receiver.heard) == 1
        assert (await room.only(endpoint.endpoint_id)).log == []
        other = room.another()
        assert await other.sends() == 0
        room.later(seconds=LEASE_SECONDS)
        assert await other.sends() == 1
        await other.courier.close()
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1
    assert (await room.only(endpoint.endpoint_id)).state == "delivered"


async def test_a_note_that_comes_after_the_lease_was_lost_changes_nothing(room: Room) -> None:
    """A sender that slept through its lease believes that the receiver said no; the next one knows better."""
    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused())
        now = room.hands.now()
        async with room.database.transaction() as tx:
            (slept,) = await store.lease(tx, {}, 1, 1, now, now + timedelta(seconds=LEASE_SECONDS))
        room.later(seconds=LEASE_SECONDS + 1)
        assert await room.sends() == 1
        attempt = model.Attempt(at=now, milliseconds=1, error="timeout")
        outcome = store.EndedAttempt(slept, attempt, model.DeliveryDecision("exhausted", None))
        async with room.database.transaction() as tx:
            await store.write_down(tx, [outcome], model.MAX_LOG)
            await store.give_back(tx, [slept], now)
    delivery = await room.only(endpoint.endpoint_id)
    assert (delivery.state, len(delivery.log)) == ("delivered", 1)


async def test_many_senders_share_the_work_and_send_nothing_twice(room: Room) -> None:
    async with receiving() as receiver:
        await room.endpoint(receiver)
        await room.happens(*(paused(number) for number in range(300)))
        senders = [room, *(room.another() for _ in range(3))]
        assert sum(await asyncio.gather(*(one.sends() for one in senders))) == 300
        for one in senders[1:]:
            await one.courier.close()
    assert len(set(receiver.ids)) == len(receiver.ids) == 300


async def test_a_receiver_that_hangs_holds_its_own_slots_and_nobody_elses(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "STOP_SECONDS", 0.1)
    # Who hangs does so for as long as the quick one takes.
    monkeypatch.setattr(courier_module, "TOTAL_SECONDS", PATIENCE_SECONDS)
    async with receiving(hangs) as hanging, receiving() as quick:
        await room.endpoint(hanging, "flash_sale.*")
        await room.endpoint(quick, "flash_sale.*")
        count = 3 * (SLOTS + AHEAD)
        await room.happens(*(paused(number) for number in range(count)))
        stop = asyncio.Event()
        running = asyncio.create_task(room.sender.run(stop))
        await quick.hears(count)
        assert hanging.most_at_once == SLOTS
        assert len(hanging.heard) == SLOTS
        stop.set()
        hanging.behave = answers()
        await running


async def test_a_stop_lets_sends_end_and_gives_back_the_rest_at_once(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "STOP_SECONDS", 0.5)
    ending = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard) -> None:
        await ending.wait()
        await answers()(reader, writer, heard)

    async with receiving(slow) as receiver, receiving(hangs) as hanging:
        endpoint = await room.endpoint(receiver, "flash_sale.*")
        stuck = await room.endpoint(hanging, "group_buy.*")
        at = room.hands.now()
        await room.happens(*(paused(number) for number in range(SLOTS + 5)), GroupBuyPaused(at=at, group_buy_id="g"))
        stop = asyncio.Event()
        running = asyncio.create_task(room.sender.run(stop))
        await receiver.hears(SLOTS)
        await hanging.hears(1)
        stop.set()
        ending.set()
        await running
        states = [one.state for one in await room.log(endpoint.endpoint_id)]
        assert states.count("delivered") == SLOTS
        # Nothing waits for a lease to end: another worker sends it now.
        hanging.behave = answers()
        other = room.another()
        assert await other.sends() == 6
        await other.courier.close()
        assert len(set(receiver.ids)) == len(receiver.ids) == SLOTS + 5
        assert (await room.only(stuck.endpoint_id)).state == "delivered"


async def test_senders_go_on_when_postgres_comes_back(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = store.lease, [Unavailable("Postgres did not answer")] * 2

    async def lease(*args: object) -> object:
        if failures:
            raise failures.pop()
        return await real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "lease", lease)
    monkeypatch.setattr(sender_module, "MAX_BACKOFF_SECONDS", 0.05)
    async with receiving() as receiver:
        await room.endpoint(receiver)
        await room.happens(paused())
        stop = asyncio.Event()
        running = asyncio.create_task(room.sender.run(stop))
        await receiver.hears(1)
        stop.set()
        await running
    assert failures == []


async def test_no_transaction_is_open_while_a_receiver_thinks(room: Room) -> None:
    async with receiving(hangs) as receiver:
        await room.endpoint(receiver)
        await room.happens(paused())
        await room.sender.take()
        await receiver.hears(1)
        open_now = await room.database.fetchval(
            """
            SELECT count(*)
            FROM pg_stat_activity
            WHERE state LIKE 'idle in transaction%' AND datname = current_database()
            """
        )
        assert open_now == 0
        receiver.behave = answers()
        for task in list(room.sender._under_way):
            task.cancel()
        await settled(room.sender)


async def test_rotation_keeps_the_old_secret_good_for_as_long_as_was_said(room: Room) -> None:
    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        new = await room.webhooks.rotate_secret(room.act(), endpoint.endpoint_id, 24)
        await room.happens(paused("during"))
        await room.sends()
        room.later(hours=25)
        async with room.database.transaction() as tx:
            await outbox.emit(tx, paused("after", room.hands.now()))
        await room.queue_all()
        await room.sends()
        during, after = receiver.heard
        assert during.headers["webhook-signature"].count("v1,") == 2
        assert after.headers["webhook-signature"].count("v1,") == 1
        assert endpoint.secret is not None
        for secret in (endpoint.secret, new.secret):
            Webhook(secret).verify(during.body, during.headers)
        for keep_hours in (24, 24, 24):
            await room.webhooks.rotate_secret(room.act(), endpoint.endpoint_id, keep_hours)
        with pytest.raises(Refusal) as caught:
            await room.webhooks.rotate_secret(room.act(), endpoint.endpoint_id, 24)
        assert caught.value.kind is model.TOO_MANY_SECRETS
        leaked = await room.webhooks.rotate_secret(room.act(), endpoint.endpoint_id, 0)
        good = await endpoints_store.secrets_of(room.database, endpoint.endpoint_id, room.hands.now())
        assert good == [leaked.secret]


async def test_redelivery_of_one_keeps_its_id_and_leaves_alone_what_is_being_sent(room: Room) -> None:
    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused())
        await room.sends()
        delivery = await room.only(endpoint.endpoint_id)
        answer = await room.deliveries.redeliver_one(room.act(), endpoint.endpoint_id, delivery.delivery_id)
        assert (answer.events, answer.queued) == (1, 1)
        now = room.hands.now()
        async with room.database.transaction() as tx:
            assert await store.lease(tx, {}, 1, 1, now, now + timedelta(seconds=LEASE_SECONDS))
        answer = await room.deliveries.redeliver_one(room.act(), endpoint.endpoint_id, delivery.delivery_id)
        assert (answer.events, answer.queued) == (1, 0)
        room.later(seconds=LEASE_SECONDS)
        assert await room.sends() == 1
        with pytest.raises(Refusal):
            await room.deliveries.redeliver_one(room.act(), endpoint.endpoint_id, endpoint.endpoint_id)
    assert len(set(receiver.ids)) == 1
    assert [one.status for one in (await room.only(endpoint.endpoint_id)).log] == [200, 200]


async def test_a_range_goes_on_where_the_call_before_ended(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "MAX_REDELIVERED", 4)
    async with receiving() as receiver:
        since = room.hands.now() - timedelta(minutes=1)
        # All at one instant, and before the endpoint was there.
        at = room.hands.now()
        await room.happens(*(paused(number, at) for number in range(10)), GroupBuyPaused(at=at, group_buy_id="g"))
        endpoint = await room.endpoint(receiver, "flash_sale.*")
        position, total = None, 0
        for expected in (4, 4, 2):
            events, queued, position = await room.deliveries.redeliver_range(
                room.act(), endpoint.endpoint_id, since, since + timedelta(hours=1), None, position
            )
            assert (events, queued) == (expected, expected)
            total += queued
        assert position is None
        assert await room.sends() == total == 10
        answer = await room.deliveries.redeliver_range(
            room.act(), endpoint.endpoint_id, since, since + timedelta(hours=1), ["flash_sale.ended"], None
        )
        assert answer == (0, 0, None)
    assert {heard.event["subject"] for heard in receiver.heard} == {str(number) for number in range(10)}
