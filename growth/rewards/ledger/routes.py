"""Shoppers' HTTP of the ledger: points."""

from functools import partial

from litestar import Router, get
from litestar.di import NamedDependency

from growth.plumbing.http.answers import Page
from growth.plumbing.http.listing import Listing
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
    listing: NamedDependency[Listing], shopper: NamedDependency[Shopper], ledger: NamedDependency[Ledger]
) -> Page[LedgerEntry]:
    """Newest first."""
    return await listing.paged("position", partial(ledger.entries, shopper.user_id, Currency.POINTS), kind=int)


router = Router(path="/v1", route_handlers=[get_points, list_entries], tags=["Points"])
