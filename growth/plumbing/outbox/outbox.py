"""The outbox: events leave in the transaction of what happened, and reach each subscriber in commit-safe order.

A subscriber reads by (xid, position), below the oldest transaction still running, so that a slow transaction is never
skipped; it moves its cursor in the transaction of what it writes, so that it handles each event exactly once.

What follows from that: events come in the order in which their transactions *began to write*, and a transaction that
writes and stays open, anywhere on the same Postgres server, holds back what began after it (`lag` shows it).

An event remembers the request that it came of. Where a listener's batch is of one request only, what it logs and emits
is that request's too.

A batch that fails is halved until the one event is found, which is set aside (`dead_letters`), and the reader goes on:
only the outside failing, or too many failing events, stops it. Whether the outside fails, or one event asks too much of
it (a statement that never ends in time), the events behind it tell: where one of them gets through between two tries of
the first, the first is set aside.

Another table of the same form (a `Log`) is read in the same way, with the same promises.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
from msgspec import Struct, structs

from growth.plumbing.outbox import cursor as outbox_cursor
from growth.plumbing.outbox import dead_letters
from growth.plumbing.outbox.upkeep import OUTBOX_TABLE, Lag, Log, forget, lag, mend_after_restore, prepare, prune
from growth.plumbing.person.events import current
from growth.plumbing.postgres.database import Database, Reader, Record, Tx
from growth.plumbing.request import request_id
from growth.plumbing.watch import traces
from growth.vocabulary import ids
from growth.vocabulary.events import Event
from growth.vocabulary.refusals import Unavailable

__all__ = [
    "OUTBOX",
    "Envelope",
    "Lag",
    "Log",
    "Subscription",
    "UnknownEvent",
    "deliver",
    "emit",
    "events_below",
    "forget",
    "hand",
    "history",
    "lag",
    "mend_after_restore",
    "prepare",
    "prune",
    "types_of",
]

log = structlog.get_logger("outbox")

MAX_EVENTS_AT_ONCE = 500
"""Events read in one transaction of one subscriber, unless it says otherwise."""


WRITING_SECONDS = 600
"""So far apart, at most, are when an event says it happened and when it was written: clocks differ."""
MAX_TRIES_ALONE = 3
"""Of one event on which the outside fails; from then on those behind it are asked whether it is the outside."""
MAX_REQUESTS_TOLD = 20
"""Named in one line of a log."""

_encode = msgspec.json.Encoder().encode


class Envelope(Struct, frozen=True):
    """An event as a subscriber gets it. `event_id` stays the same wherever the event is told again."""

    event_id: str
    event: Event
    request_id: str | None = None
    """Of the request that it came of, if it was one."""


class _Row(Struct, frozen=True):
    event_id: str
    type: str | int | None
    subject: str
    at: datetime
    data: Event
    request_id: str | None


class UnknownEvent(Exception):
    """An event of a newer release. It is set aside for a process that knows it, rather than lost or waited for."""


class _TakenBack(Exception):
    """What was tried is rolled back."""


_decoders: dict[str, msgspec.json.Decoder[Event]] = {}


def _envelope(row: Record) -> Envelope:
    name = row["type"]
    decoder = _decoders.get(name)
    if decoder is None:
        _decoders.update((tag, msgspec.json.Decoder(event)) for tag, event in events_below(Event))
        decoder = _decoders.get(name)
        if decoder is None:
            raise UnknownEvent(name)
    return Envelope(row["event_id"], decoder.decode(row["data"]), row["request_id"])


OUTBOX = Log(OUTBOX_TABLE, _envelope)


class Subscription(Struct, frozen=True):
    """Who listens. The name is the cursor's key: a new name reads from the oldest event kept."""

    name: str
    types: frozenset[str] | None
    """Names of events, see `types_of`; None for all there are."""
    handle: Callable[[Tx, Sequence[Any]], Awaitable[None]]
    """Writes what follows from the events, in the transaction that moves the cursor. It never commits.

    Of the outbox it gets `Envelope`s; of another log, whatever that makes of its rows.
    """
    log: Log = OUTBOX
    hears_of_erased: bool = False
    """Whether it hears, under the alias, of what erased shoppers did: it counts, or passes on what money hangs on."""
    max_events: int = MAX_EVENTS_AT_ONCE
    """At once: more for whom many cost less."""


async def emit(tx: Tx, *events: Event, request_ids: Sequence[str] | None = None) -> None:
    """Write `events` in `tx`, in this order, with one statement however many there are. None are told if `tx` fails.

    They came of the request that is being served; or each of its own of `request_ids`, "" for none, where a batch
    serves several.
    """
    if not events:
        return
    if request_ids is None:
        request_ids = [request_id.get()] * len(events)
    await tx.execute(
        """
        INSERT INTO plumbing.outbox (event_id, type, subject, at, data, request_id)
        SELECT event.event_id, event.type, event.subject, event.at, event.data, event.request_id
        FROM json_to_recordset($1::json)
             AS event (event_id uuid, type text, subject text, at timestamptz, data json, request_id text)
        """,
        # One argument: the driver looks at each item of an array in Python.
        _encode(
            [
                _Row(event_id, event.__struct_config__.tag, event.subject, event.at, event, name or None)
                for event_id, event, name in zip(
                    ids.new_ids(events[0].at, len(events)), events, request_ids, strict=True
                )
            ]
        ).decode(),
    )


def types_of(*events: type[Event]) -> frozenset[str]:
    """Return the names of `events` and of all that derive from them."""
    return frozenset(tag for event in events for tag, _ in events_below(event))


async def deliver(database: Database, subscription: Subscription, *, max_events: int | None = None) -> int:
    """Hand the next events to `subscription`; return how many were passed, 0 if there are none or another is at it.

    An event that cannot be handled is among those passed, and is a dead letter then. Raises `Unavailable` and
    `ReaderStopped`: the cursor has not moved, and the same events come again.
    """
    source = subscription.log
    news = await outbox_cursor.news(database, subscription.name, source)
    if news["restored"]:
        await mend_after_restore(database, source)
    elif not news["waiting"]:
        return 0
    if not news["known"]:
        await outbox_cursor.introduce(database, subscription.name, source)
    batch = _Batch(database, subscription)
    try:
        return await batch.deliver(max_events or subscription.max_events)
    except Unavailable as error:
        return await batch.doubt(error)
    except dead_letters.ReaderStopped:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, one event has it
        why = dead_letters.told(error)
        log.warning("outbox.batch_failed", subscription=subscription.name, events=len(batch.rows), error=why)
    return await batch.halve()


class _Batch:
    """The next events of one subscription, taken again in smaller parts where something is wrong with one of them."""

    def __init__(self, database: Database, subscription: Subscription) -> None:
        self._database = database
        self._subscription = subscription
        self.rows: Sequence[Record] = ()
        """What was tried last."""
        self._cursor: Record | None = None
        """Where that began."""

    async def deliver(self, max_events: int) -> int:
        """Hand on up to so many events, all or none; return how many were passed."""
        subscription = self._subscription
        async with self._database.transaction(everyone=True) as tx:
            cursor = await outbox_cursor.lock_cursor(tx, subscription.name)
            if cursor is None:
                return 0
            self._cursor = cursor
            # An event in doubt stays alone, whoever tries it.
            most = 1 if cursor["tries_alone"] else max_events
            self.rows = await outbox_cursor.read(tx, cursor, subscription.types, most, subscription.log)
            if not self.rows:
                return 0
            asked_for = [row for row in self.rows if row["data"] is not None]
            unread = await hand(tx, subscription, asked_for)
            if unread:
                await dead_letters.park(tx, subscription.name, subscription.log.table, unread, "unread")
            has_worked = len(asked_for) > len(unread)
            await outbox_cursor.move_cursor(
                tx, subscription.name, self.rows[-1], 0 if has_worked else cursor["parked_in_a_row"]
            )
        return len(self.rows)

    async def halve(self) -> int:
        """Find the first event that fails and set it aside; return how many were passed, with those before it."""
        passed, suspects = 0, len(self.rows)
        while suspects > 1:
            half = suspects // 2
            try:
                done = await self.deliver(half)
            except (Unavailable, dead_letters.ReaderStopped):
                raise
            except Exception:  # noqa: BLE001 - told when it has been found
                suspects = half
            else:
                if not done:
                    # Another process is at it.
                    return passed
                passed += done
                suspects -= half
        try:
            # By itself it may do: two of one batch did not go together.
            return passed + await self.deliver(1)
        except (Unavailable, dead_letters.ReaderStopped):
            raise
        except Exception as error:  # noqa: BLE001 - set aside with its reason
            return passed + await self._park(error)

    async def doubt(self, error: Unavailable) -> int:
        """Set the event aside if it was alone, and it is the event and not the outside; return how many were passed.

        It is the event if another one gets through between two tries of it. Otherwise raises `error`.
        """
        if self._cursor is None or len(self.rows) != 1:
            raise error
        name, suspect = self._subscription.name, _place(self.rows[0])
        tries = await outbox_cursor.count_try_alone(self._database, name, self._cursor)
        if tries < MAX_TRIES_ALONE or not await self._another_gets_through(tries - MAX_TRIES_ALONE):
            raise error
        try:
            return await self.deliver(1)
        except Unavailable as again:
            if not self.rows or _place(self.rows[0]) != suspect:
                raise
            return await self._park(again)

    async def _another_gets_through(self, number: int) -> bool:
        """Handle one of the next events and take it back; another one for each `number`, for they may be alike."""
        subscription = self._subscription

        async def handle(tx: Tx, events: Sequence[Any]) -> None:
            await subscription.handle(tx, events)
            raise _TakenBack

        try:
            async with self._database.transaction(everyone=True) as tx:
                cursor = await outbox_cursor.lock_cursor(tx, subscription.name)
                if cursor is None:
                    return False
                behind = await outbox_cursor.look_ahead(
                    tx, cursor, subscription.types, dead_letters.MAX_IN_A_ROW, subscription.log
                )
                if behind:
                    await hand(tx, structs.replace(subscription, handle=handle), [behind[number % len(behind)]])
        except _TakenBack:
            return True
        except Exception as error:  # noqa: BLE001 - it proves nothing, and its own turn comes
            log.info("outbox.another_failed", subscription=subscription.name, error=dead_letters.told(error))
        return False

    async def _park(self, error: Exception) -> int:
        subscription, failed = self._subscription, self.rows[0]
        async with self._database.transaction() as tx:
            cursor = await outbox_cursor.lock_cursor(tx, subscription.name)
            if cursor is None:
                return 0
            rows = await outbox_cursor.read(tx, cursor, subscription.types, 1, subscription.log)
            if not rows or _place(rows[0]) != _place(failed):
                return 0
            in_a_row = cursor["parked_in_a_row"] + 1
            if in_a_row > dead_letters.MAX_IN_A_ROW:
                raise dead_letters.ReaderStopped(f"{in_a_row} events in a row failed") from error
            log.warning("outbox.event_failed", subscription=subscription.name, exc_info=error)
            await dead_letters.park(tx, subscription.name, subscription.log.table, [(failed, error)], "failed")
            await outbox_cursor.move_cursor(tx, subscription.name, failed, in_a_row)
        return 1


def _place(row: Record) -> tuple[int, int]:
    return row["xid"], row["position"]


async def hand(tx: Tx, subscription: Subscription, rows: Sequence[Record]) -> list[tuple[Record, BaseException]]:
    """Have `rows` of the log handled; return those that this process cannot read, which were not."""
    read: list[Record] = []
    events: list[Any] = []
    unread: list[tuple[Record, BaseException]] = []
    for row in rows:
        try:
            events.append(subscription.log.read(row))
            read.append(row)
        except (UnknownEvent, msgspec.DecodeError) as error:
            unread.append((row, error))
    events = await current(tx, events, of_erased=subscription.hears_of_erased) if events else []
    if events:
        with _of_requests(subscription, read):
            await subscription.handle(tx, events)
    return unread


@contextmanager
def _of_requests(subscription: Subscription, rows: Sequence[Record]) -> Iterator[None]:
    """Say whose doing it is: in the context if it is one request's, in a line of debugging, and on what goes wrong."""
    names = list({name: None for row in rows if (name := row["request_id"])})
    told = names[:MAX_REQUESTS_TOLD]
    is_one = len(names) == 1 and all(row["request_id"] for row in rows)
    before = request_id.set(names[0] if is_one else "")
    try:
        if told:
            log.debug("outbox.deliver", subscription=subscription.name, events=len(rows), request_ids=told)
        with traces.span(f"deliver {subscription.name}", events=len(rows), request_ids=told):
            yield
    except Exception as error:
        if told:
            error.add_note(f"Of {len(rows)} events, of {len(names)} requests: {', '.join(told)}")
        raise
    finally:
        request_id.reset(before)


async def history(
    reader: Reader, since: datetime, until: datetime, types: frozenset[str], *, after: tuple[datetime, str], limit: int
) -> list[Envelope]:
    """Return up to `limit` events of `types` that happened from `since` to before `until`, by time and id.

    `after` is the time and id of the last one known; only what is still kept is found. Events of transactions that
    still run are not seen: they come by subscription.
    """
    rows = await reader.fetch(
        """
        SELECT event_id, type, data::text AS data, request_id
        FROM plumbing.outbox
        WHERE written_at >= $1::timestamptz - $7::interval
          AND written_at < $2::timestamptz + $7::interval
          AND at >= $1
          AND at < $2
          AND (at, event_id) > ($4, $5)
          AND type = ANY ($3::text[])
        ORDER BY at, event_id
        LIMIT $6
        """,
        since,
        until,
        list(types),
        *after,
        limit,
        timedelta(seconds=WRITING_SECONDS),
    )
    return [_envelope(row) for row in rows]


def events_below(event: type[Event]) -> Iterator[tuple[str, type[Event]]]:
    """Walk down to the events that this service emits, by name; those with others below them are only bases."""
    below = event.__subclasses__()
    # What else derives from an event is an example's, and none that readers could be told of.
    if not below and event.__module__.startswith("growth."):
        tag = event.__struct_config__.tag
        assert isinstance(tag, str)
        yield tag, event
    for one in below:
        yield from events_below(one)
