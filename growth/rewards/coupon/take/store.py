"""Every statement of taking. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import date, datetime

import msgspec
from msgspec import Struct

from growth.plumbing.postgres.database import Tx
from growth.rewards.coupon.model import Coupon
from growth.rewards.coupon.store.coupons import Row, find_coupons
from growth.rewards.coupon.take.model import TakeAsk
from growth.rewards.coupon.template.model import TakenSoFar

_encode = msgspec.json.Encoder().encode


class TakeBatch(Struct, frozen=True):
    """What is known of a batch of wishes, their templates locked."""

    now: datetime
    """Postgres' time."""
    coupons: dict[str, Coupon]
    """Of wishes that were granted before."""
    takings: dict[tuple[str, str], tuple[int, date, int]]
    """By template and shopper: taken in all, on which day last, how many then."""

    def standings(self, day: date) -> dict[tuple[str, str], TakenSoFar]:
        """Return by template and shopper what was taken, up to `day`."""
        return {
            pair: TakenSoFar(taken, on_day if last == day else 0)
            for pair, (taken, last, on_day) in self.takings.items()
        }


async def look(tx: Tx, asks: Sequence[TakeAsk]) -> TakeBatch:
    """Return what is known of the coupons and shoppers that are asked about."""
    coupons = await find_coupons(tx, [ask.coupon_id for ask in asks])
    rows = await tx.fetch(
        """
        SELECT clock_timestamp() AS now, taking.template_id, taking.user_id, taking.taken, taking.day,
            taking.taken_on_day
        FROM (SELECT) AS always
        LEFT JOIN (
            SELECT known.template_id, known.user_id, known.taken, known.day, known.taken_on_day
            FROM json_to_recordset($1::json) AS asked (template_id uuid, user_id text)
            JOIN coupon.takings AS known
              ON known.template_id = asked.template_id
             AND known.user_id = asked.user_id
        ) AS taking ON TRUE
        """,
        _encode([{"template_id": ask.template_id, "user_id": ask.user_id} for ask in asks]).decode(),
    )
    takings = {
        (row["template_id"], row["user_id"]): (row["taken"], row["day"], row["taken_on_day"])
        for row in rows
        if row["template_id"] is not None
    }
    return TakeBatch(rows[0]["now"], coupons, takings)


async def take(tx: Tx, rows: Sequence[Row], now: datetime, day: date) -> bool:
    """Write coupons that shoppers take, and raise what counts them, all in one statement, all or nothing.

    The guards: the shopper's limits, in all and of the day; a unit of an open template, and of its day. False means
    that one of them said no: then the transaction must be rolled back.
    """
    complete: bool = await tx.fetchval(
        """
        WITH asked AS MATERIALIZED (
            SELECT *
            FROM json_to_recordset($1::json)
                 AS asked (coupon_id uuid, template_id uuid, user_id text, reason text, valid_from timestamptz,
                           valid_until timestamptz, expiring_at timestamptz)
        ),
        wanted AS MATERIALIZED (
            SELECT asked.template_id, asked.user_id, count(*)::int AS units, template.max_per_shopper,
                coalesce(template.max_per_shopper_per_day, template.max_per_shopper) AS max_per_day
            FROM asked
            JOIN coupon.templates AS template ON template.template_id = asked.template_id
            GROUP BY asked.template_id, asked.user_id, template.max_per_shopper, template.max_per_shopper_per_day
        ),
        taking AS (
            INSERT INTO coupon.takings AS taking (template_id, user_id, taken, day, taken_on_day)
            SELECT template_id, user_id, units, $3, units
            FROM wanted
            WHERE units <= max_per_day
            ORDER BY template_id, user_id
            ON CONFLICT (template_id, user_id) DO UPDATE
            SET taken = taking.taken + EXCLUDED.taken,
                taken_on_day = EXCLUDED.taken_on_day
                    + CASE WHEN taking.day = EXCLUDED.day THEN taking.taken_on_day ELSE 0 END,
                day = EXCLUDED.day
            WHERE taking.taken + EXCLUDED.taken <= (
                SELECT max_per_shopper FROM coupon.templates AS t WHERE t.template_id = taking.template_id)
              AND EXCLUDED.taken_on_day + CASE WHEN taking.day = EXCLUDED.day THEN taking.taken_on_day ELSE 0 END <= (
                SELECT coalesce(max_per_shopper_per_day, max_per_shopper)
                FROM coupon.templates AS t
                WHERE t.template_id = taking.template_id)
            RETURNING user_id
        ),
        raised AS (
            UPDATE coupon.templates AS template
            SET issued = template.issued + more.units,
                taken_on_day = more.units
                    + CASE WHEN template.taken_day = $3 THEN template.taken_on_day ELSE 0 END,
                taken_day = $3
            FROM (
                SELECT template_id, count(*)::int AS units
                FROM asked
                GROUP BY template_id
            ) AS more
            WHERE template.template_id = more.template_id
              AND template.state = 'published'
              AND template.claimable
              AND template.issued + template.codes_left + more.units <= template.units_total
              AND more.units + CASE WHEN template.taken_day = $3 THEN template.taken_on_day ELSE 0 END
                  <= coalesce(template.units_per_day, template.units_total)
              AND (template.opens_at IS NULL OR template.opens_at <= $2)
              AND (template.closes_at IS NULL OR template.closes_at > $2)
            RETURNING template.template_id
        ),
        issued AS (
            INSERT INTO coupon.coupons (coupon_id, template_id, user_id, state, source, reason, issued_at, valid_from,
                                        valid_until, expiring_at)
            SELECT coupon_id, template_id, user_id, 'issued', 'taken', reason, $2, valid_from, valid_until, expiring_at
            FROM asked
            ORDER BY coupon_id
            ON CONFLICT DO NOTHING
            RETURNING coupon_id
        )
        SELECT (SELECT count(*) FROM issued) = (SELECT count(*) FROM asked)
           AND (SELECT count(*) FROM taking) = (SELECT count(*) FROM wanted)
           AND (SELECT count(*) FROM raised) = (SELECT count(DISTINCT template_id) FROM asked)
        """,
        _encode(rows).decode(),
        now,
        day,
    )
    return complete
