"""Every statement about lots. Whoever changes one has its account locked."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.ledger.model import Expiring, ExpiringMonth, Transfer

MAX_EXPIRING = 50
"""Ends of lots told of at once."""
MAX_MONTHS = 24
"""Months told of at once."""

_encode = msgspec.json.Encoder().encode


async def use_up(tx: Tx, spent: Sequence[Transfer]) -> None:
    """Take what `spent` (points, just moved in `tx`, so that their accounts are locked) used up from the lots."""
    await tx.execute(
        """
        WITH spent AS (
            SELECT transfer_id, debit AS owner, currency,
                   sum(amount) OVER mine - amount AS starts,
                   sum(amount) OVER mine AS ends,
                   from_lot
            FROM json_to_recordset($1::json) AS asked (
                transfer_id uuid, debit text, currency text, amount bigint, from_lot uuid
            )
            WINDOW mine AS (PARTITION BY debit, currency ORDER BY transfer_id)
        ),
        held AS (
            SELECT lot.lot_id, lot.owner, lot.currency,
                   sum(lot.remaining) OVER mine - lot.remaining AS starts,
                   sum(lot.remaining) OVER mine AS ends
            FROM (SELECT owner, currency, max(ends)::bigint AS amount FROM spent GROUP BY owner, currency) AS spender
            CROSS JOIN LATERAL (
                -- A lot has a point at least, so these suffice, however many years were saved.
                (
                    SELECT first.lot_id, first.owner, first.currency, first.remaining, first.expires_at
                    FROM ledger.lots AS first
                    WHERE first.owner = spender.owner
                      AND first.currency = spender.currency
                      AND first.remaining > 0
                    ORDER BY first.expires_at, first.lot_id
                    LIMIT spender.amount
                )
                UNION
                SELECT named.lot_id, named.owner, named.currency, named.remaining, named.expires_at
                FROM ledger.lots AS named
                WHERE named.lot_id IN (SELECT from_lot FROM spent)
                  AND named.owner = spender.owner
                  AND named.currency = spender.currency
                  AND named.remaining > 0
            ) AS lot
            WINDOW mine AS (
                PARTITION BY lot.owner, lot.currency
                ORDER BY lot.lot_id NOT IN (SELECT from_lot FROM spent WHERE from_lot IS NOT NULL),
                         lot.expires_at,
                         lot.lot_id
            )
        ),
        takings AS (
            INSERT INTO ledger.takings (transfer_id, lot_id, amount)
            SELECT spent.transfer_id, held.lot_id,
                   least(held.ends, spent.ends) - greatest(held.starts, spent.starts)
            FROM spent
            JOIN held
                 ON held.owner = spent.owner
                AND held.currency = spent.currency
                AND held.starts < spent.ends
                AND spent.starts < held.ends
            RETURNING lot_id, amount
        )
        UPDATE ledger.lots AS lot
        SET remaining = lot.remaining - taken.amount
        FROM (SELECT lot_id, sum(amount) AS amount FROM takings GROUP BY lot_id) AS taken
        WHERE lot.lot_id = taken.lot_id
        """,
        _encode(spent).decode(),
    )


async def lock_due(tx: Tx, now: datetime, limit: int) -> list[str]:
    """Lock the accounts of up to `limit` shoppers who have points that are over; none that somebody else has."""
    rows = await tx.fetch(
        """
        WITH due AS MATERIALIZED (
            SELECT owner
            FROM ledger.lots
            WHERE remaining > 0
              AND expires_at < 'infinity'
              AND expires_at <= $1
            ORDER BY expires_at
            LIMIT $2
        )
        SELECT owner
        FROM ledger.accounts
        WHERE owner IN (SELECT owner FROM due)
          AND currency = 'points'
        ORDER BY owner
        FOR NO KEY UPDATE SKIP LOCKED
        """,
        now,
        limit,
    )
    return [row["owner"] for row in rows]


async def lock_accounts(tx: Tx, owners: Sequence[str]) -> None:
    """Lock the points of `owners`, before anything of theirs is looked at."""
    await tx.execute(
        """
        SELECT
        FROM ledger.accounts
        WHERE owner = ANY ($1::text[])
          AND currency = 'points'
        ORDER BY owner
        FOR NO KEY UPDATE
        """,
        owners,
    )


async def expire(tx: Tx, owners: Sequence[str], now: datetime) -> int:
    """Move what is over of the points of `owners`, whose accounts are locked, to the house; return how many lots."""
    return int(
        await tx.fetchval(
            """
            WITH ended AS (
                UPDATE ledger.lots AS lot
                SET remaining = 0
                FROM (
                    SELECT lot_id, remaining
                    FROM ledger.lots
                    WHERE owner = ANY ($1::text[])
                      AND currency = 'points'
                      AND remaining > 0
                      AND expires_at <= $2
                ) AS due
                WHERE lot.lot_id = due.lot_id
                RETURNING lot.lot_id, lot.owner, due.remaining AS amount
            ),
            named AS (
                -- Led by the time in the lot's own id, as derived ids are; a lot is over once.
                SELECT lot_id, owner, amount, left(lot_id::text, 14) AS head, md5('over' || lot_id::text) AS tail
                FROM ended
            ),
            moved AS (
                INSERT INTO ledger.transfers
                    (transfer_id, debit, credit, currency, amount, phase, reason, subject, at, may_owe)
                SELECT (head || '8' || substr(tail, 1, 3) || '-8' || substr(tail, 4, 3) || '-' || substr(tail, 7, 12)
                       )::uuid,
                       owner, 'house/expired', 'points', amount, 'posted', 'points.expired', lot_id::text, $2, FALSE
                FROM named
                RETURNING transfer_id, subject, amount
            ),
            takings AS (
                INSERT INTO ledger.takings (transfer_id, lot_id, amount)
                SELECT transfer_id, subject::uuid, amount
                FROM moved
            ),
            lowered AS (
                UPDATE ledger.accounts AS account
                SET posted = account.posted - gone.amount
                FROM (SELECT owner, sum(amount) AS amount FROM ended GROUP BY owner) AS gone
                WHERE account.owner = gone.owner
                  AND account.currency = 'points'
            ),
            house AS (
                INSERT INTO ledger.house_moves (owner, currency, posted, pending_in, pending_out)
                SELECT 'house/expired', 'points', sum(amount), 0, 0
                FROM ended
                HAVING count(*) > 0
            )
            SELECT count(*)
            FROM ended
            """,
            owners,
            now,
        )
    )


async def ended(tx: Tx, lot_ids: Sequence[str]) -> dict[str, int]:
    """Return how many points of lots have ended unspent, also of those that came back into others, by first lot."""
    rows = await tx.fetch(
        """
        WITH mine AS (
            SELECT lot_id, lot_id AS first
            FROM ledger.lots
            WHERE lot_id = ANY ($1::uuid[])
            UNION ALL
            SELECT lot_id, origin
            FROM ledger.lots
            WHERE origin = ANY ($1::uuid[])
        ),
        named AS (
            -- The transfer's id, as `expire` makes it.
            SELECT first, left(lot_id::text, 14) AS head, md5('over' || lot_id::text) AS tail
            FROM mine
        )
        SELECT named.first, sum(transfer.amount)::bigint AS points
        FROM named
        JOIN ledger.transfers AS transfer
             ON transfer.transfer_id = (
                 head || '8' || substr(tail, 1, 3) || '-8' || substr(tail, 4, 3) || '-' || substr(tail, 7, 12)
             )::uuid
        GROUP BY named.first
        """,
        list(lot_ids),
    )
    return {row["first"]: row["points"] for row in rows}


async def over(reader: Reader, owner: str, now: datetime) -> int:
    """Return the points of a shopper that are over and were not moved away yet."""
    return int(
        await reader.fetchval(
            """
            SELECT coalesce(sum(remaining), 0)
            FROM ledger.lots
            WHERE owner = $1
              AND currency = 'points'
              AND remaining > 0
              AND expires_at <= $2
            """,
            owner,
            now,
        )
    )


async def expiring(reader: Reader, owner: str, now: datetime) -> list[Expiring]:
    """Return which points of a shopper end when, soonest first, at most `MAX_EXPIRING` ends."""
    rows = await reader.fetch(
        """
        SELECT sum(remaining)::bigint AS points, expires_at
        FROM ledger.lots
        WHERE owner = $1
          AND currency = 'points'
          AND remaining > 0
          AND expires_at > $2
          AND expires_at < 'infinity'
        GROUP BY expires_at
        ORDER BY expires_at
        LIMIT $3
        """,
        owner,
        now,
        MAX_EXPIRING,
    )
    return [Expiring(row["points"], row["expires_at"]) for row in rows]


async def expiring_by_month(reader: Reader, now: datetime, zone: str) -> list[ExpiringMonth]:
    """Return how many points end in each month of `zone`, soonest first. Reads every lot that ends."""
    rows = await reader.fetch(
        """
        SELECT to_char(date_trunc('month', expires_at AT TIME ZONE $3), 'YYYY-MM') AS month,
               sum(remaining)::bigint AS points
        FROM ledger.lots
        WHERE remaining > 0
          AND expires_at < 'infinity'
          AND expires_at > $1
        GROUP BY 1
        ORDER BY 1
        LIMIT $2
        """,
        now,
        MAX_MONTHS,
        zone,
    )
    return [ExpiringMonth(row["month"], row["points"]) for row in rows]
