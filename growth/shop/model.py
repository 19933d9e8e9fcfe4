"""What the shop's facts say about an order, and how whoever takes part in it answers. No I/O."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from growth.plumbing.postgres import Tx
from growth.shop.hooks import RefundedData
from growth.vocabulary.orders import LineOutcome, Order, Outcome


class OrderParticipant(Protocol):
    """A room that has a stake in orders: claims, seats, coupons."""

    async def settle(self, tx: Tx, order: Order, now: datetime) -> Sequence[LineOutcome]:
        """Bring this room's objects to the state that the facts of `order` imply; say what became of its lines.

        Level-triggered: called in the transaction of every event of the order, again and again, in any order of
        arrival, under the lock of that order. So it acts on what `order` *is*, never on what has just changed; it does
        nothing the second time, and it says `refund_required` for as long as a line must still be paid back. Lines
        that are none of its business are left out. An expected no is an outcome; what it raises undoes the whole event,
        and the shop delivers it again. Rows are locked in the order of their ids, after the order: two orders that
        share rows must not wait for each other.
        """
        ...


class Answer(Struct, frozen=True):
    """What an event is answered, the first time and ever after."""

    outcome: Outcome
    code: str = ""
    detail: str = ""
    lines: tuple[LineOutcome, ...] = ()


class Known(Struct, frozen=True, kw_only=True):
    """Which facts of an order are known, before another is merged; contents as told by `hooks.content`."""

    user_id: str | None = None
    placed_content: bytes | None = None
    paid_content: bytes | None = None
    is_closed: bool = False
    is_received: bool = False


APPLIED = Answer(Outcome.APPLIED)
NO_LISTENER = Answer(Outcome.IGNORED, "shop.no_listener", "Nobody here listens to events of this type.")
ALREADY_KNOWN = Answer(Outcome.IGNORED, "shop.already_known", "This was told before, by another event.")
OTHER_CONTENT = Answer(Outcome.REJECTED, "shop.other_content", "Another event was told under this source and id.")


def contradicts(what: str) -> Answer:
    """Return the answer to what cannot be true beside what is known."""
    return Answer(Outcome.REJECTED, "shop.contradicts", what)


def judge_told_again(said: bytes, known: bytes | None) -> Answer:
    """Judge one fact (an order placed or paid, a refund) beside the content that it was told with before."""
    if known is None:
        return APPLIED
    if known == said:
        return ALREADY_KNOWN
    return contradicts("This was told before, by another event, with other content.")


def judge_order(said: bytes, known: bytes | None, user_id: str, known_user_id: str | None) -> Answer:
    """Judge an order placed or paid beside what is known of it."""
    if known_user_id not in {None, user_id}:
        return contradicts("The order is known as another user's.")
    return judge_told_again(said, known)


def refund_that_exceeds(refund: RefundedData, order: Order) -> Answer:
    """Return the answer to a refund of more than is left of a line of a paid order. Names the first such line."""
    lines = {line.line_id: line for line in order.lines}
    for told in refund.lines:
        line = lines.get(told.line_id)
        if line is None:
            return Answer(Outcome.REJECTED, "shop.no_such_line", f"The order has no line {told.line_id}.")
        units, amount_fen = line.units - line.refunded_units, line.amount_fen - line.refunded_fen
        if told.units > units or told.amount_fen > amount_fen:
            left = f"Of line {told.line_id}, {units} units and {amount_fen} fen are left to refund."
            return Answer(Outcome.REJECTED, "shop.refund_exceeds_line", left)
    raise AssertionError


def judge_first_answer(said: bytes, known: bytes, first: Answer) -> Answer:
    """Judge an event whose id was seen before: the shop that lost the answer learns it now."""
    if said != known:
        return OTHER_CONTENT
    detail = f"{first.code}: {first.detail}" if first.code else first.detail
    return Answer(Outcome.DUPLICATE, first.outcome, detail, first.lines)


def refund_notes(beyond: Mapping[str, bool]) -> tuple[LineOutcome, ...]:
    """Say at payment which refunds, told before it, do not fit the lines paid for."""
    clipped = (
        Outcome.APPLIED,
        "shop.refund_clipped",
        "More of it was refunded than it has; that counts as far as it goes.",
    )
    unknown = (Outcome.IGNORED, "shop.no_such_line", "A refund names it, but the order does not have it.")
    return tuple(LineOutcome(line_id, *(clipped if is_known else unknown)) for line_id, is_known in beyond.items())


def answer_of(own: Answer, lines: Sequence[LineOutcome]) -> Answer:
    """Put the shop's own word and those of the participants into one: the worst line decides."""
    assert all(line.outcome is not Outcome.DUPLICATE for line in lines)
    for worst in (Outcome.REFUND_REQUIRED, Outcome.REJECTED):
        for line in lines:
            if line.outcome is worst:
                return Answer(worst, line.code, line.detail, tuple(lines))
    return Answer(own.outcome, own.code, own.detail, tuple(lines))
