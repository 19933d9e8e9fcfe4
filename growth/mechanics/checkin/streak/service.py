"""Checking in: who taps at the same time is decided in one transaction."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache

import msgspec
from msgspec import Struct
from prometheus_client import Counter

from growth.kit.campaign.audience import Audiences, Candidate, not_admitted
from growth.mechanics.checkin.model import CheckinProgram, day_held
from growth.mechanics.checkin.streak import store
from growth.mechanics.checkin.streak.day_end.service import catch_up
from growth.mechanics.checkin.streak.model import (
    FEWEST_DAYS,
    Almanac,
    CheckedIn,
    Day,
    DayKind,
    Streak,
    count,
    reached,
    terms_of,
)
from growth.mechanics.checkin.streak.programs_cache import Almanacs, audience_on
from growth.mechanics.checkin.streak.repair.model import ALREADY_CHECKED_IN
from growth.mechanics.checkin.streak.repair.service import Repairs
from growth.mechanics.checkin.streak.rewards import Earned, answer_of, give
from growth.mechanics.checkin.streak.store import CheckinShopper, Written
from growth.plumbing.http.idempotency import KEPT_HOURS
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.work.decide import Decisions
from growth.vocabulary.audience import AudienceType
from growth.vocabulary.events.checkin import CheckinCheckedIn
from growth.vocabulary.refusals import Refusal, Unavailable

MAX_BATCH_TAPS = 128
MAX_QUEUE_TAPS = 4_096
"""What a process checks in well within a second. More waiting would only be late."""

CHECKED_IN = Counter("growth_checkin_checked_in_total", "Check-ins written")
REFUSED = Counter("growth_checkin_refused", "Check-ins refused, by reason", ["reason"])


class Tap(Struct, frozen=True):
    """A shopper who checks in."""

    user_id: str
    at: float
    """When it arrived, on this process' monotonic clock."""
    key: str | None
    """Its Idempotency-Key: for a day the tap under the same one is the same tap, past midnight too."""


class TapAnswer(Struct, frozen=True):
    """What a tap is told once Postgres has the day."""

    answer: CheckedIn
    is_new: bool
    """This tap checked in; the others of the day are told the same."""
    replayed: bool = False
    """The tap that checked in, asked again under its Idempotency-Key."""


class PlannedCheckIn(Struct, frozen=True):
    """A check-in that a batch will write."""

    user_id: str
    key: str | None
    program: CheckinProgram
    day: Day
    before: Streak
    after: Streak


class Overtaken(Struct, frozen=True):
    """A tap for a day before the shopper's newest one: it gets a transaction of its own."""


Outcome = PlannedCheckIn | TapAnswer | Overtaken | Refusal


class TapBatch(Struct, frozen=True):
    """What a transaction sees of a batch of taps, their shoppers locked."""

    now: datetime
    """Postgres' time."""
    wishes: list[tuple[str, date]]
    """Who wants which day, in the order of the taps."""
    shoppers: dict[str, CheckinShopper]
    decided: dict[tuple[str, date], Outcome]


class _NothingToWrite(Exception):
    """Rolls back: all that was written is rows of shoppers who were refused."""


class CheckIns:
    """What shoppers' taps do."""

    def __init__(
        self,
        database: Database,
        almanacs: Almanacs,
        repairs: Repairs,
        audiences: Audiences,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._almanacs = almanacs
        self._repairs = repairs
        self._audiences = audiences
        self._monotonic = monotonic
        self._taps: Decisions[Tap, TapAnswer] = Decisions(
            "checkin.taps",
            self._together,
            person_of=lambda tap: tap.user_id,
            max_batch=MAX_BATCH_TAPS,
            max_queue=MAX_QUEUE_TAPS,
        )

    async def drain(self) -> None:
        """Wait until everyone who tapped has an answer."""
        await self._taps.calls.drain()

    async def check_in(self, user_id: str, key: str | None = None) -> TapAnswer:
        """Check in for the day on which this is called; when it returns, it is committed.

        Raises `Refusal` if there is nothing to check in to, and `Unavailable` when Postgres does not answer: asking
        again is safe, the day itself makes it happen once; under the same `key` it is the same tap past midnight too,
        for `KEPT_HOURS`.
        """
        try:
            told = await self._taps.calls(Tap(user_id, self._monotonic(), key))
        except Refusal as refusal:
            _refused_as(refusal.kind.code).inc()
            raise
        if told.is_new:
            CHECKED_IN.inc()
        return told

    async def _together(self, taps: Sequence[Tap]) -> list[TapAnswer | BaseException]:
        seen: TapBatch | None = None
        written: dict[str, CheckedIn] = {}
        try:
            async with self._database.transaction(people={tap.user_id for tap in taps}) as tx:
                seen = await self._look(tx, taps)
                plans = [plan for plan in seen.decided.values() if isinstance(plan, PlannedCheckIn)]
                if not plans:
                    raise _NothingToWrite  # noqa: TRY301 - who is refused leaves no row
                written = await _carry_out(tx, plans, seen.now)
        except _NothingToWrite:
            assert seen is not None, "raised after looking"
        answers: list[TapAnswer | BaseException] = []
        told: set[tuple[str, date]] = set()
        for wish, tap in zip(seen.wishes, taps, strict=True):
            if _is_replay(tap, seen.shoppers, seen.now):
                answers.append(TapAnswer(_answered(seen.shoppers[tap.user_id]), is_new=False, replayed=True))
                continue
            outcome = seen.decided[wish]
            if isinstance(outcome, PlannedCheckIn):
                again = wish in told
                is_same = again and tap.key is not None and tap.key == outcome.key
                answers.append(TapAnswer(written[tap.user_id], is_new=not again, replayed=is_same))
                told.add(wish)
            elif isinstance(outcome, Overtaken):
                answers.append(await self._late(*wish))
            else:
                answers.append(outcome)
        return answers

    async def _look(self, tx: Tx, taps: Sequence[Tap]) -> TapBatch:
        """Lock the shoppers of a batch, and say what becomes of each tap."""
        shoppers = await store.lock_shoppers(tx, [tap.user_id for tap in taps])
        looked_at = self._monotonic()
        glance, almanac = await self._almanacs.look(tx)
        # When it arrived: who taps before midnight, and waits in a queue until after it, has made it.
        wishes = [
            (tap.user_id, almanac.zone.day(glance.now - timedelta(seconds=max(0.0, looked_at - tap.at))))
            for tap in taps
        ]
        fresh = {
            wish: tap.key
            for wish, tap in zip(reversed(wishes), reversed(taps), strict=True)
            if not _is_replay(tap, shoppers, glance.now)
        }
        standings = {user_id: shopper.standing for user_id, shopper in shoppers.items()}
        lapsed = _lapsed(fresh, shoppers, almanac)
        if lapsed:
            standings |= await catch_up(tx, lapsed, glance, almanac)
        days = {(user_id, day_held(day)): (user_id, day) for user_id, day in fresh}
        had = frozenset(days[pair] for pair in await tx.people.units_had(tx, days))
        audience = {day: audience_on(almanac, day) for day in {day for _, day in fresh}}
        asked = {wish: Candidate(audience[wish[1]], wish[0]) for wish in fresh if audience[wish[1]]}
        missed = await self._audiences.outside(tx, asked) if asked else {}
        return TapBatch(glance.now, wishes, shoppers, _judge(fresh, shoppers, standings, had, missed, almanac))

    async def _late(self, user_id: str, day: date) -> TapAnswer | BaseException:
        try:
            answer, is_new = await self._repairs.check_in_late(user_id, day)
        except (Refusal, Unavailable) as error:
            return error
        return TapAnswer(answer, is_new)


def _is_replay(tap: Tap, shoppers: dict[str, CheckinShopper], now: datetime) -> bool:
    shopper = shoppers[tap.user_id]
    if tap.key is None or tap.key != shopper.answer_key or shopper.answer is None or shopper.answered_at is None:
        return False
    return now < shopper.answered_at + timedelta(hours=KEPT_HOURS)


def _answered(shopper: CheckinShopper) -> CheckedIn:
    return msgspec.convert(shopper.answer, CheckedIn)


def _lapsed(
    wishes: Iterable[tuple[str, date]], shoppers: dict[str, CheckinShopper], almanac: Almanac
) -> list[tuple[CheckinShopper, date]]:
    """Return those whose streak breaks with the day they tap on, once each."""
    found: dict[str, tuple[CheckinShopper, date]] = {}
    for user_id, day in wishes:
        shopper = shoppers[user_id]
        standing = shopper.standing
        is_next = standing.last_day is not None and standing.last_day < day
        if is_next and standing.streak >= FEWEST_DAYS and almanac.history.breaks(standing.last_day or day, day):
            found.setdefault(user_id, (shopper, day))
    return list(found.values())


def _judge(
    wishes: Mapping[tuple[str, date], str | None],
    shoppers: dict[str, CheckinShopper],
    standings: dict[str, Streak],
    had: frozenset[tuple[str, date]],
    missed: Mapping[tuple[str, date], AudienceType],
    almanac: Almanac,
) -> dict[tuple[str, date], Outcome]:
    """Say what becomes of each shopper's day. Under the lock of the shopper's row, so it is true."""
    decided: dict[tuple[str, date], Outcome] = {}
    planned: set[str] = set()
    # Days in order: of two days of one shopper the earlier comes first.
    for wish, key in sorted(wishes.items(), key=lambda item: item[0]):
        user_id, day = wish
        standing, answer = standings[user_id], shoppers[user_id].answer
        if standing.last_counted == day and answer is not None and answer.get("day") == day.isoformat():
            decided[wish] = TapAnswer(_answered(shoppers[user_id]), is_new=False)
        elif wish in had:
            # Before the shopper was erased: it earned what it earns.
            decided[wish] = Refusal(ALREADY_CHECKED_IN)
        elif user_id in planned or (standing.last_day is not None and day <= standing.last_day):
            decided[wish] = Overtaken()
        else:
            try:
                program = almanac.open_on(day)
                if wish in missed:
                    raise not_admitted(missed[wish])
            except Refusal as refusal:
                decided[wish] = refusal
                continue
            terms = terms_of(program)
            after = count(standing, day, terms, almanac.history)
            kept = Day(day, DayKind.CHECKED_IN, terms.terms_id, after.streak, after.position, after.position)
            decided[wish] = PlannedCheckIn(user_id, key, program, kept, standing, after)
            planned.add(user_id)
    return decided


async def _carry_out(tx: Tx, plans: Sequence[PlannedCheckIn], now: datetime) -> dict[str, CheckedIn]:
    """Give what the days of a batch earn, write them, and tell; return the answers by shopper."""
    if not plans:
        return {}
    given = await give(tx, [_earned(plan) for plan in plans], now)
    answers = {
        plan.user_id: answer_of(plan.after, plan.program, plan.day, its) for plan, its in zip(plans, given, strict=True)
    }
    done = await store.write(
        tx, [Written(plan.user_id, plan.day, plan.after, answers[plan.user_id], plan.key) for plan in plans], now
    )
    if not done:
        raise AssertionError("a day is written that its shopper's row does not know")
    await emit(
        tx,
        *[
            CheckinCheckedIn(
                at=now,
                user_id=plan.user_id,
                program_id=plan.program.program_id,
                day=plan.day.day,
                streak=plan.after.streak,
                total=plan.after.total,
                rewards=its.rewards,
                milestones=its.reached,
            )
            for plan, its in zip(plans, given, strict=True)
        ],
    )
    return answers


def _earned(plan: PlannedCheckIn) -> Earned:
    return Earned(
        user_id=plan.user_id,
        program=plan.program,
        occasion=plan.day.day.isoformat(),
        reason="checkin.day",
        rewards=terms_of(plan.program).reward(plan.day.position),
        milestones=reached(plan.before, plan.after, plan.program),
    )


@cache
def _refused_as(code: str) -> Counter:
    return REFUSED.labels(code)
