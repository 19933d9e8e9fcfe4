"""What stands in front of the routes needs this: headers in one pass, an answer in two messages, a body given back.

A front is a short cut, never another way: whatever is not exactly of the plain form goes on to the ordinary routes.
"""

from typing import Any

from litestar.types import Receive, Scope, Send

from growth.plumbing.http.identity import Identity
from growth.plumbing.http.limits import Share
from growth.plumbing.http.problems import MEDIA_TYPE, UNAVAILABLE, problem_bytes, retry_after
from growth.vocabulary.actors import Shopper
from growth.vocabulary.refusals import Refusal, Unavailable

MAX_PLAIN_KEY_BYTES = 128
COUNTED = "counted"
"""Stands in the state of a request that was taken from its shopper's share: once, whichever way it goes on."""

Headers = list[tuple[bytes, bytes]]

PROBLEM = (b"content-type", MEDIA_TYPE.encode())
NO_STORE = (b"cache-control", b"no-store")


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
    """The headers that matter to a front, read in one pass."""

    __slots__ = ("content_type", "etag", "key", "keys", "token", "tokens", "types")

    def __init__(self, scope: Scope) -> None:
        self.token = self.key = self.content_type = self.etag = b""
        self.keys = self.tokens = self.types = 0
        for name, value in scope["headers"]:
            if name == b"authorization":
                # Of two neither counts, whatever they are: the routes refuse them.
                self.token = value[7:] if not self.tokens and value[:7] == b"Bearer " else b""
                self.tokens += 1
            elif name == b"idempotency-key":
                self.key = value
                self.keys += 1
            elif name == b"content-type":
                self.content_type = value
                self.types += 1
            elif name == b"if-none-match":
                self.etag = value

    @property
    def is_plain(self) -> bool:
        """Say whether a POST with these headers needs no further look: JSON, a key of letters, digits, dashes."""
        return (
            self.content_type == b"application/json"
            and self.types == 1
            and self.keys <= 1
            and len(self.key) <= MAX_PLAIN_KEY_BYTES
            and (not self.keys or self.key.replace(b"-", b"a").isalnum())
        )


def again(message: Any, receive: Receive) -> Receive:
    """Give back the message that was read, then go on."""
    waiting = [message]

    async def receive_again() -> Any:
        return waiting.pop() if waiting else await receive()

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
