"""The demo shop: campaigns to play with right away, made through the same services that operators use."""

from datetime import datetime, timedelta

from msgspec import Struct

from growth.bootstrap import Growth, assembled
from growth.mechanics.flash_sale.model import Draft, Sale
from growth.mechanics.flash_sale.series.model import Item, SeriesDraft
from growth.mechanics.group_buy.model import Draft as GroupBuyDraft
from growth.plumbing import operators
from growth.plumbing.audit import Act
from growth.settings import Settings
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role

DEMO = "demo"
OPEN_FOR = timedelta(days=1)
OPENS_IN = timedelta(seconds=45)


class DemoShop(Struct, frozen=True):
    """What is there to try."""

    operator_key: str
    open_sale_id: str
    soon_sale_id: str
    series_id: str
    group_buy_id: str

    def told(self) -> str:
        """Say it to a person."""
        return (
            f"operator key  {self.operator_key}\n"
            f"open now      flash sale {self.open_sale_id} (100 units at ¥1)\n"
            f"opens soon    flash sale {self.soon_sale_id} (50 units at ¥9.90, in {OPENS_IN.seconds} s)\n"
            f"each week     series {self.series_id} (Wednesdays 20:00, 100 units at ¥1)\n"
            f"in teams      group buy {self.group_buy_id} (three people, half the price)"
        )


async def put_demo_shop(settings: Settings) -> DemoShop:
    """End what an earlier demo left and open a fresh one."""
    async with assembled(settings) as growth:
        now = clock.now()
        act = Act(Operator(DEMO, Role.ADMIN), now, reason="demo")
        await _end_old(growth, act)
        key = await _operator(growth, now)
        open_sale = await _publish(growth, act, _draft("Tea for one yuan", "demo-tea", 100, now, now + OPEN_FOR))
        soon = now + OPENS_IN
        soon_sale = await _publish(growth, act, _draft("Teapot at dawn", "demo-teapot", 990, soon, soon + OPEN_FOR))
        series = await growth.flash_sale.series.create(act, _series(now), None, b"")
        await growth.flash_sale.series.publish(act, series.answer.series_id)
        group_buy = await growth.group_buy.group_buys.create(act, _group_buy(now), None, b"")
        await growth.group_buy.group_buys.publish(act, group_buy.answer.group_buy_id)
    return DemoShop(key, open_sale.sale_id, soon_sale.sale_id, series.answer.series_id, group_buy.answer.group_buy_id)


def _draft(title: str, sku: str, price_fen: int, opens_at: datetime, closes_at: datetime) -> Draft:
    return Draft(
        title=title,
        sku=sku,
        price_fen=price_fen,
        list_price_fen=9900,
        units_total=100 if price_fen == 100 else 50,  # noqa: PLR2004 - one yuan
        opens_at=opens_at,
        closes_at=closes_at,
    )


def _group_buy(now: datetime) -> GroupBuyDraft:
    return GroupBuyDraft(
        title="Tea for three",
        sku="demo-tea-for-three",
        list_price_fen=9900,
        price_fen=4950,
        units_total=300,
        opens_at=now,
        closes_at=now + OPEN_FOR,
    )


def _series(now: datetime) -> SeriesDraft:
    return SeriesDraft(
        title="Wednesday at eight",
        zone="Asia/Shanghai",
        days_of_week=["wed"],
        start_time="20:00",
        duration_minutes=60,
        from_day=now.date(),
        items=[
            Item(
                title="Tea for one yuan",
                sku="demo-wednesday-tea",
                price_fen=100,
                list_price_fen=9900,
                units_total=100,
            )
        ],
    )


async def _publish(growth: Growth, act: Act, draft: Draft) -> Sale:
    made = await growth.flash_sale.sales.create(act, draft, None, b"")
    return await growth.flash_sale.sales.publish(act, made.answer.sale_id)


async def _end_old(growth: Growth, act: Act) -> None:
    sale = growth.flash_sale
    for series in await sale.series.page(state="published", before=None, limit=100):
        if series.title == "Wednesday at eight":
            await sale.series.end(act, series.series_id)
    for old in await sale.sales.page(state="published", series_id=None, before=None, limit=100):
        if old.sku.startswith("demo-"):
            await sale.sales.end(act, old.sale_id)
    for group_buy in await growth.group_buy.group_buys.page(state="published", before=None, limit=100):
        if group_buy.sku.startswith("demo-"):
            await growth.group_buy.group_buys.end(act, group_buy.group_buy_id)


async def _operator(growth: Growth, now: datetime) -> str:
    """Make an operator whose key is known to this run alone."""
    for row in await operators.list_operators(growth.database):
        if row.name.startswith(DEMO) and row.revoked_at is None:
            async with growth.database.transaction() as tx:
                await operators.revoke(tx, row.name, now)
    async with growth.database.transaction() as tx:
        return await operators.add(tx, f"{DEMO}-{now:%Y%m%d-%H%M%S-%f}", Role.ADMIN, now)
