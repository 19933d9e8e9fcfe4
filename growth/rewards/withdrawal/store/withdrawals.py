"""Every statement on withdrawals. Functions never commit; services do.

Each move has the old state in its WHERE. Locks are taken in one order: a withdrawal, its shopper's day, the ledger.
"""

from collections.abc import Sequence
from datetime import date, datetime

import msgspec

from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows
from growth.rewards.withdrawal.model import Withdrawal, WithdrawalFilter, WithdrawalRules

WITHDRAWALS = Rows(row=Withdrawal)


async def add(tx: Tx, withdrawal: Withdrawal, day: date) -> bool:
    """Insert a withdrawal; False if the shopper has one open."""
    added = await tx.fetchval(
        """
        INSERT INTO withdrawal.withdrawals
            (withdrawal_id, user_id, slot, amount_fen, fee_fen, payee, day, state, requested_at)
        VALUES ($1, $2, $2, $3, $4, $5, $6, 'requested', $7)
        ON CONFLICT (slot) WHERE state IN ('requested', 'approved', 'paying') DO NOTHING
        RETURNING TRUE
        """,
        withdrawal.withdrawal_id,
        withdrawal.user_id,
        withdrawal.amount_fen,
        withdrawal.fee_fen,
        None if withdrawal.payee is None else msgspec.to_builtins(withdrawal.payee),
        day,
        withdrawal.requested_at,
    )
    return bool(added)


async def take_day(tx: Tx, user_id: str, day: date, amount_fen: int, rules: WithdrawalRules) -> bool:
    """Count one more withdrawal of a day; False if the day's limits do not allow it."""
    taken = await tx.fetchval(
        """
        INSERT INTO withdrawal.days AS known (user_id, day, asked, fen)
        SELECT $1, $2, 1, $3::bigint
        WHERE $3 <= $5::bigint
        ON CONFLICT (user_id, day) DO UPDATE
        SET asked = known.asked + 1, fen = known.fen + excluded.fen
        WHERE known.asked < $4
          AND known.fen + excluded.fen <= $5
        RETURNING TRUE
        """,
        user_id,
        day,
        amount_fen,
        rules.max_per_day,
        rules.max_fen_per_day,
    )
    return bool(taken)


async def find(reader: Reader, withdrawal_id: str) -> Withdrawal | None:
    """Return one withdrawal."""
    return await WITHDRAWALS.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM withdrawal.withdrawals
        WHERE withdrawal_id = $1
        """,
        withdrawal_id,
    )


async def find_open(reader: Reader, user_id: str) -> Withdrawal | None:
    """Return a shopper's open withdrawal."""
    return await WITHDRAWALS.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM withdrawal.withdrawals
        WHERE slot = $1
          AND state IN ('requested', 'approved', 'paying')
        """,
        user_id,
    )


async def page(reader: Reader, which: WithdrawalFilter, *, before: str | None, limit: int) -> list[Withdrawal]:
    """Return withdrawals, newest first."""
    return await WITHDRAWALS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM withdrawal.withdrawals
        WHERE ($1::text IS NULL OR state = $1)
          AND ($2::text IS NULL OR user_id = $2)
          AND ($3::date IS NULL OR day = $3)
          AND ($4::uuid IS NULL OR withdrawal_id < $4)
        ORDER BY withdrawal_id DESC
        LIMIT $5
        """,
        which.state,
        which.user_id,
        which.day,
        before,
        limit,
    )


async def approve(tx: Tx, withdrawal_id: str, payout: str, now: datetime) -> Withdrawal | None:
    """Let a requested withdrawal be paid, by `payout` and nobody else; None in another state."""
    return await WITHDRAWALS.fetch_one(
        tx,
        """
        UPDATE withdrawal.withdrawals
        SET state = 'approved', approved_at = $3, payout = $2
        WHERE withdrawal_id = $1
          AND state = 'requested'
        RETURNING kit.columns
        """,
        withdrawal_id,
        payout,
        now,
    )


async def end(
    tx: Tx,
    withdrawal_id: str,
    from_states: Sequence[str],
    state: str,
    now: datetime,
    *,
    reason: str | None = None,
    reference: str | None = None,
    said: str | None = None,
) -> Withdrawal | None:
    """End a withdrawal that is in one of `from_states`; None in another."""
    return await WITHDRAWALS.fetch_one(
        tx,
        """
        UPDATE withdrawal.withdrawals
        SET state = $3, ended_at = $4, reason = $5, reference = $6, said = coalesce($7, said), look_at = NULL
        WHERE withdrawal_id = $1
          AND state = ANY ($2::text[])
        RETURNING kit.columns
        """,
        withdrawal_id,
        list(from_states),
        state,
        now,
        reason,
        reference,
        said,
    )


async def give_day_back(tx: Tx, withdrawal_id: str) -> None:
    """Let the money of a withdrawal that was given back not count for its day."""
    await tx.execute(
        """
        UPDATE withdrawal.days AS known
        SET fen = known.fen - withdrawal.amount_fen
        FROM withdrawal.withdrawals AS withdrawal
        WHERE withdrawal.withdrawal_id = $1
          AND known.user_id = withdrawal.user_id
          AND known.day = withdrawal.day
          AND known.fen >= withdrawal.amount_fen
        """,
        withdrawal_id,
    )


async def lock_approved(tx: Tx, payout: str, limit: int) -> list[Withdrawal]:
    """Lock withdrawals that wait to be sent, longest waiting first."""
    return await WITHDRAWALS.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM withdrawal.withdrawals
        WHERE state = 'approved'
          AND payout = $1
        ORDER BY withdrawal_id
        LIMIT $2
        FOR NO KEY UPDATE SKIP LOCKED
        """,
        payout,
        limit,
    )


async def begin_paying(tx: Tx, withdrawal_id: str, now: datetime, look_at: datetime) -> None:
    """Note that the payout service is about to hear of an approved withdrawal: from here on nobody knows."""
    begun = await tx.fetchval(
        """
        UPDATE withdrawal.withdrawals
        SET state = 'paying', sent_at = $2, look_at = $3
        WHERE withdrawal_id = $1
          AND state = 'approved'
        RETURNING TRUE
        """,
        withdrawal_id,
        now,
        look_at,
    )
    assert begun, "locked, so nobody else moved it"


async def lock_to_look_at(tx: Tx, payout: str, now: datetime, limit: int) -> list[Withdrawal]:
    """Lock withdrawals in `paying` that it is time to ask for."""
    return await WITHDRAWALS.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM withdrawal.withdrawals
        WHERE state = 'paying'
          AND payout = $1
          AND look_at <= $2
        ORDER BY look_at
        LIMIT $3
        FOR NO KEY UPDATE SKIP LOCKED
        """,
        payout,
        now,
        limit,
    )


async def look_later(tx: Tx, withdrawal_id: str, look_at: datetime, said: str | None) -> None:
    """Note what was said of a withdrawal in `paying`, and when to ask again."""
    await tx.execute(
        """
        UPDATE withdrawal.withdrawals
        SET look_at = $2, looks = looks + 1, said = coalesce($3, said)
        WHERE withdrawal_id = $1
          AND state = 'paying'
        """,
        withdrawal_id,
        look_at,
        said,
    )


async def withdrawn_fen(reader: Reader, user_id: str) -> int:
    """Return what a shopper was ever paid, fees included."""
    fen: int = await reader.fetchval(
        """
        SELECT coalesce(sum(amount_fen), 0)::bigint
        FROM withdrawal.withdrawals
        WHERE user_id = $1
          AND state = 'paid'
        """,
        user_id,
    )
    return fen


async def prune_days(tx: Tx, before: date, limit: int) -> int:
    """Forget up to `limit` counts of days before `before`; return how many."""
    forgotten = await tx.fetch(
        """
        DELETE FROM withdrawal.days
        WHERE (user_id, day) IN (
            SELECT user_id, day
            FROM withdrawal.days
            WHERE day < $1
            ORDER BY day
            LIMIT $2
            FOR UPDATE SKIP LOCKED)
        RETURNING 1
        """,
        before,
        limit,
    )
    return len(forgotten)
