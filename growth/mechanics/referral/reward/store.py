"""Every statement on first orders, counts and milestones. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import date, datetime

from growth.mechanics.referral.model import Caps, InviteMilestone, ProgramTerms
from growth.mechanics.referral.reward.model import HeldMilestone, HeldRelation
from growth.plumbing.postgres.database import Tx
from growth.plumbing.postgres.rows import Rows
from growth.vocabulary.orders import Order

RELATIONS = Rows(row=HeldRelation, expressions={"is_by_code": "source = 'shopper'"})
MILESTONES = Rows(row=HeldMilestone)


async def lock_relations(tx: Tx, invitee_id: str) -> list[HeldRelation]:
    """Return the relations of one invitee, the latest first, locked until `tx` ends."""
    return await RELATIONS.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM referral.relations
        WHERE invitee_id = $1
        ORDER BY bound_at DESC, relation_id DESC
        FOR NO KEY UPDATE
        """,
        invitee_id,
    )


async def invitees_among(tx: Tx, user_ids: Sequence[str]) -> list[str]:
    """Return those of `user_ids` who have, or had, an inviter, in the order of their ids."""
    rows = await tx.fetch(
        """
        SELECT invitee_id
        FROM referral.relations
        WHERE invitee_id = ANY ($1::text[])
        UNION
        -- What was earned stays where an operator takes a relation away.
        SELECT invitee_id
        FROM referral.commissions
        WHERE invitee_id = ANY ($1::text[])
        ORDER BY invitee_id
        """,
        list(user_ids),
    )
    return [row["invitee_id"] for row in rows]


async def take_inviters_turns(tx: Tx, invitee_ids: Sequence[str]) -> None:
    """Wait for who settles with the same inviters: a batch changes their rows in the order in which orders are told."""
    await tx.execute(
        """
        SELECT pg_advisory_xact_lock(hashtextextended('referral.inviter:' || inviter.user_id, 0))
        FROM (
            SELECT inviter_id AS user_id
            FROM referral.relations
            WHERE invitee_id = ANY ($1::text[])
            UNION
            SELECT above.inviter_id
            FROM referral.relations AS relation
            JOIN referral.relations AS above ON above.invitee_id = relation.inviter_id
            WHERE relation.invitee_id = ANY ($1::text[])
            ORDER BY user_id
        ) AS inviter
        """,
        list(invitee_ids),
    )


async def change_is_new(tx: Tx, relation_ids: Sequence[str]) -> None:
    """Note of locked relations, none with a first order, that the invitee was no newcomer; or was one after all."""
    await tx.execute(
        """
        UPDATE referral.relations
        SET is_new = NOT is_new
        WHERE relation_id = ANY ($1::uuid[])
          AND first_order_id IS NULL
        """,
        list(relation_ids),
    )


async def claim(tx: Tx, relation: HeldRelation, order: Order, terms: ProgramTerms) -> int | None:
    """Let an order be the invitee's first, if there is none; the invitee has bought. Return how often one was found.

    None if there is one, or if the invitee was no newcomer.
    """
    times: int | None = await tx.fetchval(
        """
        WITH claimed AS (
            UPDATE referral.relations
            SET first_order_id = $2,
                first_paid_at = $3,
                first_program_id = $4,
                first_version = $5,
                first_times = first_times + 1
            WHERE relation_id = $1
              AND first_order_id IS NULL
              AND is_new
            RETURNING inviter_id, first_times
        )
        UPDATE referral.inviters AS inviter
        SET bought = inviter.bought + 1
        FROM claimed
        WHERE inviter.user_id = claimed.inviter_id
        RETURNING claimed.first_times
        """,
        relation.relation_id,
        order.order_id,
        order.paid_at,
        terms.program_id,
        terms.version,
    )
    return times


async def validate(tx: Tx, relation: HeldRelation, order_id: str, received_at: datetime, month: date) -> int | None:
    """Count an invitee whose first order was received; return the inviter's valid invitees in that program.

    None if it was counted before.
    """
    valid: int | None = await tx.fetchval(
        """
        WITH counted AS (
            UPDATE referral.relations
            SET first_received_at = $3, counted_month = $4
            WHERE relation_id = $1
              AND first_order_id = $2
              AND first_received_at IS NULL
            RETURNING inviter_id, first_program_id
        ),
        ever AS (
            UPDATE referral.inviters AS inviter
            SET valid = inviter.valid + 1
            FROM counted
            WHERE inviter.user_id = counted.inviter_id
        ),
        this_month AS (
            INSERT INTO referral.inviter_months AS one (inviter_id, month, people)
            SELECT inviter_id, $4, 1
            FROM counted
            ON CONFLICT (inviter_id, month) DO UPDATE
            SET people = one.people + 1
        )
        INSERT INTO referral.progress AS one (program_id, inviter_id, valid)
        SELECT first_program_id, inviter_id, 1
        FROM counted
        ON CONFLICT (program_id, inviter_id) DO UPDATE
        SET valid = one.valid + 1
        RETURNING valid
        """,
        relation.relation_id,
        order_id,
        received_at,
        month,
    )
    return valid


async def redate(tx: Tx, relation: HeldRelation, received_at: datetime, month: date, day: date) -> None:
    """Count a valid invitee at another time of receipt. Of another day, it is within no cap until `take_caps`."""
    await tx.execute(
        """
        WITH was AS (
            SELECT relation_id, inviter_id, first_program_id, counted_month, rewarded_day
            FROM referral.relations
            WHERE relation_id = $1
              AND first_received_at IS NOT NULL
        ),
        moved AS (
            UPDATE referral.relations AS relation
            SET first_received_at = $2,
                counted_month = $3,
                rewarded_day = CASE WHEN relation.rewarded_day = $4 THEN $4 END
            FROM was
            WHERE relation.relation_id = was.relation_id
        ),
        that_month AS (
            UPDATE referral.inviter_months AS one
            SET people = one.people - 1
            FROM was
            WHERE one.inviter_id = was.inviter_id
              AND one.month = was.counted_month
              AND was.counted_month <> $3
        ),
        this_month AS (
            INSERT INTO referral.inviter_months AS one (inviter_id, month, people)
            SELECT inviter_id, $3, 1
            FROM was
            WHERE counted_month <> $3
            ON CONFLICT (inviter_id, month) DO UPDATE
            SET people = one.people + 1
        ),
        that_day AS (
            UPDATE referral.inviter_days AS one
            SET rewarded = one.rewarded - 1
            FROM was
            WHERE one.program_id = was.first_program_id
              AND one.inviter_id = was.inviter_id
              AND one.day = was.rewarded_day
              AND was.rewarded_day <> $4
        )
        UPDATE referral.progress AS one
        SET rewarded = one.rewarded - 1
        FROM was
        WHERE one.program_id = was.first_program_id
          AND one.inviter_id = was.inviter_id
          AND was.rewarded_day <> $4
        """,
        relation.relation_id,
        received_at,
        month,
        day,
    )


async def take_caps(tx: Tx, relation: HeldRelation, caps: Caps, day: date) -> bool:
    """Take one of the invitees that the inviter is rewarded for; False if the caps leave none. After `validate`."""
    taken: date | None = await tx.fetchval(
        """
        WITH today AS (
            INSERT INTO referral.inviter_days AS one (program_id, inviter_id, day, rewarded)
            SELECT program_id, inviter_id, $3, 1
            FROM referral.progress
            WHERE program_id = $1
              AND inviter_id = $2
              AND ($4::int IS NULL OR rewarded < $4)
            ON CONFLICT (program_id, inviter_id, day) DO UPDATE
            SET rewarded = one.rewarded + 1
            WHERE $5::int IS NULL OR one.rewarded < $5
            RETURNING day
        ),
        ever AS (
            UPDATE referral.progress
            SET rewarded = rewarded + 1
            FROM today
            WHERE program_id = $1
              AND inviter_id = $2
        )
        UPDATE referral.relations
        SET rewarded_day = today.day
        FROM today
        WHERE relation_id = $6
        RETURNING rewarded_day
        """,
        relation.first_program_id,
        relation.inviter_id,
        day,
        caps.invitees,
        caps.invitees_per_day,
        relation.relation_id,
    )
    return taken is not None


async def lose(tx: Tx, relation: HeldRelation, order_id: str) -> int | None:
    """Take an invitee's first order away, and count it back; return the inviter's valid invitees in that program.

    None if it was not counted as valid, or is taken away already.
    """
    valid: int | None = await tx.fetchval(
        """
        WITH was AS (
            SELECT relation_id, inviter_id, first_program_id, counted_month, rewarded_day
            FROM referral.relations
            WHERE relation_id = $1
              AND first_order_id = $2
        ),
        freed AS (
            UPDATE referral.relations AS relation
            SET first_order_id = NULL, first_paid_at = NULL, first_program_id = NULL, first_version = NULL,
                first_received_at = NULL, counted_month = NULL, rewarded_day = NULL
            FROM was
            WHERE relation.relation_id = was.relation_id
              AND relation.first_order_id = $2
            RETURNING was.*
        ),
        ever AS (
            UPDATE referral.inviters AS inviter
            SET bought = inviter.bought - 1,
                valid = inviter.valid - (freed.counted_month IS NOT NULL)::int
            FROM freed
            WHERE inviter.user_id = freed.inviter_id
        ),
        that_month AS (
            UPDATE referral.inviter_months AS one
            SET people = one.people - 1
            FROM freed
            WHERE one.inviter_id = freed.inviter_id
              AND one.month = freed.counted_month
        ),
        that_day AS (
            UPDATE referral.inviter_days AS one
            SET rewarded = one.rewarded - 1
            FROM freed
            WHERE one.program_id = freed.first_program_id
              AND one.inviter_id = freed.inviter_id
              AND one.day = freed.rewarded_day
        )
        UPDATE referral.progress AS one
        SET valid = one.valid - 1,
            rewarded = one.rewarded - (freed.rewarded_day IS NOT NULL)::int
        FROM freed
        WHERE one.program_id = freed.first_program_id
          AND one.inviter_id = freed.inviter_id
          AND freed.counted_month IS NOT NULL
        RETURNING one.valid
        """,
        relation.relation_id,
        order_id,
    )
    return valid


async def held_milestones(tx: Tx, program_id: str, inviter_id: str) -> list[HeldMilestone]:
    """Return the milestones that an inviter holds. The caller has just written the inviter's progress: it is locked."""
    return await MILESTONES.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM referral.milestones
        WHERE program_id = $1
          AND inviter_id = $2
          AND is_held
        ORDER BY invitees
        """,
        program_id,
        inviter_id,
    )


async def reach(
    tx: Tx, milestone_id: str, program_id: str, inviter_id: str, milestone: InviteMilestone, now: datetime
) -> tuple[str, int] | None:
    """Note that an inviter has reached a milestone; return its id and how often by now. None if it is held already."""
    row = await tx.fetchrow(
        """
        INSERT INTO referral.milestones AS one (milestone_id, program_id, inviter_id, invitees, times, is_held, rewards,
            at)
        VALUES ($1, $2, $3, $4, 1, TRUE, $5, $6)
        ON CONFLICT (program_id, inviter_id, invitees) DO UPDATE
        SET times = one.times + 1, is_held = TRUE, rewards = excluded.rewards, at = excluded.at
        WHERE NOT one.is_held
        RETURNING milestone_id, times
        """,
        milestone_id,
        program_id,
        inviter_id,
        milestone.invitees,
        milestone.rewards,
        now,
    )
    return None if row is None else (row["milestone_id"], row["times"])


async def drop(tx: Tx, milestone_ids: Sequence[str], now: datetime) -> frozenset[str]:
    """Note that milestones are lost; return those that were held."""
    rows = await tx.fetch(
        """
        UPDATE referral.milestones
        SET is_held = FALSE, at = $2
        WHERE milestone_id = ANY ($1::uuid[])
          AND is_held
        RETURNING milestone_id
        """,
        list(milestone_ids),
        now,
    )
    return frozenset(row["milestone_id"] for row in rows)


async def forget_days(tx: Tx, before: date, limit: int) -> int:
    """Forget daily counts of days before `before`; return how many."""
    forgotten = await tx.fetch(
        """
        DELETE FROM referral.inviter_days
        WHERE (program_id, inviter_id, day) IN (
            SELECT program_id, inviter_id, day
            FROM referral.inviter_days
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
