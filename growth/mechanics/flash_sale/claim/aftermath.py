"""What follows when claims end or change: others are told in the same transaction, Redis after it."""

from collections.abc import Sequence
from datetime import datetime

from growth.mechanics.flash_sale.claim.model import Claim, ReleaseReason
from growth.mechanics.flash_sale.claim.redis_sync import occupied
from growth.mechanics.flash_sale.stock import Stock
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Tx
from growth.vocabulary.alike import alike
from growth.vocabulary.events.flash_sale import FlashSaleClaimReleased


async def after_release(tx: Tx, stock: Stock, claims: Sequence[Claim], reason: ReleaseReason, now: datetime) -> None:
    """Tell of claims just released in `tx`; Redis follows the commit."""
    await emit(
        tx,
        *[alike(FlashSaleClaimReleased, claim, at=now, reason=reason) for claim in claims],
    )
    for sale_id in {claim.sale_id for claim in claims}:
        follow(tx, stock, sale_id, [claim for claim in claims if claim.sale_id == sale_id])


def follow(tx: Tx, stock: Stock, sale_id: str, claims: Sequence[Claim]) -> None:
    """After the commit, bring Redis to what `claims` of one sale occupy."""

    async def settle() -> None:
        await stock.settle(sale_id, occupied(claims))

    tx.after_commit(settle)
