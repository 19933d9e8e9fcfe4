"""What the clock does to claims and sales."""

import time
from collections import Counter
from datetime import timedelta

import structlog

from growth.kit.campaign.service import end_over
from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.aftermath import after_release
from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.claim.redis_sync import Loader
from growth.mechanics.flash_sale.model import COOL_DOWN_FORGIVEN_AFTER, SALES, Sale, cooling_until
from growth.mechanics.flash_sale.stock import KEYS_KEPT_AFTER_CLOSE, Stock
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.work.periodic import Turn
from growth.vocabulary.refusals import Unavailable

log = structlog.get_logger("flash_sale.periodic")

LAPSE_BATCH = 500
"""Holds ended in one transaction."""
END_BATCH = 100
CLOCKS_APART = timedelta(seconds=5)
"""Redis stamps a hold and Postgres ends it: never before either of them says so."""
RESTS = 10
"""Times as long as comparing it takes. Reckoned, not measured: a store that stood still is no reason to rest."""
COMPARED_IN_A_SECOND = 60_000
MANY_COMPARED = 20_000
WARM_AHEAD = timedelta(minutes=10)


class ClaimKeeper:
    """Keeps claims and sales in step with the clock, and Redis with Postgres."""

    def __init__(self, database: Database, stock: Stock, loader: Loader) -> None:
        self._database = database
        self._stock = stock
        self._loader = loader
        self._resting: dict[str, float] = {}

    async def end_lapsed_holds(self, turn: Turn) -> int:
        """End holds whose time is over and count them against their shoppers."""
        async with turn.transaction(everyone=True) as tx:
            lapsed = await store.lock_lapsed(tx, turn.now - CLOCKS_APART, LAPSE_BATCH)
            claims = await store.release(tx, lapsed, "lapsed", turn.now) if lapsed else []
            if claims:
                await after_release(tx, self._stock, claims, "lapsed", turn.now)
                await self._count_lapses(tx, turn, claims)
        return len(claims)

    async def _count_lapses(self, tx: Tx, turn: Turn, claims: list[Claim]) -> None:
        lapsed = Counter(claim.user_id for claim in claims)
        counts = await store.add_lapses(tx, lapsed, turn.now, turn.now - COOL_DOWN_FORGIVEN_AFTER)
        for sale in await sales_store.visible_sales(tx, turn.now):
            seconds = sale.protection.cool_down_seconds
            if seconds is not None:
                self._cool_down(tx, sale, seconds, counts, turn)

    def _cool_down(self, tx: Tx, sale: Sale, seconds: int, counts: dict[str, int], turn: Turn) -> None:
        until = {user_id: cooling_until(seconds, count, turn.now) for user_id, count in counts.items()}

        async def tell() -> None:
            if await self._stock.is_loaded(sale.sale_id):
                await self._stock.cool_down(sale.sale_id, until, sale.closes_at)

        tx.after_commit(tell)

    async def end_closed_sales(self, turn: Turn) -> int:
        """End sales whose window has closed."""
        async with turn.transaction() as tx:
            return await end_over(tx, SALES, turn.now - CLOCKS_APART, turn.now, END_BATCH)

    async def load_ahead(self, turn: Turn) -> int:
        """Load sales into Redis before they open, so that no shopper waits for it."""
        loaded = 0
        for sale in await sales_store.visible_sales(self._database, turn.now):
            soon = sale.opens_at - WARM_AHEAD <= turn.now < sale.closes_at
            if soon and not await self._stock.is_loaded(sale.sale_id):
                await self._loader.load(sale.sale_id)
                loaded += 1
        return loaded

    async def reconcile(self, turn: Turn) -> int:
        """Compare and mend every sale that Redis holds, one after the other; one that fails does not stop the next.

        A sale with a million claims takes half a minute to compare: it then rests for five. What operators decided, a
        sale is told even then.
        """
        mended = 0
        sales = await sales_store.visible_sales(self._database, turn.now - KEYS_KEPT_AFTER_CLOSE)
        rested: dict[str, float] = {}
        for sale in sales:
            rest_until = self._resting.get(sale.sale_id, 0.0)
            try:
                if time.monotonic() < rest_until:
                    rested[sale.sale_id] = rest_until
                    await self._stock.configure(sale)
                    continue
                done = await self._loader.reconcile(sale.sale_id, turn.now)
            except Unavailable as error:
                log.warning("flash_sale.not_reconciled", sale_id=sale.sale_id, why=error.what)
                continue
            mended += done.mended
            if done.compared > MANY_COMPARED:
                rested[sale.sale_id] = time.monotonic() + RESTS * done.compared / COMPARED_IN_A_SECOND
        self._resting = rested
        return mended
