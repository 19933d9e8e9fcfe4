"""Operators' HTTP of the ledger."""

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from growth.plumbing.http.answers import DEFAULT_PAGE, Cursor, Limit, Page, PathUserId, decode_cursor, page_of
from growth.plumbing.http.operators import requires
from growth.rewards.ledger.model import Currency, LedgerEntry, Liabilities
from growth.rewards.ledger.service import Ledger
from growth.vocabulary import clock
from growth.vocabulary.actors import Role


@get(
    "/liabilities",
    operation_id="admin_ledger_liabilities_get",
    summary="Get what the shop owes shoppers",
    guards=[requires(Role.VIEWER)],
)
async def get_liabilities(ledger: NamedDependency[Ledger]) -> Liabilities:
    """Points, money, growth value and cards that shoppers hold, and which points end in which month."""
    return await ledger.liabilities(clock.now())


@get(
    "/shoppers/{user_id:str}/ledger/{currency:str}",
    operation_id="admin_ledger_entry_list",
    summary="List a shopper's ledger entries",
    guards=[requires(Role.VIEWER)],
)
async def list_shopper_entries(
    user_id: PathUserId,
    currency: FromPath[Currency],
    ledger: NamedDependency[Ledger],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[LedgerEntry]:
    """Newest first, in one currency."""
    position = decode_cursor(cursor, tuple[int])
    before = None if position is None else position[0]
    found = await ledger.entries(user_id, currency, before, limit + 1)
    return page_of(found, limit, lambda entry: (entry.position,))


router = Router(path="/admin/v1", route_handlers=[get_liabilities, list_shopper_entries], tags=["Operators: rewards"])
