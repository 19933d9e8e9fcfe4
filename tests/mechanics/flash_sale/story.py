"""What happens to claims from outside: orders that pay for them, the clock, and what both stores say afterwards."""

from typing import Any

from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.stock import Stock
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.postgres.database import Database
from growth.shop.order.service import Result
from growth.vocabulary.clock import now
from tests.mechanics.flash_sale.conftest import Room
from tests.shop.order import telling
from tests.shop.order.telling import JSON


def line(claim: Claim, line_id: str = "1", **changes: Any) -> JSON:
    """A line that pays for this claim."""
    paying = {"units": claim.units, "amount_fen": claim.units * claim.price_fen, "sku": claim.sku}
    return telling.line(line_id, **paying | {"claim_id": claim.claim_id} | changes)


def placed(claim: Claim, order_id: str = "o1") -> JSON:
    return telling.placed(order_id, line(claim), user_id=claim.user_id)


def paid(claim: Claim, order_id: str = "o1", id_: str | None = None) -> JSON:
    return telling.paid(order_id, line(claim), user_id=claim.user_id, id_=id_)


async def tell(room: Room, *events: JSON) -> list[str]:
    """What the shop is answered, one for each event, as `outcome code`."""
    return telling.outcomes(await told(room, *events))


async def told(room: Room, *events: JSON) -> list[Result]:
    return await telling.tell(room.shop, *events, now=now())


async def claim_now(room: Room, claim_id: str) -> Claim:
    return (await store.find_claims(room.database, [claim_id]))[claim_id]


async def events_of(database: Database, claim_id: str) -> list[str]:
    """The names of the events that were emitted about a claim, in their order."""
    rows = await database.fetch(
        "SELECT type FROM plumbing.outbox WHERE data ->> 'claim_id' = $1 ORDER BY xid, position", claim_id
    )
    return [row["type"].removeprefix("flash_sale.") for row in rows]


async def units_in_both(room: Room, sale_id: str) -> tuple[int, int | None]:
    """Units taken, as Postgres and as Redis counts."""
    sale = await sales_store.find_sale(room.database, sale_id)
    assert sale is not None
    return sale.taken, (await room.stock.glance(sale_id, 0)).taken


async def off_by(stock: Stock, sale_id: str) -> int:
    """Units that Redis counts as taken less those that the claims it knows occupy: 0 when its keys agree."""
    units = sum([claim.units async for page in stock.known_claims(sale_id) for claim in page])
    return ((await stock.glance(sale_id, 0)).taken or 0) - units
