"""Operators' HTTP of privacy."""

from collections.abc import Sequence
from typing import Annotated

from litestar import Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec.structs import replace

from growth.plumbing.docs.refusals_of import RAISES
from growth.plumbing.http.answers import PathUserId
from growth.plumbing.http.discretion import discreet
from growth.plumbing.http.operators import for_operators
from growth.plumbing.watch.audit import Act
from growth.privacy.model import MergeRequest, ShopperErased, ShopperKnown, ShopperMerged
from growth.privacy.service import Shoppers
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.refusals import Kind
from growth.vocabulary.text import LINE_PATTERN


@for_operators(
    get, "/{user_id:str}", "admin_privacy_shopper_export", "Export all that is known of a shopper", Role.VIEWER
)
async def get_shopper(
    user_id: PathUserId, operator: NamedDependency[Operator], shoppers: NamedDependency[Shoppers]
) -> ShopperKnown:
    """Room by room, the newest of each; empty for a shopper nobody has heard of.

    The account that money goes to, device and address are shown to admins only.
    """
    known = await shoppers.export(user_id)
    return replace(known, rooms=discreet(known.rooms, operator.role))


@for_operators(delete, "/{user_id:str}", "admin_privacy_shopper_erase", "Erase a shopper", Role.ADMIN)
async def erase_shopper(
    user_id: PathUserId,
    act: NamedDependency[Act],
    shoppers: NamedDependency[Shoppers],
    reason: Annotated[
        str, QueryParameter(min_length=1, max_length=500, pattern=LINE_PATTERN, description="Kept in the audit.")
    ],
) -> ShopperErased:
    """Everywhere, for good. Books and counts stay, under an alias that leads nowhere.

    Answers kept for a day go at once, events on their way within minutes. Erasing is no way to a second welcome:
    until `remembered_until` the id, should it come back, gets nothing again that is given once.

    409 `….shopper_busy` while the shopper holds
    units, sits in a team that is not over, or has money on its way; 409 `shopper.merged` for an id that was merged into
    another (`into`).
    """
    return await shoppers.erase(act.why(reason), user_id)


@for_operators(post, "/{user_id:str}/merge", "admin_privacy_shopper_merge", "Merge two ids of one person", Role.ADMIN)
async def merge_shopper(
    user_id: PathUserId, data: JSONBody[MergeRequest], act: NamedDependency[Act], shoppers: NamedDependency[Shoppers]
) -> ShopperMerged:
    """What the id in the path has becomes that of `into`: nothing lost, nothing doubled."""
    return await shoppers.merge(act.why(data.reason), user_id, data.into)


def router_of(refusals: Sequence[Kind]) -> Router:
    """Return the routes; rooms refuse an erasure or a merge with `refusals`."""
    return Router(
        path="/admin/v1/shoppers",
        route_handlers=[get_shopper, erase_shopper, merge_shopper],
        tags=["Operators: shoppers"],
        opt={RAISES: refusals},
    )
