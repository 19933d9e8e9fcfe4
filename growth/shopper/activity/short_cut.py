"""The short cut: plain batches go straight to the service. Most are small, and the routes cost more than their events.

A short cut, never another way: whatever is not exactly of the plain form (another header, a bad token, a body that
does not come whole) goes on to the ordinary routes, which answer the same.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from growth.plumbing.http.answers import MAX_BODY_BYTES
from growth.plumbing.http.short_cut import Door, PlainRequest, answer, answer_refusal, answer_unavailable
from growth.shopper.activity.service import Events
from growth.vocabulary.clock import Clock
from growth.vocabulary.refusals import Refusal, Unavailable

PATH = "/v1/events"

_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode


class EventsFront:
    """The ASGI middleware. `app` is everything else; `limit` takes one request from a shopper's share."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        events: Events,
        door: Door,
        limit: Callable[[str], Awaitable[object]],
        now: Clock,
    ) -> None:
        self._app = app
        self._events = events
        self._door = door
        self._limit = limit
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take a plain batch; hand on all else."""
        if scope["type"] != ScopeType.HTTP or scope["path"] != PATH or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        asked = PlainRequest(scope)
        shopper = await self._door.known(asked.token, scope) if asked.is_plain and not scope["query_string"] else None
        if shopper is None:
            return await self._app(scope, receive, send)
        messages, raw = await _whole(receive)
        if raw is None:
            return await self._app(scope, _once_more(messages, receive), send)
        scope["path_template"] = PATH
        try:
            await self._limit(shopper.user_id)
            taken = await self._events.take(shopper.user_id, raw, self._now())
        except Refusal as refusal:
            return await answer_refusal(send, scope, refusal)
        except Unavailable as error:
            return await answer_unavailable(send, scope, error)
        return await answer(send, 202, [_JSON], _encode(taken))


async def _whole(receive: Receive) -> tuple[list[Any], bytes | None]:
    """Read the body; return the messages it came in, and None if it is too large or ends too early."""
    messages: list[Any] = []
    pieces: list[bytes] = []
    size = 0
    while True:
        message: Any = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return messages, None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > MAX_BODY_BYTES:
            return messages, None
        if not message.get("more_body"):
            return messages, b"".join(pieces)


def _once_more(messages: list[Any], receive: Receive) -> Receive:
    """Give back the messages that were read, then go on."""
    waiting = iter(messages)

    async def receive_again() -> Any:
        message = next(waiting, None)
        return await receive() if message is None else message

    return receive_again
