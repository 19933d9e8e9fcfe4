"""What operators do with programs. Each write is one transaction with its audit entry."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Literal

import asyncpg
import msgspec
from msgspec import Struct

from growth.kit.campaign.audience import Audiences
from growth.kit.campaign.model import LIVE, State, Step
from growth.kit.campaign.service import Campaigns
from growth.mechanics.checkin import model, store
from growth.mechanics.checkin.dry_run import CheckinDryRun, tried
from growth.mechanics.checkin.model import (
    FIRST_DAY,
    LAST_DAY,
    PROGRAMS,
    CheckinDraft,
    CheckinProgram,
)
from growth.mechanics.checkin.streak import store as streaks
from growth.mechanics.checkin.streak.model import (
    ONE_DAY,
    OpenDays,
    Streak,
    closed_today,
    count,
    terms_of,
)
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.plumbing.field_errors import FieldError
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.periodic import Turn
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Spent
from growth.rewards.granting.service import require_admin_for_money
from growth.vocabulary.events.checkin import CheckinProgramEnded
from growth.vocabulary.refusals import Refusal

MAX_TRIED_DAYS = 400
"""A dry run looks no further ahead."""
STATS_DAYS = 30
MONTHS_AHEAD = 3
STREAKS_FROM = [1, 2, 3, 7, 14, 30, 100, 365]
"""Where the groups of streaks begin."""

COUNTED = ("checked_in", "made_up", "frozen", "broken", "warned")


class CheckinDayCount(Struct, frozen=True, kw_only=True):
    """A day in numbers."""

    day: date
    checked_in: int
    made_up: int
    frozen: int
    broken: int
    """Streaks whose last day it was."""
    warned: int


class CheckinRewardCount(Struct, frozen=True):
    """What was given of one kind."""

    reward: str
    """The type; of coupons with the template after a colon."""
    times: int
    amount: int
    """Points, fen, growth value, cards; coupons count 1."""


class CheckinStreakCount(Struct, frozen=True):
    """How many shoppers have a live streak of so many days."""

    from_days: int
    until_days: int | None
    shoppers: int


class CheckinStats(Struct, frozen=True, kw_only=True):
    """A program in numbers: by a listener, so seconds behind."""

    program_id: str
    state: State
    checked_in: int
    made_up: int
    frozen: int
    days: list[CheckinDayCount]
    """The last 30 with anything in them."""
    streaks: list[CheckinStreakCount]
    rewards: list[CheckinRewardCount]
    spent: Spent | None
    """Of the budget, if there is one; of today, if it is for each day."""
    server_time: datetime


class CheckinPrograms(Campaigns[CheckinDraft, CheckinProgram]):
    """The operators' side of check-ins."""

    kind = PROGRAMS

    def __init__(self, database: Database, almanacs: Almanacs, audiences: Audiences) -> None:
        super().__init__(database)
        self._audiences = audiences
        self._almanacs = almanacs
        self._zone = almanacs.zone

    async def change(
        self, act: Act, campaign_id: str, version: int, draft: CheckinDraft, *, accept_warnings: bool = False
    ) -> CheckinProgram:
        """Edit a program; Postgres refuses one that would be live beside another."""
        with _one_live():
            return await super().change(act, campaign_id, version, draft, accept_warnings=accept_warnings)

    async def step(self, act: Act, campaign_id: str, step: Step, *, accept_warnings: bool = False) -> CheckinProgram:
        """Take a step; Postgres refuses to let a program go live beside another."""
        with _one_live():
            return await super().step(act, campaign_id, step, accept_warnings=accept_warnings)

    def allow(self, act: Act, *campaigns: object) -> None:
        """Refuse an editor where money is given."""
        require_admin_for_money(act, *campaigns)

    def late(self, draft: CheckinDraft, now: datetime) -> FieldError | None:
        """Say that the first day lies behind."""
        is_late = draft.from_day < self._zone.day(now)
        return FieldError("from_day", "from_day lies in the past; change it first.") if is_late else None

    async def before_change(self, _tx: Tx, act: Act, before: CheckinProgram, draft: CheckinDraft) -> None:
        """Keep what is history."""
        model.check_edit(before, draft, self._zone.day(act.now))

    async def before_step(self, tx: Tx, act: Act, step: Step, before: CheckinProgram) -> None:
        """Write down what a program promises from its publication on, and on which days a step closes it."""
        today, closures = self._zone.day(act.now), before.closures
        if step == "publish":
            await self._promise(tx, before)
            # Who could have checked in since midnight?
            if before.from_day == today and self._zone.begins_at(today) < act.now:
                closures = model.closed(closures, today, today)
        elif step == "pause":
            # No streak breaks from today until it goes on.
            if len(closures) >= model.MAX_CLOSURES:
                raise Refusal(model.WRONG_STATE, "It was paused too often; end it, and begin another.")
            closures = model.closed(closures, today, LAST_DAY)
        else:
            if before.state == "paused":
                closures = model.reopened(closures, today)
            if step == "end" and before.state in LIVE and before.from_day <= today:
                closures = model.closed(closures, today, today)
        if closures != before.closures:
            await store.set_closures(tx, before.program_id, closures)

    async def after(
        self, tx: Tx, act: Act, step: Step | Literal["change"], _before: CheckinProgram, after: CheckinProgram
    ) -> CheckinProgram:
        """Let a live program promise what an edit says, and one that was ended have its last day today."""
        if step == "end":
            return await store.end_on(tx, after.program_id, self._zone.day(act.now))
        if step == "change" and after.state != "draft":
            await self._promise(tx, after)
            return await self.lock(tx, after.program_id)
        return after

    async def _promise(self, tx: Tx, program: CheckinProgram) -> None:
        """Remember what a program that shoppers see promises from now on, and what it may give."""
        await store.set_terms(tx, program)
        if program.budget is not None:
            await granting.set_budget(tx, program.program_id, program.budget, self._zone.name)

    # --- by the clock -------------------------------------------------------------------------------------------------

    async def end_over(self, turn: Turn) -> int:
        """End programs whose last day is over."""
        async with turn.transaction() as tx:
            over = await store.end_over_programs(tx, self._zone.day(turn.now), turn.now)
            await emit(tx, *[CheckinProgramEnded(at=turn.now, program_id=one.program_id) for one in over])
        return len(over)

    async def prepare_months(self, turn: Turn) -> int:
        """Make the months that days will be written to."""
        async with turn.transaction() as tx:
            return await store.make_months(tx, self._zone.day(turn.now), MONTHS_AHEAD)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def dry_run(self, program_id: str, user_id: str, at: datetime, *, every_day: bool) -> CheckinDryRun:
        """Say what a check-in at `at` would get, and why; nothing is changed.

        `every_day`: as if the shopper checked in on each day from today (or from the first day) until then.
        """
        user_id = await self._database.people.today(self._database, user_id)
        program = await self.find(program_id)
        if program.state == "draft":
            program = msgspec.structs.replace(program, state="published", published_at=at, terms_id=0)
        shopper = await streaks.find_shopper(self._database, user_id)
        glance, almanac = await self._almanacs.look(self._database)
        others = [one for one in almanac.programs if one.program_id != program_id]
        history = OpenDays(self._zone, [program, *others])
        day, today = self._zone.day(at), self._zone.day(glance.now)
        standing = Streak() if shopper is None else shopper.standing
        if (day - today).days > MAX_TRIED_DAYS:
            raise invalid(FieldError("now", f"At most {MAX_TRIED_DAYS} days ahead"))
        if standing.last_day is not None and day < standing.last_day:
            raise invalid(FieldError("now", f"The shopper's days go up to {standing.last_day}: not before that"))
        if every_day:
            first = max(today, program.from_day, (standing.last_day or FIRST_DAY) + ONE_DAY)
            for one in (first + timedelta(days=number) for number in range((day - first).days)):
                if closed_today(program, one) is None:
                    standing = count(standing, one, terms_of(program), history)
        missed = await self._audiences.missed(self._database, program.audience, user_id)
        return tried(standing, program, history, at, day, missed)

    async def stats(self, program_id: str, now: datetime) -> CheckinStats:
        """Return a program in numbers."""
        program = await self.find(program_id)
        _, almanac = await self._almanacs.look(self._database)
        today = self._zone.day(now)
        edge = almanac.history.edge(today)
        counted = await store.tally_of_days(self._database, program_id, today - timedelta(days=STATS_DAYS), today)
        in_all = await store.tally_in_all(self._database, program_id)
        shoppers = await store.count_streaks(self._database, program_id, edge, STREAKS_FROM)
        spent = await granting.spent(self._database, [program_id], now) if program.budget is not None else {}
        by_day: dict[date, dict[str, int]] = {}
        for day, what, times, _ in counted:
            found = by_day.setdefault(day, {})
            if what in COUNTED:
                found[what] = times
        ends = [*[start - 1 for start in STREAKS_FROM[1:]], None]
        return CheckinStats(
            program_id=program_id,
            state=program.state,
            **{name: in_all.get(name, (0, 0))[0] for name in ("checked_in", "made_up", "frozen")},
            days=[
                CheckinDayCount(day=day, **(dict.fromkeys(COUNTED, 0) | found)) for day, found in sorted(by_day.items())
            ],
            streaks=[CheckinStreakCount(*group) for group in zip(STREAKS_FROM, ends, shoppers, strict=True)],
            rewards=[
                CheckinRewardCount(what.removeprefix("reward:"), times, amount)
                for what, (times, amount) in sorted(in_all.items())
                if what.startswith("reward:")
            ],
            spent=spent.get(program_id),
            server_time=now,
        )


@contextmanager
def _one_live() -> Iterator[None]:
    try:
        yield
    except asyncpg.ExclusionViolationError:
        raise Refusal(model.OVERLAP) from None
