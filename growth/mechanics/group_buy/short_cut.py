"""The front: a team's page from memory, the crowd at a full or ended team turned away, plain joins straight to seats.

A page that is shared in a chat is polled by all who got it, and many of them press the button at once. This is a short
cut, never another way: whatever is not exactly of the plain form (an odd body, a token not yet seen to be good), and
the page of a team that this process has not been asked for, goes on to the ordinary routes, which answer the same.
"""

import re
from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from growth.mechanics.group_buy.board import NO_TO_ALL, GroupBuyBoard, GroupBuyNo
from growth.mechanics.group_buy.team.routes import SeatRequest
from growth.mechanics.group_buy.team.service import Seated, Teams, count_refusal
from growth.plumbing.http.short_cut import (
    NO_STORE,
    PROBLEM,
    Door,
    Headers,
    PlainRequest,
    again,
    answer,
    answer_refusal,
    answer_unavailable,
)
from growth.vocabulary.clock import rfc3339
from growth.vocabulary.ids import UUID_PATTERN
from growth.vocabulary.refusals import Refusal, Unavailable

PREFIX = "/v1/teams/"
PAGE_LENGTH = len(PREFIX) + 36
SEATS = "/seats"
SEATS_LENGTH = PAGE_LENGTH + len(SEATS)
PAGE_TEMPLATE = "/v1/teams/{team_id}"
SEATS_TEMPLATE = "/v1/teams/{team_id}/seats"
MAX_PLAIN_BODY_BYTES = 512
MAX_TIMES_REMEMBERED = 1_024

_JSON = (b"content-type", b"application/json")
_NO_CACHE = (b"cache-control", b"private, no-cache")
_REPLAYED = (b"idempotent-replayed", b"true")
_is_uuid = re.compile(UUID_PATTERN).match
_decode = msgspec.json.Decoder(SeatRequest).decode
_encode = msgspec.json.Encoder().encode
_time = lru_cache(MAX_TIMES_REMEMBERED)(rfc3339)


class SeatAnswer(Struct, frozen=True):
    """`SeatPage` with its times already written: seats of one batch share them."""

    seat_id: str
    team_id: str
    group_buy_id: str
    sku: str
    price_fen: int
    state: str
    held_until: str
    release_reason: str | None
    server_time: str


class GroupBuyFront:
    """The ASGI middleware. `app` is everything else."""

    def __init__(self, app: ASGIApp, *, board: GroupBuyBoard, teams: Teams, door: Door) -> None:
        self._app = app
        self._board = board
        self._teams = teams
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what a team's crowd asks for; hand on all else."""
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(PREFIX) and not scope["query_string"]:
            path = scope["path"]
            if len(path) == PAGE_LENGTH and scope["method"] == "GET":
                if await self._page(path[len(PREFIX) :], scope, send):
                    return None
            elif len(path) == SEATS_LENGTH and scope["method"] == "POST" and path.endswith(SEATS):
                return await self._seat(path[len(PREFIX) : PAGE_LENGTH], scope, receive, send)
        return await self._app(scope, receive, send)

    async def _page(self, team_id: str, scope: Scope, send: Send) -> bool:
        entry = self._board.teams.get(team_id)
        if entry is None:
            return False
        asked = PlainRequest(scope)
        if await self._door.known(asked.token, scope) is None:
            return False
        if not entry.is_fresh:
            try:
                entry = await self._board.team(team_id)
            except Unavailable:
                return False
            if entry is None:
                return False
        scope["path_template"] = PAGE_TEMPLATE
        headers: Headers = [_NO_CACHE, (b"etag", entry.etag)]
        if asked.etag == entry.etag:
            await answer(send, 304, headers, b"")
        else:
            await answer(send, 200, [_JSON, *headers], entry.body)
        return True

    async def _seat(self, team_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        asked = PlainRequest(scope)
        shopper = await self._door.known(asked.token, scope) if asked.is_plain else None
        if shopper is None or not _is_uuid(team_id):
            return await self._app(scope, receive, send)
        message: Any = await receive()
        wanted = None
        if message["type"] == "http.request" and not message.get("more_body"):
            wanted = _plain(message.get("body", b""))
        if wanted is None:
            return await self._app(scope, again(message, receive), send)
        scope["path_template"] = SEATS_TEMPLATE
        request_id = str(scope["state"].get("request_id", ""))
        key = asked.key.decode() if asked.keys else None
        try:
            no = await self._no(team_id, shopper.token_id, key)
            if no is not None:
                count_refusal(no.kind)
                return await answer(send, no.kind.status, [PROBLEM, NO_STORE], no.body(request_id.encode()))
            seated = await self._teams.join(team_id, shopper.user_id, wanted.nickname, key, shopper.token_id)
        except Refusal as refusal:
            if refusal.kind in NO_TO_ALL:
                await self._learn(team_id)
            return await answer_refusal(send, scope, refusal)
        except Unavailable as error:
            return await answer_unavailable(send, scope, error)
        self._board.forget_team(team_id)
        return await answer(
            send, 201, [_JSON, NO_STORE, _REPLAYED] if seated.replayed else [_JSON, NO_STORE], _shown(seated)
        )

    async def _no(self, team_id: str, token_id: str, key: str | None) -> GroupBuyNo | None:
        """Return what the crowd at a team is told, unless this may be the retry of somebody who got a seat."""
        entry = self._board.teams.get(team_id)
        if entry is not None and entry.no is not None and not entry.is_fresh:
            entry = await self._board.team(team_id)
        if entry is None or entry.no is None:
            return None
        if key is not None and (
            entry.seat_ids is None or await self._teams.seat_id_of(team_id, token_id, key) in entry.seat_ids
        ):
            return None
        return entry.no

    async def _learn(self, team_id: str) -> None:
        """Have the team on the board: who comes next is told from memory."""
        with suppress(Unavailable):
            await self._board.team(team_id)


def _plain(body: bytes) -> SeatRequest | None:
    """Return what a short body asks for; None for one that the ordinary route must look at.

    One key, one text and no escapes: nothing is left that msgspec alone would let pass.
    """
    if len(body) > MAX_PLAIN_BODY_BYTES or body.count(b'"') not in {0, 4} or b"\\" in body:
        return None
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _shown(seated: Seated) -> bytes:
    seat = seated.seat
    return _encode(
        SeatAnswer(
            seat.seat_id,
            seat.team_id,
            seat.group_buy_id,
            seat.sku,
            seat.price_fen,
            seat.state,
            _time(seat.held_until),
            seat.release_reason,
            _time(seated.at),
        )
    )
