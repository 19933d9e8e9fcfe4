"""Tasks of the demo shop."""

from datetime import datetime, timedelta
from typing import Any

from growth.bootstrap import Growth
from growth.mechanics.task.model import Condition, TaskDraft
from growth.mechanics.task.service import Tasks
from growth.plumbing.watch.audit import Act
from growth.vocabulary.rewards import PointsReward

OPEN_FOR = timedelta(days=30)
VIEW, ORDER = "Look at three teas", "Place your first order"


async def put(growth: Growth, act: Act) -> list[str]:
    """One for every day, and one for the first order, which its refund takes back."""
    for old in await growth.of(Tasks).page(state="published", before=None, limit=100):
        if old.title in {VIEW, ORDER}:
            await growth.of(Tasks).end(act, old.task_id)
    view = await _publish(
        growth,
        act,
        title=VIEW,
        description="Ten points for looking at three different teas, every day.",
        event_type="product.viewed",
        distinct_by="sku",
        count=3,
        period="daily",
        reward=[PointsReward(points=10)],
    )
    order = await _publish(
        growth,
        act,
        title=ORDER,
        description="A hundred points for your first order. Returning all of it takes them back.",
        event_type="shop.order_paid",
        filter=[Condition(field="is_first_order", equals=True)],
        undo_on_refund="whole",
        reward=[PointsReward(points=100)],
    )
    return [
        f"every day     task {view} (three teas looked at, 10 points)",
        f"once          task {order} (first order, 100 points)",
    ]


async def _publish(growth: Growth, act: Act, **fields: Any) -> str:
    made = await growth.of(Tasks).create(act, _draft(act.now, **fields), None, b"")
    return (await growth.of(Tasks).publish(act, made.answer.task_id, accept_warnings=False)).task_id


def _draft(now: datetime, **fields: Any) -> TaskDraft:
    return TaskDraft(opens_at=now, closes_at=now + OPEN_FOR, **fields)
