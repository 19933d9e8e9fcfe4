"""Applies events of one or of many hooks in one transaction: each of another order, shopper and id.

Locks are taken in one order, whatever the size of the batch: the turns of what the events are about, the turns of the
shoppers of orders, the orders; then what the rooms that take part lock, each in the order of ids.
"""

from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from functools import partial

from msgspec import Struct

from growth.plumbing.postgres.database import Tx
from growth.shop.order import hooks, model
from growth.shop.order.buyer import model as persons
from growth.shop.order.buyer import store as persons_store
from growth.shop.order.buyer.model import Whose
from growth.shop.order.buyer.service import hold, register
from growth.shop.order.fact.service import Fact, merge, tell
from growth.shop.order.hooks import (
    KnownHook,
    OrderPaid,
    OrderPlaced,
    OrderReceived,
    OrderRefunded,
    PointsHook,
    PointsReturned,
    PointsSpent,
    ShopperRegistered,
)
from growth.shop.order.model import APPLIED, NO_LISTENER, Answer, Known, OrderParticipant, PointsDesk
from growth.shop.order.owed import service as owed
from growth.shop.order.store import heard as memory
from growth.shop.order.store import orders as store
from growth.shop.order.store.heard import FirstHeard
from growth.vocabulary.ids import is_alias, new_alias
from growth.vocabulary.orders import LineOutcome, Order, Outcome


class IdTaken(Exception):
    """The id of an event was taken for something else meanwhile: nothing is applied, and all is looked at anew."""


class HeardEvent(Struct, eq=False):
    """One event as it was told."""

    told: KnownHook
    said: bytes
    """The digest of what it says."""
    left_out: Sequence[LineOutcome]
    """Lines that could not be read."""
    who: Whose
    """Whom it names, and what became of that id."""
    now: datetime
    """When its hook came."""
    request_id: str = ""
    """The id of the request that brought it."""
    is_asked_again: bool = False
    """Whether nobody knows if it was committed: what is found under its id now, and was not before, is its answer."""
    was_known: bool = False
    """Whether something was found under its id."""

    @property
    def buyer(self) -> str | None:
        """Whose lock is shared for it; None for nobody's."""
        return next(iter(self.who.people), None)

    @property
    def person(self) -> str:
        """Whoever's id may change hands meanwhile; "" for nobody's."""
        return self.buyer or self.who.named or ""

    @property
    def keys(self) -> Sequence[Hashable]:
        """What no two events of one transaction share."""
        told = self.told
        return (told.source, told.id), ("about", hooks.subject_of(told)), ("by", self.buyer or id(self))


class _Case(Struct, eq=False):
    """One event on its way."""

    heard: HeardEvent
    hook: KnownHook
    """As it is applied: it names who the shopper is now."""
    subject: str
    is_dropped: bool = False
    """Whether it is about a life that was erased."""
    rejected: FirstHeard | None = None
    """What was rejected under the same id. It binds nothing: it is judged by what is known now."""
    answer: Answer | None = None
    is_kept: bool = True
    """Whether the answer stands for every redelivery."""

    @property
    def name(self) -> memory.Name:
        return self.hook.source, self.hook.id


class OrderParties(Struct, frozen=True):
    """Who takes part: `participants` settle orders in the order given, `points` are what shoppers spend."""

    participants: Sequence[OrderParticipant]
    points: PointsDesk | None


async def apply(tx: Tx, heard: Sequence[HeardEvent], parties: OrderParties) -> list[Answer]:
    """Apply events that share none of their `keys`; return their answers, in their order.

    Raises `PersonChanged` and `CameBack` where an id is somebody else's by now, and `IdTaken`.
    """
    cases = [_case(one) for one in heard]
    now = max(one.now for one in heard)
    await store.take_turns(tx, [case.subject for case in cases])
    await store.take_shoppers_turns(
        tx,
        {
            case.subject: case.heard.buyer
            for case in cases
            if isinstance(case.hook, OrderPaid | OrderReceived | OrderRefunded)
        },
    )
    for case in cases:
        await hold(tx, case.heard.who)
    by_name = {case.name: case for case in cases}
    for name, first in (await memory.find_events(tx, list(by_name))).items():
        await _look_back(tx, by_name[name], first, parties.points)
    for case in _open(cases):
        await _judge_alone(tx, case, parties.points)
    await _settle(tx, _open(cases), parties.participants, now)
    await _keep(tx, cases, now)
    return [_told(case) for case in cases]


def _open(cases: Sequence[_Case]) -> list[_Case]:
    return [case for case in cases if case.answer is None]


def _case(heard: HeardEvent) -> _Case:
    told = heard.told
    if not isinstance(told, ShopperRegistered | PointsSpent):
        return _Case(heard, told, hooks.subject_of(told))
    owner = heard.who.of_registration(told) if isinstance(told, ShopperRegistered) else heard.who.of_points(told)
    # What is dropped is kept by its event's id, and names nobody.
    hook = persons.renamed(told, owner or new_alias())
    return _Case(heard, hook, hooks.subject_of(hook), is_dropped=owner is None)


async def _look_back(tx: Tx, case: _Case, first: FirstHeard, points: PointsDesk | None) -> None:
    """Answer what was heard before under the event's id: as then, if it says the same of the same person."""
    told, said, owner = case.heard.told, case.heard.said, None
    known = hooks.in_todays_form(told, first.content) or b""
    if case.heard.is_asked_again and not case.heard.was_known and said == known:
        case.answer, case.is_kept = first.answer, False
        return
    case.heard.was_known = True
    if first.answer.outcome is Outcome.REJECTED:
        case.rejected = FirstHeard(first.subject, known, first.answer)
        return
    case.is_kept = False
    if isinstance(told, ShopperRegistered):
        owner = first.subject
    elif isinstance(told, OrderPlaced | OrderPaid):
        owner = await persons_store.owner_of(tx, first.subject)
    elif isinstance(told, PointsSpent) and points is not None:
        owner = await points.owner_of(tx, first.subject)
    is_theirs = case.heard.who.may_be(owner)
    case.answer = model.judge_first_answer(said, known, first.answer) if is_theirs else model.OTHER_CONTENT


async def _judge_alone(tx: Tx, case: _Case, points: PointsDesk | None) -> None:
    """Hold its times to now; apply what is about no order."""
    try:
        case.hook = hooks.held_to(case.heard.now, case.hook)
    except hooks.InFuture as ahead:
        # Not kept: told again when its time has come, or with the right one, it counts.
        case.answer, case.is_kept = model.in_future(ahead.field), False
        return
    if case.is_dropped:
        case.answer = persons.ERASED
    elif isinstance(case.hook, ShopperRegistered):
        case.answer = await register(tx, case.hook.data, case.heard.now)
    elif isinstance(case.hook, PointsSpent | PointsReturned):
        case.answer = await _move_points(tx, case.hook, case.heard.who, points, case.heard.now)


async def _move_points(tx: Tx, hook: PointsHook, who: Whose, points: PointsDesk | None, now: datetime) -> Answer:
    if points is None:
        return Answer(NO_LISTENER.outcome, NO_LISTENER.code, NO_LISTENER.detail)
    if isinstance(hook, PointsSpent):
        spent = hook.data
        if who.standing is not None:
            owner = await points.owner_of(tx, spent.spend_id)
            if is_alias(owner) and who.may_be(owner):
                # Spent in a life that was erased, and told again since the id is back.
                return persons.ERASED
        code = await points.spend(tx, spent.spend_id, spent.user_id, spent.points, now)
    else:
        back = hook.data
        code = await points.give_back(tx, back.spend_id, back.return_id, back.points, now)
    if code == persons.ERASED.code:
        return persons.ERASED
    return Answer(Outcome.REJECTED, code) if code else APPLIED


async def _settle(tx: Tx, cases: Sequence[_Case], participants: Sequence[OrderParticipant], now: datetime) -> None:
    """Add facts to their orders; let those who take part bring their own objects to the state that these imply."""
    if not cases:
        return
    known = await store.lock_orders(tx, [case.subject for case in cases])
    facts = {case.subject: fact for case in cases if (fact := _fact(case, known.get(case.subject))) is not None}
    said: dict[str, list[LineOutcome]] = {}
    for wave in _waves(list(facts.values())):
        await merge(tx, wave, now)
        merged = [fact for fact in wave if fact.own.outcome is not Outcome.REJECTED]
        await tell(tx, merged)
        # Also after what was already known: whoever came to take part since then catches up.
        said |= await _let_settle(tx, [fact.order for fact in merged], participants, now)
    for case in _open(cases):
        fact = facts[case.subject]
        if case.subject not in said:
            case.answer = fact.own
            continue
        lines, order = said[case.subject], fact.order
        is_new_payment = isinstance(fact.hook, OrderPaid) and fact.is_new
        if order.is_paid and (not is_new_payment or owed.may_owe(order, lines)):
            lines = await owed.judge(tx, order, lines, now)
        notes = [*case.heard.left_out, *fact.notes]
        case.answer = persons.told_of_erased(model.answer_of(fact.own, [*notes, *lines]), order.user_id)


def _fact(case: _Case, known: Known | None) -> Fact | None:
    """Return the fact of an order, by the id that it is applied with; None, and an answer, where it is dropped."""
    heard, hook = case.heard, case.hook
    assert not isinstance(hook, ShopperRegistered | PointsSpent | PointsReturned)
    known = known or Known(order=Order(order_id=case.subject), is_new=True)
    if isinstance(hook, OrderPlaced | OrderPaid):
        known = model.in_todays_form(known, partial(hooks.in_todays_form, heard.told))
        owner = heard.who.of_order(hook, known.order.user_id)
        if owner is None:
            case.answer = persons.ERASED
            return None
        hook = persons.renamed(hook, owner)
    return Fact(hook=hook, said=heard.said, known=known, now=heard.now, request_id=heard.request_id, order=known.order)


def _waves(facts: Sequence[Fact]) -> list[list[Fact]]:
    """Part facts, in their order, before each of a shopper of whom one is told: who that is, only the order may say."""
    waves, seen = list[list[Fact]](), set[str]()
    for fact in facts:
        owner = fact.owner or fact.known.order.order_id
        if not waves or owner in seen:
            waves.append([])
            seen.clear()
        waves[-1].append(fact)
        seen.add(owner)
    return waves


async def _let_settle(
    tx: Tx, orders: Sequence[Order], participants: Sequence[OrderParticipant], now: datetime
) -> Mapping[str, list[LineOutcome]]:
    said: dict[str, list[LineOutcome]] = {order.order_id: [] for order in orders}
    for participant in participants:
        if theirs := [order for order in orders if model.is_concerned(participant, order)]:
            for order_id, lines in (await participant.settle(tx, theirs, now)).items():
                said[order_id].extend(lines)
    return said


async def _keep(tx: Tx, cases: Sequence[_Case], now: datetime) -> None:
    """Keep the answers, for every redelivery."""
    fresh = []
    for case in cases:
        if case.is_kept:
            assert case.answer is not None
            event = memory.answered(case.hook, case.subject, case.heard.said, case.answer)
            if case.rejected is None:
                fresh.append(event)
            else:
                await memory.retell_event(tx, event, now)
    if fresh and await memory.keep_events(tx, fresh, now) < len(fresh):
        raise IdTaken


def _told(case: _Case) -> Answer:
    answer, said = case.answer, case.heard.said
    assert answer is not None
    if case.rejected is not None and (case.rejected.content, case.rejected.answer) == (said, answer):
        return model.judge_first_answer(said, said, answer)
    return answer
