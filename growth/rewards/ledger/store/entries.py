"""Every statement of the ledger. One statement moves a batch, guards its balances, and says what was new."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.ledger.model import Balance, Currency, LedgerEntry, Liability, Transfer
from growth.vocabulary.ids import derived_id

_encode = msgspec.json.Encoder().encode


class Moved(Struct, frozen=True):
    """What a batch did."""

    fresh: frozenset[str]
    """Ids that moved now; the others had moved before."""
    is_covered: bool
    """Whether every shopper had what was taken. If not, the transaction must be given up."""


async def move(tx: Tx, transfers: Sequence[Transfer], now: datetime) -> Moved:
    """Add the transfers that are new, move the balances, and make lots of points that came in.

    No shopper may be debited and credited in the same currency by one batch: balances change once.
    """
    row = await tx.fetchrow(
        """
        WITH asked AS (
            SELECT *
            FROM json_to_recordset($1::json) AS asked (
                transfer_id uuid, debit text, credit text, currency text, amount bigint, reason text, subject text,
                pending boolean, expires_at timestamptz, may_owe boolean
            )
        ),
        fresh AS (
            INSERT INTO ledger.transfers
                (transfer_id, debit, credit, currency, amount, phase, reason, subject, at, expires_at, may_owe)
            SELECT transfer_id, debit, credit, currency, amount, CASE WHEN pending THEN 'pending' ELSE 'posted' END,
                   reason, subject, $2, expires_at, may_owe
            FROM asked
            ORDER BY transfer_id
            ON CONFLICT (transfer_id) DO NOTHING
            RETURNING position, transfer_id, debit, credit, currency, phase, expires_at, may_owe,
                      CASE phase WHEN 'posted' THEN amount ELSE 0 END AS posted,
                      CASE phase WHEN 'pending' THEN amount ELSE 0 END AS pending
        ),
        legs AS (
            SELECT credit AS owner, currency, posted, pending AS pending_in, 0 AS pending_out, TRUE AS may_owe
            FROM fresh
            UNION ALL
            SELECT debit, currency, -posted, 0, pending, may_owe
            FROM fresh
        ),
        sums AS (
            SELECT owner, currency, sum(posted) AS posted, sum(pending_in) AS pending_in,
                   sum(pending_out) AS pending_out, bool_and(may_owe) AS may_owe,
                   bool_or(posted < 0 OR pending_out > 0) AS is_taken
            FROM legs
            GROUP BY owner, currency
        ),
        house AS (
            INSERT INTO ledger.house_moves (owner, currency, posted, pending_in, pending_out)
            SELECT owner, currency, posted, pending_in, pending_out
            FROM sums
            WHERE owner LIKE 'house/%'
        ),
        raised AS (
            INSERT INTO ledger.accounts AS account (owner, currency, posted, pending_in, pending_out)
            SELECT owner, currency, posted, pending_in, 0
            FROM sums
            WHERE owner NOT LIKE 'house/%'
              AND NOT is_taken
            ORDER BY owner, currency
            ON CONFLICT (owner, currency) DO UPDATE
            SET posted = account.posted + excluded.posted,
                pending_in = account.pending_in + excluded.pending_in
            RETURNING owner, currency, posted - pending_out AS available
        ),
        lowered AS (
            UPDATE ledger.accounts AS account
            SET posted = account.posted + sums.posted,
                pending_out = account.pending_out + sums.pending_out
            FROM sums
            WHERE account.owner = sums.owner
              AND account.currency = sums.currency
              AND sums.is_taken
              AND (sums.may_owe OR account.posted + sums.posted - account.pending_out - sums.pending_out >= 0)
            RETURNING account.owner
        ),
        lots AS (
            -- Who owed has less to spend than came in: the last lots of the batch are left, as far as it goes.
            INSERT INTO ledger.lots (lot_id, owner, currency, amount, remaining, expires_at)
            SELECT fresh.transfer_id, raised.owner, raised.currency, fresh.posted,
                   greatest(0, least(
                       fresh.posted,
                       greatest(raised.available, 0) - coalesce(sum(fresh.posted) OVER later, 0)
                   )),
                   coalesce(fresh.expires_at, 'infinity')
            FROM fresh
            JOIN raised
                 ON raised.owner = fresh.credit
                AND raised.currency = fresh.currency
            WHERE fresh.currency = 'points'
              AND fresh.posted > 0
            WINDOW later AS (
                PARTITION BY raised.owner, raised.currency
                ORDER BY fresh.position DESC
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )
        )
        SELECT ARRAY(SELECT transfer_id::text FROM fresh) AS fresh,
               (SELECT count(*) FROM sums WHERE is_taken AND owner NOT LIKE 'house/%')
             = (SELECT count(*) FROM lowered) AS is_covered
        """,
        # One argument: the driver looks at each item of an array in Python.
        _encode(transfers).decode(),
        now,
    )
    assert row is not None, "it always has a row"
    return Moved(frozenset(row["fresh"]), row["is_covered"])


async def resolve(tx: Tx, amounts: Mapping[str, int | None], now: datetime) -> frozenset[str]:
    """End pending transfers, with all (None), part (the rest goes back) or nothing (0); return those that ended now."""
    rows = await tx.fetch(
        """
        WITH asked AS (
            SELECT *
            FROM json_to_recordset($1::json) AS asked (transfer_id uuid, pending_id uuid, amount bigint)
        ),
        fresh AS (
            INSERT INTO ledger.transfers
                (transfer_id, resolves, debit, credit, currency, amount, phase, reason, subject, at, may_owe)
            SELECT asked.transfer_id, held.transfer_id, held.debit, held.credit, held.currency,
                   least(coalesce(asked.amount, held.amount), held.amount),
                   CASE WHEN asked.amount = 0 THEN 'void' ELSE 'post' END,
                   held.reason, held.subject, $2, held.may_owe
            FROM asked
            JOIN ledger.transfers AS held
                 ON held.transfer_id = asked.pending_id
                AND held.phase = 'pending'
            ORDER BY held.transfer_id
            ON CONFLICT (transfer_id) DO NOTHING
            RETURNING resolves, debit, credit, currency, amount
        ),
        legs AS (
            SELECT fresh.credit AS owner, fresh.currency, fresh.amount AS posted, held.amount AS pending_in,
                   0 AS pending_out
            FROM fresh
            JOIN ledger.transfers AS held
                 ON held.transfer_id = fresh.resolves
            UNION ALL
            SELECT fresh.debit, fresh.currency, -fresh.amount, 0, held.amount
            FROM fresh
            JOIN ledger.transfers AS held
                 ON held.transfer_id = fresh.resolves
        ),
        sums AS (
            SELECT owner, currency, sum(posted) AS posted, sum(pending_in) AS pending_in,
                   sum(pending_out) AS pending_out
            FROM legs
            GROUP BY owner, currency
        ),
        house AS (
            INSERT INTO ledger.house_moves (owner, currency, posted, pending_in, pending_out)
            SELECT owner, currency, posted, -pending_in, -pending_out
            FROM sums
            WHERE owner LIKE 'house/%'
        ),
        moved AS (
            UPDATE ledger.accounts AS account
            SET posted = account.posted + sums.posted,
                pending_in = account.pending_in - sums.pending_in,
                pending_out = account.pending_out - sums.pending_out
            FROM sums
            WHERE account.owner = sums.owner
              AND account.currency = sums.currency
        )
        SELECT resolves::text AS pending_id
        FROM fresh
        """,
        _encode(
            [
                {"transfer_id": derived_id(pending_id, "end"), "pending_id": pending_id, "amount": amount}
                for pending_id, amount in amounts.items()
            ]
        ).decode(),
        now,
    )
    return frozenset(row["pending_id"] for row in rows)


async def fold_house(tx: Tx, limit: int) -> int:
    """Add up to `limit` of the oldest moves of the house to its accounts; return how many."""
    return int(
        await tx.fetchval(
            """
            WITH oldest AS MATERIALIZED (
                SELECT position
                FROM ledger.house_moves
                ORDER BY position
                LIMIT $1
                FOR UPDATE SKIP LOCKED
            ),
            folded AS (
                DELETE FROM ledger.house_moves AS move
                USING oldest
                WHERE move.position = oldest.position
                RETURNING move.*
            ),
            added AS (
                INSERT INTO ledger.house AS account (owner, currency, posted, pending_in, pending_out)
                SELECT owner, currency, sum(posted), sum(pending_in), sum(pending_out)
                FROM folded
                GROUP BY owner, currency
                ORDER BY owner, currency
                ON CONFLICT (owner, currency) DO UPDATE
                SET posted = account.posted + excluded.posted,
                    pending_in = account.pending_in + excluded.pending_in,
                    pending_out = account.pending_out + excluded.pending_out
            )
            SELECT count(*)
            FROM folded
            """,
            limit,
        )
    )


async def balances(reader: Reader, owner: str) -> Mapping[Currency, Balance]:
    """Return what a shopper has; currencies never had are missing."""
    rows = await reader.fetch(
        """
        SELECT currency, posted, pending_in, pending_out
        FROM ledger.accounts
        WHERE owner = $1
        """,
        owner,
    )
    return {Currency(row["currency"]): Balance(row["posted"], row["pending_in"], row["pending_out"]) for row in rows}


async def available(reader: Reader, owners: Sequence[str], currency: Currency) -> dict[str, int]:
    """Return what shoppers can spend in one currency; those who never had any are missing."""
    rows = await reader.fetch(
        """
        SELECT account.owner, account.posted - account.pending_out AS available
        FROM json_array_elements_text($1::json) AS asked (owner)
        CROSS JOIN LATERAL (
            SELECT mine.owner, mine.posted, mine.pending_out
            FROM ledger.accounts AS mine
            WHERE mine.owner = asked.owner COLLATE "C"
              AND mine.currency = $2
            LIMIT 1
        ) AS account
        """,
        _encode(owners).decode(),
        currency,
    )
    return {row["owner"]: row["available"] for row in rows}


async def entries(reader: Reader, owner: str, currency: Currency, before: int | None, limit: int) -> list[LedgerEntry]:
    """Return a shopper's history, newest first, in constant time however long it is."""
    rows = await reader.fetch(
        """
        SELECT entry.position, entry.transfer_id, entry.reason, entry.subject, entry.at, entry.expires_at,
               coalesce(sign(entry.amount)::bigint * nullif(ending.amount, 0), entry.amount) AS amount,
               CASE WHEN entry.phase = 'posted' OR ending.phase = 'post' THEN 'posted'
                    WHEN ending.phase = 'void' THEN 'voided'
                    ELSE 'pending'
               END AS state
        FROM (
            (
                SELECT position, transfer_id, amount, phase, reason, subject, at, expires_at
                FROM ledger.transfers
                WHERE credit = $1
                  AND credit NOT LIKE 'house/%'
                  AND resolves IS NULL
                  AND currency = $2
                  AND position < $3
                ORDER BY position DESC
                LIMIT $4
            )
            UNION ALL
            (
                SELECT position, transfer_id, -amount, phase, reason, subject, at, NULL
                FROM ledger.transfers
                WHERE debit = $1
                  AND debit NOT LIKE 'house/%'
                  AND resolves IS NULL
                  AND currency = $2
                  AND position < $3
                ORDER BY position DESC
                LIMIT $4
            )
        ) AS entry
        LEFT JOIN ledger.transfers AS ending
               ON ending.resolves = entry.transfer_id
        ORDER BY entry.position DESC
        LIMIT $4
        """,
        owner,
        currency,
        before if before is not None else 2**62,
        limit,
    )
    return [msgspec.convert(dict(row), LedgerEntry) for row in rows]


async def liabilities(reader: Reader) -> list[Liability]:
    """Return what shoppers hold, told by the house's side, of which there are few rows."""
    rows = await reader.fetch(
        """
        SELECT currency,
               -sum(posted)::bigint AS outstanding,
               sum(pending_out)::bigint AS pending_in,
               sum(pending_in)::bigint AS pending_out
        FROM (
            SELECT currency, posted, pending_in, pending_out
            FROM ledger.house
            UNION ALL
            SELECT currency, posted, pending_in, pending_out
            FROM ledger.house_moves
        ) AS account
        GROUP BY currency
        ORDER BY currency
        """
    )
    return [msgspec.convert(dict(row), Liability) for row in rows]
