"""Every statement that changes days which lie behind. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import date, datetime

import msgspec

from growth.mechanics.checkin.streak.model import Day, Streak
from growth.plumbing.postgres.database import Reader, Tx
from growth.vocabulary.rewards import Reward

_encode = msgspec.json.Encoder().encode


async def add_day(tx: Tx, user_id: str, day: Day) -> bool:
    """Write one day; False if the shopper holds it already."""
    added: str | None = await tx.fetchval(
        """
        INSERT INTO checkin.days (user_id, day, terms_id, streak, position, paid, kind)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (user_id, day) DO NOTHING
        RETURNING user_id
        """,
        user_id,
        day.day,
        day.terms_id,
        day.streak,
        day.position,
        day.paid,
        day.kind,
    )
    return added is not None


async def move_days(tx: Tx, user_id: str, days: Sequence[Day]) -> None:
    """Write where days stand in their streak and in the table."""
    await tx.execute(
        """
        UPDATE checkin.days AS held
        SET streak = moved.streak,
            position = moved.position
        FROM json_to_recordset($2::json) AS moved (day date, streak int, position int)
        WHERE held.user_id = $1
          AND held.day = moved.day
        """,
        user_id,
        _encode([{"day": day.day, "streak": day.streak, "position": day.position} for day in days]).decode(),
    )


async def set_standing(tx: Tx, user_id: str, standing: Streak) -> None:
    """Write where a shopper's days lead."""
    await tx.execute(
        """
        UPDATE checkin.states
        SET last_day = $2, last_counted = $3, program_id = $4, streak = $5, run = $6, position = $7, longest = $8,
            best = $9, total = $10, judged_terms_id = $11
        WHERE user_id = $1
        """,
        user_id,
        standing.last_day,
        standing.last_counted,
        standing.program_id,
        standing.streak,
        standing.run,
        standing.position,
        standing.longest,
        standing.best,
        standing.total,
        standing.judged,
    )


async def count_make_up(tx: Tx, user_id: str, month: date, limit: int) -> int | None:
    """Count one more make-up in a month; return how many that makes, None beyond `limit`."""
    used: int | None = await tx.fetchval(
        """
        UPDATE checkin.states
        SET make_up_month = $2,
            make_ups_used = CASE WHEN make_up_month = $2 THEN make_ups_used + 1 ELSE 1 END
        WHERE user_id = $1
          AND CASE WHEN make_up_month = $2 THEN make_ups_used ELSE 0 END < $3
        RETURNING make_ups_used
        """,
        user_id,
        month,
        limit,
    )
    return used


async def add_repair(
    tx: Tx, user_id: str, day: date, program_id: str, rewards: Sequence[Reward], now: datetime
) -> None:
    """Note a repair, and what it gave."""
    await tx.execute(
        """
        INSERT INTO checkin.make_ups (user_id, day, program_id, at, rewards)
        VALUES ($1, $2, $3, $4, $5)
        """,
        user_id,
        day,
        program_id,
        now,
        list(rewards),
    )


async def given_by_repairs(reader: Reader, user_id: str, program_id: str) -> list[Reward]:
    """Return all that repairs gave a shopper in a program."""
    rows = await reader.fetch(
        """
        SELECT rewards
        FROM checkin.make_ups
        WHERE user_id = $1
          AND program_id = $2
        """,
        user_id,
        program_id,
    )
    return [reward for row in rows for reward in msgspec.convert(row["rewards"], list[Reward])]


# --- of one shopper -------------------------------------------------------------------------------------------------


async def milestones_of(reader: Reader, user_id: str, limit: int) -> list[tuple[str, str, int, datetime]]:
    """Return the milestones a shopper reached, newest first: program, of, days, when."""
    rows = await reader.fetch(
        """
        SELECT program_id, of, days, at
        FROM checkin.milestones
        WHERE user_id = $1
        ORDER BY at DESC
        LIMIT $2
        """,
        user_id,
        limit,
    )
    return [(row["program_id"], row["of"], row["days"], row["at"]) for row in rows]


async def newest_days(reader: Reader, user_id: str, limit: int) -> list[tuple[date, int]]:
    """Return the newest days a shopper holds, and their kinds."""
    rows = await reader.fetch(
        """
        SELECT day, kind
        FROM checkin.days
        WHERE user_id = $1
        ORDER BY day DESC
        LIMIT $2
        """,
        user_id,
        limit,
    )
    return [(row["day"], row["kind"]) for row in rows]


async def milestones_to_remember(reader: Reader, user_id: str) -> list[tuple[str, str, int]]:
    """Return the milestones (program, of, days) that a shopper reached in programs that are not over."""
    rows = await reader.fetch(
        """
        SELECT reached.program_id, reached.of, reached.days
        FROM checkin.milestones AS reached
        JOIN checkin.programs AS program USING (program_id)
        WHERE reached.user_id = $1
          AND program.state <> 'ended'
        """,
        user_id,
    )
    return [(row["program_id"], row["of"], row["days"]) for row in rows]


async def days_to_remember(reader: Reader, user_id: str, make_up_days: int) -> list[date]:
    """Return the days of a shopper that count, from as long ago as days are made up; Postgres' day may be the next."""
    rows = await reader.fetch(
        """
        SELECT day
        FROM checkin.days
        WHERE user_id = $1
          AND day >= current_date - $2::integer - 1
          AND kind <> 3
        """,
        user_id,
        make_up_days,
    )
    return [row["day"] for row in rows]


async def erase(tx: Tx, user_id: str) -> None:
    """Delete all that the room has of a shopper."""
    await tx.execute("DELETE FROM checkin.states WHERE user_id = $1", user_id)
    await tx.execute("DELETE FROM checkin.days WHERE user_id = $1", user_id)
    await tx.execute("DELETE FROM checkin.milestones WHERE user_id = $1", user_id)
    await tx.execute("DELETE FROM checkin.make_ups WHERE user_id = $1", user_id)


async def move_to(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Add what an old id has to what the new one has. Of one day, the check-in stays."""
    await tx.execute(
        """
        INSERT INTO checkin.days AS held (user_id, day, terms_id, streak, position, paid, kind)
        SELECT $2, day, terms_id, streak, position, paid, kind
        FROM checkin.days
        WHERE user_id = $1
        ON CONFLICT (user_id, day) DO UPDATE
        SET terms_id = excluded.terms_id,
            streak = excluded.streak,
            position = excluded.position,
            paid = excluded.paid,
            kind = excluded.kind
        WHERE excluded.kind < held.kind
        """,
        old_user_id,
        user_id,
    )
    await tx.execute(
        """
        INSERT INTO checkin.milestones AS reached (user_id, program_id, of, days, at)
        SELECT $2, program_id, of, days, at
        FROM checkin.milestones
        WHERE user_id = $1
        ON CONFLICT (user_id, program_id, of, days) DO UPDATE
        SET at = excluded.at
        WHERE excluded.at < reached.at
        """,
        old_user_id,
        user_id,
    )
    await tx.execute(
        """
        INSERT INTO checkin.make_ups (user_id, day, program_id, at, rewards)
        SELECT $2, day, program_id, at, rewards
        FROM checkin.make_ups
        WHERE user_id = $1
        ON CONFLICT (user_id, day) DO NOTHING
        """,
        old_user_id,
        user_id,
    )


async def move_wishes(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Add the old id's wish to be reminded, its make-ups of the month, and its last answer if that is newer."""
    await tx.execute(
        """
        UPDATE checkin.states AS state
        SET wants_reminder = state.wants_reminder OR old.wants_reminder,
            make_up_month = greatest(state.make_up_month, old.make_up_month),
            make_ups_used =
                CASE WHEN old.make_up_month IS NULL OR old.make_up_month < state.make_up_month THEN 0
                     ELSE old.make_ups_used END
              + CASE WHEN state.make_up_month IS NULL OR state.make_up_month < old.make_up_month THEN 0
                     ELSE state.make_ups_used END,
            answer = CASE WHEN state.last_counted IS NULL OR old.last_counted > state.last_counted THEN old.answer
                          ELSE state.answer END,
            answer_key = CASE WHEN state.last_counted IS NULL OR old.last_counted > state.last_counted
                              THEN old.answer_key ELSE state.answer_key END,
            answered_at = CASE WHEN state.last_counted IS NULL OR old.last_counted > state.last_counted
                               THEN old.answered_at ELSE state.answered_at END
        FROM checkin.states AS old
        WHERE state.user_id = $2
          AND old.user_id = $1
        """,
        old_user_id,
        user_id,
    )
