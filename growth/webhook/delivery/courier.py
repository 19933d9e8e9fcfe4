"""One request to one receiver, and what came of it. Nothing of the receiver is trusted.

Names are looked up in threads of our own, one at a time for each name, so that a name server that hangs holds up its
own endpoint alone. Every socket is checked before it connects, whatever the name said when the endpoint was made. No
redirect is followed, no proxy is asked, no cookie kept; of an answer, the status counts, and little else is read.
"""

import asyncio
import socket
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from growth.vocabulary.clock import Clock
from growth.vocabulary.refusals import Refusal
from growth.webhook.addresses import AllowedUrl, may_call_text, read_target
from growth.webhook.model import MAX_ENDPOINTS, MAX_OK, MIN_OK, Attempt, ErrorClass, ReceiverAnswer

log = structlog.get_logger("webhook")

CONNECT_SECONDS = 5.0
"""For the name, the connection and TLS together."""
TOTAL_SECONDS = 15.0
"""Until the status is there."""
BODY_SECONDS = 1.0
"""For the rest of an answer, which only decides whether the connection is used again."""
MAX_BODY_BYTES = 65_536
MAX_ANSWER_BYTES = 131_072
"""All that is taken in for one request: interim answers, head and body. Reading costs the loop that all share."""
MAX_RETRY_AFTER_CHARACTERS = 64
"""No date is longer."""
KEEP_ALIVE_SECONDS = 4.0
"""Shorter than servers keep theirs, 5 s and more: one that closes while we send costs an attempt."""
LOOK_UP_SECONDS = 5.0


class TargetRefused(OSError):
    """A socket was about to connect to an address that may not be called."""


class NameLookup(AbstractResolver):
    """Looks names up, each in one thread at a time, however many ask."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_ENDPOINTS, thread_name_prefix="webhook-names")
        self._asked: dict[tuple[str, int], asyncio.Future[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host`. Raises OSError."""
        key = host, port
        if key not in self._asked:
            loop = asyncio.get_running_loop()
            asked = asyncio.ensure_future(loop.run_in_executor(self._threads, _look_up, host, port, family))
            asked.add_done_callback(lambda done: self._forget(key, done))
            self._asked[key] = asked
        # Whoever gives up waiting leaves the look-up to the others, and to the thread that cannot be stopped.
        return await asyncio.shield(self._asked[key])

    def _forget(self, key: tuple[str, int], done: asyncio.Future[list[ResolveResult]]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def close(self) -> None:
        """Leave the threads to end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return [
        ResolveResult(
            hostname=host, host=str(where[0]), port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
        )
        for kind, _, proto, _, where in found
    ]


def checked_socket(address: tuple[Any, ...]) -> socket.socket:
    """Return a socket for what `getaddrinfo` says, unless it leads inside. Raises `TargetRefused`.

    The last word: whatever a name led to before, this is what is about to be connected to.
    """
    family, kind, proto, _, sockaddr = address
    if not may_call_text(str(sockaddr[0])):
        raise TargetRefused("not the public internet's")
    return socket.socket(family, kind, proto)


class BoundedAnswer(ResponseHandler):
    """Takes in so much for each request; then the connection is cut."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._left_bytes = MAX_ANSWER_BYTES

    def set_response_params(self, **params: Any) -> None:
        """Begin anew: aiohttp calls this before each request."""
        self._left_bytes = MAX_ANSWER_BYTES
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Pass on what has come, or cut the connection."""
        self._left_bytes -= len(data)
        if self._left_bytes >= 0:
            super().data_received(data)
        elif self.transport is not None:
            self.transport.abort()


class BoundedConnector(aiohttp.TCPConnector):
    """Opens connections whose answers are bounded."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # The one place where aiohttp lets its protocol be chosen; a test floods us to see that it still is.
        self._factory = partial(BoundedAnswer, asyncio.get_running_loop())  # type: ignore[assignment]


class Courier:
    """Makes requests. One a process; opens its connections when first used."""

    def __init__(self, exempt_hosts: Collection[str], clock: Clock, names: AbstractResolver | None = None) -> None:
        self.exempt_hosts = frozenset(exempt_hosts)
        self._clock = clock
        self.names: AbstractResolver = names or NameLookup()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def addresses_of(self, target: AllowedUrl) -> list[str]:
        """Return where a target's name leads now; nothing if nobody knows. Raises TimeoutError."""
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                found = await self.names.resolve(target.host, target.port, socket.AF_UNSPEC)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            return []
        return [one["host"] for one in found]

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> ReceiverAnswer:
        """Post `body` once; never raises for anything that a receiver does, and ends within the bounds above."""
        at, started = self._clock(), time.monotonic()
        status: int | None = None
        error: ErrorClass | None = None
        retry_after: float | None = None
        try:
            # Also of what was checked when it was made: rules and settings may have grown stricter since.
            target = read_target(url, self.exempt_hosts)
            async with asyncio.timeout(TOTAL_SECONDS):
                answer = await self._session(target).post(
                    URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
                )
            status = answer.status
            error = None if MIN_OK <= status <= MAX_OK else "status"
            if error is not None:
                retry_after = _retry_after(answer.headers.get("Retry-After"), at)
            await _end(answer)
        except Exception as trouble:
            error = _class_of(trouble)
            if error == "internal":
                log.exception("webhook.send_failed")
        milliseconds = round((time.monotonic() - started) * 1000)
        return ReceiverAnswer(Attempt(at=at, milliseconds=milliseconds, status=status, error=error), retry_after)

    def _session(self, target: AllowedUrl) -> aiohttp.ClientSession:
        """Return the session for hosts that are checked, or the one for those that the deployment vouches for."""
        known = self._sessions.get(target.is_exempt)
        if known is None:
            known = self._sessions[target.is_exempt] = aiohttp.ClientSession(
                connector=BoundedConnector(
                    # Senders bound how many there are, for each endpoint by itself.
                    limit=0,
                    resolver=self.names,
                    use_dns_cache=False,
                    keepalive_timeout=KEEP_ALIVE_SECONDS,
                    socket_factory=None if target.is_exempt else checked_socket,
                ),
                connector_owner=True,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS),
                auto_decompress=False,
                trust_env=False,
                raise_for_status=False,
                skip_auto_headers=("Accept-Encoding",),
            )
        return known

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()
        await self.names.close()


async def _end(answer: aiohttp.ClientResponse) -> None:
    """Read the little that makes the connection usable again; close it on whoever says more, or says it slowly."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            left = MAX_BODY_BYTES
            while left > 0:
                piece = await answer.content.read(left)
                if not piece:
                    answer.release()
                    return
                left -= len(piece)
    except Exception:  # noqa: BLE001, S110 - the verdict stands, whatever comes after it
        pass
    finally:
        answer.close()


def _retry_after(text: str | None, at: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3), if it can be read."""
    if text is None or len(text) > MAX_RETRY_AFTER_CHARACTERS:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
        return (until.replace(tzinfo=until.tzinfo or UTC) - at).total_seconds()
    except (ArithmeticError, LookupError, TypeError, ValueError):
        # A date that no calendar has is an OverflowError, and other nonsense other errors.
        return None


def _class_of(trouble: Exception) -> ErrorClass:  # noqa: PLR0911 - a table in code: the first that fits
    if isinstance(trouble, Refusal) or isinstance(getattr(trouble, "os_error", None), TargetRefused):
        return "target_refused"
    if isinstance(trouble, TimeoutError):
        return "timeout"
    if isinstance(trouble, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(trouble, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(trouble, aiohttp.ClientConnectorError):
        return "refused"
    if isinstance(trouble, aiohttp.ClientConnectionError | ConnectionError):
        return "closed"
    if isinstance(trouble, aiohttp.ClientError | ValueError):
        return "protocol"
    return "refused" if isinstance(trouble, OSError) else "internal"
