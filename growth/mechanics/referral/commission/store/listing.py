"""Every statement behind lists, sums and histories of commissions."""

from collections.abc import Sequence

from growth.mechanics.referral.commission.model import Commission, CommissionFilter, CommissionStep
from growth.mechanics.referral.commission.store.commissions import COMMISSIONS
from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows

STEPS = Rows(row=CommissionStep)


async def fix_moment(tx: Tx) -> None:
    """Let everything that `tx` reads be of one moment. Its first statement; it cannot write then."""
    await tx.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


async def find(reader: Reader, commission_id: str) -> Commission | None:
    """Return one commission."""
    return await COMMISSIONS.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM referral.commissions
        WHERE commission_id = $1
        """,
        commission_id,
    )


async def page_of_inviter(
    reader: Reader, inviter_id: str, *, state: str | None, before: str | None, limit: int
) -> list[Commission]:
    """Return what an inviter earns and earned, newest first. What never was worth anything is not shown."""
    return await COMMISSIONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM referral.commissions
        WHERE inviter_id = $1
          AND revision > 0
          AND ($2::text IS NULL
               OR $2 = CASE WHEN amount_fen = 0 AND state <> 'void' THEN 'refunded' ELSE state END)
          AND ($3::uuid IS NULL OR commission_id < $3)
        ORDER BY commission_id DESC
        LIMIT $4
        """,
        inviter_id,
        state,
        before,
        limit,
    )


async def page(reader: Reader, which: CommissionFilter, *, before: str | None, limit: int) -> list[Commission]:
    """Return commissions, newest first."""
    return await COMMISSIONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM referral.commissions
        WHERE ($1::text IS NULL
               OR state = $1
              AND (amount_fen > 0 OR $1 = 'void')
               OR $1 = 'refunded'
              AND amount_fen = 0
              AND state <> 'void')
          AND ($2::text IS NULL OR inviter_id = $2)
          AND ($3::text IS NULL OR invitee_id = $3)
          AND ($4::text IS NULL OR order_id = $4)
          AND ($5::text IS NULL OR review_reasons ? $5)
          AND ($6::uuid IS NULL OR commission_id < $6)
        ORDER BY commission_id DESC
        LIMIT $7
        """,
        which.state,
        which.inviter_id,
        which.invitee_id,
        which.order_id,
        which.reason,
        before,
        limit,
    )


async def page_of_queue(reader: Reader, which: CommissionFilter, *, before: str | None, limit: int) -> list[Commission]:
    """Return commissions in review, newest first: by an index of their own, however many others there are."""
    return await COMMISSIONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM referral.commissions
        WHERE state = 'review'
          AND amount_fen > 0
          AND ($1::text IS NULL OR inviter_id = $1)
          AND ($2::text IS NULL OR invitee_id = $2)
          AND ($3::text IS NULL OR order_id = $3)
          AND ($4::text IS NULL OR review_reasons ? $4)
          AND ($5::uuid IS NULL OR commission_id < $5)
        ORDER BY commission_id DESC
        LIMIT $6
        """,
        which.inviter_id,
        which.invitee_id,
        which.order_id,
        which.reason,
        before,
        limit,
    )


async def steps_of(reader: Reader, commission_id: str) -> list[CommissionStep]:
    """Return how a commission came to be worth what it is."""
    return await STEPS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM referral.commission_steps
        WHERE commission_id = $1
        ORDER BY revision
        """,
        commission_id,
    )


async def in_review(reader: Reader) -> Sequence[tuple[str, int, int]]:
    """Return what waits for a person, by reason: how many commissions, and how much money."""
    rows = await reader.fetch(
        """
        SELECT reason, count(*) AS commissions, sum(amount_fen)::bigint AS amount_fen
        FROM referral.commissions
        CROSS JOIN LATERAL jsonb_array_elements_text(review_reasons) AS reason
        WHERE state = 'review'
        GROUP BY reason
        ORDER BY reason
        """
    )
    return [(row["reason"], row["commissions"], row["amount_fen"]) for row in rows]
