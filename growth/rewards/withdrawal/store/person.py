"""Every statement that puts one shopper in another's place."""

from collections.abc import Sequence

from growth.plumbing.person import owned
from growth.plumbing.person.owned import Owned
from growth.plumbing.postgres.database import Tx
from growth.rewards.withdrawal.model import Withdrawal
from growth.rewards.withdrawal.store.withdrawals import WITHDRAWALS

DAYS = Owned("withdrawal.days", key=("day",), adds=("asked", "fen"))
PAYEES = Owned("withdrawal.payees", key=(), carries=("kind", "account", "name", "changed_at"))


async def lock_open(tx: Tx, user_ids: Sequence[str]) -> list[Withdrawal]:
    """Lock the open withdrawals of some shoppers, earliest first."""
    return await WITHDRAWALS.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM withdrawal.withdrawals
        WHERE user_id = ANY ($1::text[])
          AND state IN ('requested', 'approved', 'paying')
        ORDER BY withdrawal_id
        FOR NO KEY UPDATE
        """,
        list(user_ids),
    )


async def rename(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Make the old id's withdrawals, days and account the other's.

    The slot of one that is open moves only if the other's is free: both may be on their way to the bank. Else it gets
    one of its own, which names nobody.
    """
    await tx.execute(
        """
        UPDATE withdrawal.withdrawals AS withdrawal
        SET user_id = $2,
            slot = CASE
                WHEN withdrawal.slot <> $1 THEN withdrawal.slot
                WHEN withdrawal.state IN ('requested', 'approved', 'paying')
                 AND EXISTS (
                    SELECT
                    FROM withdrawal.withdrawals AS other
                    WHERE other.slot = $2
                      AND other.state IN ('requested', 'approved', 'paying')
                 ) THEN withdrawal.withdrawal_id::text
                ELSE $2
            END
        WHERE withdrawal.user_id = $1
        """,
        old_user_id,
        user_id,
    )
    await owned.rename(tx, DAYS, old_user_id, user_id)
    await owned.rename(tx, PAYEES, old_user_id, user_id)


async def forget_accounts(tx: Tx, user_id: str) -> None:
    """Forget where a shopper's money went and goes."""
    await tx.execute("DELETE FROM withdrawal.payees WHERE user_id = $1", user_id)
    await tx.execute(
        """
        UPDATE withdrawal.withdrawals
        SET payee = NULL
        WHERE user_id = $1
          AND payee IS NOT NULL
        """,
        user_id,
    )
