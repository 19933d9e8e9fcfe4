"""HTTP of lucky bags: shoppers', and the kit's for operators."""

from litestar import Router, get, post
from litestar.di import NamedDependency

from growth.kit.campaign.admin import campaign_routes
from growth.plumbing.docs.refusals_of import RAISES
from growth.plumbing.http.answers import PathUuid
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from tests.house.lucky_bag.model import LUCKY_BAGS, NOT_FOUND, NOT_LIVE, SOLD_OUT, LuckyBagPage
from tests.house.lucky_bag.service import LuckyBags


@get("/{lucky_bag_id:str}", operation_id="lucky_bag_get", summary="Show a lucky bag", opt={RAISES: [NOT_FOUND]})
async def get_bag(
    lucky_bag_id: PathUuid, shopper: NamedDependency[Shopper], lucky_bags: NamedDependency[LuckyBags]
) -> LuckyBagPage:
    """Whether I opened one, and how many are left."""
    return await lucky_bags.show(lucky_bag_id, shopper.user_id)


@post(
    "/{lucky_bag_id:str}/open",
    status_code=200,
    operation_id="lucky_bag_open",
    summary="Open a lucky bag",
    opt={RAISES: [NOT_FOUND, NOT_LIVE, SOLD_OUT]},
)
async def open_bag(
    lucky_bag_id: PathUuid, shopper: NamedDependency[Shopper], lucky_bags: NamedDependency[LuckyBags]
) -> LuckyBagPage:
    """Once a shopper; again tells the same."""
    return await lucky_bags.open(lucky_bag_id, shopper.user_id, clock.now())


router = Router(path="/v1/lucky-bags", route_handlers=[get_bag, open_bag], tags=["Lucky bags"])
admin_router = Router(
    path="/admin/v1/lucky-bags",
    route_handlers=campaign_routes(
        LUCKY_BAGS,
        LuckyBags,
        "lucky_bags",
        "admin_lucky_bag",
        told={
            "create": "Nobody sees a draft.",
            "change": "Replaces all fields.",
            "end": "What was opened stays.",
        },
    ),
    tags=["Operators: lucky bags"],
)
