"""Short cuts of what a team's crowd asks for: its page from memory, and seats; who comes to a full team is told so.

A page that is shared in a chat is polled by all who got it, and many of them press the button at once.
"""

import re
from collections.abc import Sequence
from contextlib import suppress

from growth.mechanics.group_buy.team.board import NO_TO_ALL, GroupBuyBoard
from growth.mechanics.group_buy.team.model import SeatPage, show_seat
from growth.mechanics.group_buy.team.routes import SeatRequest
from growth.mechanics.group_buy.team.service import Teams, count_refusal
from growth.plumbing.http.short_cut import Answer, No, PlainRequest, ShortCut, made_answer, page_answer, plain_body
from growth.plumbing.strict_json import page_writer
from growth.vocabulary.ids import UUID_PATTERN
from growth.vocabulary.refusals import Refusal, Unavailable

MAX_PLAIN_BODY_BYTES = 512
_is_uuid = re.compile(UUID_PATTERN).match
_write = page_writer(SeatPage)


def short_cuts(board: GroupBuyBoard, teams: Teams) -> Sequence[ShortCut]:
    """Return the page of a team that this process has been asked for, and a seat."""

    async def page(asked: PlainRequest) -> Answer | None:
        entry = board.teams.get(asked.id)
        if entry is not None and not entry.is_fresh:
            entry = await board.team(asked.id)
        return None if entry is None else page_answer(asked, entry.etag, entry.body)

    async def seat(asked: PlainRequest) -> Answer | None:
        team_id, shopper = asked.id, asked.shopper
        if not _is_uuid(team_id):
            return None
        no = await _no_to(asked, board, teams)
        if no is not None:
            count_refusal(no.kind)
            return no.told(asked)
        try:
            seated = await teams.join(team_id, shopper.user_id, asked.body.nickname, asked.key, shopper.token_id)
        except Refusal as refusal:
            if refusal.kind in NO_TO_ALL:
                # Have the team on the board: who comes next is told from memory.
                with suppress(Unavailable):
                    await board.team(team_id)
            raise
        board.forget_team(team_id)
        return made_answer(201, _write(show_seat(seated.seat, seated.at)), replayed=seated.replayed)

    return [
        ShortCut(method="GET", path="/v1/teams/{team_id}", serve=page),
        ShortCut(
            method="POST",
            path="/v1/teams/{team_id}/seats",
            serve=seat,
            body=plain_body(SeatRequest, 0, 4),
            max_bytes=MAX_PLAIN_BODY_BYTES,
        ),
    ]


async def _no_to(asked: PlainRequest, board: GroupBuyBoard, teams: Teams) -> No | None:
    """Return what the crowd at a team is told, unless this may be the retry of somebody who got a seat."""
    entry = board.teams.get(asked.id)
    if entry is not None and entry.no is not None and not entry.is_fresh:
        entry = await board.team(asked.id)
    if entry is None or entry.no is None:
        return None
    if asked.key is not None:
        seat_id = await teams.seat_id_of(asked.id, asked.shopper.token_id, asked.key)
        if entry.seat_ids is None or seat_id in entry.seat_ids:
            return None
    return entry.no
