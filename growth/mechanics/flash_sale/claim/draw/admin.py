"""Operators' HTTP of draws."""

from litestar import Router, get
from litestar.di import NamedDependency

from growth.mechanics.flash_sale.claim.draw.model import DrawPage
from growth.mechanics.flash_sale.claim.draw.service import Draws
from growth.plumbing.http.answers import PathUuid
from growth.plumbing.http.operators import for_operators
from growth.vocabulary import clock
from growth.vocabulary.actors import Role


@for_operators(get, "/{sale_id:str}/draw", "admin_flash_sale_draw_get", "Get the draw of a flash sale", Role.VIEWER)
async def get_draw(sale_id: PathUuid, draws: NamedDependency[Draws]) -> DrawPage:
    """Entries and winners; once drawn, the seed by which anyone can check the order."""
    return await draws.page(sale_id, clock.now())


router = Router(path="/admin/v1/flash-sales", route_handlers=[get_draw], tags=["Operators: flash sales"])
