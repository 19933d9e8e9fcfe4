"""Every statement by which orders change claims. Locks: claims (taken by the caller), holdings, the sale."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.claim.store import put_back
from growth.mechanics.flash_sale.model import LIMIT_REACHED, SOLD_OUT
from growth.plumbing.postgres.database import Reader, Tx


class _NotTaken(Exception):
    """Undoes the savepoint; `args` is the code of why."""


async def bind(tx: Tx, claim_id: str, order_id: str) -> bool:
    """Tie a held claim to the order that means to pay for it; False if it is not held, or another order's."""
    bound: str | None = await tx.fetchval(
        """
        UPDATE flash_sale.claims
        SET order_id = $2
        WHERE claim_id = $1
          AND state = 'held'
          AND (order_id IS NULL OR order_id = $2)
        RETURNING claim_id
        """,
        claim_id,
        order_id,
    )
    return bound is not None


async def pay(tx: Tx, claim_id: str, order_id: str, now: datetime) -> bool:
    """Sell a held claim to the order that paid; False if it is not held."""
    paid: str | None = await tx.fetchval(
        """
        UPDATE flash_sale.claims
        SET state = 'paid', order_id = $2, paid_at = $3
        WHERE claim_id = $1
          AND state = 'held'
        RETURNING claim_id
        """,
        claim_id,
        order_id,
        now,
    )
    return paid is not None


class Retaken(Struct, frozen=True):
    """What became of taking units again."""

    why_not: str | None = None
    """The code of why not; then nothing was changed."""
    sold_out_now: bool = False
    """They were the last, for the first time."""


async def retake(tx: Tx, claim: Claim, order_id: str, now: datetime) -> Retaken:
    """Take the units of a released claim again and sell them, if both guards of `win` let them: limit and stock."""
    try:
        async with tx.savepoint():
            sold_out_now = await _take_again(tx, claim, now)
            retaken = await tx.fetchval(
                """
                UPDATE flash_sale.claims
                SET state = 'paid', release_reason = NULL, order_id = $2, paid_at = $3, ended_at = NULL
                WHERE claim_id = $1
                  AND state = 'released'
                RETURNING claim_id
                """,
                claim.claim_id,
                order_id,
                now,
            )
            assert retaken is not None, "the claim is locked, so it is still released"
    except _NotTaken as why:
        return Retaken(str(why))
    return Retaken(sold_out_now=sold_out_now)


async def _take_again(tx: Tx, claim: Claim, now: datetime) -> bool:
    held = await tx.fetchval(
        """
        UPDATE flash_sale.holdings
        SET units = units + $3
        WHERE sale_id = $1
          AND user_id = $2
          AND units + $3 <= (SELECT max_per_shopper FROM flash_sale.sales WHERE sale_id = $1)
        RETURNING user_id
        """,
        claim.sale_id,
        claim.user_id,
        claim.units,
    )
    if held is None:
        raise _NotTaken(LIMIT_REACHED.code)
    sold_out_now: bool | None = await tx.fetchval(
        """
        UPDATE flash_sale.sales
        SET taken = taken + $2,
            sold_out_at = CASE WHEN taken + $2 = units_total THEN coalesce(sold_out_at, $3) ELSE sold_out_at END
        WHERE sale_id = $1
          AND taken + $2 <= units_total
        RETURNING (taken = units_total AND sold_out_at = $3) IS TRUE
        """,
        claim.sale_id,
        claim.units,
        now,
    )
    if sold_out_now is None:
        raise _NotTaken(SOLD_OUT.code)
    return sold_out_now


async def refund(tx: Tx, claim: Claim, refunded_units: int, *, returns: bool, now: datetime) -> bool:
    """Bring a paid claim to `refunded_units` in all; False if it already was there."""
    returned_units = refunded_units if returns else 0
    changed: str | None = await tx.fetchval(
        """
        UPDATE flash_sale.claims
        SET refunded_units = $2,
            returned_units = greatest(returned_units, $3),
            state = CASE WHEN $2 = units THEN 'refunded' ELSE 'paid' END,
            ended_at = CASE WHEN $2 = units THEN $4::timestamptz END
        WHERE claim_id = $1
          AND state = 'paid'
          AND refunded_units < $2
        RETURNING claim_id
        """,
        claim.claim_id,
        refunded_units,
        returned_units,
        now,
    )
    if changed is not None and returned_units > claim.returned_units:
        await put_back(tx, [(claim.sale_id, claim.user_id, returned_units - claim.returned_units)])
    return changed is not None


async def require_refund(tx: Tx, claim_id: str, order_id: str, line_id: str, reason: str, now: datetime) -> bool:
    """Note why an order line must be paid back; False if that was said before."""
    noted: str | None = await tx.fetchval(
        """
        INSERT INTO flash_sale.refunds_required AS known (order_id, line_id, claim_id, reason, at)
        VALUES ($2, $3, $1, $4, $5)
        ON CONFLICT (order_id, line_id) DO UPDATE
        SET reason = excluded.reason
        WHERE known.reason <> excluded.reason
        RETURNING line_id
        """,
        claim_id,
        order_id,
        line_id,
        reason,
        now,
    )
    return noted is not None


async def refund_reasons(reader: Reader, order_id: str, line_ids: Sequence[str]) -> list[str]:
    """Return why lines of an order had to be paid back, of those that had, in their order."""
    rows = await reader.fetch(
        """
        SELECT reason
        FROM flash_sale.refunds_required
        WHERE order_id = $1
          AND line_id = ANY ($2::text[])
        ORDER BY line_id
        """,
        order_id,
        list(line_ids),
    )
    return [row["reason"] for row in rows]


async def owe_no_more(tx: Tx, order_id: str, line_ids: Sequence[str]) -> None:
    """Forget why lines of an order had to be paid back: they pay for their claim after all."""
    await tx.execute(
        """
        DELETE FROM flash_sale.refunds_required
        WHERE order_id = $1
          AND line_id = ANY ($2::text[])
        """,
        order_id,
        list(line_ids),
    )
