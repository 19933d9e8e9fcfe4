"""TABLE: event → who reacts. Each reads the outbox with a cursor of its own and handles every event exactly once."""

from collections.abc import Sequence

from growth.bootstrap import Growth
from growth.listeners.retention.service import MAX_ACTIVITIES_AT_ONCE
from growth.mechanics.checkin import projection as tally
from growth.mechanics.flash_sale import projection as tempo
from growth.mechanics.referral import again
from growth.mechanics.task.progress.service import activity_types, outbox_types
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.outbox.stream import Stream
from growth.rewards.pack import service as pack
from growth.shopper.activity.model import LOG


def reactions(growth: Growth) -> Sequence[Subscription]:
    """Return every subscription there is."""
    key = growth.settings.stream
    return [
        Subscription("flash_sale.tempo", tempo.LISTENS_TO, tempo.count, hears_of_erased=True),
        Subscription("checkin.tally", tally.LISTENS_TO, tally.count, hears_of_erased=True),
        Subscription("retention.outbox", growth.retention.projection.listens_to, growth.retention.projection.hear),
        Subscription(
            "retention.activities", None, growth.retention.projection.follow, LOG, max_events=MAX_ACTIVITIES_AT_ONCE
        ),
        Subscription("task.count_outbox", outbox_types(), growth.task.projection.from_outbox),
        Subscription("task.count_activities", activity_types(), growth.task.projection.from_activities, LOG),
        Subscription("referral.again", again.LISTENS_TO, growth.referral.again.hear),
        Subscription("pack.give", pack.LISTENS_TO, growth.pack.give),
        Subscription("shop.webhook_queue", None, growth.webhook.queue.take, hears_of_erased=True),
        *(
            [Subscription("outbox.stream", None, stream_of(growth, key).take, hears_of_erased=True)]
            if key is not None
            else []
        ),
    ]


def stream_of(growth: Growth, key: str) -> Stream:
    """Return the outlet for consumers in the same cluster."""
    settings = growth.settings
    return Stream(growth.redis, key, max_events=settings.stream_max_events, source=settings.event_source)
