"""The room of coupons on a database of its own; whatever a test does, every invariant holds after it."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct

from growth.kit.campaign import store as campaigns
from growth.kit.campaign.audience import Audiences
from growth.plumbing.postgres.database import Database
from growth.plumbing.redis.client import AnyRedis
from growth.plumbing.watch.audit import Act
from growth.plumbing.watch.invariants import all_invariants
from growth.rewards.coupon import service
from growth.rewards.coupon.code.model import CodeBatchDraft, MadeCodes
from growth.rewards.coupon.code.service import Codes
from growth.rewards.coupon.model import Coupon, Issue, Issued, Voided
from growth.rewards.coupon.payment.settlement import CouponSettlement
from growth.rewards.coupon.quote.service import Quotes
from growth.rewards.coupon.service import Coupons
from growth.rewards.coupon.store import coupons as store
from growth.rewards.coupon.take.service import TakenCoupon, Takes
from growth.rewards.coupon.template.model import TEMPLATES, CouponDraft, CouponTemplate, FixedOff, ValidForDays
from growth.rewards.coupon.template.service import Templates
from growth.shop.order.service import Result, ShopService
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from tests.kit.invariants import violations
from tests.kit.turn import turn_at
from tests.shop.order import telling
from tests.world import stores

INVARIANTS = tuple(one for one in all_invariants() if one.room in {"coupon", "order"})


class Room(Struct):
    """What one process has of the room."""

    database: Database
    shop: ShopService
    templates: Templates
    coupons: Coupons
    takes: Takes
    quotes: Quotes
    codes: Codes

    async def template(self, *, state: str = "published", **changes: Any) -> CouponTemplate:
        """A template in Postgres, past the rules for operators: ten yuan off, for thirty days, ten units."""
        moment = now()
        async with self.database.transaction() as tx:
            made = await campaigns.add(tx, TEMPLATES, new_id(moment), a_draft(**changes), moment)
            if state != "draft":
                moved = await campaigns.move(tx, TEMPLATES, made.template_id, ["draft"], state, moment)
                assert moved is not None
                made = moved
        return made

    async def again(self, template: CouponTemplate) -> CouponTemplate:
        """The template as it is now."""
        return (await campaigns.find(self.database, TEMPLATES, [template.template_id]))[template.template_id]

    async def issues(self, *issues: Issue, moment: datetime | None = None) -> list[Issued]:
        async with self.database.transaction() as tx:
            return await service.issue(tx, issues, moment or now())

    async def grants(self, template: CouponTemplate, user_id: str = "ann") -> Coupon:
        """A coupon of the shopper's."""
        (issued,) = await self.issues(an_issue(template, user_id))
        assert issued.outcome == "issued"
        return await self.coupon(issued.coupon_id)

    async def takes_one(self, template: CouponTemplate, user_id: str = "ann", key: str | None = None) -> TakenCoupon:
        return await self.takes.take(template.template_id, user_id, key)

    async def tells(self, *events: telling.JSON) -> list[Result]:
        return await telling.tell(self.shop, *events, now=now())

    async def told(self, event: telling.JSON) -> str:
        """What the shop hears of one event: the outcome, and the code if there is one."""
        (answer,) = telling.outcomes(await self.tells(event))
        return answer

    async def make(self, template: CouponTemplate, codes: int = 1) -> MadeCodes:
        draft = CodeBatchDraft(name="Flyer", codes=codes)
        return (await self.codes.make(an_act(), template.template_id, draft, None, b"")).answer

    async def owed(self) -> dict[tuple[str, str], tuple[str, int]]:
        """What must be paid back, by order and line: why and how much."""
        rows = await self.database.fetch("SELECT order_id, line_id, reason, amount_fen FROM coupon.refunds_required")
        return {(row["order_id"], row["line_id"]): (row["reason"], row["amount_fen"]) for row in rows}

    async def over(self, *coupons: Coupon) -> None:
        """Let the time of coupons have passed a minute ago."""
        await self.database.fetchval(
            """
            UPDATE coupon.coupons
            SET valid_from = clock_timestamp() - interval '1 day',
                valid_until = clock_timestamp() - interval '1 minute'
            WHERE coupon_id = ANY ($1::uuid[])
            """,
            [one.coupon_id for one in coupons],
        )

    async def voids(self, *coupons: Coupon | str) -> list[Voided]:
        async with self.database.transaction() as tx:
            return await service.void(tx, [one if isinstance(one, str) else one.coupon_id for one in coupons], now())

    async def coupon(self, of: Coupon | str) -> Coupon:
        coupon_id = of if isinstance(of, str) else of.coupon_id
        return (await store.find_coupons(self.database, [coupon_id]))[coupon_id]

    async def states(self, *coupons: Coupon) -> list[str]:
        return [(await self.coupon(one)).state for one in coupons]

    def turn(self, moment: datetime | None = None) -> Any:
        return turn_at(self.database, moment or now())

    async def events(self, type_: str) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "SELECT data::text FROM plumbing.outbox WHERE type = $1 ORDER BY position", f"coupon.{type_}"
        )
        return [json.loads(row["data"]) for row in rows]


def a_draft(**changes: Any) -> CouponDraft:
    plain: dict[str, Any] = {
        "title": "Ten off",
        "discount": FixedOff(off_fen=1000),
        "validity": ValidForDays(days=30),
        "units_total": 10,
    }
    return CouponDraft(**plain | changes)


def an_issue(template: CouponTemplate | str, user_id: str = "ann", coupon_id: str | None = None) -> Issue:
    return Issue(
        coupon_id=coupon_id or new_id(now()),
        template_id=template if isinstance(template, str) else template.template_id,
        user_id=user_id,
        reason="test.grant",
    )


def outcomes(answers: Sequence[Issued | Voided]) -> list[str]:
    return [one.outcome for one in answers]


def an_act(reason: str = "") -> Act:
    return Act(Operator("olga", Role.EDITOR), now(), "request", reason)


def line(coupon: Coupon | str | None, line_id: str = "1", **changes: Any) -> telling.JSON:
    coupon_id = coupon.coupon_id if isinstance(coupon, Coupon) else coupon
    return {"line_id": line_id, "sku": "tea", "units": 1, "amount_fen": 4000, "coupon_id": coupon_id, **changes}


def placed(
    order_id: str, *lines: telling.JSON, user_id: str = "ann", placed_at: datetime | None = None
) -> telling.JSON:
    data = {"order_id": order_id, "user_id": user_id, "placed_at": (placed_at or now()).isoformat(), "lines": lines}
    return telling.event("order.placed", data)


def paid(order_id: str, *lines: telling.JSON, user_id: str = "ann") -> telling.JSON:
    paid_fen = sum(int(one["amount_fen"]) for one in lines)
    return telling.paid(order_id, *lines, user_id=user_id, paid_fen=paid_fen)


def closed(order_id: str) -> telling.JSON:
    return telling.closed(order_id)


def refunded(order_id: str, *line_ids: str) -> telling.JSON:
    """Lines paid back whole."""
    lines = [telling.of(1, 4000, line_id) for line_id in line_ids or ("1",)]
    return telling.refunded(order_id, f"r-{'-'.join(line_ids or ('1',))}", *lines)


def assemble(database: Database, redis: AnyRedis) -> Room:
    """One more process on the same stores."""
    zone = ZoneInfo("Asia/Shanghai")
    return Room(
        database=database,
        shop=ShopService(database, [CouponSettlement()], [telling.SECRET]),
        templates=Templates(database, zone, Audiences()),
        coupons=Coupons(database),
        takes=Takes(database, zone, Audiences()),
        quotes=Quotes(database),
        codes=Codes(database, redis, zone, Audiences()),
    )


@pytest.fixture
async def room(postgres_dsn: str, redis_url: str) -> AsyncIterator[Room]:
    """A process of its own, with empty stores."""
    async with stores(postgres_dsn, redis_url) as (database, redis):
        room = assemble(database, redis)
        yield room
        await room.takes.drain()
        broken = await violations(database, INVARIANTS)
    assert not broken
