"""Every statement of spending."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from growth.plumbing.person.owned import Owned
from growth.plumbing.postgres.database import Record, Tx
from growth.rewards.ledger.spending.model import Part, SpentFromLot
from growth.vocabulary.ids import derived_id

OWNED = Owned("ledger.spends")

_encode = msgspec.json.Encoder().encode


async def add(tx: Tx, spend_id: str, user_id: str, points: int, transfer_id: str, now: datetime) -> bool:
    """Note that points are spent; False if this was noted before."""
    return bool(
        await tx.fetchval(
            """
            INSERT INTO ledger.spends (spend_id, user_id, points, transfer_id, spent_at)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (spend_id) DO NOTHING
            RETURNING TRUE
            """,
            spend_id,
            user_id,
            points,
            transfer_id,
            now,
        )
    )


async def find(tx: Tx, spend_id: str) -> Record | None:
    """Return a spending, locked."""
    return await tx.fetchrow(
        """
        SELECT spend_id, user_id, points, returned, transfer_id, spent_at
        FROM ledger.spends
        WHERE spend_id = $1
        FOR NO KEY UPDATE
        """,
        spend_id,
    )


async def returned(tx: Tx, spend_id: str, return_id: str) -> int | None:
    """Return the points of a return that was noted before."""
    points: int | None = await tx.fetchval(
        """
        SELECT points
        FROM ledger.returns
        WHERE spend_id = $1
          AND return_id = $2
        """,
        spend_id,
        return_id,
    )
    return points


async def add_return(tx: Tx, spend_id: str, return_id: str, points: int, now: datetime) -> bool:
    """Note that points come back; False if that is more than is left of the spending."""
    return bool(
        await tx.fetchval(
            """
            WITH left_of AS (
                UPDATE ledger.spends
                SET returned = returned + $3
                WHERE spend_id = $1
                  AND returned + $3 <= points
                RETURNING spend_id
            )
            INSERT INTO ledger.returns (spend_id, return_id, points, returned_at)
            SELECT spend_id, $2, $3, $4
            FROM left_of
            RETURNING TRUE
            """,
            spend_id,
            return_id,
            points,
            now,
        )
    )


async def taken(tx: Tx, transfer_id: str) -> list[SpentFromLot]:
    """Return what a spending took from which lots, in the order in which they end."""
    rows = await tx.fetch(
        """
        SELECT lot.lot_id, lot.origin, taking.amount, nullif(lot.expires_at, 'infinity') AS expires_at
        FROM ledger.takings AS taking
        JOIN ledger.lots AS lot USING (lot_id)
        WHERE taking.transfer_id = $1
        ORDER BY lot.expires_at, lot.lot_id
        """,
        transfer_id,
    )
    return [msgspec.convert(dict(row), SpentFromLot) for row in rows]


async def part(tx: Tx, transfer_id: str, parts: Sequence[Part]) -> None:
    """Put `parts` (soonest end first) in the place of the one lot that a return has made.

    Of who owed, the lot has less left than came in: that is missing from what ends first.
    """
    await tx.execute(
        """
        WITH whole AS (
            DELETE FROM ledger.lots
            WHERE lot_id = $1
            RETURNING owner, currency, amount, remaining
        ),
        part AS (
            SELECT told.*, sum(told.amount) OVER (ORDER BY told.place) AS ends
            FROM json_to_recordset($2::json) AS told (
                place int, lot_id uuid, origin uuid, amount bigint, expires_at timestamptz
            )
        )
        INSERT INTO ledger.lots (lot_id, owner, currency, amount, remaining, expires_at, origin)
        SELECT part.lot_id, whole.owner, whole.currency, part.amount,
               greatest(0, least(part.amount, part.ends - (whole.amount - whole.remaining))),
               coalesce(part.expires_at, 'infinity'), part.origin
        FROM whole
        CROSS JOIN part
        """,
        transfer_id,
        _encode(
            [
                {
                    "place": place,
                    "lot_id": derived_id(transfer_id, "lot", str(place)),
                    "origin": one.origin,
                    "amount": one.amount,
                    "expires_at": one.expires_at,
                }
                for place, one in enumerate(parts)
            ]
        ).decode(),
    )
