"""Any order, any redelivery, any batches: progress and balance are what a slow, obvious recomputation says."""

import asyncio
import functools
from collections import Counter
from contextlib import AsyncExitStack
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from growth.embedded import EmbeddedServers
from growth.mechanics.task.model import Condition, Task
from growth.plumbing.outbox.outbox import Envelope
from growth.plumbing.postgres.database import connect_postgres
from growth.plumbing.watch.invariants import all_invariants
from growth.shopper.activity.model import Activity
from growth.vocabulary.clock import now
from tests import servers as test_servers
from tests.kit.examples import examples
from tests.kit.invariants import violations
from tests.mechanics.task.conftest import POINTS, ZONE, Room, assemble, in_zone, paid, refunded, viewed

RULES = tuple(rule for rule in all_invariants() if rule.room in {"task", "ledger", "granting"})
USERS = ("ann", "bob")
SKUS = ("tea", "cup", "pot")


class View(Struct, frozen=True):
    user: str
    id: int
    sku: str
    days_ago: int


class Buy(Struct, frozen=True):
    user: str
    order: int
    skus: tuple[str, ...]
    days_ago: int


class Back(Struct, frozen=True):
    user: str
    order: int
    number: int
    whole: bool


def _name(fact: View | Buy | Back) -> tuple[object, ...]:
    match fact:
        case View():
            return ("view", fact.user, fact.id)
        case Buy():
            return ("buy", fact.user, fact.order)
        case Back():
            return ("back", fact.user, fact.order, fact.number)


ids = st.integers(0, 5)
days = st.integers(0, 9)
users = st.sampled_from(USERS)
views = st.builds(View, users, st.integers(0, 12), st.sampled_from(SKUS), days)
buys = st.builds(Buy, users, ids, st.lists(st.sampled_from(SKUS), min_size=1, max_size=3).map(tuple), days)
backs = st.builds(Back, users, ids, st.integers(1, 2), st.booleans())
facts = st.lists(st.one_of(views, buys, buys, backs), max_size=24, unique_by=_name)
"""No two facts under one name: a fact is told often, but always as the same."""


def noon(days_ago: int) -> datetime:
    return in_zone(today() - timedelta(days=days_ago + 1), 12)


@functools.cache
def today() -> date:
    """The merchant's day on which the comparison began: all days are counted from there."""
    return now().astimezone(ZONE).date()


def expected(task: Task, told: list[View | Buy | Back]) -> dict[tuple[str, date], int]:
    """How much each shopper has done in each period: the slow, obvious way."""
    gone = {
        (fact.user, fact.order)
        for fact in told
        if isinstance(fact, Back) and (task.undo_on_refund == "any" or (task.undo_on_refund == "whole" and fact.whole))
    }
    values: dict[tuple[str, date], set[object]] = {}
    for fact in told:
        if isinstance(fact, Back) or isinstance(fact, View) != (task.event_type == "product.viewed"):
            continue
        if isinstance(fact, Buy) and (fact.user, fact.order) in gone:
            continue
        skus = [fact.sku] if isinstance(fact, View) else list(fact.skus)
        wanted = [sku for condition in task.filter for sku in condition.one_of or ()] or list(SKUS)
        if not set(skus) & set(wanted):
            continue
        day = today() - timedelta(days=fact.days_ago + 1)
        first = {
            "once": date(1970, 1, 1),
            "daily": day,
            "weekly": day - timedelta(days=day.weekday()),
        }[task.period]
        found = set(skus) & set(wanted) if task.distinct_by else {_name(fact)}
        values.setdefault((fact.user, first), set()).update(found)
    return {key: min(len(found), task.count) for key, found in values.items()}


class World:
    """One database for all examples; each has shoppers of its own."""

    def __init__(self, room: Room, tasks: list[Task]) -> None:
        self.room = room
        self.tasks = tasks
        self.examples = count(1)

    async def tell(self, facts: list[View | Buy | Back], prefix: str) -> None:
        """All of `facts` in one batch, by the log that each is in."""
        activities: list[Activity] = []
        envelopes: list[Envelope] = []
        for fact in facts:
            user, name = f"{prefix}{fact.user}", prefix + ":".join(map(str, _name(fact)))
            match fact:
                case View():
                    activities.append(viewed(user, name, fact.sku, noon(fact.days_ago)))
                case Buy():
                    event = paid(user, f"{user}{fact.order}", *fact.skus, at=noon(fact.days_ago))
                    envelopes.append(Envelope(name, event))
                case Back():
                    back = refunded(user, f"{user}{fact.order}", whole=fact.whole, refund_id=str(fact.number))
                    envelopes.append(Envelope(name, back))
        await self.room.does(*activities)
        await self.room.told_again(envelopes)

    async def seen(self, prefix: str) -> dict[str, dict[tuple[str, date], int]]:
        rows = await self.room.database.fetch(
            "SELECT user_id, period_on, task_id, done FROM task.progress WHERE user_id LIKE $1 || '%'", prefix
        )
        found: dict[str, dict[tuple[str, date], int]] = {task.task_id: {} for task in self.tasks}
        counts = {task.task_id: task.count for task in self.tasks}
        for row in rows:
            done = min(row["done"], counts[row["task_id"]])
            if done:
                found[row["task_id"]][row["user_id"].removeprefix(prefix), row["period_on"]] = done
        return found


async def build(opened: AsyncExitStack, servers: EmbeddedServers) -> World:
    dsn = await opened.enter_async_context(test_servers.database(servers))
    database = await connect_postgres(dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    opened.push_async_callback(database.close)
    room = assemble(database)
    tea = [Condition(field="lines.sku", one_of=["tea", "cup"])]
    published_at = now() - timedelta(days=20)

    async def task(**changes: Any) -> Task:
        return await room.task(published_at=published_at, **changes)

    order = {"event_type": "shop.order_paid"}
    tasks = [
        await task(count=3),
        await task(count=2, distinct_by="sku", period="weekly"),
        await task(count=2, period="daily"),
        await task(**order, count=2, undo_on_refund="whole"),
        await task(**order, count=2, undo_on_refund="any", period="weekly", distinct_by="lines.sku"),
        await task(**order, count=1, undo_on_refund="whole", period="daily", filter=tea),
        await task(**order, count=2, undo_on_refund="any", distinct_by="lines.sku", filter=tea),
        await task(**order, count=2),
    ]
    return World(room, tasks)


def test_any_order_and_any_redelivery_end_in_what_the_facts_say(servers: EmbeddedServers) -> None:
    servers.ensure_running()
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        try:
            world = runner.run(build(opened, servers))

            @examples(200)
            @given(facts, st.data())
            def compare(told: list[View | Buy | Back], data: st.DataObject) -> None:
                again = data.draw(st.lists(st.sampled_from(told), max_size=12)) if told else []
                order = data.draw(st.permutations([*told, *again]))
                cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=6)))
                runner.run(story(world, told, order, cuts))

            compare()
        finally:
            runner.run(opened.aclose())


async def story(world: World, told: list[View | Buy | Back], order: list[View | Buy | Back], cuts: list[int]) -> None:
    prefix = f"e{next(world.examples)}-"
    for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
        await world.tell(order[start:end], prefix)
    seen = await world.seen(prefix)
    points = Counter[str]()
    for task in world.tasks:
        wanted = expected(task, told)
        assert seen[task.task_id] == wanted, (task.event_type, task.period, task.undo_on_refund, task.distinct_by)
        for (user, _), done in wanted.items():
            points[user] += POINTS if done >= task.count else 0
    for user in USERS:
        assert await world.room.points(prefix + user) == points[user]
    assert not await violations(world.room.database, RULES)
