"""Every statement on shoppers' days and on what follows from them. Functions never commit; services do.

The lock of a shopper's days is the row in `states`; of several, in the order of their ids, new ones first.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

import msgspec
from msgspec import Struct

from growth.mechanics.checkin.streak.model import CheckinTerms, Day, DayKind, Streak
from growth.plumbing.postgres.database import Reader, Record, Tx

_encode = msgspec.json.Encoder().encode


class CheckinShopper(Struct, frozen=True, kw_only=True):
    """What Postgres keeps of one shopper besides the days; of one who was never seen, nothing but the id."""

    user_id: str
    standing: Streak = Streak()
    answer: dict[str, Any] | None = None
    """What the newest check-in was answered."""
    answer_key: str | None = None
    """The Idempotency-Key it came under."""
    answered_at: datetime | None = None
    """When that was; the key is kept for `KEPT_HOURS` from then on."""
    wants_reminder: bool = False
    make_up_month: date | None = None
    make_ups_used: int = 0
    """In that month."""


class TapGlance(Struct, frozen=True):
    """What every transaction of the room begins with."""

    now: datetime
    """Postgres' time."""
    revision: int
    """Changes when any program does."""
    night_day: date | None
    """The day that the walk of freezing and breaking is at."""
    night_after: str
    """The last shopper it looked at for that day."""

    def has_walked(self, day: date, user_id: str) -> bool:
        """Say whether the walk has passed a shopper for `day`."""
        if self.night_day is None or day > self.night_day:
            return False
        return day < self.night_day or user_id <= self.night_after


class Written(Struct, frozen=True):
    """A check-in to be written: the day, and where it leads."""

    user_id: str
    day: Day
    standing: Streak
    answer: object
    key: str | None


def shopper_of(row: Record) -> CheckinShopper:
    """Read a shopper."""
    return CheckinShopper(
        user_id=row["user_id"],
        standing=Streak(
            last_day=row["last_day"],
            last_counted=row["last_counted"],
            program_id=row["program_id"],
            streak=row["streak"],
            run=row["run"],
            position=row["position"],
            longest=row["longest"],
            best=row["best"],
            total=row["total"],
            judged=row["judged_terms_id"],
        ),
        answer=row["answer"],
        answer_key=row["answer_key"],
        answered_at=row["answered_at"],
        wants_reminder=row["wants_reminder"],
        make_up_month=row["make_up_month"],
        make_ups_used=row["make_ups_used"],
    )


def day_of(row: Record) -> Day:
    """Read a day."""
    return Day(
        day=row["day"],
        kind=DayKind(row["kind"]),
        terms_id=row["terms_id"],
        streak=row["streak"],
        position=row["position"],
        paid=row["paid"],
    )


async def lock_shoppers(tx: Tx, user_ids: Iterable[str]) -> dict[str, CheckinShopper]:
    """Return shoppers, each locked until `tx` ends; those never seen before begin with nothing.

    One by one in the order of their ids, by a limit that is never reached: no plan may scan the table, whatever
    Postgres believes of its size.
    """
    asked = _encode(sorted(set(user_ids))).decode()
    await tx.execute(
        """
        INSERT INTO checkin.states (user_id)
        SELECT asked.user_id
        FROM json_array_elements_text($1::json) AS asked (user_id)
        ORDER BY asked.user_id COLLATE "C"
        ON CONFLICT DO NOTHING
        """,
        asked,
    )
    rows = await tx.fetch(
        """
        SELECT state.user_id, state.last_day, state.last_counted, state.program_id, state.streak, state.run,
            state.position, state.longest, state.best, state.total, state.answer, state.answer_key,
            state.answered_at, state.judged_terms_id, state.wants_reminder, state.make_up_month, state.make_ups_used
        FROM json_array_elements_text($1::json) AS asked (user_id)
        CROSS JOIN LATERAL (
            SELECT *
            FROM checkin.states AS mine
            WHERE mine.user_id = asked.user_id COLLATE "C"
            LIMIT 1
            FOR NO KEY UPDATE
        ) AS state
        """,
        asked,
    )
    return {row["user_id"]: shopper_of(row) for row in rows}


async def find_shopper(reader: Reader, user_id: str) -> CheckinShopper | None:
    """Return one shopper."""
    row = await reader.fetchrow(
        """
        SELECT user_id, last_day, last_counted, program_id, streak, run, position, longest, best, total, answer,
            answer_key, answered_at, judged_terms_id, wants_reminder, make_up_month, make_ups_used
        FROM checkin.states
        WHERE user_id = $1
        """,
        user_id,
    )
    return None if row is None else shopper_of(row)


async def see_one_moment(tx: Tx) -> None:
    """Let all that `tx` reads be of one moment. Its first statement; it can write nothing."""
    await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


async def glance(reader: Reader) -> TapGlance:
    """Say what time it is, whether programs changed, and how far the night's walk is."""
    row = await reader.fetchrow(
        """
        SELECT clock_timestamp() AS now,
            (SELECT coalesce(sum(version), 0)::bigint FROM checkin.programs) AS revision,
            walk.day AS night_day,
            coalesce(walk.after_user_id, '') AS night_after
        FROM (SELECT) AS always
        LEFT JOIN checkin.walks AS walk ON walk.walk = 'night'
        """
    )
    assert row is not None, "it always has a row"
    return TapGlance(row["now"], row["revision"], row["night_day"], row["night_after"])


async def find_terms(reader: Reader, terms_ids: Iterable[int]) -> dict[int, CheckinTerms]:
    """Return what versions of programs promised."""
    rows = await reader.fetch(
        """
        SELECT terms_id, program_id, cycle, rewards
        FROM checkin.terms
        WHERE terms_id = ANY ($1::int[])
        """,
        sorted(set(terms_ids)),
    )
    return {row["terms_id"]: msgspec.convert(dict(row), CheckinTerms) for row in rows}


async def find_days(reader: Reader, user_id: str, from_day: date, until_day: date) -> list[Day]:
    """Return the days that a shopper holds from one to another, both included, oldest first."""
    rows = await reader.fetch(
        """
        SELECT day, kind, terms_id, streak, position, paid
        FROM checkin.days
        WHERE user_id = $1
          AND day BETWEEN $2 AND $3
        ORDER BY day
        """,
        user_id,
        from_day,
        until_day,
    )
    return [day_of(row) for row in rows]


async def find_day(reader: Reader, user_id: str, day: date) -> Day | None:
    """Return one day of a shopper, if it is held."""
    row = await reader.fetchrow(
        """
        SELECT day, kind, terms_id, streak, position, paid
        FROM checkin.days
        WHERE user_id = $1
          AND day = $2
        """,
        user_id,
        day,
    )
    return None if row is None else day_of(row)


async def reach(tx: Tx, reached: Sequence[tuple[str, str, str, int]], now: datetime) -> set[tuple[str, str, str, int]]:
    """Note milestones (shopper, program, of, days); return those not reached before."""
    rows = await tx.fetch(
        """
        INSERT INTO checkin.milestones (user_id, program_id, of, days, at)
        SELECT user_id, program_id, of, days, $2
        FROM json_to_recordset($1::json) AS reached (user_id text, program_id uuid, of text, days int)
        ORDER BY user_id COLLATE "C", program_id, of, days
        ON CONFLICT DO NOTHING
        RETURNING user_id, program_id, of, days
        """,
        _encode([dict(zip(("user_id", "program_id", "of", "days"), one, strict=True)) for one in reached]).decode(),
        now,
    )
    return {(row["user_id"], row["program_id"], row["of"], row["days"]) for row in rows}


async def write(tx: Tx, check_ins: Sequence[Written], now: datetime) -> bool:
    """Write days and where they lead. False if a shopper holds such a day already: then `tx` must be given up."""
    added: int = await tx.fetchval(
        """
        WITH asked AS MATERIALIZED (
            SELECT *
            FROM json_to_recordset($1::json) AS asked (
                user_id text, day date, terms_id int, streak int, run int, position int, paid int, kind smallint,
                longest int, best int, total int, program_id uuid, judged_terms_id int, answer jsonb,
                answer_key text)
        ),
        added AS (
            INSERT INTO checkin.days (user_id, day, terms_id, streak, position, paid, kind)
            SELECT user_id, day, terms_id, streak, position, paid, kind
            FROM asked
            ON CONFLICT (user_id, day) DO NOTHING
            RETURNING user_id
        ),
        moved AS (
            -- Not an UPDATE: that could scan all shoppers for these.
            INSERT INTO checkin.states AS state (user_id, last_day, last_counted, program_id, streak, run, position,
                longest, best, total, judged_terms_id, answer, answer_key, answered_at)
            SELECT user_id, day, day, program_id, streak, run, position, longest, best, total, judged_terms_id, answer,
                answer_key, $2
            FROM asked
            ON CONFLICT (user_id) DO UPDATE
            SET last_day = excluded.last_day,
                last_counted = excluded.last_counted,
                program_id = excluded.program_id,
                streak = excluded.streak,
                run = excluded.run,
                position = excluded.position,
                longest = excluded.longest,
                best = excluded.best,
                total = excluded.total,
                judged_terms_id = excluded.judged_terms_id,
                answer = excluded.answer,
                answer_key = excluded.answer_key,
                answered_at = excluded.answered_at
            RETURNING state.user_id
        )
        SELECT (SELECT count(*) FROM added)::int AS added
        FROM (SELECT count(*) FROM moved) AS moved
        """,
        _encode([_flat(one) for one in check_ins]).decode(),
        now,
    )
    return added == len(check_ins)


def _flat(one: Written) -> dict[str, object]:
    day, standing = one.day, one.standing
    return {
        "user_id": one.user_id,
        "day": day.day,
        "terms_id": day.terms_id,
        "streak": day.streak,
        "run": standing.run,
        "position": day.position,
        "paid": day.paid,
        "kind": int(day.kind),
        "longest": standing.longest,
        "best": standing.best,
        "total": standing.total,
        "program_id": standing.program_id,
        "judged_terms_id": standing.judged,
        "answer": one.answer,
        "answer_key": one.key,
    }


async def freeze_days(tx: Tx, frozen: Sequence[tuple[str, date, int, int]]) -> set[tuple[str, date]]:
    """Write frozen days (shopper, day, terms, streak that is kept) and move those shoppers' last day on."""
    rows = await tx.fetch(
        """
        WITH asked AS MATERIALIZED (
            SELECT *
            FROM json_to_recordset($1::json) AS asked (user_id text, day date, terms_id int, streak int)
        ),
        added AS (
            INSERT INTO checkin.days (user_id, day, terms_id, streak, position, paid, kind)
            SELECT user_id, day, terms_id, streak, 0, 0, 3
            FROM asked
            ON CONFLICT (user_id, day) DO NOTHING
            RETURNING user_id, day
        ),
        moved AS (
            UPDATE checkin.states AS state
            SET last_day = newest.day
            FROM (SELECT user_id, max(day) AS day FROM added GROUP BY user_id) AS newest
            WHERE state.user_id = newest.user_id
              AND state.last_day < newest.day
        )
        SELECT user_id, day FROM added
        """,
        _encode([dict(zip(("user_id", "day", "terms_id", "streak"), one, strict=True)) for one in frozen]).decode(),
    )
    return {(row["user_id"], row["day"]) for row in rows}


async def set_reminder(tx: Tx, user_id: str, wants: bool) -> None:  # noqa: FBT001 - the wish itself
    """Note whether a shopper wants to hear of a streak at risk."""
    await tx.execute(
        """
        INSERT INTO checkin.states AS state (user_id, wants_reminder)
        VALUES ($1, $2)
        ON CONFLICT (user_id) DO UPDATE
        SET wants_reminder = excluded.wants_reminder
        WHERE state.wants_reminder <> excluded.wants_reminder
        """,
        user_id,
        wants,
    )
