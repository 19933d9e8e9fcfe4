"""Every statement that shows an inviter's standing."""

from collections.abc import Sequence
from datetime import date, datetime

from msgspec import Struct

from growth.mechanics.referral.inviter.model import MAX_RANK, InviteeCard
from growth.plumbing.postgres.database import Reader, Record
from growth.plumbing.postgres.rows import Rows

CARDS = Rows(row=InviteeCard)


class Totals(Struct, frozen=True, kw_only=True):
    """An inviter in numbers."""

    code: str | None
    """None while it was never asked for."""
    invited: int
    bought: int
    valid: int
    in_program: int
    held: list[int]
    """Milestones of the program."""
    inviter_id: str | None
    bound_at: datetime | None
    ends_at: datetime | None


async def totals(reader: Reader, user_id: str, program_id: str | None, now: datetime) -> Totals:
    """Return what is counted for one inviter, and who brought them."""
    row = await reader.fetchrow(
        """
        SELECT code.code,
            coalesce(counted.invited, 0) AS invited,
            coalesce(counted.bought, 0) AS bought,
            coalesce(counted.valid, 0) AS valid,
            coalesce(progress.valid, 0) AS in_program,
            coalesce((
                SELECT jsonb_agg(milestone.invitees)
                FROM referral.milestones AS milestone
                WHERE milestone.program_id = $2
                  AND milestone.inviter_id = $1
                  AND milestone.is_held), '[]'::jsonb) AS held,
            mine.inviter_id,
            mine.bound_at,
            mine.ends_at
        FROM (SELECT) AS always
        LEFT JOIN referral.codes AS code ON code.user_id = $1 AND code.is_main
        LEFT JOIN referral.inviters AS counted ON counted.user_id = $1
        LEFT JOIN referral.progress AS progress ON progress.program_id = $2 AND progress.inviter_id = $1
        LEFT JOIN referral.relations AS mine
               ON mine.invitee_id = $1
              AND mine.is_current
              AND (mine.ends_at IS NULL OR mine.ends_at > $3)
        """,
        user_id,
        program_id,
        now,
    )
    assert row is not None, "the left side always has a row"
    return Totals(**dict(row))


async def invitees(reader: Reader, inviter_id: str, before: str | None, limit: int) -> list[InviteeCard]:
    """Return an inviter's invitees, newest first, those bound before the id `before`."""
    return await CARDS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM referral.relations
        WHERE inviter_id = $1
          AND ($2::uuid IS NULL OR relation_id < $2)
        ORDER BY relation_id DESC
        LIMIT $3
        """,
        inviter_id,
        before,
        limit,
    )


async def leaders_by_people(reader: Reader, month: date, limit: int) -> Sequence[Record]:
    """Return the inviters with most valid invitees of a month."""
    return await reader.fetch(
        """
        SELECT inviter_id, people, money_fen
        FROM referral.inviter_months
        WHERE month = $1
          AND people > 0
        ORDER BY people DESC, inviter_id
        LIMIT $2
        """,
        month,
        limit,
    )


async def leaders_by_money(reader: Reader, month: date, limit: int) -> Sequence[Record]:
    """Return the inviters with most commission of a month."""
    return await reader.fetch(
        """
        SELECT inviter_id, people, money_fen
        FROM referral.inviter_months
        WHERE month = $1
          AND money_fen > 0
        ORDER BY money_fen DESC, inviter_id
        LIMIT $2
        """,
        month,
        limit,
    )


async def standing_of(reader: Reader, inviter_id: str, month: date) -> Record | None:
    """Return what one inviter has in a month, and how many have more, of people and of money, up to `MAX_RANK`."""
    return await reader.fetchrow(
        """
        SELECT mine.people,
            mine.money_fen,
            (
                SELECT count(*)
                FROM (
                    SELECT
                    FROM referral.inviter_months AS other
                    WHERE other.month = $2
                      AND other.people > greatest(mine.people, 0)
                      AND other.people > 0
                    -- In the order of the index, which the planner would else leave for the table.
                    ORDER BY other.people DESC
                    LIMIT $3) AS before) AS people_before,
            (
                SELECT count(*)
                FROM (
                    SELECT
                    FROM referral.inviter_months AS other
                    WHERE other.month = $2
                      AND other.money_fen > greatest(mine.money_fen, 0)
                      AND other.money_fen > 0
                    ORDER BY other.money_fen DESC
                    LIMIT $3) AS before) AS money_before
        FROM referral.inviter_months AS mine
        WHERE mine.inviter_id = $1
          AND mine.month = $2
        """,
        inviter_id,
        month,
        MAX_RANK,
    )
