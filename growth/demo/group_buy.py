"""Group buys of the demo shop."""

from datetime import datetime, timedelta

from growth.bootstrap import Growth
from growth.mechanics.group_buy.model import GroupBuyDraft
from growth.mechanics.group_buy.service import GroupBuys
from growth.plumbing.watch.audit import Act

OPEN_FOR = timedelta(days=1)


async def put(growth: Growth, act: Act) -> list[str]:
    """A campaign for teams of three."""
    for old in await growth.of(GroupBuys).page(state="published", before=None, limit=100):
        if old.sku.startswith("demo-"):
            await growth.of(GroupBuys).end(act, old.group_buy_id)
    made = await growth.of(GroupBuys).create(act, _draft(act.now), None, b"")
    await growth.of(GroupBuys).publish(act, made.answer.group_buy_id)
    return [f"in teams      group buy {made.answer.group_buy_id} (three people, half the price)"]


def _draft(now: datetime) -> GroupBuyDraft:
    return GroupBuyDraft(
        title="Tea for three",
        sku="demo-tea-for-three",
        list_price_fen=9900,
        price_fen=4950,
        units_total=300,
        opens_at=now,
        closes_at=now + OPEN_FOR,
    )
