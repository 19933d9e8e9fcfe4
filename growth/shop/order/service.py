"""Takes hooks in: verifies them, and applies each event in a transaction of its own, once."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

import structlog
from msgspec import Struct

from growth.plumbing.http.signatures import Verifier
from growth.plumbing.outbox import outbox
from growth.plumbing.person.memory import PersonChanged
from growth.plumbing.person.store import note_return
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.shop.order import hooks, model
from growth.shop.order.buyer import model as persons
from growth.shop.order.buyer import store as persons_store
from growth.shop.order.buyer.model import CameBack, Whose
from growth.shop.order.buyer.service import hold, whose
from growth.shop.order.fact.service import complete, corrected, known_now, merge, news
from growth.shop.order.hooks import (
    KnownHook,
    OrderHook,
    OrderPaid,
    OrderPlaced,
    OrderReceived,
    OrderRefunded,
    OtherHook,
    PointsHook,
    PointsReturned,
    PointsSpent,
    RegisteredData,
    ShopperRegistered,
)
from growth.shop.order.model import (
    ALREADY_KNOWN,
    APPLIED,
    BOUGHT,
    NO_LISTENER,
    RECEIVED_EARLIER,
    ActivityListener,
    Answer,
    OrderParticipant,
    PointsDesk,
    Registration,
)
from growth.shop.order.owed import service as owed
from growth.shop.order.reading import Partly, Unreadable, read_batch, read_event
from growth.shop.order.store import heard as memory
from growth.shop.order.store import orders as store
from growth.shop.order.store import registrations as shoppers
from growth.vocabulary.activities import ActivityHeard, ActivityTold
from growth.vocabulary.events.shop import (
    ShopRegistrationCorrected,
    ShopShopperRegistered,
)
from growth.vocabulary.ids import is_alias, new_alias
from growth.vocabulary.orders import LineOutcome, Order, Outcome
from growth.vocabulary.refusals import Unavailable

log = structlog.get_logger("shop")

MAX_EVENTS_AT_ONCE = 4
"""Of one process, over all hooks: a shop in a hurry leaves connections for shoppers."""
MAX_ORDERS_AT_ONCE = 20
"""That are read of one shopper."""
MAX_TRIES = 5
"""To apply an event, while ids change hands."""
MAX_WAIT_SECONDS = 5.0
"""For one event's turn; then the shop delivers again."""


class Result(Struct, frozen=True):
    """What became of one event; `results` of a hook are in the order of its events."""

    id: str | None
    """The event's; null where it cannot be read."""
    outcome: Outcome
    code: str = ""
    """Why; for a duplicate, the outcome that the first delivery was answered with."""
    detail: str = ""
    lines: tuple[LineOutcome, ...] = ()
    """What became of lines of the order, where somebody has a stake in them."""


class _Heard(Struct, frozen=True):
    """One event as it was told."""

    told: KnownHook
    said: bytes
    """The digest of what it says."""
    left_out: Sequence[LineOutcome]
    """Lines that could not be read."""
    who: Whose
    """Whom it names, and what became of that id."""


class ShopService:
    """The order system's way in."""

    def __init__(
        self,
        database: Database,
        participants: Sequence[OrderParticipant],
        secrets: Sequence[str],
        activities: ActivityListener | None = None,
        points: PointsDesk | None = None,
    ) -> None:
        """`participants` settle in the order given. `secrets`: one or two `whsec_<base64>`; raises `ValueError`.

        `activities` hears what is told of shoppers outside of orders, `points` what they spend; without one, that is
        ignored.
        """
        self._database = database
        self._verifier = Verifier(secrets)
        self._turns = asyncio.Semaphore(MAX_EVENTS_AT_ONCE)
        self.join(participants, activities, points)

    def join(
        self,
        participants: Sequence[OrderParticipant],
        activities: ActivityListener | None = None,
        points: PointsDesk | None = None,
    ) -> None:
        """Have these take part from now on: rooms above, which are made later."""
        self._participants = tuple(participants)
        self._activities = activities
        self._points = points

    async def receive(self, headers: Mapping[str, str], raw: bytes, now: datetime) -> list[Result]:
        """Apply the events of one hook, activities together, then the others one by one; header names in lower case.

        Raises `Refusal` (401 when the shop did not sign it, 400 when it is no JSON array of events) with nothing done,
        and `Unavailable` when Postgres fails. Then events before the failing one may have been applied: delivered
        again, those are duplicates. A bug that one event meets is raised after the others have been applied.
        """
        self._verifier.verify(headers, raw, now)
        told = [read_event(event) for event in read_batch(raw)]
        results: list[Result] = []
        bug: Exception | None = None
        heard: Iterator[ActivityHeard] = iter(())
        try:
            heard = iter(await self._hear([hook for hook in told if isinstance(hook, OtherHook)], now))
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - orders are not to wait until it is mended; raised below
            bug = error
        for hook in told:
            try:
                if isinstance(hook, OtherHook):
                    answer = next(heard, None)
                    if answer is not None:
                        results.append(Result(hook.id, answer.outcome, answer.code, answer.detail))
                else:
                    results.append(await self._take(hook, now))
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - its neighbours are not to wait until it is mended; raised below
                bug = bug or error
        if bug is not None:
            # Whatever it was, a participant's refusal too, it is not an answer to the shop.
            raise RuntimeError("an event could not be applied") from bug
        return results

    async def registered_at(self, user_ids: Sequence[str]) -> Mapping[str, datetime]:
        """Return when each shopper registered with the shop; those it never told of are missing."""
        return await shoppers.registered_at(self._database, user_ids)

    async def _hear(self, told: Sequence[OtherHook], now: datetime) -> Sequence[ActivityHeard]:
        if not told or self._activities is None:
            return [NO_LISTENER] * len(told)
        return await self._activities.hear(
            [
                ActivityTold(source=hook.source, id=hook.id, type=hook.type, at=hook.time, data=hook.data)
                for hook in told
            ],
            now,
        )

    async def _take(self, hook: KnownHook | Partly | Unreadable, now: datetime) -> Result:
        if isinstance(hook, Unreadable):
            return Result(hook.id, Outcome.REJECTED, "request.invalid", hook.detail)
        readable: KnownHook = hook.hook if isinstance(hook, Partly) else hook
        answer = await self._apply(readable, hook.left_out if isinstance(hook, Partly) else (), now)
        return Result(readable.id, answer.outcome, answer.code, answer.detail, answer.lines)

    async def _apply(self, hook: KnownHook, left_out: Sequence[LineOutcome], now: datetime) -> Answer:
        """Apply one event to whoever it is about now: an id that changes hands meanwhile is looked up anew."""
        people, tries = self._database.people, 0
        said = hooks.content(hook, is_partly=bool(left_out))
        while True:
            tries += 1
            try:
                who = await whose(people, self._database, persons.named_in(hook))
                async with self._turn(), self._database.transaction(people=who.people, everyone=True) as tx:
                    return await self._apply_in(tx, _Heard(hook, said, left_out, who), now)
            except hooks.InFuture as ahead:
                # Rolled back, so not remembered: told again when its time has come, or with the right one, it counts.
                return model.in_future(ahead.field)
            except PersonChanged:
                if tries == MAX_TRIES:
                    raise
            except CameBack as back:
                if tries == MAX_TRIES:
                    raise Unavailable("a shopper comes and goes") from back
                async with self._database.transaction(people=[back.user_id], alone=True) as tx:
                    await note_return(tx, back.user_id, now)
            except Unavailable:
                raise
            except Exception:
                log.exception("shop.event_failed", source=hook.source, id=hook.id)
                raise

    async def _apply_in(self, tx: Tx, heard: "_Heard", now: datetime) -> Answer:
        told, said, who = heard.told, heard.said, heard.who
        hook = told
        owner: str | None = None
        if isinstance(told, ShopperRegistered | PointsSpent):
            owner = who.of_registration(told) if isinstance(told, ShopperRegistered) else who.of_points(told)
            # What is dropped is kept by its event's id, and names nobody.
            hook = persons.renamed(told, owner or new_alias())
        subject = _subject(hook)
        await store.take_turn(tx, subject)
        if isinstance(hook, OrderPaid | OrderReceived | OrderRefunded):
            await store.take_shoppers_turn(tx, subject, next(iter(who.people), None))
        await hold(tx, who)
        rejected: tuple[bytes, Answer] | None = None
        if taken := await memory.begin_event(tx, hook, subject, said, now):
            taken_by, known, first = taken
            known = hooks.in_todays_form(told, known) or b""
            if first.outcome is not Outcome.REJECTED:
                return await self._first_answer(tx, heard, taken_by, known, first)
            # What was rejected binds nothing: told again, as it was or mended, it is judged by what is known now.
            rejected = known, first
            await memory.retell_event(tx, hook, subject, said, now)
        hook = hooks.held_to(now, hook)
        if isinstance(hook, ShopperRegistered | PointsSpent) and owner is None:
            answer = persons.ERASED
        elif isinstance(hook, ShopperRegistered):
            answer = await _register(tx, hook.data, now)
        elif isinstance(hook, PointsSpent | PointsReturned):
            answer = await self._move_points(tx, hook, heard.who, now)
        else:
            answer = await self._settle(tx, hook, heard, now)
        await memory.end_event(tx, hook, answer)
        return answer if rejected != (said, answer) else model.judge_first_answer(said, said, answer)

    async def _first_answer(self, tx: Tx, heard: "_Heard", subject: str, known: bytes, first: Answer) -> Answer:
        """Answer what was heard before under the event's id: as then, if it says the same of the same person."""
        told, owner = heard.told, None
        if isinstance(told, ShopperRegistered):
            owner = subject
        elif isinstance(told, OrderPlaced | OrderPaid):
            owner = await persons_store.owner_of(tx, subject)
        elif isinstance(told, PointsSpent) and self._points is not None:
            owner = await self._points.owner_of(tx, subject)
        if not heard.who.may_be(owner):
            return model.OTHER_CONTENT
        return model.judge_first_answer(heard.said, known, first)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable("too many hooks at once") from None
        try:
            yield
        finally:
            self._turns.release()

    async def _move_points(self, tx: Tx, hook: PointsHook, who: Whose, now: datetime) -> Answer:
        if self._points is None:
            return Answer(NO_LISTENER.outcome, NO_LISTENER.code, NO_LISTENER.detail)
        if isinstance(hook, PointsSpent):
            spent = hook.data
            if who.standing is not None:
                owner = await self._points.owner_of(tx, spent.spend_id)
                if is_alias(owner) and who.may_be(owner):
                    # Spent in a life that was erased, and told again since the id is back.
                    return persons.ERASED
            code = await self._points.spend(tx, spent.spend_id, spent.user_id, spent.points, now)
        else:
            back = hook.data
            code = await self._points.give_back(tx, back.spend_id, back.return_id, back.points, now)
        if code == persons.ERASED.code:
            return persons.ERASED
        return Answer(Outcome.REJECTED, code) if code else APPLIED

    async def _settle(self, tx: Tx, hook: OrderHook, heard: "_Heard", now: datetime) -> Answer:
        """Add the fact to its order; let those who take part bring their own objects to the state it implies."""
        order_id = hook.data.order_id
        known = await store.lock_order(tx, order_id, now)
        if isinstance(hook, OrderPlaced | OrderPaid):
            known = model.in_todays_form(known, partial(hooks.in_todays_form, heard.told))
            owner = heard.who.of_order(hook, known.order.user_id)
            if owner is None:
                await persons_store.forget_unheard(tx, order_id)
                return persons.ERASED
            hook = persons.renamed(hook, owner)
        own = await merge(tx, hook, heard.said, known)
        if own.outcome is Outcome.REJECTED and isinstance(hook, OrderPlaced | OrderPaid):
            own = await complete(tx, hook, heard.said, known, now) or own
        if own.outcome is Outcome.REJECTED:
            return own
        order = await known_now(tx, hook, known, own)
        notes = list(heard.left_out)
        if own is APPLIED:
            order, events, noted = await news(tx, hook, order, now, is_new=known.is_new)
            notes += noted
            await outbox.emit(tx, *events)
        elif own is RECEIVED_EARLIER:
            await outbox.emit(tx, *await corrected(tx, order, now))
        # Also after what was already known: whoever came to take part since then catches up.
        said_of_lines: list[LineOutcome] = []
        for participant in model.concerned(self._participants, order):
            said_of_lines.extend((await participant.settle(tx, [order], now)).get(order_id, ()))
        is_new_payment = isinstance(hook, OrderPaid) and own is APPLIED
        if order.is_paid and (not is_new_payment or owed.may_owe(order, said_of_lines)):
            said_of_lines = await owed.judge(tx, order, said_of_lines, now)
        return persons.told_of_erased(model.answer_of(own, [*notes, *said_of_lines]), order.user_id)


async def has_bought(reader: Reader, user_ids: Sequence[str], except_order: str = "") -> frozenset[str]:
    """Return those of `user_ids` who have bought (`vocabulary/orders.py` says what that is); the others are newcomers.

    So has an erased shopper who is back, for as long as that is remembered. Participants ask in the transaction of the
    order that they settle, and leave that one out.
    """
    remembered = await reader.people.had(reader, user_ids, BOUGHT)
    return remembered | frozenset(await store.buyers(reader, user_ids, except_order))


async def bought_since(reader: Reader, user_ids: Sequence[str]) -> Mapping[str, datetime]:
    """Return since when each of `user_ids` has bought, see `has_bought`; those who have not are missing."""
    return await store.buyers(reader, user_ids, "")


async def bought_before(reader: Reader, user_id: str, order_ids: Sequence[str]) -> frozenset[str]:
    """Return those of a shopper's paid orders before which they had bought, by time of payment, not of arrival.

    See `has_bought`: of an erased shopper who had bought and is back, all.
    """
    if await reader.people.had(reader, [user_id], BOUGHT):
        return frozenset(order_ids)
    return await store.bought_before(reader, user_id, order_ids)


async def kept_orders(reader: Reader, user_id: str, since: datetime) -> AsyncIterator[Order]:
    """Yield the orders by which a shopper has bought, those paid at `since` or later, by time of payment."""
    after: tuple[datetime, str] | None = None
    while orders := await store.kept_orders(reader, user_id, since, after, MAX_ORDERS_AT_ONCE):
        for order in orders:
            yield order
            assert order.paid_at is not None
            after = order.paid_at, order.order_id


async def registration(reader: Reader, user_ids: Sequence[str]) -> Mapping[str, Registration]:
    """Return when and from where each shopper registered; those the shop never told of are missing."""
    return await shoppers.registration(reader, user_ids)


def _subject(hook: KnownHook) -> str:
    """Return what a hook is about: one at a time."""
    match hook:
        case ShopperRegistered(data=registered):
            return registered.user_id
        case PointsSpent(data=spent):
            return spent.spend_id
        case PointsReturned(data=back):
            return back.spend_id
        case _:
            return hook.data.order_id


async def _register(tx: Tx, data: RegisteredData, now: datetime) -> Answer:
    if await shoppers.register(tx, data):
        event = ShopShopperRegistered(
            at=now, user_id=data.user_id, registered_at=data.registered_at, source=data.source
        )
        await outbox.emit(tx, event)
        return APPLIED
    was_registered_at = await shoppers.reregister(tx, data)
    if was_registered_at is None:
        return ALREADY_KNOWN
    # Whoever decided on what was told before decides again.
    corrected = ShopRegistrationCorrected(
        at=now,
        user_id=data.user_id,
        registered_at=data.registered_at,
        source=data.source,
        was_registered_at=was_registered_at,
    )
    await outbox.emit(tx, corrected)
    return APPLIED
