"""What operators do with programs. Each write is one transaction with its audit entry."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import asyncpg
import msgspec
from msgspec import Struct

from growth.mechanics.checkin import model, store
from growth.mechanics.checkin.dry_run import CheckinDryRun, tried
from growth.mechanics.checkin.model import (
    FIRST_DAY,
    LAST_DAY,
    CheckinDraft,
    CheckinPause,
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
from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.periodic import Turn
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Spent
from growth.rewards.granting.service import require_admin_for_money
from growth.vocabulary.events import Event
from growth.vocabulary.events.checkin import (
    CheckinProgramEnded,
    CheckinProgramPaused,
    CheckinProgramPublished,
    CheckinProgramResumed,
)
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal

MAX_TRIED_DAYS = 400
"""A dry run looks no further ahead."""
STATS_DAYS = 30
MONTHS_AHEAD = 3
STREAKS_FROM = [1, 2, 3, 7, 14, 30, 100, 365]
"""Where the groups of streaks begin."""


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
    state: str
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


class CheckinPrograms:
    """The operators' side of check-ins."""

    def __init__(self, database: Database, almanacs: Almanacs) -> None:
        self._database = database
        self._almanacs = almanacs
        self._zone = almanacs.zone

    async def create(self, act: Act, draft: CheckinDraft, key: str | None, content: bytes) -> Once[CheckinProgram]:
        """Make a draft. Raises `Refusal` 400 for fields that do not fit together."""
        _check(draft)

        async with self._database.transaction() as tx:

            async def work() -> CheckinProgram:
                program = await store.add_program(tx, new_id(act.now), draft, act.now)
                await _audit(tx, act, "create", None, program)
                return program

            scope = f"{act.operator.name} POST check-in-programs"
            return await once(
                tx, scope=scope, key=key, content=content, answer_type=CheckinProgram, work=work, now=act.now
            )

    async def find(self, program_id: str) -> CheckinProgram:
        """Return a program in any state. Raises `Refusal` 404."""
        program = await store.find_program(self._database, program_id)
        if program is None:
            raise Refusal(model.NOT_FOUND)
        return program

    async def page(self, *, state: str | None, before: str | None, limit: int) -> list[CheckinProgram]:
        """Return programs, newest first."""
        return await store.page_of_programs(self._database, state=state, before=before, limit=limit)

    async def change(self, act: Act, program_id: str, version: int, draft: CheckinDraft) -> CheckinProgram:
        """Edit a program still at `version`. Raises `Refusal`: 412 for an older one, 409 for a locked field."""
        _check(draft)
        try:
            async with self._database.transaction() as tx:
                before = await _lock(tx, program_id)
                if before.version != version:
                    raise Refusal(model.VERSION_MISMATCH, f"It is at version {before.version}.", version=before.version)
                if before.state != "draft":
                    require_admin_for_money(act, before, draft)
                model.check_edit(before, draft, self._zone.day(act.now))
                after = await store.change_program(tx, program_id, version, draft)
                assert after is not None, "locked, so nobody else changed it"
                if before.state != "draft":
                    await self._promise(tx, after)
                    after = await _lock(tx, program_id)
                await _audit(tx, act, "change", before, after)
        except asyncpg.ExclusionViolationError:
            raise Refusal(model.OVERLAP) from None
        return after

    async def publish(self, act: Act, program_id: str) -> CheckinProgram:
        """Let a program begin on its first day. Raises `Refusal` 409 if that lies behind, or another is live then."""
        today = self._zone.day(act.now)
        try:
            async with self._database.transaction() as tx:
                before = await _lock(tx, program_id)
                require_admin_for_money(act, before)
                if before.from_day < today:
                    raise Refusal(model.WRONG_STATE, "from_day lies in the past; change it first.")
                # Who could have checked in since midnight?
                begun = before.from_day == today and self._zone.begins_at(today) < act.now
                closures = model.closed(before.closures, today, today) if begun else before.closures
                event = CheckinProgramPublished(
                    at=act.now, program_id=program_id, from_day=before.from_day, until_day=before.until_day
                )
                await self._promise(tx, before)
                after = await self._move(tx, act, before, ("draft",), "published", closures, "publish", event)
        except asyncpg.ExclusionViolationError:
            raise Refusal(model.OVERLAP) from None
        return after

    async def pause(self, act: Act, program_id: str) -> CheckinProgram:
        """Stop check-ins at once, and let no streak break from today until it goes on."""
        async with self._database.transaction() as tx:
            before = await _lock(tx, program_id)
            if len(before.closures) >= model.MAX_CLOSURES:
                raise Refusal(model.WRONG_STATE, "It was paused too often; end it, and begin another.")
            closures = model.closed(before.closures, self._zone.day(act.now), LAST_DAY)
            event = CheckinProgramPaused(at=act.now, program_id=program_id)
            return await self._move(tx, act, before, ("published",), "paused", closures, "pause", event)

    async def resume(self, act: Act, program_id: str) -> CheckinProgram:
        """Let check-ins go on."""
        async with self._database.transaction() as tx:
            before = await _lock(tx, program_id)
            require_admin_for_money(act, before)
            closures = self._reopened(before, act.now)
            event = CheckinProgramResumed(at=act.now, program_id=program_id)
            return await self._move(tx, act, before, ("paused",), "published", closures, "resume", event)

    async def end(self, act: Act, program_id: str) -> CheckinProgram:
        """End a program for good, today. Streaks stay, and go on with the next one."""
        today = self._zone.day(act.now)
        async with self._database.transaction() as tx:
            before = await _lock(tx, program_id)
            closures = self._reopened(before, act.now)
            if before.state in {"published", "paused"} and before.from_day <= today:
                closures = model.closed(closures, today, today)
            event = CheckinProgramEnded(at=act.now, program_id=program_id)
            states = ("draft", "published", "paused")
            await self._move(tx, act, before, states, "ended", closures, "end", event)
            await store.end_on(tx, program_id, today)
            return await _lock(tx, program_id)

    def _reopened(self, before: CheckinProgram, now: datetime) -> list[CheckinPause]:
        return model.reopened(before.closures, self._zone.day(now)) if before.state == "paused" else before.closures

    async def _move(
        self,
        tx: Tx,
        act: Act,
        before: CheckinProgram,
        from_states: Sequence[str],
        to_state: str,
        closures: list[CheckinPause],
        action: str,
        event: Event,
    ) -> CheckinProgram:
        after = await store.move_program(tx, before.program_id, from_states, to_state, closures, act.now)
        if after is None:
            raise Refusal(model.WRONG_STATE, f"Cannot {action} a program that is {before.state}.", state=before.state)
        await _audit(tx, act, action, before, after)
        await emit(tx, event)
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
        return tried(standing, program, history, at, day)

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
            by_day.setdefault(day, {})[what] = times
        ends = [*[start - 1 for start in STREAKS_FROM[1:]], None]
        return CheckinStats(
            program_id=program_id,
            state=program.state,
            checked_in=in_all.get("checked_in", (0, 0))[0],
            made_up=in_all.get("made_up", (0, 0))[0],
            frozen=in_all.get("frozen", (0, 0))[0],
            days=[_day_count(day, found) for day, found in sorted(by_day.items())],
            streaks=[CheckinStreakCount(*group) for group in zip(STREAKS_FROM, ends, shoppers, strict=True)],
            rewards=[
                CheckinRewardCount(what.removeprefix("reward:"), times, amount)
                for what, (times, amount) in sorted(in_all.items())
                if what.startswith("reward:")
            ],
            spent=spent.get(program_id),
            server_time=now,
        )


def _day_count(day: date, found: dict[str, int]) -> CheckinDayCount:
    return CheckinDayCount(
        day=day,
        checked_in=found.get("checked_in", 0),
        made_up=found.get("made_up", 0),
        frozen=found.get("frozen", 0),
        broken=found.get("broken", 0),
        warned=found.get("warned", 0),
    )


def _check(draft: CheckinDraft) -> None:
    if found := model.faults(draft):
        raise invalid(*found)


async def _lock(tx: Tx, program_id: str) -> CheckinProgram:
    program = await store.lock_program(tx, program_id)
    if program is None:
        raise Refusal(model.NOT_FOUND)
    return program


async def _audit(tx: Tx, act: Act, action: str, before: CheckinProgram | None, after: CheckinProgram) -> None:
    await audit.record(
        tx,
        act,
        f"checkin.{action}",
        after.program_id,
        before=before,
        after=after,
    )
