"""Shoppers' HTTP of commissions."""

from datetime import datetime
from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import Struct

from growth.mechanics.referral.commission.model import Commission, ShownState
from growth.mechanics.referral.commission.service import CommissionBalance, Commissions
from growth.mechanics.referral.relation.model import mask_id
from growth.plumbing.http.answers import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, page_of
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from growth.vocabulary.ids import Uuid

StateFilter = Annotated[ShownState | None, QueryParameter(name="state", description="Only commissions in this state.")]


class CommissionPage(Struct, frozen=True, kw_only=True):
    """What one order earns its inviter, as the inviter sees it: nothing tells who paid, or by which order."""

    commission_id: Uuid
    level: int
    """1: of somebody you invited; 2: of somebody they invited."""
    invitee: str
    """Masked."""
    amount_fen: int
    """What it is worth now; refunds are taken off."""
    state: ShownState
    """`refunded`: nothing is left of it."""
    paid_at: datetime
    received_at: datetime | None
    available_at: datetime | None
    """When it became, or is going to be, available; unknown until the order is received."""


def show(commission: Commission) -> CommissionPage:
    """Show a commission to its inviter."""
    return CommissionPage(
        commission_id=commission.commission_id,
        level=commission.level,
        invitee=mask_id(commission.invitee_id),
        amount_fen=commission.amount_fen,
        state=commission.shown_state,
        paid_at=commission.paid_at,
        received_at=commission.received_at,
        available_at=commission.available_at or commission.due_at,
    )


@get("/commissions", operation_id="referral_commission_list", summary="List my commissions")
async def list_commissions(
    shopper: NamedDependency[Shopper],
    commissions: NamedDependency[Commissions],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[CommissionPage]:
    """Newest first."""
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    found = await commissions.page_of_inviter(shopper.user_id, state=only, before=before, limit=limit + 1)
    return page_of([show(one) for one in found], limit, lambda one: (one.commission_id,))


@get("/commissions/balance", operation_id="referral_commission_balance_get", summary="Get my commission balance")
async def get_balance(
    shopper: NamedDependency[Shopper], commissions: NamedDependency[Commissions]
) -> CommissionBalance:
    """All numbers are of one moment. What is owed is paid by the next commissions, before anything is withdrawn."""
    return await commissions.money(shopper.user_id, clock.now())


router = Router(path="/v1", route_handlers=[list_commissions, get_balance], tags=["Commissions"])
