"""Shoppers' HTTP of draws. To enter, claim: `POST /v1/flash-sales/{sale_id}/claims` answers 202 until `draw_at`."""

from litestar import Router, get
from litestar.di import NamedDependency

from growth.mechanics.flash_sale.claim.draw.model import EntryPage
from growth.mechanics.flash_sale.claim.draw.service import Draws
from growth.plumbing.http.answers import PathUuid
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper


@get("/flash-sales/{sale_id:str}/entry", operation_id="flash_sale_entry_get", summary="Get my entry in a draw")
async def get_entry(sale_id: PathUuid, shopper: NamedDependency[Shopper], draws: NamedDependency[Draws]) -> EntryPage:
    """`entered` until the draw, a few seconds after `draw_at`; then `won`, with the claim to pay, or `lost`.

    404 for whoever did not enter.
    """
    return await draws.entry(sale_id, shopper.user_id, clock.now())


router = Router(path="/v1", route_handlers=[get_entry], tags=["Flash sales"])
