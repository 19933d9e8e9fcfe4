"""The demo shop: campaigns to play with right away, made through the same services that operators use.

One module for each room, each with `put`: end what an earlier demo left, open something fresh, say what there is.
"""

from datetime import datetime

from msgspec import Struct

from growth.bootstrap import Growth, assembled
from growth.demo import checkin, coupon, flash_sale, group_buy, referral, retention, task
from growth.plumbing.http import operators
from growth.plumbing.settings import Settings
from growth.plumbing.watch.audit import Act
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role

DEMO = "demo"

ROOMS = (flash_sale, group_buy, coupon, referral, checkin, task, retention)


class DemoShop(Struct, frozen=True):
    """What is there to try."""

    operator_key: str
    open_sale_id: str
    lines: list[str]
    """What is there, a line each."""

    def told(self) -> str:
        """Say it to a person."""
        return "\n".join([f"operator key  {self.operator_key}", *self.lines])


async def put_demo_shop(settings: Settings, shoppers: int | None = None, days: int = 0) -> DemoShop:
    """End what an earlier demo left and open a fresh one; with so many visitors in so many days, if told."""
    async with assembled(settings) as growth:
        act = Act(Operator(DEMO, Role.ADMIN), clock.now(), reason="demo")
        if shoppers is not None:
            await retention.put_visitors(growth, act.now, shoppers, days)
        key = await _operator(growth, act.now)
        lines = [line for room in ROOMS for line in await room.put(growth, act)]
        return DemoShop(key, await flash_sale.open_sale_id(growth), lines)


async def _operator(growth: Growth, now: datetime) -> str:
    """Make an operator whose key is known to this run alone."""
    for row in await operators.list_operators(growth.database):
        if row.name.startswith(DEMO) and row.revoked_at is None:
            async with growth.database.transaction() as tx:
                await operators.revoke(tx, row.name, now)
    async with growth.database.transaction() as tx:
        return await operators.add(tx, f"{DEMO}-{now:%Y%m%d-%H%M%S-%f}", Role.ADMIN, now)
