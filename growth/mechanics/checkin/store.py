"""Every statement on programs, what they promise, and what is counted of them. Functions never commit; services do."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

import msgspec

from growth.mechanics.checkin.model import CheckinDraft, CheckinPause, CheckinProgram
from growth.plumbing.postgres.database import Reader, Record, Tx

MAX_PROGRAMS = 1_000
"""Programs that were ever live; the newest are looked at."""


def _program(row: Record) -> CheckinProgram:
    return msgspec.convert(dict(row), CheckinProgram)


def _fields(draft: CheckinDraft) -> list[object]:
    return [getattr(draft, name) for name in CheckinDraft.__struct_fields__]


async def add_program(tx: Tx, program_id: str, draft: CheckinDraft, now: datetime) -> CheckinProgram:
    """Insert a draft."""
    row = await tx.fetchrow(
        """
        INSERT INTO checkin.programs (
            program_id, created_at, title, from_day, until_day, cycle, rewards, milestones, make_up_within_days,
            make_ups_per_month, uses_freeze_cards, pauses, warn_hours, broken_after_days, budget)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        RETURNING program_id, title, from_day, until_day, cycle, rewards, milestones, make_up_within_days,
            make_ups_per_month, uses_freeze_cards, pauses, warn_hours, broken_after_days, budget, state, version,
            terms_id, closures, created_at, published_at, ended_at
        """,
        program_id,
        now,
        *_fields(draft),
    )
    assert row is not None
    return _program(row)


async def find_program(reader: Reader, program_id: str) -> CheckinProgram | None:
    """Return one program."""
    row = await reader.fetchrow(
        """
        SELECT program_id, title, from_day, until_day, cycle, rewards, milestones, make_up_within_days,
            make_ups_per_month, uses_freeze_cards, pauses, warn_hours, broken_after_days, budget, state, version,
            terms_id, closures, created_at, published_at, ended_at
        FROM checkin.programs
        WHERE program_id = $1
        """,
        program_id,
    )
    return None if row is None else _program(row)


async def lock_program(tx: Tx, program_id: str) -> CheckinProgram | None:
    """Return one program, locked against other operators' changes until `tx` ends."""
    row = await tx.fetchrow(
        """
        SELECT program_id, title, from_day, until_day, cycle, rewards, milestones, make_up_within_days,
            make_ups_per_month, uses_freeze_cards, pauses, warn_hours, broken_after_days, budget, state, version,
            terms_id, closures, created_at, published_at, ended_at
        FROM checkin.programs
        WHERE program_id = $1
        FOR NO KEY UPDATE
        """,
        program_id,
    )
    return None if row is None else _program(row)


async def page_of_programs(
    reader: Reader, *, state: str | None, before: str | None, limit: int
) -> list[CheckinProgram]:
    """Return operators' programs, newest first, those made before the id `before`."""
    rows = await reader.fetch(
        """
        SELECT program_id, title, from_day, until_day, cycle, rewards, milestones, make_up_within_days,
            make_ups_per_month, uses_freeze_cards, pauses, warn_hours, broken_after_days, budget, state, version,
            terms_id, closures, created_at, published_at, ended_at
        FROM checkin.programs
        WHERE ($1::text IS NULL OR state = $1)
          AND ($2::uuid IS NULL OR program_id < $2)
        ORDER BY program_id DESC
        LIMIT $3
        """,
        state,
        before,
        limit,
    )
    return [_program(row) for row in rows]


async def published_programs(reader: Reader) -> list[CheckinProgram]:
    """Return programs that are or were live, newest first."""
    rows = await reader.fetch(
        """
        SELECT program_id, title, from_day, until_day, cycle, rewards, milestones, make_up_within_days,
            make_ups_per_month, uses_freeze_cards, pauses, warn_hours, broken_after_days, budget, state, version,
            terms_id, closures, created_at, published_at, ended_at
        FROM checkin.programs
        WHERE published_at IS NOT NULL
        ORDER BY from_day DESC, published_at DESC
        LIMIT $1
        """,
        MAX_PROGRAMS,
    )
    return [_program(row) for row in rows]


async def change_program(tx: Tx, program_id: str, version: int, draft: CheckinDraft) -> CheckinProgram | None:
    """Write an operator's edit if nobody edited since `version`; None if somebody did."""
    row = await tx.fetchrow(
        """
        UPDATE checkin.programs
        SET title = $3, from_day = $4, until_day = $5, cycle = $6, rewards = $7, milestones = $8,
            make_up_within_days = $9, make_ups_per_month = $10, uses_freeze_cards = $11, pauses = $12,
            warn_hours = $13, broken_after_days = $14, budget = $15, version = version + 1
        WHERE program_id = $1
          AND version = $2
          AND state <> 'ended'
        RETURNING program_id, title, from_day, until_day, cycle, rewards, milestones, make_up_within_days,
            make_ups_per_month, uses_freeze_cards, pauses, warn_hours, broken_after_days, budget, state, version,
            terms_id, closures, created_at, published_at, ended_at
        """,
        program_id,
        version,
        *_fields(draft),
    )
    return None if row is None else _program(row)


async def move_program(
    tx: Tx, program_id: str, from_states: Sequence[str], to_state: str, closures: list[CheckinPause], now: datetime
) -> CheckinProgram | None:
    """Move a program on, with the days that this closes; None if it is in none of `from_states`."""
    row = await tx.fetchrow(
        """
        UPDATE checkin.programs
        SET state = $3,
            closures = $4,
            version = version + 1,
            published_at = CASE WHEN $3 = 'published' THEN coalesce(published_at, $5) ELSE published_at END,
            ended_at = CASE WHEN $3 = 'ended' THEN $5 ELSE ended_at END
        WHERE program_id = $1
          AND state = ANY ($2)
        RETURNING program_id, title, from_day, until_day, cycle, rewards, milestones, make_up_within_days,
            make_ups_per_month, uses_freeze_cards, pauses, warn_hours, broken_after_days, budget, state, version,
            terms_id, closures, created_at, published_at, ended_at
        """,
        program_id,
        list(from_states),
        to_state,
        closures,
        now,
    )
    return None if row is None else _program(row)


async def end_on(tx: Tx, program_id: str, day: date) -> None:
    """Let `day` be a program's last. One that had not begun was never live."""
    await tx.execute(
        """
        UPDATE checkin.programs
        SET until_day = CASE WHEN from_day <= $2 THEN least(coalesce(until_day, $2), $2) ELSE until_day END,
            published_at = CASE WHEN from_day <= $2 THEN published_at END
        WHERE program_id = $1
        """,
        program_id,
        day,
    )


async def set_terms(tx: Tx, program: CheckinProgram) -> int:
    """Remember what this version of a program promises; days to come name it."""
    terms_id: int = await tx.fetchval(
        """
        WITH promised AS (
            INSERT INTO checkin.terms (program_id, version, cycle, rewards)
            VALUES ($1, $2, $3, $4)
            RETURNING terms_id
        )
        UPDATE checkin.programs AS program
        SET terms_id = promised.terms_id
        FROM promised
        WHERE program.program_id = $1
        RETURNING program.terms_id
        """,
        program.program_id,
        program.version,
        program.cycle,
        program.rewards,
    )
    return terms_id


async def end_over_programs(tx: Tx, today: date, now: datetime) -> list[CheckinProgram]:
    """End programs whose last day is over."""
    rows = await tx.fetch(
        """
        UPDATE checkin.programs
        SET state = 'ended', ended_at = $2, version = version + 1
        WHERE state IN ('published', 'paused')
          AND until_day < $1
        RETURNING program_id, title, from_day, until_day, cycle, rewards, milestones, make_up_within_days,
            make_ups_per_month, uses_freeze_cards, pauses, warn_hours, broken_after_days, budget, state, version,
            terms_id, closures, created_at, published_at, ended_at
        """,
        today,
        now,
    )
    return [_program(row) for row in rows]


async def make_months(tx: Tx, first: date, months: int) -> int:
    """Make the months of `days` that are lacking, from that of `first` on."""
    made: int = await tx.fetchval("SELECT checkin.make_months($1, $2)", first, months)
    return made


# --- counts ---------------------------------------------------------------------------------------------------------


async def add_tally(tx: Tx, counted: Mapping[tuple[str, date, str], tuple[int, int]]) -> None:
    """Add to what is counted: by program, day and what; how often, and how much."""
    await tx.execute(
        """
        INSERT INTO checkin.tally AS tally (program_id, day, what, times, amount)
        SELECT program_id, day, what, times, amount
        FROM json_to_recordset($1::json) AS more (program_id uuid, day date, what text, times bigint, amount bigint)
        ORDER BY program_id, day, what
        ON CONFLICT (program_id, day, what) DO UPDATE
        SET times = tally.times + excluded.times,
            amount = tally.amount + excluded.amount
        """,
        msgspec.json.encode(
            [
                {"program_id": program_id, "day": day, "what": what, "times": times, "amount": amount}
                for (program_id, day, what), (times, amount) in counted.items()
            ]
        ).decode(),
    )


async def tally_of_days(
    reader: Reader, program_id: str, from_day: date, until_day: date
) -> list[tuple[date, str, int, int]]:
    """Return what is counted of a program's days: day, what, how often, how much."""
    rows = await reader.fetch(
        """
        SELECT day, what, times, amount
        FROM checkin.tally
        WHERE program_id = $1
          AND day BETWEEN $2 AND $3
        ORDER BY day, what
        """,
        program_id,
        from_day,
        until_day,
    )
    return [(row["day"], row["what"], row["times"], row["amount"]) for row in rows]


async def tally_in_all(reader: Reader, program_id: str) -> dict[str, tuple[int, int]]:
    """Return what is counted of a program in all: how often, how much."""
    rows = await reader.fetch(
        """
        SELECT what, sum(times)::bigint AS times, sum(amount)::bigint AS amount
        FROM checkin.tally
        WHERE program_id = $1
        GROUP BY what
        """,
        program_id,
    )
    return {row["what"]: (row["times"], row["amount"]) for row in rows}


async def count_streaks(reader: Reader, program_id: str, edge: date | None, bounds: list[int]) -> list[int]:
    """Return how many shoppers of a program have a live streak, by its length: below each of `bounds`, and above."""
    rows = await reader.fetch(
        """
        SELECT width_bucket(streak, $3::int[]) AS bucket, count(*) AS shoppers
        FROM checkin.states
        WHERE program_id = $1
          AND streak > 0
          AND ($2::date IS NULL OR last_day >= $2)
        GROUP BY bucket
        """,
        program_id,
        edge,
        bounds,
    )
    found = {row["bucket"]: row["shoppers"] for row in rows}
    return [found.get(bucket, 0) for bucket in range(1, len(bounds) + 1)]
