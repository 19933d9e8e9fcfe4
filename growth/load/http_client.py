"""HTTP/1.1 as cheap as Python can: kept-alive connections, request bytes made elsewhere, an answer's head read by eye.

No pipelining: one request at a time on a connection, as a proxy in front of the service would do it.
"""

import asyncio
import itertools
import os
import ssl
import sys
from collections import deque
from typing import Protocol, cast
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 10.0
"""After this, a request counts as an error of that latency, and its connection is thrown away."""
MAX_ANSWER_BYTES = 4 << 20
RECONNECT_SECONDS = (0.005, 0.1, 0.5, 1.0)
"""Waits before attempts to connect again; the last one repeats."""

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"
CHUNKED = b"transfer-encoding: chunked"
LAST_CHUNK = b"0\r\n\r\n"
CLOSE = b"connection: close"
NO_BODY = frozenset((204, 304))


class Job:
    """One request: when it is due, what is asked, and what the crowd needs to understand the answer."""

    __slots__ = ("claim_id", "due", "key", "kind", "payload", "sent", "shopper")

    def __init__(
        self, due: float, kind: int, payload: bytes, shopper: int = -1, key: bytes = b"", claim_id: str = ""
    ) -> None:
        self.due = due
        self.kind = kind
        self.payload = payload
        self.shopper = shopper
        self.key = key
        self.claim_id = claim_id
        """The claim that this request is about, if it is known before."""
        self.sent = 0.0


class AnswerListener(Protocol):
    """Who is told of answers."""

    def answered(self, connection: "LoadConnection | None", job: Job, status: int, answer: bytes) -> None:
        """Take an answer; `answer` is the head and the body. The connection, unless it was the last one, is free."""

    def failed(self, job: Job, reason: str) -> None:
        """Take note that a request has no answer and never will."""

    def connected(self, connection: "LoadConnection") -> None:
        """Take note of a connection that is ready for its first request."""


class ServiceEndpoint:
    """Where a service listens, from its URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.tls = parts.scheme == "https"
        self.host = parts.hostname or "127.0.0.1"
        self.port = parts.port or (443 if self.tls else 80)
        self.authority = parts.netloc.encode()
        self.prefix = parts.path.rstrip("/").encode()


class LoadConnection(asyncio.Protocol):
    """One kept-alive connection with at most one request under way."""

    __slots__ = ("_pending", "_pool", "_transport", "job")

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._transport: asyncio.WriteTransport | None = None
        self._pending = b""
        self.job: Job | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Become usable."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._pool.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Charge the request that was under way, and have the pool open another connection."""
        job, self.job = self.job, None
        self._pool.lost(self, job, "connection lost" if exc is None else f"connection lost: {type(exc).__name__}")

    def send(self, job: Job, now: float) -> None:
        """Send a request; the connection must be free."""
        assert self._transport is not None
        job.sent = now
        self.job = job
        self._transport.write(job.payload)

    def abort(self) -> None:
        """Throw the connection away."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read an answer, which usually comes in one piece, sometimes in two."""
        if self._pending:
            data = self._pending + data
        total = answer_bytes(data)
        if total == 0 and len(data) <= MAX_ANSWER_BYTES:
            self._pending = data
            return
        job = self.job
        if job is None or total != len(data):
            # An answer nobody asked for, one too long, or one that this reader cannot delimit.
            self.abort()
            return
        self._pending = b""
        self.job = None
        if CLOSE in data[: data.find(HEAD_END)].lower():
            self._pool.answered_last(self, job, int(data[9:12]), data)
            return
        self._pool.listener.answered(self, job, int(data[9:12]), data)


def answer_bytes(data: bytes) -> int:
    """Return how long the first answer in `data` is; 0 if it is not all there yet, -1 if its end cannot be told."""
    end = data.find(HEAD_END)
    if end < 0:
        return 0
    total = end + len(HEAD_END)
    if not data.startswith(b"HTTP/1."):
        return -1
    if int(data[9:12]) in NO_BODY:
        return total
    head = data[:end].lower()
    at = head.find(LENGTH)
    if at >= 0:
        stop = head.find(b"\r", at)
        total += int(head[at + len(LENGTH) : stop if stop >= 0 else end])
        return total if len(data) >= total else 0
    if CHUNKED in head:
        return len(data) if data.endswith(LAST_CHUNK) else 0
    return -1


class Pool:
    """A fixed number of connections to one endpoint, opened again when they are lost."""

    def __init__(self, endpoint: ServiceEndpoint, count: int, listener: AnswerListener) -> None:
        self.listener = listener
        self.free: deque[LoadConnection] = deque()
        """Taken from the left, given back at the right: all of them stay warm."""
        self._endpoint = endpoint
        self._count = count
        self._open: set[LoadConnection] = set()
        self._reopening: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count()
        self._closing = False
        self._all_lost = asyncio.Event()

    async def open(self) -> None:
        """Open all connections; raises OSError if the endpoint does not answer."""
        for _ in range(self._count):
            self.free.append(await self._connect())

    async def _connect(self) -> LoadConnection:
        endpoint = self._endpoint
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: LoadConnection(self),
            endpoint.host,
            endpoint.port,
            ssl=ssl.create_default_context() if endpoint.tls else None,
            local_addr=self._next_address(),
        )
        if connection not in self._open:
            raise ConnectionResetError("closed as soon as it was open")
        return connection

    def _next_address(self) -> tuple[str, int] | None:
        """Return where the next connection comes from: a crowd has many addresses, and this machine 127.0.0.0/8."""
        if self._endpoint.host != "127.0.0.1" or sys.platform != "linux":
            return None
        number = next(self._numbers)
        return f"127.{1 + os.getpid() % 254}.{1 + number // 254 % 254}.{1 + number % 254}", 0

    def made(self, connection: LoadConnection) -> None:
        """Count a connection as open."""
        self._open.add(connection)

    async def close(self) -> None:
        """Throw all connections away."""
        self._closing = True
        for task in self._reopening:
            task.cancel()
        for connection in self._open.copy():
            connection.abort()
        self._all_lost.clear()
        if self._open:
            await self._all_lost.wait()

    def sweep(self, now: float) -> None:
        """Give up on requests that have waited for `TIMEOUT_SECONDS`."""
        for connection in self._open.copy():
            job = connection.job
            if job is not None and now - job.sent > TIMEOUT_SECONDS:
                connection.job = None
                self.listener.failed(job, f"no answer in {TIMEOUT_SECONDS:.0f} s")
                connection.abort()

    def answered_last(self, connection: LoadConnection, job: Job, status: int, answer: bytes) -> None:
        """Pass on an answer after which the service closes the connection."""
        connection.abort()
        self._open.discard(connection)
        self._replace()
        self.listener.answered(None, job, status, answer)

    def lost(self, connection: LoadConnection, job: Job | None, reason: str) -> None:
        """Take a dead connection out and replace it."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        if not self._open:
            self._all_lost.set()
        if connection in self.free:
            self.free.remove(connection)
        if not self._closing:
            self._replace()
        if job is not None:
            self.listener.failed(job, reason)

    def _replace(self) -> None:
        task = asyncio.create_task(self._reconnect(), name="load:reconnect")
        self._reopening.add(task)
        task.add_done_callback(self._reopening.discard)

    async def _reconnect(self) -> None:
        attempt = 0
        while not self._closing:
            await asyncio.sleep(RECONNECT_SECONDS[min(attempt, len(RECONNECT_SECONDS) - 1)])
            try:
                self.listener.connected(await self._connect())
            except OSError:
                attempt += 1
            else:
                return
