"""Rebuilding a sale in Redis from Postgres, and mending it where the two differ.

`load` runs when Redis does not know a sale: one process gathers all that Postgres knows under a new generation number
and puts it in place in one step; the others wait a moment. `reconcile` runs again and again while Redis holds a sale:
it compares all that `stock.py` lists, claim by claim and name by name, and corrects the single one; no count is ever
written over a live one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta

import structlog
from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import Counter

from growth.mechanics.flash_sale import model as sales
from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.keeping.service import NameKeeper
from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.model import Sale
from growth.mechanics.flash_sale.stock import KEYS_KEPT_AFTER_CLOSE, Occupied, Stock
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.postgres.database import Database
from growth.vocabulary.clock import Clock
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal, Unavailable

log = structlog.get_logger("flash_sale.loading")

PAGE = 2_000
"""Claims read and laid at once."""
LOAD_WAIT_SECONDS = 2.0
"""How long others wait for a rebuild before they answer 503."""
LOAD_POLL_SECONDS = 0.02
GRACE = timedelta(seconds=15)
"""Claims younger than this may still be on their way from Redis to Postgres. One that takes longer still is no harm:
Postgres has the last word, and Redis is told of it with the next look."""
SECOND_LOOK_SECONDS = 1.0
"""Before an old claim that Postgres does not know is given back, it is asked about once more: when a store was out of
reach for longer than the grace, what waited for it arrives just now."""
MAX_DIFFERENCES = 10_000
SUSPECT_PAUSE_SECONDS = 1.0
MAX_SUSPECTS = 100
FIRST_ID = "00000000-0000-0000-0000-000000000000"

MENDED = Counter("growth_flash_sale_mended_claims", "Claims on which Redis and Postgres differed", ["how"])
MENDED_NAMES = Counter("growth_flash_sale_mended_names", "Names on which Redis and Postgres differed", ["what"])
LOADED = Counter("growth_flash_sale_loads", "Sales rebuilt in Redis from Postgres")


class Loader:
    """Keeps Redis in line with Postgres, for this process."""

    def __init__(self, database: Database, stock: Stock, clock: Clock) -> None:
        self._database = database
        self._stock = stock
        self._clock = clock
        self._suspects: dict[str, asyncio.Task[None]] = {}
        self._unsteady: dict[str, Disagreement] = {}
        self._names = NameKeeper(database, stock)

    async def load(self, sale_id: str) -> None:
        """Return when Redis knows the sale, whoever rebuilds it. Raises `Refusal` (404) and `Unavailable`."""
        token = new_id(self._clock())
        give_up_at = time.monotonic() + LOAD_WAIT_SECONDS
        while not await self._stock.is_loaded(sale_id):
            if await self._stock.lock_for_load(sale_id, token):
                try:
                    # Another may have just done it: a second time would forget who was admitted since.
                    if not await self._stock.is_loaded(sale_id):
                        await self._rebuild(sale_id, token)
                finally:
                    await self._stock.unlock_load(sale_id, token)
                return
            if time.monotonic() > give_up_at:
                raise Unavailable("the sale is being loaded")
            await asyncio.sleep(LOAD_POLL_SECONDS)

    async def _rebuild(self, sale_id: str, token: str) -> None:
        sale = await sales_store.find_sale(self._database, sale_id)
        if sale is None or sale.state == "draft":
            raise Refusal(sales.NOT_FOUND)
        generation = await sales_store.raise_generation(self._database, sale_id)
        claims, last_id = 0, FIRST_ID
        while page := await store.occupying_after(self._database, sale_id, last_id, PAGE):
            last_id, claims = page[-1].claim_id, claims + len(page)
            await self._stock.gather_claims(sale_id, generation, page)
            await self._stock.keep_load_lock(sale_id, token)
        await self._gather_rules(sale, generation)
        await self._stock.load(sale, generation)
        LOADED.inc()
        log.info("flash_sale.loaded", sale_id=sale_id, generation=generation, claims=claims)

    async def _gather_rules(self, sale: Sale, generation: int) -> None:
        last_user = ""
        while page := await sales_store.allowed_after(self._database, sale.sale_id, last_user, PAGE):
            last_user = page[-1]
            await self._stock.gather_allowed(sale.sale_id, generation, page)
        seconds = sale.protection.cool_down_seconds
        if seconds is not None:
            async for until in self._names.waits_due(seconds, self._clock()):
                await self._stock.gather_cooling(sale.sale_id, generation, until)

    def suspect(self, sale_id: str) -> None:
        """Have a sale compared soon, because Postgres refused what Redis let in; asked often, done once a second."""
        if sale_id not in self._suspects and len(self._suspects) < MAX_SUSPECTS:
            task = asyncio.create_task(self._look_into(sale_id), name=f"flash_sale.suspect:{sale_id}")
            self._suspects[sale_id] = task
            task.add_done_callback(lambda _: self._suspects.pop(sale_id, None))

    async def _look_into(self, sale_id: str) -> None:
        try:
            await self.reconcile(sale_id, self._clock())
        except Unavailable as error:
            log.warning("flash_sale.not_compared", sale_id=sale_id, why=error.what)
        await asyncio.sleep(SUSPECT_PAUSE_SECONDS)

    async def close(self) -> None:
        """Stop looking into suspects; the worker's reconciler sees them as well."""
        tasks = list(self._suspects.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def differences(self, sale_id: str, older_than: datetime) -> list[Occupied]:
        """Return what Redis must be told to agree with Postgres on claims made before `older_than`.

        At most `MAX_DIFFERENCES`: more of them are told the next time.
        """
        found: list[Occupied] = []
        async for wrong in self._compare(sale_id, older_than):
            found += wrong
            if len(found) >= MAX_DIFFERENCES:
                break
        return found

    async def _compare(
        self, sale_id: str, older_than: datetime, seen: "ComparedTotals | None" = None
    ) -> AsyncIterator[list[Occupied]]:
        """Yield corrections page by page; neither side is ever held in memory whole. `seen` learns what there is."""
        # What Redis knows is read first: a claim that Postgres does not know by then, and that is old, never got there.
        async for page in self._stock.known_claims(sale_id):
            if seen is not None:
                seen.units += sum(claim.units for claim in page)
                seen.claims += len(page)
            known = await store.occupying(self._database, [claim.claim_id for claim in page])
            yield [
                Occupied(claim.claim_id, claim.user_id, 0, claim.held_at)
                for claim in page
                if claim.claim_id not in known and claim.held_at < older_than
            ]
        last_id = FIRST_ID
        while claims := await store.occupying_after(self._database, sale_id, last_id, PAGE):
            last_id = claims[-1].claim_id
            if seen is not None:
                seen.claims += len(claims)
            in_redis = await self._stock.claims_of(sale_id, [claim.claim_id for claim in claims])
            right = [(claim.units, claim.user_id) for claim in claims]
            doubtful = [
                claim.claim_id for claim, one, other in zip(claims, right, in_redis, strict=True) if one != other
            ]
            if doubtful:
                # Some were given back since the page was read: what they occupy now is what Redis is told.
                again = await store.occupying(self._database, doubtful)
                yield list(again.values())

    async def reconcile(self, sale_id: str, now: datetime) -> "Reconciled":
        """Bring Redis to what Postgres says: claim by claim, name by name, then what operators decided."""
        if not await self._stock.is_loaded(sale_id):
            return Reconciled(0, 0)
        sale = await sales_store.find_sale(self._database, sale_id)
        if sale is None:
            return Reconciled(0, 0)
        changed = {"given_back": 0, "taken": 0}
        seen, unknown = ComparedTotals(), list[Occupied]()
        before = (await self._stock.glance(sale_id, 0, want_winners=False)).taken
        async for wrong in self._compare(sale_id, now - GRACE, seen):
            if wrong and wrong[0].units:
                changed["taken"] += await self._stock.settle(sale_id, wrong)
            elif len(unknown) < MAX_DIFFERENCES:
                unknown += wrong
        if unknown:
            await self._wait_for_late_claims()
            known = await store.occupying(self._database, [claim.claim_id for claim in unknown])
            stranded = [claim for claim in unknown if claim.claim_id not in known]
            changed["given_back"] += await self._stock.give_up(sale_id, stranded)
        crowd = await self._names.shoppers(sale_id)
        mended = sum(changed.values())
        if mended:
            for how, count in changed.items():
                MENDED.labels(how).inc(count)
            log.warning("flash_sale.mended", sale_id=sale_id, **changed)
        elif before == (await self._stock.glance(sale_id, 0, want_winners=False)).taken and before is not None:
            await self._check_sums(sale_id, Disagreement(before - seen.units, before - crowd.units, crowd.odd, now))
        names, names_seen = await self._mend_names(sale, now)
        # Last: a sale that was drawn opens to all only when its winners are known.
        await self._stock.configure(sale)
        return Reconciled(mended + names, seen.claims + crowd.names + names_seen)

    async def _mend_names(self, sale: Sale, now: datetime) -> tuple[int, int]:
        invited, invited_seen = await self._names.allowed(sale)
        kept_out, kept_out_seen = await self._names.waits(sale, now)
        if invited or kept_out:
            MENDED_NAMES.labels("allowed").inc(invited)
            MENDED_NAMES.labels("cooldowns").inc(kept_out)
            log.warning("flash_sale.names_mended", sale_id=sale.sale_id, allowed=invited, cooldowns=kept_out)
        return invited + kept_out, invited_seen + kept_out_seen

    async def _wait_for_late_claims(self) -> None:
        await asyncio.sleep(SECOND_LOOK_SECONDS)

    async def _check_sums(self, sale_id: str, found: "Disagreement") -> None:
        """Forget a sale in Redis whose own keys disagree (some were evicted or deleted): it is rebuilt when next asked.

        Claims come and go while they are read, so only a difference that stands still counts: a sum twice, what a
        shopper holds for longer than a claim may be on its way, for the process that had it may have died.
        """
        before = self._unsteady.pop(sale_id, None)
        found = found if before is None else found.after(before)
        if before is not None and (found.has_sum_of(before) or (found.odd and found.seen_at - found.odd_since > GRACE)):
            log.error(
                "flash_sale.keys_disagree",
                sale_id=sale_id,
                claims_off_by=found.claims_off_by,
                shoppers_off_by=found.shoppers_off_by,
                shoppers=len(found.odd),
            )
            await self._stock.forget(sale_id)
        elif found.is_any:
            self._unsteady[sale_id] = found

    async def rename_shopper(self, user_id: str, other_id: str, now: datetime) -> None:
        """Tell Redis, after the commit, that a shopper is called otherwise, or was erased and is an alias.

        Told in each sale that Redis holds: claims move to the name that Postgres has for them, and nothing of the
        former one stays. If Redis does not hear of it, `reconcile` finds the same, name by name.
        """
        for sale in await sales_store.visible_sales(self._database, now - KEYS_KEPT_AFTER_CLOSE):
            if await self._stock.is_loaded(sale.sale_id):
                claims = await store.live_claims_of(self._database, [sale.sale_id], [other_id])
                await self._stock.settle(sale.sale_id, occupied(claims.get((sale.sale_id, other_id), [])))
                await self._names.forget(sale, user_id, other_id, now)


class Disagreement(Struct, frozen=True):
    """How far the keys of one sale are from each other, and from Postgres."""

    claims_off_by: int
    """Units of which the sale says they are taken, less those of the claims."""
    shoppers_off_by: int
    odd: Mapping[str, tuple[int, int]]
    """Shoppers who hold other units than Postgres says: in Redis, in Postgres."""
    seen_at: datetime
    odd_from: datetime | None = None
    """Since when they are odd in this way, if it was seen before."""

    @property
    def odd_since(self) -> datetime:
        """Return when they were first seen to be."""
        return self.odd_from or self.seen_at

    def after(self, before: "Disagreement") -> "Disagreement":
        """Return the same with those shoppers who were as odd before, if any were, and since when they are."""
        still = dict(self.odd.items() & before.odd.items())
        return replace(self, odd=still, odd_from=before.odd_since) if still else self

    @property
    def is_any(self) -> bool:
        """Say whether there is one."""
        return bool(self.claims_off_by or self.shoppers_off_by or self.odd)

    def has_sum_of(self, before: "Disagreement") -> bool:
        """Say whether one of the sums is off as it was before."""
        sums = ((self.claims_off_by, before.claims_off_by), (self.shoppers_off_by, before.shoppers_off_by))
        return any(now and now == then for now, then in sums)


class Reconciled(Struct, frozen=True):
    """What became of a comparison."""

    mended: int
    """Claims and names that were corrected."""
    compared: int
    """Claims and names that were looked at, of both sides together."""


class ComparedTotals(Struct):
    """What a comparison saw: units in Redis, and how many claims."""

    units: int = 0
    claims: int = 0
    """Of both sides."""


def occupied(claims: Iterable[Claim]) -> list[Occupied]:
    """Return what `claims` occupy, as Redis is told."""
    return [Occupied(claim.claim_id, claim.user_id, claim.occupied_units, claim.held_at) for claim in claims]
