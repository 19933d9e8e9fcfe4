"""Freeze cards, and streaks that are over: at day's end for those who stay away, at their tap for who is quicker."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime

from msgspec import Struct

from growth.mechanics.checkin.model import CheckinProgram
from growth.mechanics.checkin.streak import store
from growth.mechanics.checkin.streak.model import Almanac, Streak, freeze
from growth.mechanics.checkin.streak.store import CheckinShopper, TapGlance
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Tx
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency, Transfer
from growth.vocabulary.events.checkin import CheckinFrozen, CheckinStreakBroken
from growth.vocabulary.ids import HOUSE, new_id

HOUSE_ACCOUNT = HOUSE + "checkin"
MAX_CAUGHT_UP_DAYS = 31
"""Missed days that a tap looks back at when the walk has not come yet."""


class Missed(Struct, frozen=True):
    """A shopper with a streak, and the days that break it: oldest first."""

    shopper: CheckinShopper
    days: Sequence[date]


def card_used(user_id: str, card: Currency, reason: str, program: CheckinProgram, now: datetime) -> Transfer:
    """Return the transfer that takes one card from a shopper."""
    return Transfer(
        # Once by the row of the day: an id made of a name would meet that of an earlier life of it.
        transfer_id=new_id(now),
        debit=user_id,
        credit=HOUSE_ACCOUNT,
        currency=card,
        amount=1,
        reason=reason,
        subject=program.program_id,
    )


async def use_cards(tx: Tx, missed: Sequence[Missed], almanac: Almanac, now: datetime) -> dict[str, Streak]:
    """Use up freeze cards for those who have one for each missed day; return what they have then.

    Their rows are locked.
    """
    asking = [one for one in missed if all(_takes_cards(almanac.program_on(day)) for day in one.days)]
    if not asking:
        return {}
    cards = await ledger.available(tx, [one.shopper.user_id for one in asking], Currency.FREEZE_CARD)
    holding = [one for one in asking if cards.get(one.shopper.user_id, 0) >= len(one.days)]
    frozen = [(one.shopper, day, _program(almanac, day)) for one in holding for day in one.days]
    if not frozen:
        return {}
    used = [card_used(one.user_id, Currency.FREEZE_CARD, "checkin.freeze", program, now) for one, _, program in frozen]
    await ledger.transfer(tx, used, now)
    await store.freeze_days(
        tx, [(shopper.user_id, day, program.terms_id or 0, shopper.standing.streak) for shopper, day, program in frozen]
    )
    await emit(
        tx,
        *[
            CheckinFrozen(
                at=now,
                user_id=shopper.user_id,
                program_id=program.program_id,
                day=day,
                streak=shopper.standing.streak,
            )
            for shopper, day, program in frozen
        ],
    )
    return {one.shopper.user_id: _frozen(one, almanac) for one in holding}


async def tell_broken(tx: Tx, broken: Iterable[tuple[CheckinShopper, CheckinProgram]], now: datetime) -> None:
    """Tell of streaks that are over."""
    await emit(
        tx,
        *[
            CheckinStreakBroken(
                at=now,
                user_id=shopper.user_id,
                program_id=program.program_id,
                streak=shopper.standing.streak,
                last_day=shopper.standing.last_day or now.date(),
            )
            for shopper, program in broken
        ],
    )


async def catch_up(
    tx: Tx, lapsed: Sequence[tuple[CheckinShopper, date]], glance: TapGlance, almanac: Almanac
) -> dict[str, Streak]:
    """Do for shoppers who tap on a day what the walk has not done for them yet; return what changed.

    Without this, who holds a card and taps right after midnight would lose the streak that the card is for.
    """
    waiting: list[Missed] = []
    for shopper, today in lapsed:
        assert shopper.standing.last_day is not None
        days = almanac.history.missed(shopper.standing.last_day, today, MAX_CAUGHT_UP_DAYS)[::-1]
        waiting.append(Missed(shopper, days))
    fresh = [
        one
        for one in waiting
        if len(one.days) < MAX_CAUGHT_UP_DAYS and not glance.has_walked(one.days[0], one.shopper.user_id)
    ]
    kept = await use_cards(tx, fresh, almanac, glance.now)
    broken: list[tuple[CheckinShopper, CheckinProgram]] = []
    for one in fresh:
        if one.shopper.user_id not in kept:
            program = _program(almanac, one.days[-1])
            told_after = program.broken_after_days
            if len(one.days) >= told_after and not glance.has_walked(one.days[told_after - 1], one.shopper.user_id):
                broken.append((one.shopper, program))
    await tell_broken(tx, broken, glance.now)
    return kept


def _takes_cards(program: CheckinProgram | None) -> bool:
    return program is not None and program.uses_freeze_cards


def _program(almanac: Almanac, day: date) -> CheckinProgram:
    program = almanac.program_on(day)
    assert program is not None, "a day that breaks streaks is a program's"
    return program


def _frozen(one: Missed, almanac: Almanac) -> Streak:
    standing = one.shopper.standing
    for day in one.days:
        standing = freeze(standing, day, almanac.history)
    return standing
