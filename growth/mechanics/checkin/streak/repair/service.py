"""Make-ups, and taps that arrive late: days that lie behind change, and all of them are folded anew."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from msgspec import Struct

from growth.kit.campaign.audience import Audiences
from growth.mechanics.checkin.model import FIRST_DAY, LAST_DAY, CheckinProgram, day_held
from growth.mechanics.checkin.streak import store as streaks
from growth.mechanics.checkin.streak.day_end.service import card_used
from growth.mechanics.checkin.streak.model import (
    LIVE,
    Almanac,
    CheckedIn,
    CheckinTerms,
    Day,
    DayKind,
    Streak,
    first_of,
    next_milestone,
    owed,
    reached,
    replay,
    terms_of,
)
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.mechanics.checkin.streak.repair import store
from growth.mechanics.checkin.streak.repair.model import (
    ALREADY_CHECKED_IN,
    FROZEN_DAY,
    MONTH_LIMIT,
    NO_CARD,
    MadeUp,
    by_program,
    refusal_of,
)
from growth.mechanics.checkin.streak.rewards import Earned, Given, answer_of, give
from growth.mechanics.checkin.streak.store import CheckinShopper
from growth.plumbing.http.idempotency import Once, fingerprint, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import INSUFFICIENT, Currency
from growth.vocabulary.events.checkin import CheckinCheckedIn, CheckinMadeUp
from growth.vocabulary.refusals import Refusal
from growth.vocabulary.rewards import Reward


class Mended(Struct, frozen=True):
    """Where all days lead after a repair, and what it gave."""

    standing: Streak
    day: Day
    """The day that was added, as it came out."""
    given: Given


class Repairs:
    """What happens to days that lie behind."""

    def __init__(self, database: Database, almanacs: Almanacs, audiences: Audiences) -> None:
        self._database = database
        self._audiences = audiences
        self._almanacs = almanacs

    async def make_up(self, user_id: str, day: date, key: str | None) -> Once[MadeUp]:
        """Repair a missed day with one make-up card, all in one transaction. Raises `Refusal` with the reason."""
        async with self._database.transaction(people=[user_id]) as tx:
            shopper = (await streaks.lock_shoppers(tx, [user_id]))[user_id]
            glance, almanac = await self._almanacs.look(tx)

            async def work() -> MadeUp:
                program = almanac.open_on(almanac.zone.day(glance.now))
                await self._audiences.admit(tx, program.audience, user_id)
                return await _make_up(tx, shopper, day, almanac, glance.now)

            return await once(
                tx,
                scope="POST check-ins/make-ups",
                person=user_id,
                key=key,
                content=fingerprint(day.isoformat()),
                answer_type=MadeUp,
                work=work,
                now=glance.now,
            )

    async def check_in_late(self, user_id: str, day: date) -> tuple[CheckedIn, bool]:
        """Check in for a day after a later one was: a tap of before midnight that was overtaken.

        Says whether it is new. Raises `Refusal`.
        """
        async with self._database.transaction(people=[user_id]) as tx:
            shopper = (await streaks.lock_shoppers(tx, [user_id]))[user_id]
            glance, almanac = await self._almanacs.look(tx)
            held = await streaks.find_day(tx, user_id, day)
            known = almanac.program_on(day)
            # A day that is held is told of, whatever became of its program.
            program = known if held is not None and known is not None else almanac.open_on(day)
            if held is not None:
                if held.kind == DayKind.FROZEN:
                    raise Refusal(FROZEN_DAY)
                terms = await streaks.find_terms(tx, [held.terms_id])
                rewards = terms[held.terms_id].reward(held.paid or held.position)
                return answer_of(shopper.standing, program, held, Given(rewards, [], [])), False
            await self._audiences.admit(tx, program.audience, user_id)
            mended = await mend(tx, shopper, program, day, DayKind.CHECKED_IN, almanac, glance.now)
            await emit(
                tx,
                CheckinCheckedIn(
                    at=glance.now,
                    user_id=user_id,
                    program_id=program.program_id,
                    day=day,
                    streak=mended.day.streak,
                    total=mended.standing.total,
                    rewards=mended.given.rewards,
                    milestones=mended.given.reached,
                ),
            )
            return answer_of(mended.standing, program, mended.day, mended.given), True


async def _make_up(tx: Tx, shopper: CheckinShopper, day: date, almanac: Almanac, now: datetime) -> MadeUp:
    user_id, today = shopper.user_id, almanac.zone.day(now)
    program = almanac.open_on(today)
    held = await streaks.find_day(tx, user_id, day)
    kind = refusal_of(program, held, day, today)
    if kind is not None:
        raise Refusal(kind, within_days=program.make_up_within_days)
    used = await store.count_make_up(tx, user_id, first_of(today), program.make_ups_per_month)
    if used is None:
        raise Refusal(MONTH_LIMIT, make_ups_per_month=program.make_ups_per_month)
    await _take_card(tx, user_id, program, now)
    mended = await mend(tx, shopper, program, day, DayKind.MADE_UP, almanac, now)
    await emit(
        tx,
        CheckinMadeUp(
            at=now,
            user_id=user_id,
            program_id=program.program_id,
            day=day,
            streak=mended.standing.streak,
            total=mended.standing.total,
            rewards=mended.given.rewards,
            milestones=mended.given.reached,
        ),
    )
    is_alive = mended.standing.last_day is not None and not almanac.history.breaks(mended.standing.last_day, today)
    return MadeUp(
        day=day,
        streak=mended.standing.streak if is_alive else 0,
        longest_streak=mended.standing.longest,
        total_days=mended.standing.total,
        reward=mended.given.rewards,
        not_granted=mended.given.not_granted,
        milestones=mended.given.reached,
        next_milestone=next_milestone(mended.standing, program, is_alive=is_alive),
        make_ups_left=program.make_ups_per_month - used,
    )


async def _take_card(tx: Tx, user_id: str, program: CheckinProgram, now: datetime) -> None:
    try:
        card = card_used(user_id, Currency.MAKE_UP_CARD, "checkin.make_up", program, now)
        await ledger.transfer(tx, [card], now)
    except Refusal as refusal:
        if refusal.kind is INSUFFICIENT:
            raise Refusal(NO_CARD) from None
        raise


async def mend(
    tx: Tx, shopper: CheckinShopper, program: CheckinProgram, day: date, kind: DayKind, almanac: Almanac, now: datetime
) -> Mended:
    """Add a day that lies behind, fold all days anew, and give what is due by then and was not given.

    The shopper's row is locked. Raises `Refusal` where the day counted before the shopper was erased.
    """
    if await tx.people.had(tx, [shopper.user_id], day_held(day)):
        raise Refusal(ALREADY_CHECKED_IN)
    promised = terms_of(program)
    days = await streaks.find_days(tx, shopper.user_id, FIRST_DAY, LAST_DAY)
    added = Day(day, kind, promised.terms_id, streak=1, position=1, paid=0)
    terms = await streaks.find_terms(tx, {one.terms_id for one in days} | {promised.terms_id})
    held = sorted([*days, added], key=lambda one: one.day)
    standing, told = replay(held, terms, almanac.history)
    within = by_program(held, terms, almanac.history)
    (added,) = (one for one in told if one.day == day)
    if not await store.add_day(tx, shopper.user_id, added):
        raise AssertionError("the shopper's row is locked, and the day was not there")
    known = {one.day: one for one in days}
    await store.move_days(tx, shopper.user_id, [one for one in told if one.day != day and one != known[one.day]])
    await store.set_standing(tx, shopper.user_id, standing)
    given = await store.given_by_repairs(tx, shopper.user_id, program.program_id)
    earned = Earned(
        user_id=shopper.user_id,
        program=program,
        occasion=f"{day}:repair",
        reason="checkin.make_up" if kind == DayKind.MADE_UP else "checkin.day",
        rewards=_due(told, terms, program, given),
        milestones=reached(shopper.standing, within[program.program_id], program),
    )
    (outcome,) = await give(tx, [earned], now)
    marks = [reward for milestone in outcome.milestones for reward in milestone.rewards]
    await store.add_repair(tx, shopper.user_id, day, program.program_id, owed(outcome.rewards, marks), now)
    return Mended(standing, added, outcome)


def _due(
    days: Sequence[Day], terms: dict[int, CheckinTerms], program: CheckinProgram, repaid: Sequence[Reward]
) -> list[Reward]:
    """Return what the days of a program earn where they stand now, and did not earn where they were paid for.

    All of them, so that no order of repairs gives more in the end than the days themselves.
    """
    counted = [one for one in days if one.position and terms[one.terms_id].program_id == program.program_id]
    due = [reward for one in counted for reward in terms[one.terms_id].reward(one.position)]
    paid = [reward for one in counted if one.paid for reward in terms[one.terms_id].reward(one.paid)]
    return owed(due, [*paid, *repaid])


async def become(tx: Tx, old_user_id: str, user_id: str, almanac: Almanac, now: datetime) -> None:
    """Make the days of an old id those of the new one.

    What either earned for a day stays as it was given; milestones that only the sum reaches are given now.
    """
    await streaks.lock_shoppers(tx, [old_user_id, user_id])
    await store.move_wishes(tx, old_user_id, user_id)
    await store.move_to(tx, old_user_id, user_id)
    await store.erase(tx, old_user_id)
    days = await streaks.find_days(tx, user_id, FIRST_DAY, LAST_DAY)
    terms = await streaks.find_terms(tx, {one.terms_id for one in days})
    standing, told = replay(days, terms, almanac.history)
    await store.move_days(tx, user_id, told)
    await store.set_standing(tx, user_id, standing)
    await judge_milestones(tx, user_id, old_user_id, days, terms, almanac, now)


async def judge_milestones(
    tx: Tx,
    user_id: str,
    former_id: str,
    days: Sequence[Day],
    terms: Mapping[int, CheckinTerms],
    almanac: Almanac,
    now: datetime,
) -> None:
    """Give the milestones that all days of a shopper (oldest first, the row locked) reach, and that were not given.

    In every program that is still live: for days that were set otherwise than by one more of them.
    """
    live = {program.program_id: program for program in almanac.programs if program.state in LIVE}
    earned = [
        Earned(
            user_id=user_id,
            former_id=former_id,
            program=live[program_id],
            occasion="united",
            reason="checkin.milestone",
            rewards=[],
            milestones=reached(Streak(), standing, live[program_id]),
        )
        for program_id, standing in by_program(days, terms, almanac.history).items()
        if program_id in live
    ]
    await give(tx, earned, now)
