"""Takes hooks in: verifies them, and has their events applied in batches, each once."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime

import structlog
from msgspec import Struct

from growth.plumbing.http.signatures import Verifier
from growth.plumbing.person.memory import PersonChanged
from growth.plumbing.person.store import note_return
from growth.plumbing.postgres.database import CommitUnknown, Database, Reader
from growth.plumbing.request import request_id
from growth.plumbing.work.decide import Decisions
from growth.shop.order import hooks
from growth.shop.order.batch import HeardEvent, IdTaken, OrderParties, apply
from growth.shop.order.buyer import model as persons
from growth.shop.order.buyer.model import CameBack
from growth.shop.order.buyer.service import whose
from growth.shop.order.hooks import KnownHook, OtherHook
from growth.shop.order.model import (
    BOUGHT,
    NO_LISTENER,
    ActivityListener,
    Answer,
    OrderParticipant,
    PointsDesk,
    Registration,
)
from growth.shop.order.reading import Partly, Unreadable, read_batch, read_event
from growth.shop.order.store import orders as store
from growth.shop.order.store import registrations as shoppers
from growth.vocabulary.activities import ActivityHeard, ActivityTold
from growth.vocabulary.orders import LineOutcome, Order, Outcome
from growth.vocabulary.refusals import Unavailable

log = structlog.get_logger("shop")

MAX_BATCH_EVENTS = 128
"""Decided in one transaction."""
MAX_QUEUE_EVENTS = 4_096
"""Of one process, over all hooks: what it decides in a few seconds. Whoever comes then is asked to deliver again."""
MAX_ORDERS_AT_ONCE = 20
"""That are read of one shopper."""
MAX_TRIES = 5
"""To apply an event, while ids change hands."""


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
        self._events: Decisions[HeardEvent, Answer] = Decisions(
            "shop.events",
            self._together,
            person_of=lambda heard: heard.person,
            keys_of=lambda heard: heard.keys,
            max_batch=MAX_BATCH_EVENTS,
            max_queue=MAX_QUEUE_EVENTS,
        )
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
        """Apply the events of one hook, activities together, then the others in batches; header names in lower case.

        Raises `Refusal` (401 when the shop did not sign it, 400 when it is no JSON array of events) with nothing done,
        and `Unavailable` when Postgres fails. Then some events may have been applied: delivered again, those are
        duplicates. A bug that one event meets is raised after the others have been applied.
        """
        self._verifier.verify(headers, raw, now)
        told = [read_event(event) for event in read_batch(raw)]
        bugs = list[Exception]()
        heard: Iterator[ActivityHeard] = iter(())
        try:
            heard = iter(await self._hear([hook for hook in told if isinstance(hook, OtherHook)], now))
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - orders are not to wait until it is mended; raised below
            bugs.append(error)
        asked = [await self._ask(hook, now) for hook in told]
        results: list[Result] = []
        for hook, ask in zip(told, asked, strict=True):
            if isinstance(ask, Result):
                results.append(ask)
            elif ask is not None:
                try:
                    results.append(await self._result(*ask))
                except Unavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - its neighbours do not wait until it is mended; raised below
                    bugs.append(error)
            elif isinstance(hook, OtherHook) and (answer := next(heard, None)) is not None:
                results.append(Result(hook.id, answer.outcome, answer.code, answer.detail))
        if bugs:
            # Whatever it was, a participant's refusal too, it is not an answer to the shop.
            raise RuntimeError("an event could not be applied") from bugs[0]
        return results

    async def drain(self) -> None:
        """Wait until every event that came has its answer."""
        await self._events.calls.drain()

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

    async def _ask(
        self, hook: KnownHook | OtherHook | Partly | Unreadable, now: datetime
    ) -> tuple[HeardEvent, asyncio.Future[Answer]] | Result | None:
        """Queue what is to be applied; None for what others hear."""
        if isinstance(hook, OtherHook):
            return None
        if isinstance(hook, Unreadable):
            return Result(hook.id, Outcome.REJECTED, "request.invalid", hook.detail)
        if isinstance(hook, Partly):
            heard = await self._heard(hook.hook, hook.left_out, now)
        else:
            heard = await self._heard(hook, (), now)
        return heard, self._events.calls.submit(heard)

    async def _heard(self, hook: KnownHook, left_out: Sequence[LineOutcome], now: datetime) -> HeardEvent:
        """Return an event with whom it is about now."""
        who = await whose(self._database.people, self._database, persons.named_in(hook))
        said = hooks.content(hook, is_partly=bool(left_out))
        return HeardEvent(hook, said, left_out, who, now, request_id.get())

    async def _result(self, heard: HeardEvent, answer: asyncio.Future[Answer]) -> Result:
        """Return what became of an event: an id that changes hands meanwhile is looked up anew."""
        hook, tries = heard.told, 0
        while True:
            tries += 1
            try:
                told = await answer
                return Result(hook.id, told.outcome, told.code, told.detail, told.lines)
            except (PersonChanged, IdTaken):
                if tries == MAX_TRIES:
                    raise
            except CameBack as back:
                if tries == MAX_TRIES:
                    raise Unavailable("a shopper comes and goes") from back
                async with self._database.transaction(people=[back.user_id], alone=True) as tx:
                    await note_return(tx, back.user_id, heard.now)
            except Unavailable:
                raise
            except Exception:
                log.exception("shop.event_failed", source=hook.source, id=hook.id)
                raise
            heard = await self._heard(hook, heard.left_out, heard.now)
            answer = self._events.calls.submit(heard)

    async def _together(self, heard: Sequence[HeardEvent]) -> Sequence[Answer]:
        people = sorted({person for one in heard for person in one.who.people})
        try:
            async with self._database.transaction(people=people, everyone=True) as tx:
                return await apply(tx, heard, OrderParties(self._participants, self._points))
        except CommitUnknown:
            for one in heard:
                one.is_asked_again = True
            raise


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
