"""Short cuts of what a sale's crowd asks for: its page from the board, and claims, most of which hear "no" from memory.

They stand before an overloaded process turns anybody away: a "no" costs less than that would. They wait for nothing but
the board's next look, which all share, and a claim, whose queue is bounded.
"""

from collections.abc import Sequence
from contextlib import suppress

from growth.mechanics.flash_sale.board import BoardSale, SaleBoard
from growth.mechanics.flash_sale.claim.draw.model import show_entry
from growth.mechanics.flash_sale.claim.gate import DecidedClaim
from growth.mechanics.flash_sale.claim.model import ClaimPage, show
from growth.mechanics.flash_sale.claim.routes import ClaimRequest
from growth.mechanics.flash_sale.claim.service import Claims
from growth.plumbing.http.callers import ADDRESS
from growth.plumbing.http.short_cut import Answer, PlainRequest, ShortCut, made_answer, page_answer, plain_body
from growth.plumbing.strict_json import json_bytes, page_writer
from growth.vocabulary.refusals import Unavailable

MAX_PLAIN_BODY_BYTES = 64
_write = page_writer(ClaimPage)


def short_cuts(board: SaleBoard, claims: Claims) -> Sequence[ShortCut]:
    """Return the page of a sale, and a claim."""

    async def page(asked: PlainRequest) -> Answer | None:
        entry = board.entries.get(asked.id)
        if entry is None or not await _is_fresh(board, entry):
            return None
        return page_answer(asked, entry.etag, entry.page_body)

    async def claim(asked: PlainRequest) -> Answer | None:
        entry = board.entries.get(asked.id)
        if entry is None:
            return None
        sale, shopper = entry.sale, asked.shopper
        no = board.verdict(entry)
        # Who has won is asked about at the gate: a retry is told of its claim, another try of the limit. So is whoever
        # comes under a former id: the board may not know yet whose the claims of that are.
        if (
            no is not None
            and shopper.former_id is None
            and (entry.winners is None or shopper.user_id.encode() not in entry.winners)
        ):
            board.count_refusal(sale.sale_id, no.kind)
            return no.told(asked)
        address = asked.scope["state"][ADDRESS] if sale.protection.claims_per_minute_per_address else ""
        decided = await claims.claim(
            sale.sale_id, shopper.user_id, asked.body.units, asked.key, address, shopper.token_id
        )
        if isinstance(decided, DecidedClaim):
            return made_answer(201, _write(show(decided.claim, decided.at)), replayed=decided.replayed)
        return made_answer(202, json_bytes(show_entry(decided, board.now())))

    return [
        ShortCut(method="GET", path="/v1/flash-sales/{sale_id}", serve=page, is_never_shed=True),
        ShortCut(
            method="POST",
            path="/v1/flash-sales/{sale_id}/claims",
            serve=claim,
            body=plain_body(ClaimRequest, 2),
            max_bytes=MAX_PLAIN_BODY_BYTES,
            is_never_shed=True,
        ),
    ]


async def _is_fresh(board: SaleBoard, entry: BoardSale) -> bool:
    """Wait for the refresh that everybody waits for, rather than send a crowd through the routes to wait there."""
    if not board.is_fresh(entry):
        with suppress(Unavailable):
            await board.fresh(entry.sale.sale_id)
    return board.is_fresh(entry)
