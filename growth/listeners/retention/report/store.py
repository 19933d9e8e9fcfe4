"""Every statement that answers questions, from counters by their keys; one inviter's invitees are counted anew."""

from collections.abc import Sequence
from datetime import date

from growth.listeners.retention.model import MAX_GAP_DAYS, from_date
from growth.listeners.retention.report.answers import CohortUnit
from growth.plumbing.postgres.database import Reader, Record


async def zone(reader: Reader) -> str | None:
    """Return the zone whose days are counted; None before anything was."""
    name: str | None = await reader.fetchval("SELECT name FROM retention.zone")
    return name


async def sources(reader: Reader) -> dict[str, int]:
    """Return the number of each source that has one, and of none told, whose name is empty."""
    rows = await reader.fetch("SELECT source, name FROM retention.sources WHERE name IS NOT NULL")
    return {row["name"]: row["source"] for row in rows}


async def sizes(reader: Reader, segments: Sequence[int], first: date, last: date) -> dict[int, int]:
    """Return how many shoppers each segment has that were first seen from `first` to `last`."""
    rows = await reader.fetch(
        """
        SELECT segment, sum(active) AS size
        FROM retention.cells
        WHERE segment = ANY ($1::integer[])
          AND n = 0
          AND cohort_day BETWEEN $2 AND $3
        GROUP BY segment
        """,
        segments,
        first,
        last,
    )
    return {row["segment"]: row["size"] for row in rows}


async def cells_by_day(
    reader: Reader, segments: Sequence[int], first: date, last: date, days: Sequence[int]
) -> Sequence[Record]:
    """Return, for each segment and cohort day, `days`, `active` and `returned` side by side."""
    return await reader.fetch(
        """
        SELECT segment, cohort_day AS start, array_agg(n::integer) AS days, array_agg(active) AS active,
               array_agg(returned) AS returned
        FROM retention.cells
        WHERE segment = ANY ($1::integer[])
          AND n = ANY ($2::smallint[])
          AND cohort_day BETWEEN $3 AND $4
        GROUP BY segment, cohort_day
        """,
        segments,
        days,
        first,
        last,
    )


async def cells_by_period(
    reader: Reader, segments: Sequence[int], first: date, last: date, days: Sequence[int], unit: CohortUnit
) -> Sequence[Record]:
    """Return the same for each segment and week or month."""
    return await reader.fetch(
        """
        SELECT segment, start, array_agg(n::integer) AS days, array_agg(active) AS active,
               array_agg(returned) AS returned
        FROM (
            SELECT segment,
                   date_trunc($5, cohort_day::timestamp)::date AS start,
                   n,
                   sum(active)::integer AS active,
                   sum(returned)::integer AS returned
            FROM retention.cells
            WHERE segment = ANY ($1::integer[])
              AND n = ANY ($2::smallint[])
              AND cohort_day BETWEEN $3 AND $4
            GROUP BY segment, start, n
        ) AS summed
        GROUP BY segment, start
        """,
        segments,
        days,
        first,
        last,
        unit,
    )


async def sums(
    reader: Reader, segments: Sequence[int], first: date, last: date, days: Sequence[int]
) -> list[tuple[int, int, int, int]]:
    """Return segment, n, active, returned over all cohort days from `first` to `last`."""
    rows = await reader.fetch(
        """
        SELECT segment, n, sum(active)::bigint AS active, sum(returned)::bigint AS returned
        FROM retention.cells
        WHERE segment = ANY ($1::integer[])
          AND n = ANY ($2::smallint[])
          AND cohort_day BETWEEN $3 AND $4
        GROUP BY segment, n
        """,
        segments,
        days,
        first,
        last,
    )
    return [tuple(row) for row in rows]


async def invitees(reader: Reader, inviter: str, first: date, last: date, limit: int) -> int:
    """Count, up to `limit`, who was brought by one inviter."""
    count: int = await reader.fetchval(
        """
        SELECT count(*)
        FROM (
            SELECT
            FROM retention.shoppers
            WHERE inviter = $1
              AND first_day BETWEEN $2 AND $3
            LIMIT $4
        ) AS brought
        """,
        inviter,
        first,
        last,
        limit,
    )
    return count


async def cells_of_invitees(
    reader: Reader, inviter: str, first: date, last: date, max_day: int, unit: CohortUnit, limit: int
) -> Sequence[Record]:
    """Return, for each cohort, `days`, `active` and `returned` of those brought by one inviter, from their days."""
    return await reader.fetch(
        """
        SELECT start, array_agg(n) AS days, array_agg(active) AS active, array_agg(returned) AS returned
        FROM (
            SELECT date_trunc($5, shopper.first_day::timestamp)::date AS start,
                   active.day - shopper.first_day AS n,
                   count(*)::integer AS active,
                   count(*) FILTER (WHERE active.day < shopper.last_day)::integer AS returned
            FROM (
                SELECT shopper_id, first_day, last_day
                FROM retention.shoppers
                WHERE inviter = $1
                  AND first_day BETWEEN $2 AND $3
                LIMIT $6
            ) AS shopper
            CROSS JOIN LATERAL (
                SELECT day
                FROM retention.active_days
                WHERE shopper_id = shopper.shopper_id
                  AND day <= shopper.first_day + $4::integer
                LIMIT 1000
            ) AS active
            GROUP BY start, n
        ) AS counted
        GROUP BY start
        """,
        inviter,
        first,
        last,
        max_day,
        unit,
        limit,
    )


async def funnel_steps(
    reader: Reader, first: date, last: date, within_days: int, unit: CohortUnit
) -> list[tuple[int, date, int, int]]:
    """Return funnel, start of the cohort, step, shoppers."""
    rows = await reader.fetch(
        """
        SELECT funnel,
               date_trunc($4, start_day::timestamp)::date AS start,
               step,
               sum(shoppers)::integer AS shoppers
        FROM retention.funnel_steps
        WHERE funnel IN (0, 1)
          AND step IN (0, 1, 2)
          AND start_day BETWEEN $1 AND $2
          AND after_days <= $3
        GROUP BY funnel, start, step
        """,
        first,
        last,
        within_days,
        unit,
    )
    return [tuple(row) for row in rows]


async def returns(reader: Reader, first: date, last: date) -> dict[int, dict[int, int]]:
    """Return shoppers by day and gap, from as long before `first` as the longest window needs."""
    rows = await reader.fetch(
        """
        SELECT day, array_agg(gap::integer) AS gaps, array_agg(shoppers) AS shoppers
        FROM retention.returns
        WHERE day > $1::date - $3::integer
          AND day <= $2
        GROUP BY day
        """,
        first,
        last,
        MAX_GAP_DAYS,
    )
    return {from_date(row["day"]): dict(zip(row["gaps"], row["shoppers"], strict=True)) for row in rows}


async def newcomers(reader: Reader, segment: int, first: date, last: date) -> dict[int, int]:
    """Return how many of a segment were first seen on each day."""
    rows = await reader.fetch(
        """
        SELECT cohort_day, active
        FROM retention.cells
        WHERE segment = $1
          AND n = 0
          AND cohort_day BETWEEN $2 AND $3
        """,
        segment,
        first,
        last,
    )
    return {from_date(row["cohort_day"]): row["active"] for row in rows}
