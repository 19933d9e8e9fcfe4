"""Takes batches of events in: what is right is in the log, committed, before the answer goes out."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import Counter

from growth.plumbing.http.limits import Limiter
from growth.plumbing.person.memory import PersonChanged, sparing
from growth.plumbing.postgres.database import Database
from growth.plumbing.work.coalesce import Coalescer
from growth.shopper.activity import model, store
from growth.shopper.activity.model import LogEntry, Rejection
from growth.vocabulary.activities import ActivityHeard, ActivityTold
from growth.vocabulary.orders import Outcome

MAX_CALLS_AT_ONCE = 32
"""Calls whose events go out in one statement: a megabyte or two at most."""
MAX_CALLS_WAITING = 1024
"""At 64 KiB each."""

_events = Counter("growth_events", "Events told, by what became of them.", ["origin", "outcome"])
_IGNORED = ActivityHeard(Outcome.IGNORED, "shop.no_listener", "Nobody here listens to events of this type.")
_APPLIED = ActivityHeard(Outcome.APPLIED)
_ERASED = ActivityHeard(Outcome.IGNORED, "shop.erased", "The shopper was erased.")
_DUPLICATE = ActivityHeard(Outcome.DUPLICATE, "applied")


class BatchTaken(Struct, frozen=True):
    """What became of a client's batch. Sent again as it was, its accepted events are duplicates."""

    accepted: int
    """Events that are in the log now and were not before."""
    duplicate: int
    """Events that were in the log before, or earlier in this batch."""
    rejected: list[Rejection]
    """By index."""


class Events:
    """Takes activities in. One for a process: batches of all callers share statements (coalescing)."""

    def __init__(self, database: Database, limiter: Limiter) -> None:
        """`limiter` counts single events, and lets at least one whole batch through at once."""
        assert limiter.burst >= model.MAX_EVENTS
        self._database = database
        self._limiter = limiter
        self._reserved = model.reserved_words()
        self._writes: Coalescer[list[LogEntry], list[bool]] = Coalescer(
            "events.write", self._write, max_batch=MAX_CALLS_AT_ONCE, max_queue=MAX_CALLS_WAITING
        )
        self._client = {outcome: _events.labels("client", outcome) for outcome in ("accepted", "duplicate", "rejected")}

    async def take(self, user_id: str, raw: bytes, now: datetime) -> BatchTaken:
        """Take the batch in a client's body; `raw` is bounded by the caller.

        Raises `Refusal` 400 where the batch as a whole is not of the right form, `TooManyRequests` (429) when the
        shopper's share is used up, and `Unavailable`; then nothing is acknowledged, and the same batch is to be sent
        again.
        """
        told = model.read_batch(raw)
        if told:
            await self._limiter.take(user_id, len(told))
        entries, rejected = model.entries_of(user_id, told, now)
        new = sum(await self._writes(entries)) if entries else 0
        taken = BatchTaken(new, len(entries) - new, rejected)
        self._client["accepted"].inc(taken.accepted)
        self._client["duplicate"].inc(taken.duplicate)
        self._client["rejected"].inc(len(rejected))
        return taken

    async def hear(self, told: Sequence[ActivityTold], now: datetime) -> list[ActivityHeard]:
        """Take what the shop tells, and say in the same order what became of it. Raises `Unavailable`."""
        try:
            return await self._hear(told, now)
        except PersonChanged:
            # Somebody was merged or erased meanwhile: try once more with who the ids are now.
            return await self._hear(told, now)

    async def _hear(self, told: Sequence[ActivityTold], now: datetime) -> list[ActivityHeard]:
        heard: list[ActivityHeard | None] = []
        entries: list[LogEntry] = []
        for one in told:
            if not model.is_activity(one.type):
                heard.append(_IGNORED)
                continue
            try:
                entries.append(model.entry_of(one, self._reserved, now))
                heard.append(None)
            except model.BadActivity as bad:
                heard.append(ActivityHeard(Outcome.REJECTED, bad.code, bad.detail))
        entries_now = await self._of_today(entries)
        kept = [entry for entry in entries_now if entry is not None]
        are_new = iter(await self._writes(kept) if kept else ())
        outcomes = iter(
            [_ERASED if entry is None else _APPLIED if next(are_new) else _DUPLICATE for entry in entries_now]
        )
        answers = [one or next(outcomes) for one in heard]
        for answer in answers:
            _events.labels("shop", answer.outcome).inc()
        return answers

    async def _of_today(self, entries: list[LogEntry]) -> list[LogEntry | None]:
        """Return entries under the ids that shoppers have now; None for those of erased shoppers."""
        people = self._database.people
        await people.refresh(self._database)
        if not entries or not people.has_changes:
            return list(entries)
        found = await people.standings(self._database, {entry.subject for entry in entries})
        today: list[LogEntry | None] = []
        for entry in entries:
            standing = found.get(entry.subject)
            if standing is None:
                today.append(entry)
            elif standing.is_over(entry.at):
                today.append(None)
            else:
                today.append(replace(entry, subject=standing.survivor or entry.subject))
        return today

    async def drain(self) -> None:
        """Wait until nothing is being written."""
        await self._writes.drain()

    async def _write(self, calls: list[list[LogEntry]]) -> Sequence[list[bool] | BaseException]:
        return await sparing(calls, lambda entries: {entry.subject for entry in entries}, self._write_together)

    async def _write_together(self, calls: Sequence[list[LogEntry]]) -> list[list[bool]]:
        """Write the entries of many calls with one statement; say of each entry whether it is new."""
        together = [entry for entries in calls for entry in entries]

        async def write(stripes: list[int], newest: int) -> frozenset[int]:
            return await store.write(self._database, together, stripes, newest)

        people = {entry.subject for entry in together}
        known = await self._database.people.entering(self._database, people, write)
        answers, start = [], 0
        for entries in calls:
            places = range(start, start + len(entries))
            answers.append([place not in known for place in places] if known else [True] * len(entries))
            start = places.stop
        return answers
