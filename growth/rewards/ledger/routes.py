"""Shoppers' HTTP of the ledger: points."""

from litestar import Router, get
from litestar.di import NamedDependency

from growth.plumbing.http.answers import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, page_of
from growth.rewards.ledger.model import Currency, LedgerEntry, Points
from growth.rewards.ledger.service import Ledger
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper


@get("/points", operation_id="ledger_points_get", summary="Get my points")
async def get_points(shopper: NamedDependency[Shopper], ledger: NamedDependency[Ledger]) -> Points:
    """What I can spend now, and what of it ends when."""
    return await ledger.points(shopper.user_id, clock.now())


@get("/points/entries", operation_id="ledger_entry_list", summary="List what changed my points")
async def list_entries(
    shopper: NamedDependency[Shopper],
    ledger: NamedDependency[Ledger],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[LedgerEntry]:
    """Newest first."""
    position = decode_cursor(cursor, tuple[int])
    before = None if position is None else position[0]
    found = await ledger.entries(shopper.user_id, Currency.POINTS, before, limit + 1)
    return page_of(found, limit, lambda entry: (entry.position,))


router = Router(path="/v1", route_handlers=[get_points, list_entries], tags=["Points"])
