"""The worker: runs what the clock wakes (`schedule`) and what events wake (`reactions`), until told to stop."""

import asyncio
from collections.abc import Collection

import structlog
from prometheus_client import Counter, Gauge

from growth.bootstrap import Growth
from growth.plumbing.outbox import outbox
from growth.plumbing.outbox.dead_letters import ReaderStopped
from growth.plumbing.outbox.outbox import Log, Subscription
from growth.plumbing.postgres.database import Database
from growth.plumbing.work.periodic import Periodic
from growth.tables import reactions, schedule, standing
from growth.vocabulary.refusals import Unavailable

log = structlog.get_logger("worker")

IDLE_SECONDS = 0.25
"""Between looks of a listener that had nothing to do."""
LAG_SECONDS = 5.0
MAX_BACKOFF_SECONDS = 30.0

_delivered = Counter("growth_outbox_delivered_total", "Events passed by a listener.", ["subscription"])
_failed = Counter("growth_outbox_failed_total", "Deliveries that failed and are tried again.", ["subscription"])
_lag_events = Gauge("growth_outbox_lag_events", "Events that wait for a listener.", ["subscription"])
_lag_seconds = Gauge("growth_outbox_lag_seconds", "Age of the oldest event that waits.", ["subscription"])
_letters = Gauge("growth_dead_letters", "Events that a listener could not handle.", ["subscription", "reason"])
_stopped = Counter("growth_outbox_stopped_total", "Tries of a listener that stopped: too much fails.", ["subscription"])


async def run_worker(growth: Growth, stop: asyncio.Event) -> None:
    """Run every task and listener; each stands alone, and all have ended when this returns."""
    await _forget_silent(growth)
    subscriptions = reactions(growth)
    listeners = [
        asyncio.create_task(_listen(growth.database, subscription, stop), name=f"listener:{subscription.name}")
        for subscription in subscriptions
    ]
    logs = {outbox.OUTBOX, *(subscription.log for subscription in subscriptions)}
    listeners.append(asyncio.create_task(_watch_lag(growth.database, logs, stop), name="listener:lag"))
    listeners += [asyncio.create_task(one.run(stop), name=f"standing:{one.name}") for one in standing(growth)]
    await Periodic(growth.database, schedule(growth)).run(stop)
    await asyncio.gather(*listeners)


async def _forget_silent(growth: Growth) -> None:
    """Drop the cursor of an outlet that was switched off: behind it the outbox would be kept for good."""
    if growth.settings.stream is None:
        async with growth.database.transaction() as tx:
            await outbox.forget(tx, "outbox.stream")


async def _listen(database: Database, subscription: Subscription, stop: asyncio.Event) -> None:
    failures = 0
    while not stop.is_set():
        try:
            # Less at once after each failure: what is too slow for the time of a statement gets through in parts.
            most = max(1, subscription.max_events >> min(failures, 10))
            passed = await outbox.deliver(database, subscription, max_events=most)
        except Exception as error:
            failures += 1
            _failed.labels(subscription.name).inc()
            if isinstance(error, ReaderStopped):
                _stopped.labels(subscription.name).inc()
            stack = None if isinstance(error, Unavailable) else error
            log.warning("listener.failed", subscription=subscription.name, error=repr(error), exc_info=stack)
            await _pause(stop, min(MAX_BACKOFF_SECONDS, 2.0 ** min(failures, 10) / 2))
            continue
        failures = 0
        _delivered.labels(subscription.name).inc(passed)
        if not passed:
            await _pause(stop, IDLE_SECONDS)


async def _watch_lag(database: Database, logs: Collection[Log], stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            found = [lag for read in logs for lag in await outbox.lag(database, read)]
            # A listener that is gone has no numbers.
            for gauge in (_lag_events, _lag_seconds, _letters):
                gauge.clear()
            for lag in found:
                _letters.labels(lag.subscription, "failed").set(lag.failed)
                _letters.labels(lag.subscription, "unread").set(lag.unread)
                _lag_events.labels(lag.subscription).set(lag.events)
                _lag_seconds.labels(lag.subscription).set(lag.seconds)
        except Unavailable as error:
            log.warning("listener.lag_unknown", why=error.what)
        await _pause(stop, LAG_SECONDS)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
