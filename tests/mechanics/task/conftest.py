"""The room of tasks on a database of its own; whatever a test does, every invariant holds after it."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct

from growth.kit.campaign import store as campaigns
from growth.kit.campaign.audience import Audiences
from growth.mechanics.task.board import TaskBoard
from growth.mechanics.task.model import TASKS, Task, TaskDraft
from growth.mechanics.task.progress.service import TaskProjection, outbox_types
from growth.mechanics.task.service import Tasks
from growth.plumbing.outbox.outbox import Envelope, Subscription, deliver, emit
from growth.plumbing.postgres.database import Database, Tx, connect_postgres
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.periodic import Turn
from growth.rewards.granting.service import set_budget
from growth.rewards.ledger.model import Currency
from growth.rewards.ledger.service import balances
from growth.shopper.activity.model import Activity
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.events import Event
from growth.vocabulary.events.shop import ShopOrderLine, ShopOrderPaid, ShopOrderRefunded
from growth.vocabulary.ids import new_id
from growth.vocabulary.rewards import PointsReward
from tests.kit.invariants import violations
from tests.kit.turn import turn_at

ZONE = ZoneInfo("Asia/Shanghai")
POINTS = 10


class Room(Struct):
    """What one process has of the room."""

    database: Database
    board: TaskBoard
    tasks: Tasks
    projection: TaskProjection

    async def task(self, *, state: str = "published", **changes: Any) -> Task:
        """A task in Postgres, past the rules for operators: view a product, for ten points, since an hour."""
        moment = changes.pop("published_at", now() - timedelta(hours=1))
        async with self.database.transaction() as tx:
            made = await campaigns.add(tx, TASKS, new_id(now()), a_draft(**changes), moment)
            for step in {"draft": (), "published": ("published",)}.get(state, ("published", state)):
                moved = await campaigns.move(tx, TASKS, made.task_id, ["draft", "published"], step, moment)
                assert moved is not None
                made = moved
            if made.budget is not None:
                await set_budget(tx, made.task_id, made.budget, ZONE.key)
        return made

    async def does(self, *activities: Activity) -> None:
        """Shoppers' clients tell of these, in one batch."""
        async with self.database.transaction() as tx:
            await self.projection.from_activities(tx, activities)

    async def happens(self, *events: Event, deliver_now: bool = True) -> None:
        """Rooms emit these, and the room hears of them."""
        async with self.database.transaction() as tx:
            await emit(tx, *events)
        if deliver_now:
            await self.hears()

    async def hears(self) -> None:
        """The outbox delivers until there is nothing more."""
        while await deliver(self.database, self.subscription()):
            pass

    def subscription(self) -> Subscription:
        return Subscription("task.count", outbox_types(), self.projection.from_outbox)

    async def told_again(self, envelopes: Sequence[Envelope]) -> None:
        """The same events, as if no cursor had ever moved."""
        async with self.database.transaction() as tx:
            await self.projection.from_outbox(tx, envelopes)

    async def points(self, user_id: str) -> int:
        return (await balances(self.database, user_id))[Currency.POINTS].posted

    async def progress(self, task: Task, user_id: str, day: date | None = None) -> tuple[int, str]:
        """What is stored: how much was done, and the state; of the one period there is, if none is named."""
        row = await self.database.fetchrow(
            """
            SELECT done, state
            FROM task.progress
            WHERE task_id = $1 AND user_id = $2 AND ($3::date IS NULL OR period_on = $3)
            """,
            task.task_id,
            user_id,
            day,
        )
        return (0, "nothing") if row is None else (row["done"], row["state"])

    async def told(self, type_: str) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "SELECT data::text FROM plumbing.outbox WHERE type = $1 ORDER BY position", f"task.{type_}"
        )
        return [json.loads(row["data"]) for row in rows]

    def turn(self, moment: datetime | None = None) -> Turn:
        return turn_at(self.database, moment or now())


def a_draft(**changes: Any) -> TaskDraft:
    opens_at = changes.pop("opens_at", now() - timedelta(days=40))
    plain: dict[str, Any] = {
        "title": "View a tea",
        "event_type": "product.viewed",
        "reward": [PointsReward(points=POINTS)],
        "opens_at": opens_at,
        "closes_at": opens_at + timedelta(days=90),
    }
    return TaskDraft(**plain | changes)


def viewed(
    user_id: str, id_: str, sku: str = "tea", at: datetime | None = None, heard_at: datetime | None = None
) -> Activity:
    moment = at or now()
    return Activity(
        activity_id=id_,
        user_id=user_id,
        type="product.viewed",
        at=moment,
        heard_at=heard_at or moment,
        data={"sku": sku},
    )


def line(sku: str, line_id: str = "1", units: int = 1) -> ShopOrderLine:
    return ShopOrderLine(line_id=line_id, sku=sku, units=units, amount_fen=100)


def paid(
    user_id: str, order_id: str, *skus: str, at: datetime | None = None, first: bool = False, fen: int = 100
) -> ShopOrderPaid:
    moment = at or now()
    return ShopOrderPaid(
        at=moment,
        order_id=order_id,
        user_id=user_id,
        paid_at=moment,
        paid_fen=fen,
        lines=[line(sku, str(place)) for place, sku in enumerate(skus or ("tea",))],
        is_first_order=first,
    )


def refunded(user_id: str, order_id: str, *, whole: bool = True, refund_id: str = "r1") -> ShopOrderRefunded:
    moment = now()
    return ShopOrderRefunded(
        at=moment,
        order_id=order_id,
        user_id=user_id,
        refund_id=refund_id,
        refunded_at=moment,
        lines=[],
        is_whole=whole,
    )


def an_act(reason: str = "") -> Act:
    return Act(Operator("olga", Role.EDITOR), now(), "request", reason)


def in_zone(day: date, hour: int, minute: int = 0) -> datetime:
    """A time on the merchant's wall."""
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZONE).astimezone(UTC)


def assemble(database: Database) -> Room:
    """One more process on the same stores."""
    board = TaskBoard(database)
    return Room(
        database=database,
        board=board,
        tasks=Tasks(database, board, ZONE, Audiences()),
        projection=TaskProjection(ZONE, Audiences()),
    )


async def rows_of(tx: Tx | Database, table: str) -> list[str]:
    return [row["row"] for row in await tx.fetch(f"SELECT t::text AS row FROM {table} AS t ORDER BY 1")]


@pytest.fixture
async def room(postgres_dsn: str) -> AsyncIterator[Room]:
    """A process of its own, with an empty database."""
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    yield assemble(database)
    broken = await violations(database)
    await database.close()
    assert not broken
