"""The turnstile: in front of everything, it serves what a flash sale's crowd asks for without waking the rest.

It answers a sale's page from the board, says no to a crowd that comes too early or too late with ready-made bytes, and
takes plain claims straight to the gate. It is a short cut, never another way: whatever is not exactly of the plain form
(another header, an odd body, a token not yet seen to be good) goes on to the ordinary routes, which answer the same.
"""

from contextlib import suppress
from functools import lru_cache
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from growth.mechanics.flash_sale.board import BoardSale, SaleBoard
from growth.mechanics.flash_sale.claim.gate import DecidedClaim
from growth.mechanics.flash_sale.claim.routes import ClaimRequest
from growth.mechanics.flash_sale.claim.service import Claims
from growth.mechanics.flash_sale.draw.model import DrawEntry, show_entry
from growth.plumbing.http.callers import ADDRESS
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
from growth.plumbing.strict_json import json_bytes
from growth.vocabulary.clock import rfc3339
from growth.vocabulary.refusals import Refusal, Unavailable

PREFIX = "/v1/flash-sales/"
PAGE_LENGTH = len(PREFIX) + 36
CLAIMS = "/claims"
CLAIMS_LENGTH = PAGE_LENGTH + len(CLAIMS)
PAGE_TEMPLATE = "/v1/flash-sales/{sale_id}"
CLAIMS_TEMPLATE = "/v1/flash-sales/{sale_id}/claims"
MAX_PLAIN_BODY_BYTES = 64
MAX_TIMES_REMEMBERED = 1_024

_JSON = (b"content-type", b"application/json")
_NO_CACHE = (b"cache-control", b"private, no-cache")
_REPLAYED = (b"idempotent-replayed", b"true")
_decode = msgspec.json.Decoder(ClaimRequest).decode
_encode = msgspec.json.Encoder().encode
_time = lru_cache(MAX_TIMES_REMEMBERED)(rfc3339)


class ClaimAnswer(Struct, frozen=True):
    """`ClaimPage` with its times already written: claims of one batch share them."""

    claim_id: str
    sale_id: str
    sku: str
    units: int
    price_fen: int
    state: str
    held_until: str
    release_reason: str | None
    server_time: str


class Turnstile:
    """The ASGI middleware. `app` is everything else."""

    def __init__(self, app: ASGIApp, *, board: SaleBoard, claims: Claims, door: Door) -> None:
        self._app = app
        self._board = board
        self._claims = claims
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the plain requests of a crowd; hand on all others."""
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(PREFIX) and not scope["query_string"]:
            path = scope["path"]
            if len(path) == CLAIMS_LENGTH and scope["method"] == "POST" and path.endswith(CLAIMS):
                entry = self._board.entries.get(path[len(PREFIX) : PAGE_LENGTH])
                if entry is not None:
                    scope["path_template"] = CLAIMS_TEMPLATE
                    return await self._claim(entry, scope, receive, send)
            elif len(path) == PAGE_LENGTH and scope["method"] == "GET":
                entry = self._board.entries.get(path[len(PREFIX) :])
                if entry is not None and await self._freshened(entry):
                    scope["path_template"] = PAGE_TEMPLATE
                    if await self._page(entry, scope, send):
                        return None
        return await self._app(scope, receive, send)

    async def _freshened(self, entry: BoardSale) -> bool:
        """Wait for the refresh that everybody waits for, rather than send a crowd through the routes to wait there."""
        if not self._board.is_fresh(entry):
            with suppress(Unavailable):
                await self._board.fresh(entry.sale.sale_id)
        return self._board.is_fresh(entry)

    async def _page(self, entry: BoardSale, scope: Scope, send: Send) -> bool:
        asked = PlainRequest(scope)
        if await self._door.known(asked.token, scope) is None:
            return False
        if asked.etag and (b"," in asked.etag or not asked.etag.startswith(b'W/"')):
            return False
        headers = [_JSON, _NO_CACHE, (b"etag", entry.etag)]
        if asked.etag == entry.etag:
            await answer(send, 304, headers[1:], b"")
        else:
            await answer(send, 200, headers, entry.page_body)
        return True

    async def _claim(self, entry: BoardSale, scope: Scope, receive: Receive, send: Send) -> None:
        asked = PlainRequest(scope)
        shopper = await self._door.known(asked.token, scope) if asked.is_plain else None
        if shopper is None:
            return await self._app(scope, receive, send)
        message: Any = await receive()
        body: bytes = message.get("body", b"")
        wanted = None
        if message["type"] == "http.request" and not message.get("more_body") and len(body) <= MAX_PLAIN_BODY_BYTES:
            wanted = _plain(body)
        if wanted is None:
            return await self._app(scope, again(message, receive), send)
        state = scope["state"]
        request_id = str(state.get("request_id", ""))
        sale = entry.sale
        key = asked.key.decode() if asked.keys else None
        no = self._board.verdict(entry)
        # Who has won is asked about at the gate: a retry is told of its claim, another try of the limit. So is whoever
        # comes under a former id: the board may not know yet whose the claims of that are.
        may_be_retry = shopper.former_id is not None or (
            entry.winners is not None and shopper.user_id.encode() in entry.winners
        )
        if no is not None and not may_be_retry:
            self._board.count_refusal(sale.sale_id, no.kind)
            return await answer(send, no.kind.status, [PROBLEM, NO_STORE], no.body(request_id.encode()))
        try:
            address = state[ADDRESS] if sale.protection.claims_per_minute_per_address else ""
            decided = await self._claims.claim(
                sale.sale_id, shopper.user_id, wanted.units, key, address, shopper.token_id
            )
        except Refusal as refusal:
            return await answer_refusal(send, scope, refusal)
        except Unavailable as error:
            return await answer_unavailable(send, scope, error)
        status, headers, told = self._shown(decided)
        return await answer(send, status, headers, told)

    def _shown(self, decided: DecidedClaim | DrawEntry) -> tuple[int, Headers, bytes]:
        if not isinstance(decided, DecidedClaim):
            return 202, [_JSON, NO_STORE], json_bytes(show_entry(decided, self._board.now()))
        claim = decided.claim
        shown = ClaimAnswer(
            claim.claim_id,
            claim.sale_id,
            claim.sku,
            claim.units,
            claim.price_fen,
            claim.state,
            _time(claim.held_until),
            claim.release_reason,
            _time(decided.at),
        )
        return 201, [_JSON, NO_STORE, _REPLAYED] if decided.replayed else [_JSON, NO_STORE], _encode(shown)


def _plain(body: bytes) -> ClaimRequest | None:
    """Return what a short body asks for; None for one that the ordinary route must look at."""
    if body.count(b'"') != 2:  # noqa: PLR2004 - the quotes of one key
        return None
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
