"""Every statement on programs, what they promise, and what is counted of them. Functions never commit; services do."""

from collections.abc import Mapping
from datetime import date, datetime

import msgspec

from growth.mechanics.checkin.model import PROGRAMS, CheckinPause, CheckinProgram
from growth.plumbing.postgres.database import Reader, Tx

MAX_PROGRAMS = 1_000
"""Programs that were ever live; the newest are looked at."""


async def published_programs(reader: Reader) -> list[CheckinProgram]:
    """Return programs that are or were live, newest first."""
    return await PROGRAMS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM checkin.programs
        WHERE published_at IS NOT NULL
        ORDER BY from_day DESC, published_at DESC
        LIMIT $1
        """,
        MAX_PROGRAMS,
    )


async def set_closures(tx: Tx, program_id: str, closures: list[CheckinPause]) -> None:
    """Write down the days on which a program is closed for some of the time."""
    await tx.execute(
        """
        UPDATE checkin.programs
        SET closures = $2
        WHERE program_id = $1
        """,
        program_id,
        closures,
    )


async def end_on(tx: Tx, program_id: str, day: date) -> CheckinProgram:
    """Let `day` be a program's last. One that had not begun was never live."""
    row = await tx.fetchrow(
        PROGRAMS.sql(
            """
            UPDATE checkin.programs
            SET until_day = CASE WHEN from_day <= $2 THEN least(coalesce(until_day, $2), $2) ELSE until_day END,
                published_at = CASE WHEN from_day <= $2 THEN published_at END
            WHERE program_id = $1
            RETURNING kit.columns
            """
        ),
        program_id,
        day,
    )
    assert row is not None, "locked, so nobody deleted it"
    return PROGRAMS.read(row)


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
    return await PROGRAMS.fetch_all(
        tx,
        """
        UPDATE checkin.programs
        SET state = 'ended', ended_at = $2, version = version + 1
        WHERE state IN ('published', 'paused')
          AND until_day < $1
        RETURNING kit.columns
        """,
        today,
        now,
    )


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
