"""What a claim is, what it is called when it cannot be had, and what an order makes of it."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from growth.mechanics.flash_sale.stock import Occupied
from growth.vocabulary.ids import ClaimId, SaleId
from growth.vocabulary.refusals import Kind

CLAIM_NOT_FOUND = Kind("flash_sale.claim_not_found", "There is no such claim.", 404)
CLAIM_NOT_HELD = Kind("flash_sale.claim_not_held", "Only a held claim can be given back.")

State = Literal["held", "paid", "released", "refunded"]
ReleaseReason = Literal["shopper", "lapsed", "order_closed", "operator"]


class Claim(Struct, frozen=True, kw_only=True):
    """A claim as Postgres knows it."""

    claim_id: ClaimId
    sale_id: SaleId
    user_id: str
    sku: str
    units: int
    price_fen: int
    state: State
    held_at: datetime
    held_until: datetime
    release_reason: ReleaseReason | None = None
    order_id: str | None = None
    paid_at: datetime | None = None
    ended_at: datetime | None = None
    refunded_units: int = 0
    returned_units: int = 0

    @property
    def occupied_units(self) -> int:
        """Units that are not for sale because of this claim."""
        return 0 if self.state == "released" else self.units - self.returned_units


class ClaimPage(Struct, frozen=True, kw_only=True):
    """A claim as its shopper sees it."""

    claim_id: ClaimId
    sale_id: SaleId
    sku: str
    units: int
    price_fen: int
    """For one unit."""
    state: State
    held_until: datetime
    release_reason: ReleaseReason | None
    server_time: datetime


class Wanted(Occupied, frozen=True):
    """A claim that Redis admitted, on its way to Postgres; `held_at` is Redis' time of admission."""

    is_repeat: bool = False
    """Redis knew the claim before: it may be written already."""


def show(claim: Claim, now: datetime) -> ClaimPage:
    """Show `claim` to its shopper."""
    return ClaimPage(
        claim_id=claim.claim_id,
        sale_id=claim.sale_id,
        sku=claim.sku,
        units=claim.units,
        price_fen=claim.price_fen,
        state=claim.state,
        held_until=claim.held_until,
        release_reason=claim.release_reason,
        server_time=now,
    )
