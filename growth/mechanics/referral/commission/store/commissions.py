"""Every statement on commissions that decides something. Functions never commit; services do.

Locks are taken in one order: an order's (by the shop), its payer's (`take_turn`), commissions by id, inviters' days,
the leaderboard (which referrals count in before, in the same transaction), the ledger's accounts.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime

import msgspec

from growth.mechanics.referral.commission.model import Commission, CommissionStep, Level
from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows

_encode = msgspec.json.Encoder().encode


COMMISSIONS = Rows(row=Commission)


async def find_of_order(reader: Reader, order_id: str) -> list[Commission]:
    """Return what an order earns, by level."""
    return await COMMISSIONS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM referral.commissions
        WHERE order_id = $1
        ORDER BY level
        """,
        order_id,
    )


async def lock(tx: Tx, commission_ids: Sequence[str]) -> list[Commission]:
    """Lock commissions in the order of their ids, and return them."""
    return await COMMISSIONS.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM referral.commissions
        WHERE commission_id = ANY ($1::uuid[])
        ORDER BY commission_id
        FOR NO KEY UPDATE
        """,
        list(commission_ids),
    )


async def old_among(reader: Reader, relation_ids: Collection[str]) -> frozenset[str]:
    """Return those of `relation_ids` whose invitee was no newcomer, or that are gone: there is no first order."""
    rows = await reader.fetch(
        "SELECT relation_id FROM referral.relations WHERE relation_id = ANY ($1::uuid[]) AND is_new",
        list(relation_ids),
    )
    return frozenset(relation_ids) - {row["relation_id"] for row in rows}


async def first_bound_at(reader: Reader, invitee_id: str) -> datetime | None:
    """Return since when a shopper has, or had, an inviter."""
    at: datetime | None = await reader.fetchval(
        "SELECT min(bound_at) FROM referral.relations WHERE invitee_id = $1",
        invitee_id,
    )
    return at


async def has_fixed(reader: Reader, invitee_id: str) -> bool:
    """Say whether an order of the invitee may earn a fixed sum."""
    found: bool = await reader.fetchval(
        "SELECT EXISTS (SELECT FROM referral.commissions WHERE invitee_id = $1 AND kind = 'fixed')",
        invitee_id,
    )
    return found


async def take_turn(tx: Tx, invitee_id: str) -> None:
    """Wait until nobody else decides which order of the invitee is the first; others wait for the end of `tx`."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('referral.first_order:' || $1, 0))", invitee_id)


async def find_rivals(tx: Tx, invitee_id: str, order_id: str) -> list[str]:
    """Return commissions of other orders of the invitee that the choice of the first order may touch: two a level.

    On each level the first that was kept, of relations whose invitee was a newcomer, and the one that has the money,
    which the turn of the invitee keeps still.
    """
    rows = await tx.fetch(
        """
        SELECT found.commission_id
        FROM (VALUES (1), (2)) AS each (level)
        CROSS JOIN LATERAL (
            (
                SELECT commission_id
                FROM referral.commissions
                WHERE invitee_id = $1
                  AND commissions.level = each.level
                  AND kind = 'fixed'
                  AND is_kept
                  AND order_id <> $2
                  AND EXISTS (
                    SELECT
                    FROM referral.relations AS relation
                    WHERE relation.relation_id = commissions.relation_id
                      AND relation.is_new
                  )
                ORDER BY paid_at, order_id
                LIMIT 1
            )
            UNION
            (
                SELECT commission_id
                FROM referral.commissions
                WHERE invitee_id = $1
                  AND commissions.level = each.level
                  AND kind = 'fixed'
                  AND amount_fen > 0
                  AND order_id <> $2
            )
        ) AS found
        """,
        invitee_id,
        order_id,
    )
    return [row["commission_id"] for row in rows]


async def add(
    tx: Tx, commissions: Sequence[Commission], steps: Sequence[CommissionStep], money: Mapping[tuple[str, date], int]
) -> None:
    """Insert what an order earns, with the first step of each, and count `money` in inviters' months.

    The UNIQUE order and level lets it happen once.
    """
    await tx.execute(
        """
        WITH added AS (
            INSERT INTO referral.commissions (commission_id, order_id, level, inviter_id, invitee_id, relation_id,
                program_id, terms_version, kind, basis_points, fixed_fen, available_after_days, cap_fen, granted_fen,
                paid_at, month, lines, is_kept, amount_fen, revision, state, received_at, due_at, created_at)
            SELECT commission_id, order_id, level, inviter_id, invitee_id, relation_id, program_id, terms_version,
                kind, basis_points, fixed_fen, available_after_days, cap_fen, granted_fen, paid_at, month, lines,
                is_kept, amount_fen, revision, state, received_at, due_at, created_at
            FROM json_to_recordset($1::json) AS one (commission_id uuid, order_id text, level smallint,
                inviter_id text, invitee_id text, relation_id uuid, program_id uuid, terms_version integer, kind text,
                basis_points integer, fixed_fen bigint, available_after_days integer, cap_fen bigint,
                granted_fen bigint, paid_at timestamptz, month date, lines jsonb, is_kept boolean, amount_fen bigint,
                revision integer, state text, received_at timestamptz, due_at timestamptz, created_at timestamptz)
        ),
        stepped AS (
            INSERT INTO referral.commission_steps (commission_id, revision, at, from_fen, to_fen, state, why)
            SELECT commission_id, revision, at, from_fen, to_fen, state, why
            FROM json_to_recordset($2::json) AS step (commission_id uuid, revision integer, at timestamptz,
                from_fen bigint, to_fen bigint, state text, why text)
        )
        INSERT INTO referral.inviter_months AS known (inviter_id, month, money_fen)
        SELECT inviter_id, month, fen
        FROM json_to_recordset($3::json) AS added (inviter_id text, month date, fen bigint)
        ORDER BY inviter_id, month
        ON CONFLICT (inviter_id, month) DO UPDATE
        SET money_fen = known.money_fen + excluded.money_fen
        """,
        _encode(commissions).decode(),
        _encode(steps).decode(),
        _months(money),
    )


async def change(tx: Tx, commissions: Sequence[Commission], steps: Sequence[CommissionStep]) -> None:
    """Write the facts, amounts and states of locked commissions, and what changed their amounts.

    A commission that is void stays so, and one that is available is never pending again.
    """
    changed = await tx.fetchval(
        """
        WITH stepped AS (
            INSERT INTO referral.commission_steps (commission_id, revision, at, from_fen, to_fen, state, why)
            SELECT commission_id, revision, at, from_fen, to_fen, state, why
            FROM json_to_recordset($2::json) AS step (commission_id uuid, revision integer, at timestamptz,
                from_fen bigint, to_fen bigint, state text, why text)
        ),
        changed AS (
            UPDATE referral.commissions AS commission
            SET lines = one.lines,
                is_kept = one.is_kept,
                granted_fen = one.granted_fen,
                amount_fen = one.amount_fen,
                revision = one.revision,
                received_at = one.received_at,
                due_at = one.due_at,
                state = one.state,
                judged_at = one.judged_at,
                review_reasons = one.review_reasons,
                is_cleared = one.is_cleared,
                decision = one.decision
            FROM json_to_recordset($1::json) AS one (commission_id uuid, lines jsonb, is_kept boolean,
                granted_fen bigint, amount_fen bigint, revision integer, received_at timestamptz, due_at timestamptz,
                state text, judged_at timestamptz, review_reasons jsonb, is_cleared boolean, decision text)
            WHERE commission.commission_id = one.commission_id
              AND commission.revision IN (one.revision, one.revision - 1)
              AND (commission.state <> 'void' OR one.state = 'void')
              AND (commission.state <> 'available' OR one.state IN ('available', 'void'))
            RETURNING 1
        )
        SELECT count(*) FROM changed
        """,
        _encode(commissions).decode(),
        _encode(steps).decode(),
    )
    assert changed == len(commissions), "locked, so nobody else changed them"


def _months(money: Mapping[tuple[str, date], int]) -> str:
    return _encode(
        [
            {"inviter_id": inviter_id, "month": month, "fen": fen}
            for (inviter_id, month), fen in sorted(money.items())
            if fen
        ]
    ).decode()


async def count_money(tx: Tx, money: Mapping[tuple[str, date], int]) -> None:
    """Add to what the leaderboard says of inviters' months."""
    if not any(money.values()):
        return
    await tx.execute(
        """
        INSERT INTO referral.inviter_months AS known (inviter_id, month, money_fen)
        SELECT inviter_id, month, fen
        FROM json_to_recordset($1::json) AS added (inviter_id text, month date, fen bigint)
        ORDER BY inviter_id, month
        ON CONFLICT (inviter_id, month) DO UPDATE
        SET money_fen = known.money_fen + excluded.money_fen
        """,
        _months(money),
    )


class DueCommission(msgspec.Struct, frozen=True, kw_only=True):
    """What the clock needs to know of a commission."""

    commission_id: str
    order_id: str
    level: Level
    inviter_id: str
    invitee_id: str
    relation_id: str
    month: date
    amount_fen: int
    revision: int
    is_cleared: bool


DUE = Rows(row=DueCommission)


async def lock_due(tx: Tx, due_before: datetime, limit: int) -> list[DueCommission]:
    """Lock pending commissions whose time has come, longest due first; those at work elsewhere come later."""
    return await DUE.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM referral.commissions
        WHERE state = 'pending'
          AND due_at IS NOT NULL
          AND due_at <= $1
        ORDER BY due_at, commission_id
        LIMIT $2
        FOR NO KEY UPDATE SKIP LOCKED
        """,
        due_before,
        limit,
    )


async def lock_unjudged(tx: Tx, limit: int) -> list[DueCommission]:
    """Lock pending commissions that risk has not looked at."""
    return await DUE.fetch_all(
        tx,
        """
        SELECT kit.columns
        FROM referral.commissions
        WHERE state = 'pending'
          AND judged_at IS NULL
        ORDER BY commission_id
        LIMIT $1
        FOR NO KEY UPDATE SKIP LOCKED
        """,
        limit,
    )


async def make_available(tx: Tx, commission_ids: Sequence[str], now: datetime) -> int:
    """Let locked commissions be available whose time has come; return how many."""
    return int(
        await tx.fetchval(
            """
            WITH made AS (
                UPDATE referral.commissions AS commission
                SET state = 'available', available_at = $2, judged_at = coalesce(commission.judged_at, $2)
                FROM json_to_recordset($1::json) AS one (commission_id uuid)
                WHERE commission.commission_id = one.commission_id
                  AND commission.state = 'pending'
                  AND commission.due_at <= $2
                RETURNING 1
            )
            SELECT count(*) FROM made
            """,
            _encode([{"commission_id": commission_id} for commission_id in commission_ids]).decode(),
            now,
        )
    )


async def put_to_review(tx: Tx, reasons: Mapping[str, Sequence[str]], now: datetime) -> int:
    """Put locked, pending commissions to review, each for its reasons; return how many."""
    return int(
        await tx.fetchval(
            """
            WITH put AS (
                UPDATE referral.commissions AS commission
                SET state = 'review', judged_at = $2, review_reasons = one.reasons
                FROM json_to_recordset($1::json) AS one (commission_id uuid, reasons jsonb)
                WHERE commission.commission_id = one.commission_id
                  AND commission.state = 'pending'
                RETURNING 1
            )
            SELECT count(*) FROM put
            """,
            _encode([{"commission_id": key, "reasons": found} for key, found in reasons.items()]).decode(),
            now,
        )
    )


async def mark_judged(tx: Tx, commission_ids: Sequence[str], now: datetime) -> None:
    """Note that nothing was found."""
    await tx.execute(
        """
        UPDATE referral.commissions AS commission
        SET judged_at = $2
        FROM json_to_recordset($1::json) AS one (commission_id uuid)
        WHERE commission.commission_id = one.commission_id
        """,
        _encode([{"commission_id": commission_id} for commission_id in commission_ids]).decode(),
        now,
    )
