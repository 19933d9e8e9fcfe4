"""Comparing what Redis holds of a sale by shoppers' names with what Postgres says, and mending it by the piece.

Each look reads both sides in pages. A telling that passes between the two reads is undone at worst until the next look.
"""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from msgspec import Struct

from growth.mechanics.flash_sale import model as sales
from growth.mechanics.flash_sale.claim.keeping import store
from growth.mechanics.flash_sale.model import Sale
from growth.mechanics.flash_sale.names import SaleNames
from growth.mechanics.flash_sale.stock import MAX_WINNERS, Stock
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.postgres.database import Database
from growth.vocabulary.clock import to_milliseconds

PAGE = 2_000
ZEROS_LEFT = 1_000
"""Of shoppers who hold nothing any more, so many are remembered, and as many as units are taken."""
MAX_ODD = 1_000


class SaleShoppers(Struct):
    """What a look at the shoppers of a sale saw."""

    units: int = 0
    names: int = 0
    odd: dict[str, tuple[int, int]] = {}
    """Shoppers who hold other units than Postgres says: in Redis, in Postgres. A claim on its way does that."""


class NameKeeper:
    """Keeps the names of a sale in Redis in line with Postgres."""

    def __init__(self, database: Database, stock: Stock) -> None:
        self._database = database
        self._stock = stock
        self._names = SaleNames(stock.redis)

    async def shoppers(self, sale_id: str) -> SaleShoppers:
        """Compare who holds units; forget who is unknown and holds none; mend the list of winners."""
        crowd, strangers = SaleShoppers(odd={}), list[str]()
        listed = await self._names.winners(sale_id, MAX_WINNERS + 1)
        holders, known = set[str](), set[str]()
        async for page in self._names.known_shoppers(sale_id):
            held = await store.holdings_of(self._database, sale_id, list(page))
            for user_id, units in page.items():
                crowd.units += units
                crowd.names += 1
                if units == 0 and user_id not in held:
                    strangers.append(user_id)
                elif units != held.get(user_id, 0) and len(crowd.odd) < MAX_ODD:
                    crowd.odd[user_id] = (units, held.get(user_id, 0))
                if len(known) <= MAX_WINNERS:
                    known.add(user_id)
                if units and len(holders) <= MAX_WINNERS:
                    holders.add(user_id)
        if strangers:
            await self._names.forget_shoppers(sale_id, strangers)
        if await self._list_is_wrong(sale_id, listed, holders, known, crowd):
            await self._names.thin(sale_id)
        return crowd

    async def _list_is_wrong(
        self, sale_id: str, before: list[str], holders: set[str], known: set[str], crowd: SaleShoppers
    ) -> bool:
        """Say whether the list of winners lacks somebody, has somebody twice, or has grown far beyond the holders."""
        if crowd.names > 2 * crowd.units + ZEROS_LEFT:
            return True
        if len(holders) > MAX_WINNERS or len(before) > MAX_WINNERS:
            # Nobody reads a list of so many; it is made anew once fewer hold units.
            return len(holders) <= MAX_WINNERS
        # Read after the shoppers were: whoever was among them stands in it.
        after = await self._names.winners(sale_id, MAX_WINNERS + 1)
        return len(set(after)) < len(after) or not holders.issubset(after) or not known.issuperset(before)

    async def forget(self, sale: Sale, user_id: str, other_id: str, now: datetime) -> None:
        """Leave nothing of `user_id` in one sale; what came to `other_id` with a merge stands under that name."""
        await self._names.forget_shoppers(sale.sale_id, [user_id])
        if await store.allowed_of(self._database, sale.sale_id, [other_id]):
            await self._stock.invite(sale.sale_id, [other_id], sale.closes_at)
        waits = _until(sale.protection.cool_down_seconds, await store.lapses_of(self._database, [other_id]))
        still = {user: until for user, until in waits.items() if until > now}
        await self._stock.cool_down(sale.sale_id, still, sale.closes_at)

    async def allowed(self, sale: Sale) -> tuple[int, int]:
        """Compare the allow-list; return how many were corrected, of how many."""
        mended = seen = 0
        async for page in self._names.known_allowed(sale.sale_id):
            seen += len(page)
            known = await store.allowed_of(self._database, sale.sale_id, page)
            if strangers := [user_id for user_id in page if user_id not in known]:
                await self._names.disinvite(sale.sale_id, strangers)
                mended += len(strangers)
        last_user = ""
        while users := await sales_store.allowed_after(self._database, sale.sale_id, last_user, PAGE):
            last_user = users[-1]
            seen += len(users)
            if missing := await self._names.not_allowed(sale.sale_id, users):
                await self._stock.invite(sale.sale_id, missing, sale.closes_at)
                mended += len(missing)
        return mended, seen

    async def waits(self, sale: Sale, now: datetime) -> tuple[int, int]:
        """Compare who is kept out until when; return how many were corrected, of how many."""
        seconds = sale.protection.cool_down_seconds
        mended = seen = 0
        async for page in self._names.known_waits(sale.sale_id):
            seen += len(page)
            due = _until(seconds, await store.lapses_of(self._database, list(page)))
            over = [user_id for user_id in page if user_id not in due or due[user_id] <= now]
            if over:
                await self._names.end_waits(sale.sale_id, over)
                mended += sum(user_id not in due for user_id in over)
        if seconds is None:
            return mended, seen
        async for due in self.waits_due(seconds, now):
            seen += len(due)
            known = await self._names.waits_of(sale.sale_id, list(due))
            wrong = {
                user_id: until
                for (user_id, until), there in zip(due.items(), known, strict=True)
                if there is None or to_milliseconds(there) != to_milliseconds(until)
            }
            await self._stock.cool_down(sale.sale_id, wrong, sale.closes_at)
            mended += len(wrong)
        return mended, seen

    async def waits_due(self, seconds: int, now: datetime) -> AsyncIterator[dict[str, datetime]]:
        """Yield, in pages, until when a sale with `seconds` of waiting keeps shoppers out whose holds lapsed."""
        after = (now - sales.longest_wait(seconds), "")
        while lapses := await store.lapses_after(self._database, after, PAGE):
            after = (lapses[-1][2], lapses[-1][0])
            if due := {user_id: until for user_id, until in _until(seconds, lapses).items() if until > now}:
                yield due


def _until(seconds: int | None, lapses: Iterable[tuple[str, int, datetime]]) -> dict[str, datetime]:
    if seconds is None:
        return {}
    return {user_id: sales.cooling_until(seconds, count, last) for user_id, count, last in lapses}
