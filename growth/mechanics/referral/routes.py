"""Shoppers' HTTP of referrals: my page, who brought me, whom I brought, and what they earn me."""

from datetime import date, datetime
from functools import partial
from typing import Annotated, ClassVar

from litestar import Router, get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from growth.mechanics.referral.commission.model import Commission, ShownState
from growth.mechanics.referral.commission.service import CommissionBalance, Commissions
from growth.mechanics.referral.inviter.model import By, InviteeCard, Leaderboard, ReferralPage
from growth.mechanics.referral.inviter.service import Standings
from growth.mechanics.referral.relation.model import MyInviter, mask_id
from growth.mechanics.referral.relation.service import Bound, Relations
from growth.plumbing.field_errors import FieldError
from growth.plumbing.http.answers import DEFAULT_PAGE, AnyRequest, Cursor, Limit, Page
from growth.plumbing.http.listing import Listing
from growth.plumbing.strict_json import invalid
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from growth.vocabulary.alike import alike
from growth.vocabulary.ids import Uuid
from growth.vocabulary.names import MAX_TYPED_CHARACTERS, Decoration

MonthFilter = Annotated[
    str | None,
    QueryParameter(
        name="month",
        pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$",
        description="The merchant's month, `2026-11`; this one, if left out.",
    ),
]
ByFilter = Annotated[By, QueryParameter(description="What leads: valid invitees, or commission.")]


@get("/referral", operation_id="referral_get", summary="Get my invitation code and what it brought")
async def get_referral(
    shopper: NamedDependency[Shopper], referral_standings: NamedDependency[Standings]
) -> ReferralPage:
    """The code is made when first asked for, and never changes."""
    return await referral_standings.page(shopper.user_id, clock.now())


@get("/referral/invitees", operation_id="referral_invitee_list", summary="List my invitees")
async def list_invitees(
    request: AnyRequest,
    shopper: NamedDependency[Shopper],
    referral_standings: NamedDependency[Standings],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[InviteeCard]:
    """Newest first, masked."""
    # Not as a dependency: two that are resolved at once would cost this page more.
    return await Listing(request, cursor, limit).paged(
        "relation_id", partial(referral_standings.invitees, shopper.user_id)
    )


@get("/referral/leaderboard", operation_id="referral_leaderboard_get", summary="Get the leaderboard of inviters")
async def get_leaderboard(
    shopper: NamedDependency[Shopper],
    referral_standings: NamedDependency[Standings],
    by: ByFilter = "people",
    month_name: MonthFilter = None,
    limit: Limit = DEFAULT_PAGE,
) -> Leaderboard:
    """The first `limit` inviters, masked; and the shopper's own place, up to 10,000."""
    now = clock.now()
    month = referral_standings.month_of(now) if month_name is None else _month(month_name)
    return await referral_standings.leaderboard(shopper.user_id, by, month, limit, now)


def _month(name: str) -> date:
    try:
        return date.fromisoformat(f"{name}-01")
    except ValueError:
        # "$" also matches before a last newline.
        raise invalid(FieldError("month", "Expected a month, like 2026-11")) from None


class InviterRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose code a shopper came by."""

    mends_text: ClassVar[bool] = True
    code: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_TYPED_CHARACTERS,
            description="A code, in any case, width and grouping; or the `scene` that carries it.",
        ),
    ]
    nickname: Decoration | None = None
    """Shown to the inviter as its first character and a star; no more of it is kept."""


@put("/referral/inviter", operation_id="referral_inviter_set", summary="Name my inviter")
async def bind(
    data: JSONBody[InviterRequest], shopper: NamedDependency[Shopper], referral_relations: NamedDependency[Relations]
) -> MyInviter:
    """The first touch counts; the same again is the same.

    404 `referral.unknown_code`; 409 `referral.own_code`, `.already_bound`, `.loop`, `.not_new`, `.no_program`; 429 for
    who tries many codes.
    """
    return show_inviter(await referral_relations.bind(shopper.user_id, data.code, data.nickname, clock.now()))


def show_inviter(bound: Bound) -> MyInviter:
    """Show a relation to the shopper who was brought."""
    return MyInviter(
        inviter=mask_id(bound.inviter_id), bound_at=bound.bound_at, ends_at=bound.ends_at, server_time=bound.at
    )


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
    return alike(
        CommissionPage,
        commission,
        invitee=mask_id(commission.invitee_id),
        state=commission.shown_state,
        available_at=commission.available_at or commission.due_at,
    )


@get("/commissions", operation_id="referral_commission_list", summary="List my commissions")
async def list_commissions(
    listing: NamedDependency[Listing],
    shopper: NamedDependency[Shopper],
    commissions: NamedDependency[Commissions],
    only: StateFilter = None,
) -> Page[CommissionPage]:
    """Newest first."""
    return await listing.paged("commission_id", partial(commissions.page_of_inviter, shopper.user_id, only), show=show)


@get("/commissions/balance", operation_id="referral_commission_balance_get", summary="Get my commission balance")
async def get_balance(
    shopper: NamedDependency[Shopper], commissions: NamedDependency[Commissions]
) -> CommissionBalance:
    """All numbers are of one moment. What is owed is paid by the next commissions, before anything is withdrawn."""
    return await commissions.money(shopper.user_id, clock.now())


router = Router(path="/v1", route_handlers=[get_referral, list_invitees, get_leaderboard, bind], tags=["Referrals"])
money_router = Router(path="/v1", route_handlers=[list_commissions, get_balance], tags=["Commissions"])
