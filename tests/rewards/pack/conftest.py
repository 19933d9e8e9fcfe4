"""The room of the new-shopper pack, with all that it gives, on a database of its own."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct

from growth.kit.campaign import store as campaigns
from growth.plumbing.outbox.outbox import Subscription, deliver
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch.audit import Act
from growth.plumbing.watch.invariants import all_invariants
from growth.rewards.coupon.template.model import TEMPLATES, CouponDraft, CouponTemplate, FixedOff, ValidForDays
from growth.rewards.pack import store
from growth.rewards.pack.model import Pack, PackDraft, Recipient
from growth.rewards.pack.service import LISTENS_TO, Packs
from growth.shop.order.service import ShopService
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from growth.vocabulary.rewards import PointsReward
from tests.kit.invariants import violations
from tests.shop.order import telling

INVARIANTS = tuple(one for one in all_invariants() if one.room in {"pack", "coupon", "granting", "ledger", "shop"})


class Room(Struct):
    """What one process has of the room."""

    database: Database
    shop: ShopService
    packs: Packs

    async def holds(self, *rewards: Any, **changes: Any) -> Pack:
        """Switch the pack on, with these rewards in it."""
        plain: dict[str, Any] = {"enabled": True, "rewards": list(rewards) or [PointsReward(points=10)]}
        pack = (await self.packs.page()).pack
        return await self.packs.change(an_act(), pack.version, PackDraft(**plain | changes))

    async def template(self, **changes: Any) -> CouponTemplate:
        plain: dict[str, Any] = {
            "title": "Ten off",
            "discount": FixedOff(off_fen=1000),
            "validity": ValidForDays(days=30),
            "units_total": 100,
        }
        async with self.database.transaction() as tx:
            made = await campaigns.add(tx, TEMPLATES, new_id(now()), CouponDraft(**plain | changes), now())
            moved = await campaigns.move(tx, TEMPLATES, made.template_id, ["draft"], "published", now())
        assert moved is not None
        return moved

    async def registers(self, *user_ids: str, registered_at: datetime | None = None) -> None:
        """The shop tells of new shoppers, and the outbox of that."""
        moment = registered_at or now() - timedelta(seconds=1)
        for user_id in user_ids:
            data = {"user_id": user_id, "registered_at": moment.isoformat()}
            await telling.tell(self.shop, telling.event("shopper.registered", data), now=now())
        await self.delivers()

    async def delivers(self) -> None:
        while await deliver(self.database, Subscription("pack.give", LISTENS_TO, self.packs.give)):
            pass

    async def recipient(self, user_id: str) -> Recipient | None:
        return await store.find_recipient(self.database, user_id)

    async def points(self, user_id: str) -> int:
        return int(
            await self.database.fetchval(
                """
                SELECT coalesce(sum((reward ->> 'points')::int), 0)
                FROM granting.grants
                WHERE user_id = $1
                  AND outcome = 'granted'
                """,
                user_id,
            )
        )


def an_act(reason: str = "") -> Act:
    return Act(Operator("olga", Role.EDITOR), now(), "request", reason)


@pytest.fixture
async def room(postgres_dsn: str) -> AsyncIterator[Room]:
    """A process of its own, with an empty database."""
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    yield Room(database, ShopService(database, [], [telling.SECRET]), Packs(database, ZoneInfo("Asia/Shanghai")))
    broken = await violations(database, INVARIANTS)
    await database.close()
    assert not broken
