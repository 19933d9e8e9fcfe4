"""Postgres decides. One bounded pool; one way to open a transaction; one way to say that it cannot be reached."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from operator import attrgetter
from typing import Any, Protocol
from weakref import WeakSet

import asyncpg
import msgspec
import structlog
from prometheus_client import Gauge

from growth.plumbing.person.memory import People
from growth.plumbing.postgres.sqlstates import ErrorMeaning, verdict
from growth.vocabulary.refusals import Unavailable

log = structlog.get_logger("postgres")

Record = asyncpg.Record

_open: "WeakSet[Database]" = WeakSet()
_connections = Gauge("growth_postgres_connections", "Connections of this process, by what they do.", ["state"])
_connections.labels("busy").set_function(
    lambda: sum(one.pool.get_size() - one.pool.get_idle_size() for one in list(_open))
)
_connections.labels("idle").set_function(lambda: sum(one.pool.get_idle_size() for one in list(_open)))
_room = Gauge("growth_postgres_max_connections", "Connections this process may have.")
_room.set_function(lambda: sum(one.pool.get_max_size() for one in list(_open)))
_waiting = Gauge("growth_postgres_waiting_calls", "Calls that wait for a connection.")

MAX_AFTER_COMMIT_SECONDS = 2.0
"""What follows a commit is a courtesy (Redis gives back, workers wake): it may not hold up the answer for longer."""

MAX_ROLLBACK_SECONDS = 1.0
"""Longer, and the connection is thrown away instead."""

MAX_IDLE_SECONDS = 15.0
"""Between two statements of a transaction. A process that froze, or a machine that lost its power, would otherwise keep
its rows locked, and the outbox waiting, for hours: Postgres ends the transaction instead."""

RECYCLE_SECONDS = 2.0
"""So often, at most, all connections are made anew because one was found sick. While a server is read-only for hours,
that is the price of noticing within as many seconds that it no longer is."""

READ_ONLY = ("default_transaction_read_only", "in_hot_standby")
"""What a session reports by itself, without being asked, if it cannot write."""
KEPT = ("TimeZone", "search_path")
"""What it reports, and what nobody may change for whoever has the session next. Before Postgres 18, not the path."""


class Crossed(Unavailable):
    """Another transaction was in the way, and this one was rolled back for its sake: the next try may do."""


class CommitUnknown(Unavailable):
    """The connection was lost while COMMIT was under way: it may have happened, it may not. Look before you undo."""


class Reader(Protocol):
    """Anything a store can read from: the pool, or an open transaction."""

    people: People

    async def fetch(self, query: str, *args: object) -> Sequence[Record]:
        """Return all rows."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Record | None:
        """Return the first row, if any."""
        ...

    async def fetchval(self, query: str, *args: object) -> Any:
        """Return the first column of the first row, if any."""
        ...


class Tx:
    """One open transaction: run SQL on it, and say what to do once it has committed."""

    def __init__(self, connection: "asyncpg.pool.PoolConnectionProxy[Record]", people: People) -> None:
        self._connection = connection
        self.people = people
        self._after: list[Callable[[], Awaitable[object]]] = []
        self.fetch = connection.fetch
        self.fetchrow = connection.fetchrow
        self.fetchval = connection.fetchval
        self.execute = connection.execute
        self.executemany = connection.executemany

    def after_commit(self, action: Callable[[], Awaitable[object]]) -> None:
        """Do `action` once the transaction has committed; if the process dies between, the reconcilers mend it."""
        self._after.append(action)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what the body wrote if it raises; the transaction goes on. Savepoints do not nest."""
        await self.execute("SAVEPOINT here")
        try:
            yield
        except Exception:
            await self.execute("ROLLBACK TO SAVEPOINT here")
            raise
        await self.execute("RELEASE SAVEPOINT here")

    async def run_after_commit(self) -> None:
        """Do what was asked for after the commit. A failure is logged, never raised: the commit stands."""
        for action in self._after:
            try:
                async with asyncio.timeout(MAX_AFTER_COMMIT_SECONDS):
                    await action()
            except Exception as error:  # noqa: BLE001 - the commit stands, whatever happens to its courtesies
                log.warning("postgres.after_commit_failed", error=repr(error))


class Database:
    """The pool. Reads go straight through it; writes go through `transaction`."""

    pool: "asyncpg.Pool[Record]"

    def __init__(self, pool: "asyncpg.Pool[Record]", *, acquire_seconds: float, writes: bool = True) -> None:
        """`writes`: that a session is read-only means that something is wrong."""
        self.pool = pool
        self.people = People()
        self._acquire_seconds = acquire_seconds
        self._writes = writes
        self._is_sick = False
        self._recycle_at = 0.0
        _open.add(self)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[Record]"]:
        _waiting.inc()
        try:
            if self._is_sick and time.monotonic() >= self._recycle_at:
                await self._recycle()
            connection = await self.pool.acquire(timeout=self._acquire_seconds)
        except Exception as error:
            if verdict(error) is ErrorMeaning.OURS:
                raise
            raise Unavailable("Postgres cannot be reached") from error
        finally:
            _waiting.dec()
        try:
            yield connection
        except Exception as error:
            if verdict(error) is ErrorMeaning.OURS or _is_our_mistake(error, connection):
                raise
            self._note(error)
            if verdict(error) is ErrorMeaning.AGAIN:
                raise Crossed("another transaction was in the way") from error
            raise Unavailable("Postgres did not answer") from error
        finally:
            await self._give_back(connection)

    def _note(self, error: BaseException) -> None:
        self._is_sick |= verdict(error) is ErrorMeaning.SICK

    async def _recycle(self) -> None:
        """Have every connection of before now made anew: what made one sick (a failover) made all of them so."""
        self._is_sick = False
        self._recycle_at = time.monotonic() + RECYCLE_SECONDS
        await self.pool.expire_connections()
        log.info("postgres.recycled", connections=self.pool.get_size())

    async def _give_back(self, connection: "asyncpg.pool.PoolConnectionProxy[Record]") -> None:
        """Return it to the pool, or close it if the next one could not use it. Asks Postgres nothing.

        A connection that breaks here takes nothing back of what was done over it.
        """
        try:
            if not _is_lost(connection):
                session: Any = connection
                reported, began = session.reported(), session.began
                is_read_only = reported != began and _is_read_only(began, reported)
                if session.is_in_transaction() or not (reported == began or is_read_only):
                    # Whatever made it so, the next transaction must not run in it.
                    session.terminate()
                self._is_sick |= is_read_only and self._writes
            await self.pool.release(connection, timeout=self._acquire_seconds)
        except Exception as error:  # noqa: BLE001 - the pool has thrown the connection away, and that is all there is to do
            self._is_sick = True
            log.info("postgres.connection_lost", error=repr(error))

    @asynccontextmanager
    async def transaction(
        self, *, people: Collection[str] = (), everyone: bool = False, alone: bool = False
    ) -> AsyncIterator[Tx]:
        """Open one READ COMMITTED transaction; commit on leaving, roll back on any error.

        `people` are the shoppers by whose ids it writes: their locks are shared until it ends, or held `alone` by a
        merge or an erasure. `everyone` is for what learns only on the way whose ids those are: nobody is merged or
        erased until it ends, and what it reads of ids is true.

        Raises `Unavailable` when Postgres cannot be reached or gives up (rolled back for certain),
        `CommitUnknown` when the connection is lost during COMMIT, and `PersonChanged` when one of `people` is
        somebody else by now.
        """
        async with self._connection() as connection:
            try:
                await self._begin(connection, people, everyone=everyone, alone=alone)
                tx = Tx(connection, self.people)
                yield tx
            except BaseException:
                await _roll_back(connection)
                raise
            if _is_lost(connection):
                raise Unavailable("the connection was lost before COMMIT")
            try:
                outcome = await connection.execute("COMMIT")
            except Exception as error:
                if verdict(error) in {ErrorMeaning.OURS, ErrorMeaning.AGAIN}:
                    raise
                self._note(error)
                raise CommitUnknown("the connection was lost at COMMIT") from error
            if outcome != "COMMIT":
                raise RuntimeError("a statement failed, its error was swallowed, and so Postgres rolled back")
        await tx.run_after_commit()
        if alone:
            # What it changed is asked for at once, here of all places.
            await self.people.refresh(self)

    async def _begin(
        self,
        connection: "asyncpg.pool.PoolConnectionProxy[Record]",
        people: Collection[str],
        *,
        everyone: bool,
        alone: bool,
    ) -> None:
        if alone:
            await self.people.begin_alone(connection, people)
        elif people or everyone:
            await self.people.begin(connection, people, everyone=everyone)
        else:
            await connection.execute("BEGIN")

    async def fetch(self, query: str, *args: object) -> Sequence[Record]:
        """Return all rows."""
        async with self._connection() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> Record | None:
        """Return the first row, if any."""
        async with self._connection() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        """Return the first column of the first row, if any."""
        async with self._connection() as connection:
            return await connection.fetchval(query, *args)

    async def close(self) -> None:
        """Let running statements end, then close every connection."""
        try:
            async with asyncio.timeout(self._acquire_seconds):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()


def _is_lost(connection: "asyncpg.pool.PoolConnectionProxy[Record]") -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool has taken it out of our hands because it is dead.
        return True


def _is_our_mistake(error: BaseException, connection: "asyncpg.pool.PoolConnectionProxy[Record]") -> bool:
    """Tell a wrong call, which fails again forever, from a dead connection: asyncpg has one class for both."""
    return isinstance(error, asyncpg.InterfaceError) and not _is_lost(connection)


async def _roll_back(connection: "asyncpg.pool.PoolConnectionProxy[Record]") -> None:
    """Roll back for certain, and mask nothing of why: without a connection, Postgres does it by itself."""
    if _is_lost(connection):
        return
    try:
        await connection.execute("ROLLBACK", timeout=MAX_ROLLBACK_SECONDS)
    except BaseException as error:
        if not _is_lost(connection):
            connection.terminate()
        if not isinstance(error, Exception):
            raise
        log.info("postgres.connection_lost", error=repr(error))


async def _keep_session(_: "asyncpg.Connection[Record]") -> None:
    """Reset nothing: locks, settings and cursors are all of a transaction here, and end with it.

    asyncpg's own reset costs each transaction one more trip to Postgres.
    """


class Session(asyncpg.Connection):
    """A connection that knows what it reported when it began."""

    __slots__ = ("began", "reported")

    began: tuple[str, ...]
    reported: Callable[[], tuple[str, ...]]
    """What it reports now."""

    def note_beginning(self) -> None:
        """Remember it. What this server does not report is not looked for."""
        settings = self.get_settings()
        names = [name for name in (*KEPT, *READ_ONLY) if hasattr(settings, name)]
        # On the way of every transaction: one call, and no name looked for twice.
        is_told = len(names) > 1
        self.reported = partial(attrgetter(*names), settings) if is_told else tuple
        # Not being read-only is what it should report, whatever it does.
        began = tuple("off" if name in READ_ONLY else getattr(settings, name) for name in names)
        self.began = began if is_told else ()


def _is_read_only(began: tuple[str, ...], reported: tuple[str, ...]) -> bool:
    """Say whether nothing else has changed."""
    return all(now == before or (before, now) == ("off", "on") for before, now in zip(began, reported, strict=True))


async def _prepare(connection: Any) -> None:
    connection.note_beginning()
    # Ids are strings everywhere above; JSON columns are read and written as Python values.
    await connection.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=str, format="text")
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + msgspec.json.encode(value),
        decoder=lambda data: msgspec.json.decode(data[1:]),
        format="binary",
    )


async def connect_postgres(
    dsn: str,
    *,
    max_connections: int,
    acquire_seconds: float,
    statement_seconds: float,
    statement_cache: int = 256,
    tls: ssl.SSLContext | None = None,
    name: str = "growth",
    connect_now: bool = True,
    writes: bool = True,
) -> Database:
    """Open the pool. `statement_cache=0` where a pooler shares connections between transactions.

    `writes=False` for a replica: its sessions are read-only, and nothing is wrong with them.

    Raises what connecting raises, unless `connect_now` is false: then the first to ask finds out.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=1 if connect_now else 0,
        max_size=max_connections,
        timeout=acquire_seconds,
        command_timeout=statement_seconds,
        statement_cache_size=statement_cache,
        # Every statement names its schema; an empty path makes that a rule that Postgres itself holds.
        server_settings={
            "application_name": name,
            "search_path": "",
            "timezone": "UTC",
            # Compiling a statement (half a second, once the planner guesses wrong) does not pay for ones like ours.
            "jit": "off",
            "idle_in_transaction_session_timeout": str(int(MAX_IDLE_SECONDS * 1000)),
        },
        connection_class=Session,
        init=_prepare,
        reset=_keep_session,
        ssl=tls,
    )
    return Database(pool, acquire_seconds=acquire_seconds, writes=writes)
