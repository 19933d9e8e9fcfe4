"""Every statement about all that one shopper has in the books."""

from growth.plumbing.postgres.database import Tx


async def lock(tx: Tx, owners: list[str]) -> None:
    """Lock all accounts of `owners`."""
    await tx.execute(
        """
        SELECT
        FROM ledger.accounts
        WHERE owner = ANY ($1::text[])
        ORDER BY owner, currency
        FOR NO KEY UPDATE
        """,
        owners,
    )


async def rename(tx: Tx, old_owner: str, owner: str) -> None:
    """Make the transfers, lots and balances of one owner another's, whose own are added to. Accounts are locked."""
    await tx.execute(
        """
        WITH came AS (
            UPDATE ledger.transfers
            SET credit = $2
            WHERE credit = $1
              AND credit NOT LIKE 'house/%'
              AND resolves IS NULL
        ),
        lots AS (
            UPDATE ledger.lots
            SET owner = $2
            WHERE owner = $1
        ),
        gone AS (
            DELETE FROM ledger.accounts
            WHERE owner = $1
            RETURNING currency, posted, pending_in, pending_out
        )
        INSERT INTO ledger.accounts AS account (owner, currency, posted, pending_in, pending_out)
        SELECT $2, currency, posted, pending_in, pending_out
        FROM gone
        ORDER BY currency
        ON CONFLICT (owner, currency) DO UPDATE
        SET posted = account.posted + excluded.posted,
            pending_in = account.pending_in + excluded.pending_in,
            pending_out = account.pending_out + excluded.pending_out
        """,
        old_owner,
        owner,
    )
    # One statement changes a row once: the other side, and then what ended a pending transfer.
    await tx.execute(
        """
        UPDATE ledger.transfers
        SET debit = $2
        WHERE debit = $1
          AND debit NOT LIKE 'house/%'
          AND resolves IS NULL
        """,
        old_owner,
        owner,
    )
    await tx.execute(
        """
        WITH pending AS MATERIALIZED (
            SELECT transfer_id, debit, credit
            FROM ledger.transfers
            WHERE credit = $1
              AND credit NOT LIKE 'house/%'
              AND resolves IS NULL
              AND phase = 'pending'
            UNION ALL
            SELECT transfer_id, debit, credit
            FROM ledger.transfers
            WHERE debit = $1
              AND debit NOT LIKE 'house/%'
              AND resolves IS NULL
              AND phase = 'pending'
        )
        UPDATE ledger.transfers AS ending
        SET debit = pending.debit,
            credit = pending.credit
        FROM pending
        WHERE ending.resolves = pending.transfer_id
        """,
        owner,
    )


async def settle_lots(tx: Tx, owner: str) -> None:
    """Where one of two ids owed, take what it owed from the lots of the other: those first that end first."""
    await tx.execute(
        """
        WITH lots AS (
            SELECT lot_id, remaining, sum(remaining) OVER (ORDER BY expires_at, lot_id) - remaining AS before
            FROM ledger.lots
            WHERE owner = $1
              AND currency = 'points'
              AND remaining > 0
        ),
        excess AS (
            SELECT (SELECT coalesce(sum(remaining), 0) FROM lots) - greatest(posted - pending_out, 0) AS points
            FROM ledger.accounts
            WHERE owner = $1
              AND currency = 'points'
        )
        UPDATE ledger.lots AS lot
        SET remaining = lot.remaining - least(lots.remaining, excess.points - lots.before)
        FROM lots, excess
        WHERE lot.lot_id = lots.lot_id
          AND excess.points > lots.before
        """,
        owner,
    )
