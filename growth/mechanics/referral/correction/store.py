"""Every statement of corrections. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import datetime

from growth.mechanics.referral.correction.model import MAX_TOLD, MergedMilestone, ReferralRelation, RelationFilter
from growth.mechanics.referral.relation.model import EndReason
from growth.plumbing.person.owned import Owned
from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows

RELATIONS = Rows(row=ReferralRelation, expressions={"is_rewarded": "rewarded_day IS NOT NULL"})
MERGED = Rows(row=MergedMilestone)

INVITEES = Owned("referral.relations", "invitee_id")
INVITERS = Owned("referral.relations", "inviter_id")
COUNTS = Owned("referral.inviters", key=(), adds=("invited", "bought", "valid"))
MONTHS = Owned("referral.inviter_months", "inviter_id", ("month",), ("people", "money_fen"))
DAYS = Owned("referral.inviter_days", "inviter_id", ("program_id", "day"), ("rewarded",))
PROGRESS = Owned("referral.progress", "inviter_id", ("program_id",), ("valid", "rewarded"))
MILESTONES = Owned("referral.milestones", "inviter_id")


async def page(reader: Reader, only: RelationFilter, before: str | None, limit: int) -> list[ReferralRelation]:
    """Return relations, newest first, those made before the id `before`."""
    return await RELATIONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM referral.relations
        WHERE ($1::text IS NULL OR inviter_id = $1)
          AND ($2::text IS NULL OR invitee_id = $2)
          AND ($3::uuid IS NULL OR program_id = $3)
          AND ($4::text IS NULL OR state = $4)
          AND ($5::boolean IS NULL OR (signs <> '[]'::jsonb) = $5)
          AND ($6::uuid IS NULL OR relation_id < $6)
        ORDER BY relation_id DESC
        LIMIT $7
        """,
        only.inviter_id,
        only.invitee_id,
        only.program_id,
        only.state,
        only.is_suspected,
        before,
        limit,
    )


async def find(reader: Reader, relation_id: str) -> ReferralRelation | None:
    """Return one relation."""
    return await RELATIONS.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM referral.relations
        WHERE relation_id = $1
        """,
        relation_id,
    )


async def current(reader: Reader, invitee_id: str) -> ReferralRelation | None:
    """Return an invitee's current relation, which may be over by itself."""
    return await RELATIONS.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM referral.relations
        WHERE invitee_id = $1
          AND is_current
        """,
        invitee_id,
    )


async def end(tx: Tx, relation_id: str, reason: EndReason, now: datetime) -> bool:
    """End a current relation; one that was over by itself keeps its end."""
    ended: str | None = await tx.fetchval(
        """
        UPDATE referral.relations
        SET is_current = FALSE,
            end_reason = $2,
            ends_at = greatest(bound_at, least(ends_at, $3))
        WHERE relation_id = $1
          AND is_current
        RETURNING relation_id
        """,
        relation_id,
        reason,
        now,
    )
    return ended is not None


async def between(tx: Tx, user_ids: Sequence[str]) -> list[ReferralRelation]:
    """Return all relations of these ids as invitees, in the order they were bound, locked."""
    return await RELATIONS.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM referral.relations
        WHERE invitee_id = ANY ($1::text[])
        ORDER BY bound_at, relation_id
        FOR UPDATE
        """,
        list(user_ids),
    )


async def forget_relation(tx: Tx, relation_id: str) -> None:
    """Delete a relation without a first order, and count it back."""
    await tx.execute(
        """
        WITH gone AS (
            DELETE FROM referral.relations
            WHERE relation_id = $1
              AND first_order_id IS NULL
            RETURNING inviter_id
        )
        UPDATE referral.inviters AS inviter
        SET invited = inviter.invited - 1
        FROM gone
        WHERE inviter.user_id = gone.inviter_id
        """,
        relation_id,
    )


async def move_codes(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Let an id's codes be another id's, which goes on showing its own, if it has one."""
    await tx.execute(
        """
        UPDATE referral.codes AS code
        SET user_id = $2,
            is_main = NOT EXISTS (SELECT FROM referral.codes WHERE user_id = $2 AND is_main) AND code.is_main
        WHERE code.user_id = $1
        """,
        old_user_id,
        user_id,
    )


async def milestones_of(tx: Tx, user_ids: Sequence[str]) -> list[MergedMilestone]:
    """Return all milestones of these ids, held or not, the held ones first."""
    return await MERGED.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM referral.milestones
        WHERE inviter_id = ANY ($1::text[])
        ORDER BY is_held DESC, at, milestone_id
        FOR UPDATE
        """,
        list(user_ids),
    )


async def forget_milestones(tx: Tx, milestone_ids: Sequence[str]) -> None:
    """Delete milestones that another one stands for."""
    await tx.execute(
        """
        DELETE FROM referral.milestones
        WHERE milestone_id = ANY ($1::uuid[])
        """,
        list(milestone_ids),
    )


async def blur(tx: Tx, user_id: str) -> None:
    """Forget what is known of a person besides the id: nickname, device; and the codes."""
    await tx.execute(
        """
        UPDATE referral.relations
        SET nickname = '*', device = NULL
        WHERE invitee_id = $1
        """,
        user_id,
    )
    await tx.execute(
        """
        DELETE FROM referral.codes
        WHERE user_id = $1
        """,
        user_id,
    )


async def codes_of(reader: Reader, user_id: str) -> list[str]:
    """Return a shopper's codes, the one that is shown first."""
    rows = await reader.fetch(
        """
        SELECT code
        FROM referral.codes
        WHERE user_id = $1
        ORDER BY is_main DESC, made_at
        LIMIT $2
        """,
        user_id,
        MAX_TOLD,
    )
    return [row["code"] for row in rows]
