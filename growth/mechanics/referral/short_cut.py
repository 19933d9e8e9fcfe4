"""The front: plain bindings go straight to the batch. Everybody who opens the app by a friend's card binds.

A short cut, never another way: whatever is not exactly of the plain form (another header, a token not yet seen to be
good, a body with escapes or a key twice) goes on to the ordinary routes, which answer the same.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from growth.mechanics.referral.relation.model import mask_id
from growth.mechanics.referral.relation.routes import InviterRequest
from growth.mechanics.referral.relation.service import Relations
from growth.plumbing.http.short_cut import Door, PlainRequest, again, answer, answer_refusal, answer_unavailable
from growth.vocabulary.clock import Clock, rfc3339
from growth.vocabulary.refusals import Refusal, Unavailable

PATH = "/v1/referral/inviter"
MAX_PLAIN_BODY_BYTES = 256
QUOTES_OF_ONE, QUOTES_OF_TWO = 4, 8
"""A code alone; a code and a nickname."""

_JSON = (b"content-type", b"application/json")
_decode = msgspec.json.Decoder(InviterRequest).decode
_encode = msgspec.json.Encoder().encode


class InviterAnswer(Struct, frozen=True):
    """`MyInviter`, with its times as they are shown."""

    inviter: str
    bound_at: str
    ends_at: str | None
    server_time: str


class ReferralFront:
    """The ASGI middleware. `app` is everything else; `limit` takes one request from a shopper's share."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        relations: Relations,
        door: Door,
        limit: Callable[[str], Awaitable[object]],
        now: Clock,
    ) -> None:
        self._app = app
        self._now = now
        self._relations = relations
        self._door = door
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bind who plainly asks for it; hand on all else."""
        if scope["type"] != ScopeType.HTTP or scope["path"] != PATH or scope["method"] != "PUT":
            return await self._app(scope, receive, send)
        asked = PlainRequest(scope)
        shopper = await self._door.known(asked.token, scope) if asked.is_plain and not scope["query_string"] else None
        if shopper is None:
            return await self._app(scope, receive, send)
        message: Any = await receive()
        wanted = None
        if message["type"] == "http.request" and not message.get("more_body"):
            wanted = _plain(message.get("body", b""))
        if wanted is None:
            return await self._app(scope, again(message, receive), send)
        return await self._bind(shopper.user_id, wanted, scope, send)

    async def _bind(self, user_id: str, wanted: InviterRequest, scope: Scope, send: Send) -> None:
        scope["path_template"] = PATH
        try:
            await self._limit(user_id)
            bound = await self._relations.bind(user_id, wanted.code, wanted.nickname, self._now())
        except Refusal as refusal:
            return await answer_refusal(send, scope, refusal)
        except Unavailable as error:
            return await answer_unavailable(send, scope, error)
        ends_at = None if bound.ends_at is None else rfc3339(bound.ends_at)
        shown = InviterAnswer(mask_id(bound.inviter_id), rfc3339(bound.bound_at), ends_at, rfc3339(bound.at))
        return await answer(send, 200, [_JSON], _encode(shown))


def _plain(body: bytes) -> InviterRequest | None:
    """Return what a short body asks for; None for one that the ordinary route must look at.

    One key or two different ones, texts and no escapes: nothing is left that msgspec alone would let pass.
    """
    quotes = body.count(b'"')
    if len(body) > MAX_PLAIN_BODY_BYTES or quotes not in {QUOTES_OF_ONE, QUOTES_OF_TWO} or b"\\" in body:
        return None
    try:
        wanted = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # Two keys and no nickname: the code was given twice.
    return wanted if quotes == QUOTES_OF_ONE or wanted.nickname is not None else None
