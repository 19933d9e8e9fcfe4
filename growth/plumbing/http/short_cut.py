"""Short cuts: plain requests that rooms serve without the routes, which would cost several times as much.

A short cut, never another way: whatever is not exactly of the plain form (a query, an odd header or body, a token that
is not good, a shopper who asks too often) goes on to the ordinary routes, which answer the same.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from growth.plumbing.http.identity import Identity
from growth.plumbing.http.limits import Share
from growth.plumbing.http.problems import MEDIA_TYPE, UNAVAILABLE, problem_bytes, retry_after
from growth.vocabulary.actors import Shopper
from growth.vocabulary.refusals import Kind, Refusal, Unavailable

T = TypeVar("T")

MAX_PLAIN_KEY_BYTES = 128
ID_LENGTH = 36
"""Of a UUID as text."""
COUNTED = "counted"
"""Stands in the state of a request that was taken from its shopper's share: once, whichever way it goes on."""
REQUEST_ID_MARK = "request-id-goes-here"

Headers = list[tuple[bytes, bytes]]
Answer: TypeAlias = tuple[int, Headers, bytes]
"""Status, headers but for the length, body."""

JSON = (b"content-type", b"application/json")
PROBLEM = (b"content-type", MEDIA_TYPE.encode())
NO_STORE = (b"cache-control", b"no-store")
NO_CACHE = (b"cache-control", b"private, no-cache")
REPLAYED = (b"idempotent-replayed", b"true")


class ShortCut(Struct, frozen=True, kw_only=True):
    """One plain request that a room serves without the routes."""

    method: str
    path: str
    """As the routes and the metrics have it, with a UUID in one place at most: `/v1/teams/{team_id}/seats`."""
    serve: Callable[["PlainRequest"], Awaitable[Answer | None]]
    """Answers, or raises as a handler does. None: the routes answer."""
    body: Callable[[bytes], Any] | None = None
    """Reads the body; None is told of one that the routes must look at. Without this no body is waited for."""
    max_bytes: int = 0
    """Of the body; the routes look at a larger one."""
    is_limited: bool = False
    """Whether it is taken from the shopper's share over all processes too, as the routes do: a trip to Redis."""
    is_never_shed: bool = False
    """Whether an overloaded process serves it all the same: it bounds by itself whatever it waits for."""


class ShortCuts:
    """The ASGI middleware. `app` is everything else, `limit` takes one request from a shopper's share over all."""

    def __init__(
        self, app: ASGIApp, cuts: Sequence[ShortCut], *, door: "Door", limit: Callable[[str], Awaitable[object]]
    ) -> None:
        self._app = app
        self._door = door
        self._limit = limit
        self._ways: dict[tuple[str, int], list[tuple[str, str, ShortCut]]] = {}
        for cut in cuts:
            before, _, rest = cut.path.partition("{")
            _, is_open, after = rest.partition("}")
            length = len(before) + (ID_LENGTH if is_open else 0) + len(after)
            self._ways.setdefault((cut.method, length), []).append((before, after, cut))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the plain requests; hand on all others."""
        if scope["type"] == ScopeType.HTTP:
            path = scope["path"]
            for before, after, cut in self._ways.get((scope["method"], len(path)), ()):
                if path.startswith(before) and path.endswith(after) and not scope["query_string"]:
                    asked = PlainRequest(scope, path[len(before) : len(path) - len(after)])
                    return await self._take(cut, asked, receive, send)
        return await self._app(scope, receive, send)

    async def _take(self, cut: ShortCut, asked: "PlainRequest", receive: Receive, send: Send) -> None:
        scope = asked.scope
        shopper = await self._door.known(asked.token, scope) if cut.body is None or asked.is_plain else None
        if shopper is None:
            return await self._app(scope, receive, send)
        asked.shopper = shopper
        messages: list[Any] = []
        if cut.body is not None:
            # Who is never shed is not counted while it waits, so it waits for nothing: the body comes whole.
            body = await _read(receive, messages, cut.max_bytes, in_pieces=not cut.is_never_shed)
            if body is not None and (asked.types or not body):
                asked.body = cut.body(body)
            if asked.body is None:
                return await self._app(scope, _once_more(messages, receive), send)
        scope["path_template"] = cut.path
        try:
            if cut.is_limited:
                await self._limit(shopper.user_id)
            told = await cut.serve(asked)
        except Refusal as refusal:
            return await answer_refusal(send, scope, refusal)
        except Unavailable as error:
            return await answer_unavailable(send, scope, error)
        if told is None:
            scope["path_template"] = ""
            return await self._app(scope, _once_more(messages, receive), send)
        return await answer(send, *told)


class Door:
    """Who may take the short cuts: shoppers with good tokens who do not ask too often at this process.

    All others go through the ordinary routes, which know the words for it, and the limit that all processes share.
    """

    def __init__(self, identity: Identity, share: Share) -> None:
        self._identity = identity
        self._share = share

    async def known(self, token: bytes, scope: Scope) -> Shopper | None:
        """Return the shopper of a good token, or None."""
        shopper = self._identity.peek(token)
        if shopper is None:
            if not token:
                return None
            try:
                shopper = await self._identity.verify(token)
            except (Refusal, Unavailable):
                return None
        return None if self._wait(shopper.user_id, scope) else shopper

    def count(self, user_id: str, scope: Scope) -> None:
        """Take a request that did not take a short cut from the same share. Raises `TooManyRequests` (429)."""
        wait = self._wait(user_id, scope)
        if wait:
            raise self._share.refusal(wait)

    def _wait(self, user_id: str, scope: Scope) -> float:
        state = scope["state"]
        if COUNTED in state:
            return 0.0
        wait = self._share.wait(user_id)
        if not wait:
            state[COUNTED] = True
        return wait


class PlainRequest:
    """What matters of a request: its headers in one pass, the id in its path, and what is found out by the way."""

    __slots__ = ("_key", "_keys", "body", "content_type", "etag", "id", "scope", "shopper", "token", "types")

    shopper: Shopper

    def __init__(self, scope: Scope, id_: str = "") -> None:
        self.scope = scope
        self.id = id_
        self.body: Any = None
        """As the short cut's `body` has read it."""
        self.token = self._key = self.content_type = self.etag = b""
        self._keys = self.types = tokens = 0
        for name, value in scope["headers"]:
            if name == b"authorization":
                # Of two neither counts, whatever they are: the routes refuse them.
                self.token = value[7:] if not tokens and value[:7] == b"Bearer " else b""
                tokens += 1
            elif name == b"idempotency-key":
                self._key = value
                self._keys += 1
            elif name == b"content-type":
                self.content_type = value
                self.types += 1
            elif name == b"if-none-match":
                self.etag = value

    @property
    def is_plain(self) -> bool:
        """Say whether headers need no further look: JSON or no body; no key, or one of letters, digits, dashes."""
        return (not self.types or (self.types == 1 and self.content_type == b"application/json")) and (
            not self._keys
            or (self._keys == 1 and len(self._key) <= MAX_PLAIN_KEY_BYTES and self._key.replace(b"-", b"a").isalnum())
        )

    @property
    def key(self) -> str | None:
        """The Idempotency-Key, if there is one."""
        return self._key.decode() if self._keys else None

    @property
    def request_id(self) -> str:
        """What telemetry called the request."""
        return str(self.scope["state"].get("request_id", ""))


class No:
    """A ready-made refusal that a whole crowd is told: its body around the id of a request."""

    __slots__ = ("_head", "_tail", "kind")

    def __init__(self, kind: Kind, members: dict[str, object]) -> None:
        self.kind = kind
        body = problem_bytes(kind, "", REQUEST_ID_MARK, members)
        self._head, self._tail = body.split(REQUEST_ID_MARK.encode())

    def told(self, asked: PlainRequest) -> Answer:
        """Return it as the answer to one request."""
        return self.kind.status, [PROBLEM, NO_STORE], self._head + asked.request_id.encode() + self._tail


def made_answer(status: int, body: bytes, *, replayed: bool = False) -> Answer:
    """Answer with what was made for one shopper; `replayed`: it had been made before."""
    return status, [JSON, NO_STORE, REPLAYED] if replayed else [JSON, NO_STORE], body


def page_answer(asked: PlainRequest, etag: bytes, body: bytes) -> Answer | None:
    """Answer with a page that is the same for everybody. None: the routes read what was asked about its ETag."""
    if asked.etag and (b"," in asked.etag or not asked.etag.startswith(b'W/"')):
        return None
    if asked.etag == etag:
        return 304, [NO_CACHE, (b"etag", etag)], b""
    return 200, [JSON, NO_CACHE, (b"etag", etag)], body


def plain_body(type_: type[T], *quotes: int) -> Callable[[bytes], T | None]:
    """Return what reads a plain body: one of no escapes, with as many quotes as its members may have.

    So no member stands in it twice, and nothing is left that msgspec alone would let pass.
    """
    decode = msgspec.json.Decoder(type_).decode

    def read(body: bytes) -> T | None:
        if body.count(b'"') not in quotes or b"\\" in body:
            return None
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    return read


async def _read(receive: Receive, messages: list[Any], max_bytes: int, *, in_pieces: bool) -> bytes | None:
    """Read the body, and note the messages it came in; None if it is too large, not whole or ends too early."""
    pieces: list[bytes] = []
    left = max_bytes
    while True:
        message: Any = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        left -= len(pieces[-1])
        is_last = not message.get("more_body")
        if left < 0 or not (is_last or in_pieces):
            return None
        if is_last:
            return b"".join(pieces)


def _once_more(messages: list[Any], receive: Receive) -> Receive:
    """Give back the messages that were read, then go on."""
    waiting = iter(messages)

    async def receive_again() -> Any:
        message = next(waiting, None)
        return await receive() if message is None else message

    return receive_again


async def answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send one whole answer."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def answer_refusal(send: Send, scope: Scope, refusal: Refusal) -> None:
    """Send a refusal as the routes do."""
    headers: Headers = [PROBLEM, NO_STORE]
    told: dict[str, str] = dict(getattr(refusal, "headers", {}))
    seconds = refusal.members.get("retry_after_seconds")
    if isinstance(seconds, (int, float)):
        told.setdefault("Retry-After", retry_after(seconds))
    headers += [(name.lower().encode(), value.encode()) for name, value in told.items()]
    request_id = str(scope["state"].get("request_id", ""))
    body = problem_bytes(refusal.kind, refusal.detail, request_id, refusal.members)
    await answer(send, refusal.kind.status, headers, body)


async def answer_unavailable(send: Send, scope: Scope, error: Unavailable) -> None:
    """Say that a store does not answer, and when to ask again."""
    scope["state"]["trouble"] = f"{error.what}: {error.__cause__!r}"
    headers: Headers = [PROBLEM, NO_STORE, (b"retry-after", retry_after(error.retry_after_seconds).encode())]
    detail = "Try again after Retry-After, with the same Idempotency-Key"
    request_id = str(scope["state"].get("request_id", ""))
    await answer(send, UNAVAILABLE.status, headers, problem_bytes(UNAVAILABLE, detail, request_id))
