"""Shoppers' HTTP of referrals: my page, whom I brought, who brought most."""

from datetime import date
from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from growth.mechanics.referral.inviter.model import By, InviteeCard, Leaderboard, ReferralPage
from growth.mechanics.referral.inviter.service import Standings
from growth.plumbing.field_errors import FieldError
from growth.plumbing.http.answers import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, page_of
from growth.plumbing.strict_json import invalid
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from growth.vocabulary.ids import Uuid

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
    shopper: NamedDependency[Shopper],
    referral_standings: NamedDependency[Standings],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[InviteeCard]:
    """Newest first, masked."""
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    found = await referral_standings.invitees(shopper.user_id, before, limit + 1)
    return page_of(found, limit, lambda card: (card.relation_id,))


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


router = Router(path="/v1", route_handlers=[get_referral, list_invitees, get_leaderboard], tags=["Referrals"])
