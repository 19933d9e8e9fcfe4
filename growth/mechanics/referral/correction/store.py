"""Every statement of corrections. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from growth.mechanics.referral.correction.model import MAX_TOLD, MergedMilestone, ReferralRelation, RelationFilter
from growth.mechanics.referral.relation.model import EndReason
from growth.plumbing.postgres.database import Reader, Record, Tx


def _relation(row: Record) -> ReferralRelation:
    return msgspec.convert(dict(row), ReferralRelation)


async def page(reader: Reader, only: RelationFilter, before: str | None, limit: int) -> list[ReferralRelation]:
    """Return relations, newest first, those made before the id `before`."""
    rows = await reader.fetch(
        """
        SELECT relation_id, inviter_id, invitee_id, state, is_current, program_id, source, is_new, bound_at, ends_at,
            end_reason, first_order_id, first_paid_at, first_received_at, rewarded_day IS NOT NULL AS is_rewarded, signs
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
    return [_relation(row) for row in rows]


async def find(reader: Reader, relation_id: str) -> ReferralRelation | None:
    """Return one relation."""
    row = await reader.fetchrow(
        """
        SELECT relation_id, inviter_id, invitee_id, state, is_current, program_id, source, is_new, bound_at, ends_at,
            end_reason, first_order_id, first_paid_at, first_received_at, rewarded_day IS NOT NULL AS is_rewarded, signs
        FROM referral.relations
        WHERE relation_id = $1
        """,
        relation_id,
    )
    return None if row is None else _relation(row)


async def current(reader: Reader, invitee_id: str) -> ReferralRelation | None:
    """Return an invitee's current relation, which may be over by itself."""
    row = await reader.fetchrow(
        """
        SELECT relation_id, inviter_id, invitee_id, state, is_current, program_id, source, is_new, bound_at, ends_at,
            end_reason, first_order_id, first_paid_at, first_received_at, rewarded_day IS NOT NULL AS is_rewarded, signs
        FROM referral.relations
        WHERE invitee_id = $1
          AND is_current
        """,
        invitee_id,
    )
    return None if row is None else _relation(row)


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
    rows = await tx.fetch(
        """
        SELECT relation_id, inviter_id, invitee_id, state, is_current, program_id, source, is_new, bound_at, ends_at,
            end_reason, first_order_id, first_paid_at, first_received_at, rewarded_day IS NOT NULL AS is_rewarded, signs
        FROM referral.relations
        WHERE invitee_id = ANY ($1::text[])
        ORDER BY bound_at, relation_id
        FOR UPDATE
        """,
        list(user_ids),
    )
    return [_relation(row) for row in rows]


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


async def move_invitee(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Let an id's inviter be another id's."""
    await tx.execute(
        """
        UPDATE referral.relations
        SET invitee_id = $2
        WHERE invitee_id = $1
        """,
        old_user_id,
        user_id,
    )


async def move_inviter(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Let an id's invitees, codes and counts be another id's; counts are added up. Milestones are moved one by one."""
    await tx.execute(
        """
        UPDATE referral.relations
        SET inviter_id = $2
        WHERE inviter_id = $1
        """,
        old_user_id,
        user_id,
    )
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
    await tx.execute(
        """
        WITH old AS (
            DELETE FROM referral.inviters
            WHERE user_id = $1
            RETURNING invited, bought, valid
        )
        INSERT INTO referral.inviters AS inviter (user_id, invited, bought, valid)
        SELECT $2, invited, bought, valid
        FROM old
        ON CONFLICT (user_id) DO UPDATE
        SET invited = inviter.invited + excluded.invited,
            bought = inviter.bought + excluded.bought,
            valid = inviter.valid + excluded.valid
        """,
        old_user_id,
        user_id,
    )
    await tx.execute(
        """
        WITH old AS (
            DELETE FROM referral.inviter_months
            WHERE inviter_id = $1
            RETURNING month, people, money_fen
        )
        INSERT INTO referral.inviter_months AS one (inviter_id, month, people, money_fen)
        SELECT $2, month, people, money_fen
        FROM old
        ON CONFLICT (inviter_id, month) DO UPDATE
        SET people = one.people + excluded.people,
            money_fen = one.money_fen + excluded.money_fen
        """,
        old_user_id,
        user_id,
    )
    await tx.execute(
        """
        WITH old AS (
            DELETE FROM referral.inviter_days
            WHERE inviter_id = $1
            RETURNING program_id, day, rewarded
        )
        INSERT INTO referral.inviter_days AS one (program_id, inviter_id, day, rewarded)
        SELECT program_id, $2, day, rewarded
        FROM old
        ON CONFLICT (program_id, inviter_id, day) DO UPDATE
        SET rewarded = one.rewarded + excluded.rewarded
        """,
        old_user_id,
        user_id,
    )


async def move_progress(tx: Tx, old_user_id: str, user_id: str) -> dict[str, int]:
    """Add up what two ids had in each program; return the valid invitees in each program of the old one."""
    rows = await tx.fetch(
        """
        WITH old AS (
            DELETE FROM referral.progress
            WHERE inviter_id = $1
            RETURNING program_id, valid, rewarded
        )
        INSERT INTO referral.progress AS one (program_id, inviter_id, valid, rewarded)
        SELECT program_id, $2, valid, rewarded
        FROM old
        ON CONFLICT (program_id, inviter_id) DO UPDATE
        SET valid = one.valid + excluded.valid,
            rewarded = one.rewarded + excluded.rewarded
        RETURNING program_id, valid
        """,
        old_user_id,
        user_id,
    )
    return {row["program_id"]: row["valid"] for row in rows}


async def milestones_of(tx: Tx, user_ids: Sequence[str]) -> list[MergedMilestone]:
    """Return all milestones of these ids, held or not, the held ones first."""
    rows = await tx.fetch(
        """
        SELECT milestone_id, program_id, inviter_id, invitees, times, is_held, rewards
        FROM referral.milestones
        WHERE inviter_id = ANY ($1::text[])
        ORDER BY is_held DESC, at, milestone_id
        FOR UPDATE
        """,
        list(user_ids),
    )
    return [msgspec.convert(dict(row), MergedMilestone) for row in rows]


async def forget_milestones(tx: Tx, milestone_ids: Sequence[str]) -> None:
    """Delete milestones that another one stands for."""
    await tx.execute(
        """
        DELETE FROM referral.milestones
        WHERE milestone_id = ANY ($1::uuid[])
        """,
        list(milestone_ids),
    )


async def move_milestones(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Let an id's milestones be another id's."""
    await tx.execute(
        """
        UPDATE referral.milestones
        SET inviter_id = $2
        WHERE inviter_id = $1
        """,
        old_user_id,
        user_id,
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
