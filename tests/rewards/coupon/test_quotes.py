"""What coupons take off a cart: whole fen, split exactly, never below zero."""

from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.rewards.coupon.quote.model import QuoteLine, off_of
from growth.rewards.coupon.quote.service import MAX_QUOTED
from growth.rewards.coupon.template.model import FixedOff, PercentOff, ValidForDays
from growth.vocabulary.clock import now
from growth.vocabulary.money import MAX_FEN
from growth.vocabulary.orders import spread
from growth.vocabulary.refusals import Refusal
from tests.rewards.coupon.conftest import Room, a_draft, an_issue, line, placed

pytestmark = pytest.mark.anyio

amounts = st.lists(st.integers(0, MAX_FEN), min_size=1, max_size=100)
discounts = st.one_of(
    st.builds(FixedOff, off_fen=st.integers(1, MAX_FEN)),
    st.builds(PercentOff, percent_off=st.integers(1, 100), max_off_fen=st.none() | st.integers(1, MAX_FEN)),
)


@given(amounts=amounts, share=st.fractions(0, 1))
def test_the_shares_sum_up_and_none_exceeds_its_line(amounts: list[int], share: Fraction) -> None:
    total = sum(amounts)
    off = int(total * share)
    shares = spread(off, amounts)
    assert sum(shares) == off
    for one, amount in zip(shares, amounts, strict=True):
        assert 0 <= one <= amount
        # No share is a whole fen away from its exact part.
        assert total == 0 or abs(one - Fraction(off * amount, total)) < 1


@given(amounts=amounts, discount=discounts)
def test_a_discount_never_exceeds_what_it_is_taken_off(amounts: list[int], discount: Any) -> None:
    total = sum(amounts)
    off = off_of(a_draft(discount=discount), total)
    assert 0 <= off <= total
    assert sum(spread(off, amounts)) == off
    if isinstance(discount, PercentOff):
        assert off <= total * discount.percent_off / 100
        assert discount.max_off_fen is None or off <= discount.max_off_fen
    else:
        assert off == min(discount.off_fen, total)


def test_the_largest_remainder_gets_the_fen_and_of_equals_the_first() -> None:
    assert spread(1, [1, 1, 1]) == [1, 0, 0]
    assert spread(2, [1, 1, 1]) == [1, 1, 0]
    assert spread(10, [5, 10, 15]) == [2, 3, 5]
    assert spread(0, [0, 0]) == [0, 0]
    assert spread(3, [0, 3]) == [0, 3]


def cart(*lines: tuple[str, int]) -> list[QuoteLine]:
    return [
        QuoteLine(line_id=str(index), sku=sku, units=1, amount_fen=amount_fen)
        for index, (sku, amount_fen) in enumerate(lines, start=1)
    ]


async def test_the_best_coupon_comes_first_and_each_says_why_it_does_not_apply(room: Room) -> None:
    fixed = await room.grants(await room.template(title="fixed", threshold_fen=3000))
    percent = await room.grants(await room.template(title="percent", discount=PercentOff(percent_off=50)))
    tea = await room.grants(await room.template(title="tea", skus=["tea"], threshold_fen=5000))
    pot = await room.grants(await room.template(title="pot", skus=["pot"]))
    quotes = await room.quotes.quote("ann", cart(("tea", 3333), ("cup", 1)), now())
    assert [(one.coupon_id, one.applies, one.off_fen, one.code, one.missing_fen) for one in quotes] == [
        (percent.coupon_id, True, 1667, None, 0),
        (fixed.coupon_id, True, 1000, None, 0),
        (tea.coupon_id, False, 0, "coupon.threshold_not_reached", 1667),
        (pot.coupon_id, False, 0, "coupon.out_of_scope", 0),
    ]
    assert [(one.line_id, one.off_fen) for one in quotes[0].lines] == [("1", 1667), ("2", 0)]
    assert [one.line_id for one in quotes[2].lines] == ["1"]


async def test_only_coupons_that_could_be_used_now_are_quoted(room: Room) -> None:
    template = await room.template()
    usable, locked, over, hers = [await room.grants(template, user) for user in ("ann", "ann", "ann", "bob")]
    early = await room.grants(await room.template(validity=ValidForDays(days=1, starts_in_days=1)))
    await room.tells(placed("o1", line(locked)))
    await room.over(over)
    assert hers.coupon_id != early.coupon_id
    assert [one.coupon_id for one in await room.quotes.quote("ann", cart(("tea", 1)), now())] == [usable.coupon_id]
    assert len(await room.quotes.quote("ann", cart(("tea", 1)), now() + timedelta(days=1, minutes=1))) == 2


async def test_of_very_many_coupons_those_that_end_first_are_quoted(room: Room) -> None:
    template = await room.template(units_total=1000)
    late = await room.template(units_total=1000, validity=ValidForDays(days=90))
    await room.issues(*[an_issue(late) for _ in range(MAX_QUOTED)], *[an_issue(template) for _ in range(MAX_QUOTED)])
    quotes = await room.quotes.quote("ann", cart(("tea", 1)), now())
    assert {one.template_id for one in quotes} == {template.template_id}
    assert len(quotes) == MAX_QUOTED


async def test_a_line_named_twice_is_refused(room: Room) -> None:
    with pytest.raises(Refusal, match=r"request\.invalid"):
        await room.quotes.quote("ann", [*cart(("tea", 1)), *cart(("tea", 1))], now())
