"""Shoppers take coupons: the quota and every limit hold against any crowd."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from growth.kit.campaign.audience import Audiences
from growth.plumbing.postgres.database import CommitUnknown
from growth.rewards.coupon.take import service
from growth.rewards.coupon.take.service import TakenCoupon
from growth.rewards.coupon.template.model import CouponTemplate, ValidOnDates
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal
from tests.rewards.coupon.conftest import Room, a_draft

pytestmark = pytest.mark.anyio

CROWD = 64


def codes_of(answers: list[TakenCoupon | BaseException]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for answer in answers:
        if isinstance(answer, Refusal):
            counted[answer.kind.code] += 1
        else:
            assert isinstance(answer, TakenCoupon), answer
            counted["taken"] += 1
    return counted


async def all_at_once(*takes: Any) -> Counter[str]:
    return codes_of(await asyncio.gather(*takes, return_exceptions=True))


async def rows_of(room: Room, template: CouponTemplate) -> int:
    return int(
        await room.database.fetchval("SELECT count(*) FROM coupon.coupons WHERE template_id = $1", template.template_id)
    )


async def refused(room: Room, template: CouponTemplate, user_id: str = "ann") -> str:
    with pytest.raises(Refusal) as no:
        await room.takes_one(template, user_id)
    return no.value.kind.code


async def test_a_shopper_takes_a_coupon(room: Room) -> None:
    template = await room.template(claimable=True)
    taken = await room.takes_one(template)
    assert not taken.replayed
    assert await room.coupon(taken.coupon) == taken.coupon
    assert (taken.coupon.source, taken.coupon.reason) == ("taken", "coupon.taken")
    assert taken.coupon.valid_until - taken.coupon.issued_at == timedelta(days=30)
    (told,) = await room.events("issued")
    assert (told["coupon_id"], told["source"]) == (taken.coupon.coupon_id, "taken")


async def test_of_64_takes_of_the_last_coupon_one_gets_it(room: Room) -> None:
    for _ in range(5):
        template = await room.template(claimable=True, units_total=1)
        counted = await all_at_once(*[room.takes_one(template, f"u{number}") for number in range(CROWD)])
        assert counted == {"taken": 1, "coupon.sold_out": 63}
        assert await rows_of(room, template) == 1


async def test_of_64_takes_in_as_many_transactions_one_gets_the_last(room: Room, monkeypatch: Any) -> None:
    monkeypatch.setattr(service, "MAX_BATCH_ASKS", 1)
    template = await room.template(claimable=True, units_total=1)
    others = [service.Takes(room.database, room.takes._zone, Audiences()) for _ in range(8)]
    counted = await all_at_once(
        *[others[number % 8].take(template.template_id, f"u{number}", None) for number in range(CROWD)]
    )
    assert counted == {"taken": 1, "coupon.sold_out": 63}
    assert await rows_of(room, template) == 1


async def test_of_64_taps_of_one_shopper_as_many_succeed_as_are_allowed(room: Room) -> None:
    template = await room.template(claimable=True, units_total=100, max_per_shopper=2)
    counted = await all_at_once(*[room.takes_one(template) for _ in range(CROWD)])
    assert counted == {"taken": 2, "coupon.limit_reached": 62}
    assert await rows_of(room, template) == 2


async def test_takes_and_grants_at_once_never_exceed_the_quota(room: Room) -> None:
    template = await room.template(claimable=True, units_total=10)

    async def grants(user_id: str) -> Any:
        try:
            return await room.grants(template, user_id)
        except AssertionError:
            return None

    answers = await asyncio.gather(
        *[room.takes_one(template, f"t{number}") for number in range(32)],
        *[grants(f"g{number}") for number in range(32)],
        return_exceptions=True,
    )
    assert sum(answer is not None and not isinstance(answer, Refusal) for answer in answers) == 10
    assert await rows_of(room, template) == 10


@pytest.mark.one_day
async def test_the_quota_of_a_day_binds_all_and_the_next_day_has_its_own(room: Room) -> None:
    template = await room.template(claimable=True, units_total=100, units_per_day=3)
    counted = await all_at_once(*[room.takes_one(template, f"u{number}") for number in range(CROWD)])
    assert counted == {"taken": 3, "coupon.sold_out_today": 61}
    await room.database.fetchval("UPDATE coupon.templates SET taken_day = taken_day - 1")
    assert await all_at_once(*[room.takes_one(template, f"v{number}") for number in range(4)]) == {
        "taken": 3,
        "coupon.sold_out_today": 1,
    }
    # What campaigns grant is not the day's.
    await room.grants(template, "zoe")


@pytest.mark.one_day
async def test_the_limit_of_a_shoppers_day_begins_anew_the_next_day(room: Room) -> None:
    template = await room.template(claimable=True, units_total=100, max_per_shopper=3, max_per_shopper_per_day=2)
    assert await all_at_once(*[room.takes_one(template) for _ in range(8)]) == {
        "taken": 2,
        "coupon.limit_reached_today": 6,
    }
    await room.database.fetchval("UPDATE coupon.takings SET day = day - 1")
    assert await all_at_once(*[room.takes_one(template) for _ in range(8)]) == {
        "taken": 1,
        "coupon.limit_reached": 7,
    }


async def test_what_campaigns_grant_does_not_count_against_the_shopper(room: Room) -> None:
    template = await room.template(claimable=True, max_per_shopper=1)
    await room.grants(template)
    await room.grants(template)
    await room.takes_one(template)
    await room.grants(template)
    assert await refused(room, template) == "coupon.limit_reached"


async def test_the_same_key_is_the_same_coupon(room: Room) -> None:
    template = await room.template(claimable=True, units_total=100, max_per_shopper=5)
    answers = await asyncio.gather(*[room.takes_one(template, key="tap") for _ in range(CROWD)])
    assert len({answer.coupon.coupon_id for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 63
    assert await rows_of(room, template) == 1
    assert (await room.takes_one(template, key="another")).coupon != answers[0].coupon
    assert (await room.takes_one(template, "bob", key="tap")).coupon != answers[0].coupon


async def test_a_key_finds_its_coupon_when_all_are_taken_and_the_template_has_ended(room: Room) -> None:
    template = await room.template(claimable=True, units_total=1)
    taken = await room.takes_one(template, key="tap")
    assert (await room.takes_one(template, key="tap")).coupon == taken.coupon
    await room.database.fetchval("UPDATE coupon.templates SET state = 'ended'")
    assert (await room.takes_one(template, key="tap")).replayed


async def test_each_reason_has_its_code(room: Room) -> None:
    later, past = now() + timedelta(hours=1), now() - timedelta(hours=1)
    over = ValidOnDates(valid_from=past - timedelta(days=1), valid_until=past)
    for changes, code in (
        ({"claimable": False}, "coupon.not_claimable"),
        ({"opens_at": later}, "coupon.not_open"),
        ({"closes_at": past}, "coupon.ended"),
        ({"state": "paused"}, "coupon.paused"),
        ({"state": "ended"}, "coupon.ended"),
        ({"state": "draft"}, "coupon.template_not_found"),
        ({"validity": over}, "coupon.ended"),
    ):
        template = await room.template(**({"claimable": True} | changes))
        assert await refused(room, template) == code
        assert await rows_of(room, template) == 0
    with pytest.raises(Refusal, match=r"coupon\.template_not_found"):
        await room.takes.take(new_id(now()), "ann", None)


async def test_the_window_opens_and_closes_by_the_clock_of_postgres(room: Room) -> None:
    open_now = await room.template(
        claimable=True, opens_at=now() - timedelta(seconds=5), closes_at=now() + timedelta(hours=1)
    )
    assert (await room.takes_one(open_now)).coupon.state == "issued"


async def test_a_batch_of_many_templates_and_shoppers_gives_each_its_own(room: Room) -> None:
    few = await room.template(claimable=True, units_total=3, max_per_shopper=1)
    many = await room.template(claimable=True, units_total=100, max_per_shopper=2)
    takes = [room.takes_one(one, f"u{number % 8}") for number in range(32) for one in (few, many)]
    await asyncio.gather(*takes, return_exceptions=True)
    assert await rows_of(room, few) == 3
    assert await rows_of(room, many) == 16


async def test_a_take_that_dies_before_its_commit_leaves_nothing(room: Room, monkeypatch: Any) -> None:
    template = await room.template(claimable=True, units_total=1)

    async def dies(*_: object, **__: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(service, "emit", dies)
        with pytest.raises(RuntimeError):
            await room.takes_one(template, key="tap")
    assert await rows_of(room, template) == 0
    assert not (await room.takes_one(template, key="tap")).replayed


async def test_a_commit_of_unknown_outcome_is_looked_up(room: Room, monkeypatch: Any) -> None:
    template = await room.template(claimable=True, units_total=1)
    commit, lost = room.takes._takes._decide, [True, True]

    async def commits_and_loses_the_line(asks: Any) -> Any:
        answers = await commit(asks)
        if lost.pop():
            raise CommitUnknown("lost")
        return answers

    monkeypatch.setattr(room.takes._takes, "_decide", commits_and_loses_the_line)
    lost[:] = [False, True]
    taken = await room.takes_one(template)
    assert taken.replayed
    assert await rows_of(room, template) == 1


@pytest.mark.one_day
async def test_shoppers_see_what_they_may_take(room: Room) -> None:
    open_one = await room.template(claimable=True, units_total=2, units_per_day=1)
    later = await room.template(claimable=True, opens_at=now() + timedelta(hours=1))
    await room.template(claimable=False)
    await room.template(claimable=True, state="draft")
    over = await room.template(claimable=True, closes_at=now() - timedelta(hours=1))
    await room.takes_one(open_one)
    pages = {page.template_id: page for page in await room.takes.on_offer("ann", now())}
    assert list(pages) == [later.template_id, open_one.template_id]
    mine = pages[open_one.template_id]
    assert (mine.units_left, mine.units_left_today, mine.taken_by_me, mine.can_take) == (1, 0, 1, False)
    assert (pages[later.template_id].state, pages[later.template_id].can_take) == ("scheduled", False)
    assert (await room.takes.find(over.template_id, "ann", now())).state == "ended"


async def test_a_dry_run_says_what_a_take_would_get(room: Room) -> None:
    template = await room.template(claimable=True, opens_at=now() + timedelta(hours=1))
    early = await room.templates.dry_run(template.template_id, "ann", now())
    assert (early.would, early.code, early.would_be_granted) == ("refuse", "coupon.not_open", True)
    then = await room.templates.dry_run(template.template_id, "ann", now() + timedelta(hours=2))
    assert (then.would, then.code) == ("take", None)
    assert then.valid_until is not None
    # Where the calendar ends, so does everything else.
    never = await room.templates.dry_run(template.template_id, "ann", datetime(9999, 12, 30, tzinfo=UTC))
    assert (never.code, never.valid_until, never.would_be_granted) == ("coupon.ended", None, False)
    assert await rows_of(room, template) == 0


def test_a_draft_that_does_not_fit_together_is_told_by_field() -> None:
    from growth.rewards.coupon.template.model import faults  # noqa: PLC0415

    moment = now()
    for changes, field in (
        ({"units_per_day": 11}, "units_per_day"),
        ({"max_per_shopper_per_day": 2}, "max_per_shopper_per_day"),
        ({"skus": ["tea", "tea"]}, "skus"),
        ({"opens_at": moment, "closes_at": moment}, "closes_at"),
        ({"validity": ValidOnDates(valid_from=moment, valid_until=moment)}, "validity.valid_until"),
    ):
        assert [fault.field for fault in faults(a_draft(**changes))] == [field]
    assert faults(a_draft()) == []
