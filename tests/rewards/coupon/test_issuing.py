"""Coupons that other rooms give and take back."""

import asyncio
from datetime import timedelta

import pytest

from growth.rewards.coupon import service
from growth.rewards.coupon.template.model import ValidForDays, ValidOnDates
from growth.vocabulary.clock import now
from growth.vocabulary.ids import derived_id, new_id
from tests.rewards.coupon.conftest import Room, an_issue, outcomes

pytestmark = pytest.mark.anyio


async def test_a_coupon_is_issued_with_the_terms_of_its_template(room: Room) -> None:
    template = await room.template(validity=ValidForDays(days=10, starts_in_days=2))
    coupon = await room.grants(template)
    assert coupon.state == "issued"
    assert coupon.source == "granted"
    assert coupon.valid_from - coupon.issued_at == timedelta(days=2)
    assert coupon.valid_until - coupon.valid_from == timedelta(days=10)
    (told,) = await room.events("issued")
    assert (told["coupon_id"], told["user_id"], told["reason"]) == (coupon.coupon_id, "ann", "test.grant")


async def test_dates_of_validity_are_the_same_for_every_coupon(room: Room) -> None:
    start, end = now() + timedelta(days=1), now() + timedelta(days=2)
    template = await room.template(validity=ValidOnDates(valid_from=start, valid_until=end))
    coupon = await room.grants(template)
    assert (coupon.valid_from, coupon.valid_until) == (start, end)


async def test_the_same_id_is_issued_once(room: Room) -> None:
    template = await room.template()
    one = an_issue(template)
    assert outcomes(await room.issues(one, one, an_issue(template))) == ["issued", "already", "issued"]
    assert outcomes(await room.issues(one)) == ["already"]
    assert (await room.again(template)).issued == 2
    assert len(await room.events("issued")) == 2


async def test_a_batch_gets_what_is_left_in_order(room: Room) -> None:
    template, other = await room.template(units_total=2), await room.template(units_total=1)
    issues = [an_issue(template), an_issue(other), an_issue(template), an_issue(template), an_issue(other)]
    assert outcomes(await room.issues(*issues)) == ["issued", "issued", "issued", "gone", "gone"]
    # Known ones do not take a turn.
    assert outcomes(await room.issues(*issues)) == ["already", "already", "already", "gone", "gone"]


@pytest.mark.parametrize("state", ["draft", "paused", "ended"])
async def test_only_a_published_template_gives_coupons(room: Room, state: str) -> None:
    template = await room.template(state=state)
    assert outcomes(await room.issues(an_issue(template), an_issue(new_id(now())))) == ["gone", "gone"]


async def test_what_was_issued_stays_known_when_its_template_has_ended(room: Room) -> None:
    template = await room.template()
    one = an_issue(template)
    await room.issues(one)
    await room.database.fetchval("UPDATE coupon.templates SET state = 'ended'")
    assert outcomes(await room.issues(one)) == ["already"]


async def test_no_coupon_is_issued_whose_dates_are_over(room: Room) -> None:
    over = ValidOnDates(valid_from=now() - timedelta(days=2), valid_until=now() - timedelta(days=1))
    assert outcomes(await room.issues(an_issue(await room.template(validity=over)))) == ["gone"]


async def test_of_64_grants_of_the_last_coupon_one_gets_it(room: Room) -> None:
    template = await room.template(units_total=1)
    answers = await asyncio.gather(*[room.issues(an_issue(template, f"u{number}")) for number in range(64)])
    assert sorted(outcomes([answer for (answer,) in answers])) == ["gone"] * 63 + ["issued"]
    assert await room.database.fetchval("SELECT count(*) FROM coupon.coupons") == 1


async def test_of_64_askings_for_the_same_coupon_one_issues_it(room: Room) -> None:
    template = await room.template()
    coupon_id = derived_id(template.template_id, "ann", "day 7")
    answers = await asyncio.gather(*[room.issues(an_issue(template, "ann", coupon_id)) for _ in range(64)])
    assert sorted(outcomes([answer for (answer,) in answers])) == ["already"] * 63 + ["issued"]
    assert (await room.again(template)).issued == 1


async def test_a_grant_that_is_rolled_back_leaves_nothing(room: Room) -> None:
    template = await room.template()

    async def dies() -> None:
        async with room.database.transaction() as tx:
            await service.issue(tx, [an_issue(template)], now())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await dies()
    assert (await room.again(template)).issued == 0
    assert await room.events("issued") == []


async def test_an_unused_coupon_is_voided_once(room: Room) -> None:
    template = await room.template()
    coupon = await room.grants(template)
    assert outcomes(await room.voids(coupon, coupon, new_id(now()))) == ["voided", "already", "not_found"]
    assert outcomes(await room.voids(coupon)) == ["already"]
    assert await room.states(coupon) == ["voided"]
    assert len(await room.events("voided")) == 1
    # What was given counts: taking it back makes no room for another.
    assert (await room.again(template)).issued == 1


async def test_of_64_voidings_one_voids(room: Room) -> None:
    coupon = await room.grants(await room.template())
    answers = await asyncio.gather(*[room.voids(coupon) for _ in range(64)])
    assert sorted(outcomes([answer for (answer,) in answers])) == ["already"] * 63 + ["voided"]
    assert len(await room.events("voided")) == 1
