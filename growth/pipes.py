"""What the plumbing itself adds to the house, as a room: housekeeping, invariants, and the stream out."""

from growth.kit.room import Room, Standing, Stores
from growth.plumbing import admin
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.outbox.stream import Stream
from growth.plumbing.watch.invariant_rounds import ROUND_SECONDS, SENTENCE_SECONDS, InvariantRounds
from growth.plumbing.work import housekeeping
from growth.plumbing.work.periodic import PeriodicTask

MAX_ROUND_SECONDS = ROUND_SECONDS + 2 * SENTENCE_SECONDS


def pipes(stores: Stores, invariants: InvariantRounds) -> Room:
    """Declare what the pipes need to be kept up."""
    settings, database = stores.settings, stores.database
    house = housekeeping.Housekeeping(database, invariants, settings.erased_memory_days)
    return Room(
        name="plumbing",
        gives={"database": database, "invariant_rounds": invariants, "merchant_zone": stores.zone},
        routers=[admin.router],
        tasks=[
            PeriodicTask("erasure.forget", 3600, house.forget_erased, housekeeping.ERASED_BATCH),
            PeriodicTask(
                "invariants",
                housekeeping.INVARIANTS_SECONDS,
                house.check_invariants,
                max_seconds=MAX_ROUND_SECONDS,
            ),
            PeriodicTask("outbox.prepare", 3600, house.prepare_outbox),
            PeriodicTask("outbox.prune", 600, house.prune_outbox),
            PeriodicTask("idempotency.prune", 60, house.prune_idempotency, housekeeping.IDEMPOTENCY_BATCH),
        ],
        subscriptions=[_stream(stores)] if settings.stream is not None else [],
        api_standing=[Standing("person.memory", lambda stop: database.people.run(database, stop))],
    )


def _stream(stores: Stores) -> Subscription:
    """Return the outlet for consumers in the same cluster."""
    settings = stores.settings
    assert settings.stream is not None
    stream = Stream(stores.redis, settings.stream, max_events=settings.stream_max_events, source=settings.event_source)
    return Subscription("outbox.stream", None, stream.take, hears_of_erased=True)
