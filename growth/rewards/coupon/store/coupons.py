"""Every statement on coupons, orders and the clock aside. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows
from growth.rewards.coupon.model import Coupon, Issue, IssueOutcome, Source
from growth.rewards.coupon.template.model import Term
from growth.vocabulary.alike import alike

_encode = msgspec.json.Encoder().encode


class Row(Struct, frozen=True, kw_only=True):
    """One coupon to insert. `may` is false where it is only asked whether it is there already."""

    place: int
    coupon_id: str
    template_id: str
    user_id: str
    reason: str
    may: bool
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    expiring_at: datetime | None = None


def row_of(one: Issue, place: int, term: Term | None) -> Row:
    """Return the coupon to insert; without a term it is only asked for."""
    return alike(Row, one, term, place=place, may=term is not None)


def new_coupon(row: Row, source: Source, now: datetime) -> Coupon:
    """Return the coupon that a row becomes."""
    assert row.may, "of one that is only asked for nothing is known"
    return alike(Coupon, row, state="issued", source=source, issued_at=now)


COUPONS = Rows(row=Coupon, id_field="coupon_id")


async def issue(tx: Tx, rows: Sequence[Row], source: Source, now: datetime) -> dict[str, IssueOutcome]:
    """Insert what is new and within the quota of its locked template; return `issued`, `already` or `gone` by id.

    The guard is the raise of the template's counter: where it says no, nothing was written and the caller's
    transaction must be rolled back (an assertion: under the lock it cannot).
    """
    found = await tx.fetch(
        """
        WITH asked AS MATERIALIZED (
            SELECT asked.*, known.coupon_id IS NOT NULL AS is_known
            FROM json_to_recordset($1::json)
                 AS asked (place int, coupon_id uuid, template_id uuid, user_id text, reason text, may boolean,
                           valid_from timestamptz, valid_until timestamptz, expiring_at timestamptz)
            LEFT JOIN coupon.coupons AS known ON known.coupon_id = asked.coupon_id
        ),
        wanted AS MATERIALIZED (
            SELECT asked.*, row_number() OVER (PARTITION BY template_id ORDER BY place) AS turn
            FROM asked
            WHERE may
              AND NOT is_known
        ),
        issued AS (
            INSERT INTO coupon.coupons (coupon_id, template_id, user_id, state, source, reason, issued_at, valid_from,
                                        valid_until, expiring_at)
            SELECT wanted.coupon_id, wanted.template_id, wanted.user_id, 'issued', $2, wanted.reason, $3,
                wanted.valid_from, wanted.valid_until, wanted.expiring_at
            FROM wanted
            JOIN coupon.templates AS template ON template.template_id = wanted.template_id
            WHERE wanted.turn <= template.units_total - template.issued - template.codes_left
            ORDER BY wanted.coupon_id
            ON CONFLICT DO NOTHING
            RETURNING coupon_id, template_id
        ),
        raised AS (
            UPDATE coupon.templates AS template
            SET issued = template.issued + more.units
            FROM (
                SELECT template_id, count(*)::int AS units
                FROM issued
                GROUP BY template_id
            ) AS more
            WHERE template.template_id = more.template_id
              AND template.state = 'published'
              AND template.issued + template.codes_left + more.units <= template.units_total
            RETURNING more.units
        )
        SELECT asked.coupon_id,
            CASE WHEN issued.coupon_id IS NOT NULL THEN 'issued' WHEN asked.is_known THEN 'already' ELSE 'gone' END
                AS outcome,
            (SELECT coalesce(sum(units), 0) FROM raised) = (SELECT count(*) FROM issued) AS is_counted
        FROM asked
        LEFT JOIN issued ON issued.coupon_id = asked.coupon_id
        """,
        _encode(rows).decode(),
        source,
        now,
    )
    assert all(row["is_counted"] for row in found), "its template is locked, so what was free still is"
    return {row["coupon_id"]: row["outcome"] for row in found}


async def void(tx: Tx, coupon_ids: Sequence[str], now: datetime) -> dict[str, Coupon]:
    """Void unused coupons, and mark those that an order has, to be voided when it gives them back.

    Returns each as it was before.
    """
    before = await COUPONS.fetch_by_id(
        tx,
        """
        SELECT kit.columns
        FROM coupon.coupons
        WHERE coupon_id = ANY ($1::uuid[])
        ORDER BY coupon_id
        FOR NO KEY UPDATE
        """,
        list(coupon_ids),
    )
    # A statement of its own: one that had waited for the rows would see them as they were before it waited.
    await tx.execute(
        """
        UPDATE coupon.coupons
        SET state = CASE state WHEN 'issued' THEN 'voided' ELSE state END,
            ended_at = CASE state WHEN 'issued' THEN $2 ELSE ended_at END,
            revoked_at = $2
        WHERE coupon_id = ANY ($1::uuid[])
          AND state IN ('issued', 'locked', 'used')
          AND revoked_at IS NULL
        """,
        list(coupon_ids),
        now,
    )
    return before


async def find_coupons(reader: Reader, coupon_ids: Sequence[str]) -> dict[str, Coupon]:
    """Return those of `coupon_ids` that exist."""
    return await COUPONS.fetch_by_id(
        reader,
        """
        SELECT kit.columns
        FROM coupon.coupons
        WHERE coupon_id = ANY ($1::uuid[])
        """,
        list(coupon_ids),
    )
