"""Negative controls: each guard is taken away once, and something breaks that held with it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from growth.plumbing.postgres.database import Tx
from growth.webhook import model, store
from growth.webhook.delivery import sender as sender_module
from growth.webhook.delivery import store as deliveries
from growth.webhook.delivery.courier import Courier
from growth.webhook.delivery.sender import LEASE_SECONDS, SLOTS
from tests.kit.invariants import violations
from tests.webhook.conftest import Room, paused
from tests.webhook.receiving import answers, hangs, receiving

A_MOMENT_SECONDS = 1.0
"""So long nothing is heard: longer than what would come takes, and too short only where it would come late."""

pytestmark = pytest.mark.anyio


class Without:
    """A transaction whose statements have lost one guard."""

    def __init__(self, tx: Tx, guard: str, instead: str = "TRUE") -> None:
        self._tx = tx
        self._guard = guard
        self._instead = instead
        self.found = False
        self.people = tx.people

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._tx, name)

        def run(query: str, *args: object) -> Awaitable[Any]:
            self.found = self.found or self._guard in query
            return call(query.replace(self._guard, self._instead), *args)  # type: ignore[no-any-return]

        return run


class Undone(Exception):
    """What the test wrote is not kept."""


async def test_without_the_lease_two_senders_send_the_same(room: Room) -> None:
    async with receiving() as receiver:
        await room.endpoint(receiver)
        await room.happens(paused())
        now, until = room.hands.now(), room.hands.now() + timedelta(seconds=LEASE_SECONDS)
        async with room.database.transaction() as tx:
            assert len(await deliveries.lease(tx, {}, 8, 8, now, until)) == 1
        async with room.database.transaction() as tx:
            assert await deliveries.lease(tx, {}, 8, 8, now, until) == []
        async with room.database.transaction() as tx:
            without = Without(tx, "delivery.next_try_at <= $4", "$4::timestamptz IS NOT NULL")
            assert len(await deliveries.lease(without, {}, 8, 8, now, until)) == 1  # type: ignore[arg-type]
            assert without.found


async def test_without_the_fence_a_sender_that_slept_overwrites_what_came_of_it(room: Room) -> None:
    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused())
        now = room.hands.now()
        async with room.database.transaction() as tx:
            (slept,) = await deliveries.lease(tx, {}, 1, 1, now, now + timedelta(seconds=LEASE_SECONDS))
        room.later(seconds=LEASE_SECONDS + 1)
        receiver.behave = answers("500 Oops")
        assert await room.sends() == 1
        attempt = model.Attempt(at=now, milliseconds=1, status=200)
        wrong = deliveries.EndedAttempt(slept, attempt, model.DeliveryDecision("delivered", None))
        async with room.database.transaction() as tx:
            await deliveries.write_down(tx, [wrong], model.MAX_LOG)
        assert (await room.only(endpoint.endpoint_id)).state == "pending"
        async with room.database.transaction() as tx:
            without = Without(tx, "delivery.fence = told.fence")
            await deliveries.write_down(without, [wrong], model.MAX_LOG)  # type: ignore[arg-type]
            assert without.found
        assert (await room.only(endpoint.endpoint_id)).state == "delivered"


async def test_without_the_count_there_are_more_endpoints_than_may_be(room: Room) -> None:
    draft = model.EndpointDraft(url="https://crm.example.com/", event_types=["*"])
    for guard, made in [("", None), ("(SELECT count(*) FROM webhook.endpoints) < $5", "$5::int IS NOT NULL")]:
        async with room.database.transaction() as tx:
            without = Without(tx, guard or "no such text", made or "")
            found = await store.add_endpoint(
                without,  # type: ignore[arg-type]
                "0199c0de-0000-7000-8000-000000000001",
                draft,
                0,
                room.hands.now(),
            )
            assert (found is None) == (made is None)
            await tx.execute("DELETE FROM webhook.endpoints")


async def test_without_slots_of_its_own_a_hanging_receiver_holds_up_the_others(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One gate for all, as senders often have it: the quick one hears nothing while the hanging one hangs."""
    gate = asyncio.Semaphore(SLOTS)
    real = Courier.send

    async def through_one_gate(self: Courier, url: str, headers: Any, body: bytes) -> Any:
        async with gate:
            return await real(self, url, headers, body)

    monkeypatch.setattr(Courier, "send", through_one_gate)
    monkeypatch.setattr(sender_module, "STOP_SECONDS", 0.1)
    async with receiving(hangs) as hanging, receiving() as quick:
        await room.endpoint(hanging, "flash_sale.*")
        await room.happens(*(paused(number) for number in range(SLOTS)))
        stop = asyncio.Event()
        running = asyncio.create_task(room.sender.run(stop))
        await hanging.hears(SLOTS)
        await room.endpoint(quick, "flash_sale.*")
        await room.happens(paused("late"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(quick.hears(1), A_MOMENT_SECONDS)
        stop.set()
        await running


async def test_the_database_itself_keeps_states_and_times_together(room: Room) -> None:
    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused())
    for statement in (
        "UPDATE webhook.deliveries SET state = 'delivered'",
        "UPDATE webhook.deliveries SET next_try_at = NULL",
        "UPDATE webhook.deliveries SET state = 'lost', next_try_at = NULL, ended_at = now()",
        "UPDATE webhook.endpoints SET state = 'disabled'",
        "UPDATE webhook.endpoints SET reason = 'gone'",
        "UPDATE webhook.endpoints SET failures = 1",
        "UPDATE webhook.endpoints SET url = 'file:///etc/passwd'",
        "UPDATE webhook.secrets SET secret = 'plain'",
        "INSERT INTO webhook.secrets SELECT endpoint_id, now(), secret FROM webhook.secrets",
        "INSERT INTO webhook.deliveries SELECT * FROM webhook.deliveries",
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            async with room.database.transaction() as tx:
                await tx.execute(statement)
    assert (await room.webhooks.find(endpoint.endpoint_id)).state == "enabled"


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE webhook.secrets SET good_until = now()", "Every endpoint has one current secret"),
        (
            "UPDATE webhook.deliveries SET state = 'delivered', next_try_at = NULL, ended_at = now()",
            "What is delivered was answered with 2xx at its last attempt",
        ),
        (
            "UPDATE webhook.deliveries SET state = 'exhausted', next_try_at = NULL, ended_at = now()",
            "What is exhausted was tried as often as the schedule says, or its receiver said that it is gone",
        ),
        ("UPDATE webhook.deliveries SET attempts = 3", "Every attempt is in the log"),
    ],
)
async def test_every_invariant_sees_what_it_is_for(room: Room, statement: str, sentence: str) -> None:
    async with receiving() as receiver:
        await room.endpoint(receiver)
        await room.happens(paused())
    broken: set[str] = set()
    with contextlib.suppress(Undone):
        async with room.database.transaction() as tx:
            await tx.execute(statement)
            broken = {violation.name for violation in await violations(tx)}
            raise Undone
    assert sentence in broken
