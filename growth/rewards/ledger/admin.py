"""Operators' HTTP of the ledger."""

from functools import partial

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from growth.plumbing.http.answers import Page, PathUserId
from growth.plumbing.http.listing import Listing
from growth.plumbing.http.operators import for_operators
from growth.rewards.ledger.model import Currency, LedgerEntry, Liabilities
from growth.rewards.ledger.service import Ledger
from growth.vocabulary import clock
from growth.vocabulary.actors import Role


@for_operators(get, "/liabilities", "admin_ledger_liabilities_get", "Get what the shop owes shoppers", Role.VIEWER)
async def get_liabilities(ledger: NamedDependency[Ledger]) -> Liabilities:
    """Points, money, growth value and cards that shoppers hold, and which points end in which month."""
    return await ledger.liabilities(clock.now())


@for_operators(
    get,
    "/shoppers/{user_id:str}/ledger/{currency:str}",
    "admin_ledger_entry_list",
    "List a shopper's ledger entries",
    Role.VIEWER,
)
async def list_shopper_entries(
    listing: NamedDependency[Listing],
    user_id: PathUserId,
    currency: FromPath[Currency],
    ledger: NamedDependency[Ledger],
) -> Page[LedgerEntry]:
    """Newest first, in one currency."""
    return await listing.paged("position", partial(ledger.entries, user_id, currency), kind=int)


router = Router(path="/admin/v1", route_handlers=[get_liabilities, list_shopper_entries], tags=["Operators: rewards"])
