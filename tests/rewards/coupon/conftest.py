"""The room of coupons on a database of its own; whatever a test does, every invariant holds after it."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from msgspec import Struct

from growth.plumbing.invariants import violations
from growth.plumbing.postgres import Database, connect_postgres
from growth.rewards.coupon import service, store
from growth.rewards.coupon.model import Coupon, Issue, Issued, Voided
from growth.rewards.coupon.template import store as templates_store
from growth.rewards.coupon.template.model import CouponDraft, CouponTemplate, FixedOff, ValidForDays
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id


class Anybody:
    """A turn of a periodic task that needs no lease, at a moment of the test's choice."""

    def __init__(self, database: Database, moment: datetime) -> None:
        self.now = moment
        self.transaction = database.transaction


class Room(Struct):
    """What one process has of the room."""

    database: Database

    async def template(self, *, state: str = "published", **changes: Any) -> CouponTemplate:
        """A template in Postgres, past the rules for operators: ten yuan off, for thirty days, ten units."""
        moment = now()
        async with self.database.transaction() as tx:
            made = await templates_store.add_template(tx, new_id(moment), a_draft(**changes), moment)
            if state != "draft":
                moved = await templates_store.move_template(tx, made.template_id, ["draft"], state, moment)
                assert moved is not None
                made = moved
        return made

    async def again(self, template: CouponTemplate) -> CouponTemplate:
        """The template as it is now."""
        return (await templates_store.find_templates(self.database, [template.template_id]))[template.template_id]

    async def issues(self, *issues: Issue, moment: datetime | None = None) -> list[Issued]:
        async with self.database.transaction() as tx:
            return await service.issue(tx, issues, moment or now())

    async def grants(self, template: CouponTemplate, user_id: str = "ann") -> Coupon:
        """A coupon of the shopper's."""
        (issued,) = await self.issues(an_issue(template, user_id))
        assert issued.outcome == "issued"
        return await self.coupon(issued.coupon_id)

    async def voids(self, *coupons: Coupon | str) -> list[Voided]:
        async with self.database.transaction() as tx:
            return await service.void(tx, [one if isinstance(one, str) else one.coupon_id for one in coupons], now())

    async def coupon(self, of: Coupon | str) -> Coupon:
        coupon_id = of if isinstance(of, str) else of.coupon_id
        return (await store.find_coupons(self.database, [coupon_id]))[coupon_id]

    async def states(self, *coupons: Coupon) -> list[str]:
        return [(await self.coupon(one)).state for one in coupons]

    def turn(self, moment: datetime | None = None) -> Any:
        return Anybody(self.database, moment or now())

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


@pytest.fixture
async def room(postgres_dsn: str) -> AsyncIterator[Room]:
    """A process of its own, with an empty database."""
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=5, statement_seconds=10)
    yield Room(database)
    broken = await violations(database)
    await database.close()
    assert not broken
