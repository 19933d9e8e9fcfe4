"""A short cut of plain bindings: everybody who opens the app by a friend's card binds."""

from collections.abc import Sequence

from growth.mechanics.referral.relation.model import MyInviter
from growth.mechanics.referral.relation.service import Relations
from growth.mechanics.referral.routes import InviterRequest, show_inviter
from growth.plumbing.http.short_cut import JSON, Answer, PlainRequest, ShortCut, plain_body
from growth.plumbing.strict_json import page_writer
from growth.vocabulary.clock import Clock

MAX_PLAIN_BODY_BYTES = 256
QUOTES_OF_ONE, QUOTES_OF_TWO = 4, 8
"""A code alone; a code and a nickname."""

_read = plain_body(InviterRequest, QUOTES_OF_ONE, QUOTES_OF_TWO)
_write = page_writer(MyInviter)


def short_cuts(relations: Relations, now: Clock) -> Sequence[ShortCut]:
    """Return the binding."""

    async def bind(asked: PlainRequest) -> Answer:
        bound = await relations.bind(asked.shopper.user_id, asked.body.code, asked.body.nickname, now())
        return 200, [JSON], _write(show_inviter(bound))

    return [
        ShortCut(
            method="PUT",
            path="/v1/referral/inviter",
            serve=bind,
            body=_plain,
            max_bytes=MAX_PLAIN_BODY_BYTES,
            is_limited=True,
        )
    ]


def _plain(body: bytes) -> InviterRequest | None:
    wanted = _read(body)
    # Two keys and no nickname: the code was given twice.
    is_twice = wanted is not None and wanted.nickname is None and body.count(b'"') == QUOTES_OF_TWO
    return None if is_twice else wanted
