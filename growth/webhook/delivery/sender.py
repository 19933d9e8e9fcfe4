"""Sends what is due, all the time, on every worker: takes a lease, sends with no transaction open, writes it down.

Every endpoint has `SLOTS` of its own in each process and none are shared, so what one receiver does, others cannot
feel: at worst it holds its own slots for `courier.TOTAL_SECONDS` each.
"""

import asyncio
import random
from collections import Counter as Counts
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter, Gauge, Histogram

from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.request import request_id
from growth.plumbing.watch import audit, traces
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.coalesce import Coalescer
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import Clock
from growth.vocabulary.events.webhook import WebhookEndpointDisabled
from growth.vocabulary.refusals import Unavailable
from growth.webhook import model
from growth.webhook import store as endpoints_store
from growth.webhook.delivery import store
from growth.webhook.delivery.courier import TOTAL_SECONDS, Courier
from growth.webhook.delivery.store import EndedAttempt
from growth.webhook.model import MAX_ENDPOINTS, Parcel, WebhookEndpoint

log = structlog.get_logger("webhook")

SLOTS = 8
"""Requests to one endpoint at once, by one process."""
AHEAD = 24
"""Deliveries of one endpoint taken beyond those being sent: a quick receiver need not wait for the next look."""
MAX_TAKEN = 512
"""In one look."""
LEASE_SECONDS = 120.0
"""Longer than the last of what was taken can take: (AHEAD / SLOTS + 1) times the longest send, and half of that again.
So long after a worker's sudden death its deliveries are sent again."""
IDLE_SECONDS = 0.25
"""Between looks while nothing is due; jitter keeps workers apart."""
MAX_BACKOFF_SECONDS = 30.0
STOP_SECONDS = 4.0
"""For requests under way when the worker is told to stop; then they are cut off and given back."""
RECORD_BATCH = 64
RECORD_TRIES = 3
RECORD_PAUSE_SECONDS = 0.5

assert LEASE_SECONDS > (AHEAD / SLOTS + 1) * TOTAL_SECONDS, "a lease outlives what was taken under it"

SERVICE = Operator("(growth itself)", Role.VIEWER)
"""Who the audit names for what no person did; no operator can have this name."""

_attempts = Counter(
    "growth_webhook_attempts_total", "Requests to receivers, by what came of them.", ["outcome"]
)  # delivered, or the class of the error
_ended = Counter("growth_webhook_deliveries_total", "Deliveries that ended, by how.", ["state"])
_disabled = Counter("growth_webhook_disabled_total", "Endpoints disabled by the service, by why.", ["reason"])
_seconds = Histogram("growth_webhook_attempt_seconds", "How long a receiver took.")
_busy_now = Gauge("growth_webhook_sending", "Requests under way.")


class Sender:
    """Sends, in one process. `run` until told to stop."""

    def __init__(self, database: Database, courier: Courier, clock: Clock) -> None:
        self._database = database
        self._courier = courier
        self._clock = clock
        self._wake = asyncio.Event()
        self._taken: Counts[str] = Counts()
        """Deliveries of each endpoint that are ours: those being sent, and those taken ahead."""
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._full: set[str] = set()
        """Endpoints of which there may be more due than we took."""
        self._under_way: dict[asyncio.Task[None], Parcel] = {}
        self._sending: set[tuple[str, str]] = set()
        """Which of them are with the courier, by endpoint and event."""
        self._notes: Coalescer[EndedAttempt, None] = Coalescer(
            "webhook.notes", self._write_down, max_batch=RECORD_BATCH, max_queue=MAX_ENDPOINTS * (SLOTS + AHEAD)
        )

    def wake(self) -> None:
        """Look now: something was queued."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send what is due until `stop` is set; then let what is under way end, and give back the rest."""
        failures = 0
        waker = asyncio.create_task(self._wake_at(stop), name="webhook.stop")
        try:
            while not stop.is_set():
                self._wake.clear()
                try:
                    taken = await self.take()
                    failures = 0
                except Exception as error:
                    failures += 1
                    stack = None if isinstance(error, Unavailable) else error
                    log.warning("webhook.look_failed", error=repr(error), exc_info=stack)
                    await self._pause(min(MAX_BACKOFF_SECONDS, 2.0 ** min(failures, 10) / 2))
                    continue
                if taken < MAX_TAKEN:
                    await self._pause(IDLE_SECONDS * random.uniform(0.8, 1.2))
        finally:
            waker.cancel()
            await self._end()

    async def take(self) -> int:
        """Take what is due, as far as slots are free, and begin to send it; return how many."""
        now = self._clock()
        asked = dict(self._taken)
        async with self._database.transaction() as tx:
            until = now + timedelta(seconds=LEASE_SECONDS)
            parcels = await store.lease(tx, asked, SLOTS + AHEAD, MAX_TAKEN, now, until)
        got = Counts(asked)
        for parcel in parcels:
            got[parcel.endpoint_id] += 1
            self._taken[parcel.endpoint_id] += 1
            task = asyncio.create_task(self._handle(parcel), name=f"webhook:{parcel.event_id}")
            self._under_way[task] = parcel
            task.add_done_callback(self._done)
        for endpoint_id, count in got.items():
            if count >= SLOTS + AHEAD:
                self._full.add(endpoint_id)
                self._look_if_low(endpoint_id)
        return len(parcels)

    def _done(self, task: asyncio.Task[None]) -> None:
        parcel = self._under_way.pop(task)
        one = parcel.endpoint_id
        self._taken[one] -= 1
        self._look_if_low(one)
        if not self._taken[one]:
            del self._taken[one]
            self._slots.pop(one, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("webhook.delivery_failed", event_id=parcel.event_id, exc_info=error)

    def _look_if_low(self, endpoint_id: str) -> None:
        """Look again before the slots run dry, where there may be more."""
        if endpoint_id in self._full and self._taken[endpoint_id] <= SLOTS + AHEAD // 2:
            self._full.discard(endpoint_id)
            self._wake.set()

    async def _handle(self, parcel: Parcel) -> None:
        """Send one delivery and write down what came of it."""
        # In the task's own context: what is logged here is the request's that the event came of.
        request_id.set(model.request_id_of(parcel))
        async with self._slots.setdefault(parcel.endpoint_id, asyncio.Semaphore(SLOTS)):
            self._sending.add((parcel.endpoint_id, parcel.event_id))
            body = parcel.body.encode()
            headers = model.signed_headers(parcel.secrets, parcel.event_id, self._clock(), body)
            traced = traces.Outgoing("webhook", request_id.get())
            try:
                with _busy_now.track_inprogress():
                    told = await self._courier.send(parcel.url, headers | traced.headers, body)
                traced.end(told.attempt.status, told.attempt.error)
            finally:
                self._sending.discard((parcel.endpoint_id, parcel.event_id))
        verdict = model.judge(parcel.attempts + 1, told, self._clock(), random.random())
        _attempts.labels(told.attempt.error or "delivered").inc()
        _seconds.observe(told.attempt.milliseconds / 1000)
        ended = EndedAttempt(parcel, told.attempt, verdict)
        for left in reversed(range(RECORD_TRIES)):
            try:
                await self._notes(ended)
            except Unavailable as error:
                # Not written down means sent again when the lease is over: worth a second try.
                if not left:
                    log.warning("webhook.not_written_down", event_id=parcel.event_id, error=error.what)
                    return
                await asyncio.sleep(RECORD_PAUSE_SECONDS)
            else:
                return

    async def _write_down(self, notes: list[EndedAttempt]) -> Sequence[None]:
        """Write down what came of a batch of attempts, and what follows for their endpoints."""
        now = self._clock()
        # In the order of their keys: whoever else holds some of them takes them in the same order.
        notes = sorted(notes, key=lambda note: (note.parcel.endpoint_id, note.parcel.event_id))
        async with self._database.transaction() as tx:
            await store.write_down(tx, notes, model.MAX_LOG)
            for endpoint_id in sorted({note.parcel.endpoint_id for note in notes}):
                own = [note for note in notes if note.parcel.endpoint_id == endpoint_id]
                await self._judge_endpoint(tx, endpoint_id, own, now)
        for note in notes:
            if note.verdict.state != "pending":
                _ended.labels(note.verdict.state).inc()
        return [None] * len(notes)

    async def _judge_endpoint(self, tx: Tx, endpoint_id: str, notes: Sequence[EndedAttempt], now: datetime) -> None:
        """Count what failed; disable an endpoint that wants no more, or that has taken nothing for too long."""
        failed = [note for note in notes if note.verdict.state != "delivered"]
        disabled = None
        if any(note.verdict.is_gone for note in failed):
            disabled = await endpoints_store.disable(tx, endpoint_id, "gone", now)
        elif len(failed) < len(notes):
            await endpoints_store.note_success(tx, [endpoint_id])
        else:
            since = min(note.attempt.at for note in failed)
            await endpoints_store.note_failures(tx, endpoint_id, len(failed), since)
            if any(note.verdict.state == "exhausted" for note in failed):
                before = now - timedelta(seconds=model.GIVE_UP_SECONDS)
                disabled = await endpoints_store.disable(
                    tx, endpoint_id, "failing", now, failing_before=before, failures=model.GIVE_UP_FAILURES
                )
        if disabled is not None:
            await _give_notice(tx, disabled, now)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _end(self) -> None:
        """Let requests under way end, within `STOP_SECONDS`; what was not sent is due at once for another worker.

        What was sent and cut off before its answer is given back as well, and sent again: at least once.
        """
        ours = dict(self._under_way)
        for task, parcel in ours.items():
            if (parcel.endpoint_id, parcel.event_id) not in self._sending:
                task.cancel()
        if ours:
            await asyncio.wait(list(ours), timeout=STOP_SECONDS)
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)
        await self._notes.drain()
        unsent = [parcel for task, parcel in ours.items() if task.cancelled()]
        if unsent:
            try:
                async with self._database.transaction() as tx:
                    await store.give_back(tx, unsent, self._clock())
            except Unavailable as error:
                # They fall due when their lease is over.
                log.warning("webhook.not_given_back", deliveries=len(unsent), error=error.what)


async def _give_notice(tx: Tx, endpoint: WebhookEndpoint, now: datetime) -> None:
    """Tell operators (the audit, a metric, a log line) and whoever else listens (an event)."""
    assert endpoint.reason is not None, "disabled endpoints say why"
    await audit.record(tx, Act(SERVICE, now), "webhook.disable", endpoint.endpoint_id, after=endpoint)
    await emit(
        tx,
        WebhookEndpointDisabled(
            at=now,
            endpoint_id=endpoint.endpoint_id,
            url=endpoint.url.partition("?")[0],
            reason=endpoint.reason,
        ),
    )
    reason = endpoint.reason

    async def tell() -> None:
        _disabled.labels(reason).inc()
        log.warning("webhook.endpoint_disabled", endpoint_id=endpoint.endpoint_id, reason=reason)

    tx.after_commit(tell)
