"""What an entry to a draw is, and why there is none."""

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from growth.kit.campaign.model import State
from growth.mechanics.flash_sale import model as sales
from growth.vocabulary.alike import alike
from growth.vocabulary.ids import ClaimId, SaleId, Uuid, derived_id
from growth.vocabulary.refusals import Kind, Refusal, Unavailable

DRAW_DELAY = timedelta(seconds=2)
"""Between the end of the entry time and the draw: entries on their way arrive, and clocks may be apart by as much."""

DRAW_OVER = Kind("flash_sale.draw_over", "The draw is over; claim the units that are left.")
ENTRY_NOT_FOUND = Kind("flash_sale.entry_not_found", "This shopper did not enter the draw.", 404)
NO_DRAW = Kind("flash_sale.no_draw", "The sale has no draw.", 404)

EntryState = Literal["entered", "won", "lost"]


class DrawEntry(Struct, frozen=True, kw_only=True):
    """An entry as Postgres knows it, with what its sale says of the draw."""

    entry_id: Uuid
    sale_id: SaleId
    user_id: str
    units: int
    entered_at: datetime
    draw_at: datetime
    """When entries end; the draw follows within seconds."""
    over: bool
    """The sale was drawn, or ended before it could be."""
    claim_id: ClaimId | None

    @property
    def state(self) -> EntryState:
        """Say what became of it."""
        if self.claim_id is not None:
            return "won"
        return "lost" if self.over else "entered"


class EntryPage(Struct, frozen=True, kw_only=True):
    """An entry as its shopper sees it."""

    entry_id: Uuid
    sale_id: SaleId
    units: int
    state: EntryState
    draw_at: datetime
    """When entries end; the draw follows within seconds."""
    claim_id: ClaimId | None
    """The claim won: held, and to be paid, like any other."""
    server_time: datetime


class DrawPage(Struct, frozen=True, kw_only=True):
    """A draw as operators see it."""

    sale_id: SaleId
    entries: int
    units_wanted: int
    winners: int
    units_won: int
    draw_at: datetime
    drawn_at: datetime | None
    seed: str | None
    """Winners are the first of all entries by SHA-256 of `seed:user_id`."""
    server_time: datetime


class EntryWish(Struct, frozen=True):
    """An entry on its way to Postgres."""

    sale_id: str
    user_id: str
    units: int
    at: datetime
    """When the gate said that the sale draws, by Redis' clock."""


class DrawState(Struct, frozen=True, kw_only=True):
    """What a sale says of its draw."""

    state: State
    opens_at: datetime
    closes_at: datetime
    draw_at: datetime | None
    drawn_at: datetime | None
    max_per_shopper: int


def entry_id(sale_id: str, user_id: str) -> str:
    """Return the id of the one entry that a shopper can have."""
    return derived_id(sale_id, user_id, "draw", "entry")


def claim_id(sale_id: str, user_id: str) -> str:
    """Return the id of the claim that a shopper can win: of four parts, so no Idempotency-Key makes it."""
    return derived_id(sale_id, user_id, "draw", "claim")


def show_entry(entry: DrawEntry, now: datetime) -> EntryPage:
    """Show `entry` to its shopper."""
    return alike(EntryPage, entry, server_time=now)


def refusal_of(draw: DrawState | None, wish: EntryWish) -> Refusal | Unavailable:
    """Say why a wish that the sale's row did not let in is no entry."""
    if draw is None or draw.state == "draft":
        return Refusal(sales.NOT_FOUND)
    kind = _kind(draw, wish)
    if kind is None:
        return Unavailable("the sale was being changed")
    if kind is sales.LIMIT_REACHED:
        limit = draw.max_per_shopper
        return Refusal(kind, f"At most {limit} for each shopper.", max_per_shopper=limit, claims=[])
    refusal = Refusal(kind, server_time=wish.at, opens_at=draw.opens_at, closes_at=draw.closes_at)
    if kind is sales.DRAWING:
        refusal.members["draw_at"] = draw.draw_at
    return refusal


def _kind(draw: DrawState, wish: EntryWish) -> Kind | None:
    """Return None if nothing is in the way."""
    over = draw.draw_at is None or draw.drawn_at is not None
    in_the_way = (
        (draw.state == "ended" or wish.at >= draw.closes_at, sales.ENDED),
        (draw.state == "paused", sales.PAUSED),
        (wish.at < draw.opens_at, sales.NOT_OPEN),
        (over, DRAW_OVER),
        (draw.draw_at is not None and wish.at >= draw.draw_at, sales.DRAWING),
        (wish.units > draw.max_per_shopper, sales.LIMIT_REACHED),
    )
    return next((kind for is_so, kind in in_the_way if is_so), None)
