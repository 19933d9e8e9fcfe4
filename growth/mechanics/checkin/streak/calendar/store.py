"""Every statement of months' pages."""

from collections.abc import Sequence
from datetime import date

import msgspec

from growth.mechanics.checkin.streak.model import Day
from growth.mechanics.checkin.streak.store import CheckinShopper, day_of, shopper_of
from growth.plumbing.postgres.database import Reader

MAX_DAYS_A_MONTH = 31

_encode = msgspec.json.Encoder().encode


async def find_shoppers(reader: Reader, user_ids: Sequence[str]) -> dict[str, CheckinShopper]:
    """Return those of `user_ids` that were ever seen."""
    rows = await reader.fetch(
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
        ) AS state
        """,
        _encode(user_ids).decode(),
    )
    return {row["user_id"]: shopper_of(row) for row in rows}


async def find_days(reader: Reader, spells: Sequence[tuple[str, date, date]]) -> dict[str, dict[date, Day]]:
    """Return the days that shoppers hold, each in a spell of at most a month, both ends included; by shopper and day.

    Shopper by shopper, by a limit that is never reached: no plan may read a month of everybody.
    """
    rows = await reader.fetch(
        """
        SELECT asked.user_id, held.day, held.kind, held.terms_id, held.streak, held.position, held.paid
        FROM json_to_recordset($1::json) AS asked (user_id text, from_day date, until_day date)
        CROSS JOIN LATERAL (
            SELECT mine.day, mine.kind, mine.terms_id, mine.streak, mine.position, mine.paid
            FROM checkin.days AS mine
            WHERE mine.user_id = asked.user_id COLLATE "C"
              AND mine.day >= asked.from_day
              AND mine.day <= asked.until_day
            ORDER BY mine.day
            LIMIT $2
        ) AS held
        """,
        _encode(
            [
                {"user_id": user_id, "from_day": from_day, "until_day": until_day}
                for user_id, from_day, until_day in spells
            ]
        ).decode(),
        MAX_DAYS_A_MONTH,
    )
    found: dict[str, dict[date, Day]] = {user_id: {} for user_id, _, _ in spells}
    for row in rows:
        found[row["user_id"]][row["day"]] = day_of(row)
    return found
