"""The front: a team's page from memory, and the crowd at a full or ended team turned away, before any routing.

A page that is shared in a chat is polled by all who got it. Whatever is not of the plain form, and every team that this
process has not yet been asked for, goes on to the ordinary routes, which answer the same.
"""

from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from growth.mechanics.group_buy.board import Board, TeamEntry
from growth.mechanics.group_buy.team.routes import SeatRequest
from growth.mechanics.group_buy.team.service import REFUSED, seat_id_of
from growth.plumbing.front import Asked, Headers, again, answer
from growth.plumbing.identity import Identity
from growth.plumbing.problems import MEDIA_TYPE
from growth.plumbing.wire import decode_json
from growth.vocabulary.refusals import Refusal, Unavailable

PREFIX = "/v1/teams/"
PAGE_LENGTH = len(PREFIX) + 36
SEATS = "/seats"
SEATS_LENGTH = PAGE_LENGTH + len(SEATS)
PAGE_TEMPLATE = "/v1/teams/{team_id}"
SEATS_TEMPLATE = "/v1/teams/{team_id}/seats"
MAX_PLAIN_BODY_BYTES = 512

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", MEDIA_TYPE.encode())
_NO_STORE = (b"cache-control", b"no-store")
_NO_CACHE = (b"cache-control", b"private, no-cache")


class Front:
    """The ASGI middleware. `app` is everything else."""

    def __init__(self, app: ASGIApp, *, board: Board, identity: Identity) -> None:
        self._app = app
        self._board = board
        self._identity = identity

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

    async def _known(self, token: bytes) -> str | None:
        """Return the shopper of a good token. A bad one is refused by the ordinary routes, in their words."""
        shopper = self._identity.peek(token)
        if shopper is None:
            if not token:
                return None
            try:
                shopper = await self._identity.verify(token)
            except (Refusal, Unavailable):
                return None
        return shopper.user_id

    async def _page(self, team_id: str, scope: Scope, send: Send) -> bool:
        entry = self._board.teams.get(team_id)
        if entry is None:
            return False
        asked = Asked(scope)
        if await self._known(asked.token) is None:
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
        entry = self._board.teams.get(team_id)
        if entry is None or entry.no is None or not entry.is_fresh:
            return await self._app(scope, receive, send)
        asked = Asked(scope)
        user_id = await self._known(asked.token) if asked.is_plain else None
        if user_id is None or _may_have_a_seat(entry, team_id, user_id, asked):
            return await self._app(scope, receive, send)
        message: Any = await receive()
        if message["type"] != "http.request" or message.get("more_body") or not _is_plain(message.get("body", b"")):
            return await self._app(scope, again(message, receive), send)
        scope["path_template"] = SEATS_TEMPLATE
        REFUSED.labels(entry.no.kind.code).inc()
        body = entry.no.body(str(scope["state"].get("request_id", "")).encode())
        return await answer(send, entry.no.kind.status, [_PROBLEM, _NO_STORE], body)


def _may_have_a_seat(entry: TeamEntry, team_id: str, user_id: str, asked: Asked) -> bool:
    """Say whether this may be the retry of somebody who got a seat: who did must never hear no."""
    if not asked.keys:
        return False
    return entry.seat_ids is None or seat_id_of(team_id, user_id, asked.key.decode()) in entry.seat_ids


def _is_plain(body: bytes) -> bool:
    if len(body) > MAX_PLAIN_BODY_BYTES:
        return False
    try:
        decode_json(body, SeatRequest)
    except Refusal:
        return False
    return True
