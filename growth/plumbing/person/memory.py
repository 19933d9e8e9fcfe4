"""What this process remembers of ids that changed hands, and how it shares or holds the lock of a shopper."""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

import asyncpg
import structlog
from msgspec import Struct
from prometheus_client import Gauge

from growth.vocabulary.refusals import Kind, Unavailable

log = structlog.get_logger("person")

Request = TypeVar("Request")
Answer = TypeVar("Answer")

STRIPES = 4096
"""Locks there are, over all shoppers. Two who share one only wait for each other's merges."""
EVERYONE = STRIPES
"""The lock of whoever learns only on the way by whose ids it writes; after those of single shoppers."""
HASH_BYTES = 16
KEY_BYTES = 8
"""Of a hash, what this process remembers of it."""
MAX_REMEMBERED = 262_144
"""Of the ids that changed hands, the newest: about 20 MB. Tokens of older ones have ended long ago."""
POLL_SECONDS = 0.5
MAX_CHANGES_AT_ONCE = 10_000
ALONE_MILLISECONDS = 250
"""For a merge or an erasure to get its locks: so long it may keep others waiting at once."""
MAX_ALONE_TRIES = 12
MAX_TRIES = 5
"""To begin, while merges of others in the same stripe commit meanwhile."""
ERASED = Kind("shopper.erased", "This shopper was erased; the id may come back as a new person", 404)
CHANGED = "GR001"
"""The SQLSTATE of `plumbing.enter`."""

_remembered = Gauge("growth_person_changed_ids", "Ids that changed hands, as far as this process remembers them.")


class PersonChanged(Unavailable):
    """An id has just changed hands, or is about to: whoever asks again is told of its survivor."""

    def __init__(self, user_ids: Collection[str]) -> None:
        super().__init__("a shopper is being merged or erased")
        self.user_ids = frozenset(user_ids)


async def sparing(
    requests: Sequence[Request],
    ids_of: Callable[[Request], Collection[str]],
    run: Callable[[Sequence[Request]], Awaitable[Sequence[Answer | BaseException]]],
) -> list[Answer | BaseException]:
    """Run a batch of acts. Those of ids that changed hands are told so; their neighbours are none the worse for it.

    `run` raises `PersonChanged` before it has written anything.
    """
    changed: frozenset[str] = frozenset()
    while True:
        left = [one for one in requests if changed.isdisjoint(ids_of(one))]
        try:
            answers = iter(await run(left) if left else ())
        except PersonChanged as error:
            if not changed < changed | error.user_ids:
                raise
            changed |= error.user_ids
            continue
        return [
            next(answers) if changed.isdisjoint(ids_of(one)) else PersonChanged(changed & {*ids_of(one)})
            for one in requests
        ]


class ChangedId(Struct, frozen=True):
    """What became of an id that changed hands."""

    survivor: str | None = None
    """Who it is now."""
    erased_at: datetime | None = None
    """When it was erased; what happened before is nobody's."""
    back_at: datetime | None = None
    """When it was told of again, as a new person."""

    @property
    def is_closed(self) -> bool:
        """Say whether nothing may be written by the id: it is another's, or nobody's."""
        return self.survivor is not None or self.back_at is None

    @property
    def is_nobodys(self) -> bool:
        """Say whether it was erased, and neither became another's nor came back."""
        return self.survivor is None and self.back_at is None

    def is_over(self, at: datetime) -> bool:
        """Say whether what happened at `at` was of a life that was erased since."""
        return self.erased_at is not None and (at <= self.erased_at or self.is_nobodys)


class Reads(Protocol):
    """Anything that reads."""

    async def fetch(self, query: str, *args: object) -> Sequence[Any]:
        """Return all rows."""
        ...


class BareConnection(Reads, Protocol):
    """A connection outside of a transaction."""

    async def execute(self, query: str) -> str:
        """Run statements without arguments."""
        ...


class People:
    """One for a pool of connections. It learns its secret with the first question."""

    def __init__(self) -> None:
        self._secret: Any = None
        self._known = -1
        """The newest change this process knows; changes are numbered in the order of their commits."""
        self._closed: dict[int, int] = {}
        """Ids by which nothing may be written, and the number of the change, the oldest first."""
        self._back: dict[int, int] = {}
        """Ids that were erased and told of again, likewise."""
        self._remembers = False
        """Whether anybody was ever erased, as far as this process can tell."""
        self._listeners: list[Callable[[Collection[int]], None]] = []

    def on_change(self, listener: Callable[[Collection[int]], None]) -> None:
        """Have `listener` called with the keys of ids that changed hands."""
        self._listeners.append(listener)

    def hash_of(self, user_id: str) -> bytes:
        """Return the hash of an id, `HASH_BYTES` long. Only once something was read (`refresh`)."""
        digest = self._secret.copy()
        digest.update(user_id.encode())
        found: bytes = digest.digest()[:HASH_BYTES]
        return found

    def thing_of(self, what: str) -> bytes:
        """Return what something that is given once is remembered by."""
        return self.hash_of(what)[:KEY_BYTES]

    def key_of(self, user_id: str) -> int:
        """Return what the memory knows an id by."""
        return _key(self.hash_of(user_id))

    def is_closed(self, user_id: str) -> bool:
        """Say whether the id is another's or nobody's, as far as this process knows. It never waits."""
        return bool(self._closed) and self.key_of(user_id) in self._closed

    async def ever_changed(self, reads: Reads, user_id: str) -> bool:
        """Say whether the id ever changed hands, as far as this process knows."""
        if self._secret is None:
            await self.refresh(reads)
        return bool(self._closed or self._back) and ((key := self.key_of(user_id)) in self._closed or key in self._back)

    async def closed(self, reads: Reads, user_id: str) -> ChangedId | None:
        """Return what became of an id by which nothing may be written; None for one that is as it was."""
        if self._secret is None:
            await self.refresh(reads)
        if not self.is_closed(user_id):
            return None
        standing = (await self.standings(reads, [user_id])).get(user_id)
        return standing if standing is not None and standing.is_closed else None

    @property
    def has_changes(self) -> bool:
        """Say whether any id ever changed hands, as of the last `refresh`."""
        return self._known > 0

    async def standings(self, reads: Reads, user_ids: Collection[str]) -> dict[str, ChangedId]:
        """Return what became of those of `user_ids` that ever changed hands, exactly."""
        if self._secret is None:
            await self.refresh(reads)
        by_hash = {self.hash_of(user_id): user_id for user_id in user_ids}
        rows = await reads.fetch(
            """
            SELECT id_hash, survivor, erased_at, back_at
            FROM plumbing.former_ids
            WHERE id_hash = ANY ($1::bytea[])
            """,
            list(by_hash),
        )
        return {by_hash[row["id_hash"]]: ChangedId(row["survivor"], row["erased_at"], row["back_at"]) for row in rows}

    async def today(self, reads: Reads, user_id: str) -> str:
        """Return who the id is: its survivor, or itself. It asks Postgres for those only that ever changed hands."""
        standing = await self.closed(reads, user_id)
        return user_id if standing is None or standing.survivor is None else standing.survivor

    async def living(self, reads: Reads, user_id: str) -> str | None:
        """Return whom something may be written for; None for an id that is nobody's."""
        standing = await self.closed(reads, user_id)
        return user_id if standing is None else standing.survivor

    async def all_today(self, reads: Reads, user_ids: Collection[str]) -> list[str]:
        """Return who the ids are, each once and without those that are nobody's, exactly."""
        found = await self.standings(reads, user_ids)
        now = [
            user_id if (one := found.get(user_id)) is None or not one.is_closed else one.survivor
            for user_id in user_ids
        ]
        return list(dict.fromkeys(user_id for user_id in now if user_id is not None))

    async def life(self, reads: Reads, user_id: str) -> str:
        """Return a name for the life that an id leads now: after an erasure another, for what derives from it."""
        found = await self.standings(reads, [user_id]) if await self.ever_changed(reads, user_id) else {}
        erased_at = found[user_id].erased_at if found else None
        # No id has a line break.
        return user_id if erased_at is None else f"{user_id}\n{erased_at}"

    async def had(self, reads: Reads, user_ids: Collection[str], what: str) -> frozenset[str]:
        """Return those of `user_ids` who had `what` before they were erased, as far as that is remembered.

        It is asked where something is given once. It costs nothing while nobody was ever erased.
        """
        return frozenset(user_id for user_id, _ in await self.units_had(reads, [(one, what) for one in user_ids]))

    async def units_had(self, reads: Reads, asked: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], int]:
        """As `had`, of pairs of who and what: return how often. What a former id had, its survivor had."""
        if self._secret is None:
            await self.refresh(reads)
        if not asked or not self._remembers:
            return {}
        pairs = list(dict.fromkeys(asked))
        things = {self.thing_of(what): what for _, what in pairs}
        # By limits that are never reached: no plan may scan a table, whatever Postgres believes of its size.
        rows = await reads.fetch(
            """
            SELECT asked.user_id, asked.what, max(given.units) AS units
            FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS asked (user_id, id_hash, what)
            CROSS JOIN LATERAL (
                SELECT asked.id_hash
                UNION ALL
                (SELECT id_hash FROM plumbing.former_ids WHERE survivor = asked.user_id LIMIT 10000)
            ) AS person
            CROSS JOIN LATERAL (
                SELECT units FROM plumbing.given_once WHERE id_hash = person.id_hash AND what = asked.what LIMIT 1
            ) AS given
            GROUP BY asked.user_id, asked.what
            """,
            [user_id for user_id, _ in pairs],
            [self.hash_of(user_id) for user_id, _ in pairs],
            [self.thing_of(what) for _, what in pairs],
        )
        return {(row["user_id"], things[row["what"]]): row["units"] for row in rows}

    def stripes(self, user_ids: Collection[str]) -> list[int]:
        """Return the locks of shoppers, in the one order in which locks are taken."""
        return sorted({stripe_of(self.hash_of(user_id)) for user_id in user_ids})

    async def begin(self, connection: BareConnection, user_ids: Collection[str], *, everyone: bool = False) -> None:
        """Begin a transaction that shares the locks of `user_ids`, in one trip. Raises `PersonChanged`.

        With `everyone`, nobody at all is merged or erased until it ends.
        """
        also = [EVERYONE] * everyone

        async def enter(stripes: list[int], known: int) -> None:
            told = ",".join(map(str, stripes + also))
            await connection.execute(f"BEGIN; SELECT plumbing.enter('{{{told}}}', {known})")

        async def back_out() -> None:
            await connection.execute("ROLLBACK")

        await self.entering(connection, user_ids, enter, back_out)

    async def entering(
        self,
        reads: Reads,
        user_ids: Collection[str],
        act: Callable[[list[int], int], Awaitable[Answer]],
        back_out: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """Do what shares the locks of `user_ids`: `act` hands its arguments to `plumbing.enter`.

        A single statement that calls it needs no BEGIN. Raises `PersonChanged`, with nothing done.
        """
        if self._secret is None:
            await self.refresh(reads)
        for _ in range(MAX_TRIES):
            if any(map(self.is_closed, user_ids)):
                # It may have come back meanwhile.
                await self.refresh(reads)
                self._refuse_closed(user_ids)
            try:
                return await act(self.stripes(user_ids), self._known)
            except asyncpg.PostgresError as error:
                if error.sqlstate != CHANGED:
                    raise
            if back_out is not None:
                await back_out()
            await self.refresh(reads)
        raise PersonChanged(user_ids)

    async def begin_alone(self, connection: BareConnection, user_ids: Collection[str]) -> None:
        """Begin a transaction that nobody shares who writes by `user_ids`: to merge or to erase them."""
        if self._secret is None:
            await self.refresh(connection)
        stripes = ",".join(map(str, [*self.stripes(user_ids), EVERYONE]))
        for _ in range(MAX_ALONE_TRIES):
            try:
                await connection.execute(
                    f"BEGIN; SET LOCAL lock_timeout = {ALONE_MILLISECONDS}; "
                    f"SELECT plumbing.enter_alone('{{{stripes}}}'); SET LOCAL lock_timeout = 0"
                )
            except asyncpg.LockNotAvailableError:
                # Who waits alone makes all others wait behind: it steps back, and they go first.
                await connection.execute("ROLLBACK")
                await asyncio.sleep(ALONE_MILLISECONDS / 1000 * random.random())
            else:
                return
        raise PersonChanged(user_ids)

    def _refuse_closed(self, user_ids: Collection[str]) -> None:
        closed = [user_id for user_id in user_ids if self.is_closed(user_id)]
        if closed:
            raise PersonChanged(closed)

    async def refresh(self, reads: Reads) -> None:
        """Learn what changed since the last look."""
        while await self._learn(reads) == MAX_CHANGES_AT_ONCE:
            pass

    async def _learn(self, reads: Reads) -> int:
        rows = await reads.fetch(
            """
            SELECT known.secret, newest.seq AS newest, change.seq, change.id_hash, change.is_closed, change.is_erased
            FROM plumbing.person_secret AS known
            CROSS JOIN (SELECT coalesce(max(seq), 0) AS seq FROM plumbing.former_ids) AS newest
            LEFT JOIN LATERAL (
                SELECT former.seq, former.id_hash, former.survivor IS NOT NULL OR former.back_at IS NULL AS is_closed,
                    former.erased_at IS NOT NULL AS is_erased
                FROM plumbing.former_ids AS former
                WHERE former.seq > greatest($1, newest.seq - $2)
                ORDER BY former.seq
                LIMIT $3
            ) AS change ON TRUE
            """,
            self._known,
            MAX_REMEMBERED,
            MAX_CHANGES_AT_ONCE,
        )
        if self._secret is None:
            self._secret = hashlib.sha256(rows[0]["secret"])
        if rows[0]["newest"] < self._known:
            # The database is an older copy by now: what was known is not true of it.
            log.warning("person.restored", known=self._known, newest=rows[0]["newest"])
            self._known = -1
            self._closed.clear()
            self._back.clear()
            self._remembers = False
            return MAX_CHANGES_AT_ONCE
        changes = [row for row in rows if row["seq"] is not None]
        changed = set()
        for row in changes:
            key = _key(row["id_hash"])
            changed.add(key)
            self._closed.pop(key, None)
            self._back.pop(key, None)
            (self._closed if row["is_closed"] else self._back)[key] = row["seq"]
        for remembered in (self._closed, self._back):
            while len(remembered) > MAX_REMEMBERED:
                del remembered[next(iter(remembered))]
        self._remembers |= rows[0]["newest"] > MAX_REMEMBERED or any(row["is_erased"] for row in changes)
        # Others may have learnt more meanwhile.
        self._known = max(self._known, changes[-1]["seq"] if changes else rows[0]["newest"])
        _remembered.set(len(self._closed))
        if changed:
            for listener in self._listeners:
                listener(changed)
        return len(changes)

    async def run(self, reads: Reads, stop: asyncio.Event) -> None:
        """Look every `POLL_SECONDS`, until told to stop. While Postgres is away nothing changes hands."""
        while not stop.is_set():
            try:
                await self.refresh(reads)
            except Unavailable as error:
                log.info("person.not_refreshed", why=error.what)
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await stop.wait()
            except TimeoutError:
                pass


def stripe_of(id_hash: bytes) -> int:
    """Return the lock of the shopper with this hash."""
    return int.from_bytes(id_hash[:2], "big") % STRIPES


def _key(id_hash: bytes) -> int:
    return int.from_bytes(id_hash[:KEY_BYTES], "big")
