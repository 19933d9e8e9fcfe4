"""What orders add to the house."""

from growth.kit.campaign.audience import AudienceKeeper
from growth.kit.room import Person, Room, Rooms, Stores
from growth.shop.order import person, routes
from growth.shop.order.buyer.service import are_newcomers
from growth.shop.order.model import ActivityListener, OrderParticipant, PointsDesk
from growth.shop.order.owed import admin as owed_admin
from growth.shop.order.owed.service import RefundsRequired
from growth.shop.order.service import ShopService
from growth.vocabulary.audience import Newcomers


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the order system's way in; who takes part in orders is declared above."""
    shop = ShopService(stores.database, [], stores.settings.shop_secrets)
    refunds_required = RefundsRequired(stores.database)

    def joined(rooms: Rooms) -> None:
        # A protocol names what is wanted.
        (activities,) = rooms.declared(ActivityListener)  # type: ignore[type-abstract]
        (points,) = rooms.declared(PointsDesk)  # type: ignore[type-abstract]
        shop.join(rooms.declared(OrderParticipant), activities, points)  # type: ignore[type-abstract]

    return Room(
        name="shop",
        services=[shop, refunds_required],
        gives={"shop": shop, "refunds_required": refunds_required},
        routers=[routes.router, owed_admin.router],
        persons={"shop": Person(export=person.export, erase=person.erase, merge=person.merge, had=person.had)},
        audience_keepers=[AudienceKeeper(Newcomers, are_newcomers)],
        joined=joined,
        drain=[shop.drain],
    )
