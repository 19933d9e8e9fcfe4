"""A short cut of plain taps: everybody taps once a day, most of them in the same quarter of an hour."""

from collections.abc import Sequence

import msgspec

from growth.mechanics.checkin.streak.routes import MAX_TAP_BYTES
from growth.mechanics.checkin.streak.service import CheckIns
from growth.plumbing.http.short_cut import Answer, PlainRequest, ShortCut, made_answer

_encode = msgspec.json.Encoder().encode


def short_cuts(check_ins: CheckIns) -> Sequence[ShortCut]:
    """Return the tap."""

    async def tap(asked: PlainRequest) -> Answer:
        told = await check_ins.check_in(asked.shopper.user_id, asked.key)
        status = 201 if told.is_new or told.replayed else 200
        return made_answer(status, _encode(told.answer), replayed=told.replayed)

    return [ShortCut(method="POST", path="/v1/check-ins", serve=tap, body=_nothing, max_bytes=MAX_TAP_BYTES)]


def _nothing(body: bytes) -> bytes | None:
    """Return a body that says nothing."""
    return body if body in {b"", b"{}"} else None
