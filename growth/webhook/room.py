"""What webhooks add to the house."""

from growth.kit.room import Room, Rooms, Standing, Stores
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.person.erasure import Swept
from growth.plumbing.work.periodic import PeriodicTask
from growth.vocabulary.clock import now
from growth.webhook import admin
from growth.webhook.delivery.courier import Courier
from growth.webhook.delivery.periodic import DeliveryKeeper
from growth.webhook.delivery.queue import Queue
from growth.webhook.delivery.sender import Sender
from growth.webhook.delivery.service import Deliveries
from growth.webhook.service import Webhooks


def room(stores: Stores, below: Rooms) -> Room:  # noqa: ARG001 - every room is made so
    """Make the room of signed events out."""
    settings, database = stores.settings, stores.database
    courier = Courier(settings.webhook_allowed_hosts, now)
    sender = Sender(database, courier, now)
    queue = Queue(settings.event_source, now, sender.wake)
    webhooks, deliveries = Webhooks(database, courier), Deliveries(database, courier, queue, settings.event_source)
    keeper = DeliveryKeeper(database)
    return Room(
        name="webhook",
        services=[webhooks, deliveries, courier, sender, queue],
        gives={"webhooks": webhooks, "deliveries": deliveries},
        routers=[admin.router],
        tasks=[
            PeriodicTask("shop.webhook_watch", 10, keeper.watch),
            PeriodicTask("shop.webhook_prepare", 3600, keeper.prepare),
            PeriodicTask("shop.webhook_prune", 600, keeper.prune),
        ],
        subscriptions=[Subscription("shop.webhook_queue", None, queue.take, hears_of_erased=True)],
        worker_standing=[Standing("shop.webhook_send", sender.run)],
        swept=[Swept("webhook.deliveries", "body", "text")],
        close=[courier.close],
    )
