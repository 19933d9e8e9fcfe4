"""The front: plain taps, straight to Postgres.

Everybody taps once a day, most of them in the same quarter of an hour. This is a short cut, never another way: whatever
is not exactly of the plain form (a body, an odd key, a token that is not good) goes on to the ordinary routes, which
answer the same.
"""

from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from growth.mechanics.checkin.streak.service import CheckIns
from growth.plumbing.http.short_cut import (
    MAX_PLAIN_KEY_BYTES,
    NO_STORE,
    Door,
    PlainRequest,
    again,
    answer,
    answer_refusal,
    answer_unavailable,
)
from growth.vocabulary.refusals import Refusal, Unavailable

PATH = "/v1/check-ins"
_JSON = (b"content-type", b"application/json")
_REPLAYED = (b"idempotent-replayed", b"true")
_encode = msgspec.json.Encoder().encode


class CheckinFront:
    """The ASGI middleware. `app` is everything else."""

    def __init__(self, app: ASGIApp, *, check_ins: CheckIns, door: Door) -> None:
        self._app = app
        self._check_ins = check_ins
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check in who plainly taps; hand on all else."""
        if (
            scope["type"] == ScopeType.HTTP
            and scope["path"] == PATH
            and scope["method"] == "POST"
            and not scope["query_string"]
        ):
            return await self._tap(scope, receive, send)
        return await self._app(scope, receive, send)

    async def _tap(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = PlainRequest(scope)
        shopper = await self._door.known(asked.token, scope) if _is_plain(asked) else None
        if shopper is None:
            return await self._app(scope, receive, send)
        message: Any = await receive()
        is_whole = message["type"] == "http.request" and not message.get("more_body")
        if not is_whole or not _says_nothing(message.get("body", b""), asked):
            return await self._app(scope, again(message, receive), send)
        scope["path_template"] = PATH
        try:
            told = await self._check_ins.check_in(shopper.user_id, asked.key.decode() if asked.keys else None)
        except Refusal as refusal:
            return await answer_refusal(send, scope, refusal)
        except Unavailable as error:
            return await answer_unavailable(send, scope, error)
        status = 201 if told.is_new or told.replayed else 200
        return await answer(
            send, status, [_JSON, NO_STORE, _REPLAYED] if told.replayed else [_JSON, NO_STORE], _encode(told.answer)
        )


def _is_plain(asked: PlainRequest) -> bool:
    """Say whether the headers need no further look: no key, or one of letters, digits, dashes."""
    key = asked.key
    return not asked.keys or (asked.keys == 1 and len(key) <= MAX_PLAIN_KEY_BYTES and key.replace(b"-", b"a").isalnum())


def _says_nothing(body: bytes, asked: PlainRequest) -> bool:
    return not body or (body == b"{}" and asked.types == 1 and asked.content_type == b"application/json")
