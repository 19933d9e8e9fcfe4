"""Flash sales of the demo shop."""

from datetime import datetime, timedelta

from growth.bootstrap import Growth
from growth.mechanics.flash_sale.model import Item, Sale, SaleDraft
from growth.mechanics.flash_sale.series.model import SeriesDraft
from growth.mechanics.flash_sale.series.service import SeriesService
from growth.mechanics.flash_sale.service import Sales
from growth.plumbing.watch.audit import Act

OPEN_FOR = timedelta(days=1)
OPENS_IN = timedelta(seconds=45)


async def put(growth: Growth, act: Act) -> list[str]:
    """A sale that is open, one that opens soon, and one every week."""
    await _end_old(growth, act)
    now, soon = act.now, act.now + OPENS_IN
    open_sale = await _publish(growth, act, _draft("Tea for one yuan", "demo-tea", 100, now, now + OPEN_FOR))
    soon_sale = await _publish(growth, act, _draft("Teapot at dawn", "demo-teapot", 990, soon, soon + OPEN_FOR))
    series = await growth.of(SeriesService).create(act, _series(now), None, b"")
    await growth.of(SeriesService).publish(act, series.answer.series_id)
    return [
        f"open now      flash sale {open_sale.sale_id} (100 units at ¥1)",
        f"opens soon    flash sale {soon_sale.sale_id} (50 units at ¥9.90, in {OPENS_IN.seconds} s)",
        f"each week     series {series.answer.series_id} (Wednesdays 20:00, 100 units at ¥1)",
    ]


async def open_sale_id(growth: Growth) -> str:
    """Return the sale that `growth dev` invites to."""
    found = await growth.of(Sales).page(state="published", series_id=None, before=None, limit=100)
    return next(sale.sale_id for sale in found if sale.sku == "demo-tea")


def _draft(title: str, sku: str, price_fen: int, opens_at: datetime, closes_at: datetime) -> SaleDraft:
    return SaleDraft(
        title=title,
        sku=sku,
        price_fen=price_fen,
        list_price_fen=9900,
        units_total=100 if price_fen == 100 else 50,  # noqa: PLR2004 - one yuan
        opens_at=opens_at,
        closes_at=closes_at,
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


async def _publish(growth: Growth, act: Act, draft: SaleDraft) -> Sale:
    made = await growth.of(Sales).create(act, draft, None, b"")
    return await growth.of(Sales).publish(act, made.answer.sale_id)


async def _end_old(growth: Growth, act: Act) -> None:
    sales, plans = growth.of(Sales), growth.of(SeriesService)
    for series in await plans.page(state="published", before=None, limit=100):
        if series.title == "Wednesday at eight":
            await plans.end(act, series.series_id)
    for old in await sales.page(state="published", series_id=None, before=None, limit=100):
        if old.sku.startswith("demo-"):
            await sales.end(act, old.sale_id)
