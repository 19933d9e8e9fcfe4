"""What operators do with sales. Each write is one transaction with its audit entry; Redis follows the commit."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from growth.kit.campaign.audience import Audiences
from growth.kit.campaign.model import LIVE, PageState, Step, page_state, window_over
from growth.kit.campaign.service import Campaigns
from growth.mechanics.flash_sale import model
from growth.mechanics.flash_sale.board import SaleBoard
from growth.mechanics.flash_sale.claim import store as claims_store
from growth.mechanics.flash_sale.claim.keeping import store as keeping_store
from growth.mechanics.flash_sale.claim.redis_sync import Loader
from growth.mechanics.flash_sale.model import SALES, Sale, SaleDraft
from growth.mechanics.flash_sale.stock import Stock
from growth.mechanics.flash_sale.store import sales as store
from growth.plumbing.field_errors import FieldError
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.shop.order.service import ShopService
from growth.vocabulary.alike import alike
from growth.vocabulary.clock import milliseconds_until
from growth.vocabulary.events.flash_sale import FlashSaleSoldOut
from growth.vocabulary.refusals import Refusal

TEMPO_SECONDS = 60
RECENT_SECONDS = 10
MAX_COMPARED_UNITS = 20_000
"""Up to here an operator's look compares every claim; the reconciler does so at any size."""


class ClaimDryRun(Struct, frozen=True, kw_only=True):
    """What a claim would get, without making it."""

    would: Literal["win", "enter_draw", "refuse"]
    code: str | None
    because: str
    at: datetime
    state: PageState
    units_left: int
    shopper_units: int
    """Units the shopper occupies in this sale now."""


class StateCount(Struct, frozen=True):
    """How many claims, and how many units they have."""

    claims: int
    units: int


class SaleStats(Struct, frozen=True, kw_only=True):
    """A sale in numbers, as it stands."""

    sale_id: str
    state: PageState
    units_total: int
    taken: int
    units_left: int
    held: StateCount
    paid: StateCount
    refunded: StateCount
    lapsed: StateCount
    given_back: StateCount
    """By shoppers, closed orders and operators together."""
    refused: dict[str, int]
    """Claims turned away, by code; written every few seconds by each api process."""
    claims_per_second: float
    """Won, over the last ten seconds."""
    busiest_second_claims: int
    """Won in the busiest of the last sixty seconds in which any were."""
    sold_out_at: datetime | None
    sold_out_after_ms: int | None
    """From opening to the first time the last unit was taken."""
    redis_loaded: bool
    stores_agree: bool | None
    """Whether Redis and Postgres know the same claims; None while claims are on their way or Redis is not loaded."""
    server_time: datetime


class Sales(Campaigns[SaleDraft, Sale]):
    """The operators' side of flash sales."""

    kind = SALES

    def __init__(
        self,
        database: Database,
        stock: Stock,
        board: SaleBoard,
        loader: Loader,
        shop: ShopService,
        audiences: Audiences,
    ) -> None:
        super().__init__(database)
        self._stock = stock
        self._board = board
        self._loader = loader
        self._shop = shop
        self._audiences = audiences

    async def page(
        self, *, state: str | None, before: str | None, limit: int, q: str | None = None, series_id: str | None = None
    ) -> list[Sale]:
        """Return sales, newest first; those of one series, if one is given."""
        return await store.page_of_sales(
            self._database, state=state, series_id=series_id, before=before, q=q, limit=limit
        )

    async def step_in(self, tx: Tx, act: Act, campaign_id: str, step: Step, *, accept_warnings: bool = False) -> Sale:
        """Take a step within a transaction of the caller's; who publishes has the SKU's lock before the sale's."""
        if step == "publish":
            seen = await store.find_sale(tx, campaign_id)
            if seen is not None:
                await store.lock_sku(tx, seen.sku)
            before = await self.lock(tx, campaign_id)
            if seen is None or before.sku != seen.sku:
                # The lock is on another SKU than it has now.
                told = "Its SKU was changed a moment ago; look at it again."
                raise Refusal(model.WRONG_STATE, told, state=before.state)
        return await super().step_in(tx, act, campaign_id, step, accept_warnings=accept_warnings)

    def late(self, draft: SaleDraft, now: datetime) -> FieldError | None:
        """Say that the window is over."""
        return window_over(draft, now)

    async def lock_before_change(self, tx: Tx, draft: SaleDraft) -> None:
        """Let one edit or publication of a SKU look for overlaps at a time."""
        await store.lock_sku(tx, draft.sku)

    async def before_change(self, _tx: Tx, act: Act, before: Sale, draft: SaleDraft) -> None:
        """Keep what an open sale promises."""
        model.check_edit(before, draft, act.now)

    async def after(self, tx: Tx, act: Act, step: Step | Literal["change"], before: Sale, after: Sale) -> Sale:
        """Refuse a live sale beside another of its SKU, tell when an edit sells it out, and tell Redis."""
        if step == "change" and after.units_left == 0 and after.sold_out_at is None:
            after = await store.mark_sold_out(tx, after.sale_id, act.now)
            await emit(tx, FlashSaleSoldOut(at=act.now, sale_id=after.sale_id))
        if step in {"change", "publish"} and after.state in LIVE:
            other = await store.overlapping_sale(tx, after)
            if other is not None:
                raise Refusal(model.SKU_ON_SALE, f"Sale {other} sells {after.sku} in the same window.", sale_id=other)
        if before.state != "draft":

            async def tell() -> None:
                await self._stock.configure(after)

            tx.after_commit(tell)
        return after

    async def changed(self) -> None:
        """Read the board anew."""
        await self._board.refresh_catalogue()

    async def invite(self, act: Act, sale_id: str, user_ids: Sequence[str]) -> int:
        """Add shoppers to the allow-list, whoever they are now; return how many were new."""
        async with self._database.transaction(everyone=True) as tx:
            user_ids = await tx.people.all_today(tx, user_ids)
            sale = await self.lock(tx, sale_id)
            added = await store.invite(tx, sale_id, user_ids)
            await audit.record(tx, act, "flash_sale.invite", sale_id, after={"user_ids": list(user_ids)})

            async def tell() -> None:
                if await self._stock.is_loaded(sale_id):
                    await self._stock.invite(sale_id, user_ids, sale.closes_at)

            tx.after_commit(tell)
        return added

    async def dry_run(self, sale_id: str, user_id: str, units: int, at: datetime) -> ClaimDryRun:
        """Say what a claim at `at` would get, with today's stock, and why; nothing is changed."""
        user_id = await self._database.people.today(self._database, user_id)
        sale = await self.find(sale_id)
        held = (await keeping_store.holdings_of(self._database, sale_id, [user_id])).get(user_id, 0)
        registered = (await self._shop.registered_at([user_id])).get(user_id)
        cooling_until = None
        seconds = sale.protection.cool_down_seconds
        if seconds is not None and (lapses := await keeping_store.lapses_of(self._database, [user_id])):
            ((_, count, last_lapsed_at),) = lapses
            cooling_until = model.cooling_until(seconds, count, last_lapsed_at)
        invited = bool(await keeping_store.allowed_of(self._database, sale_id, [user_id]))
        standing = model.ShopperInSale(
            units=held,
            cooling_until=cooling_until,
            invited=invited,
            registered_at=registered,
            is_new=model.account_too_new(sale, registered, at),
            missed=await self._audiences.missed(self._database, sale.audience, user_id),
        )
        kind = model.refusal_of(sale, standing, units, at)
        return ClaimDryRun(
            would="win" if kind is None else "enter_draw" if kind is model.DRAWING else "refuse",
            code=None if kind is None else kind.code,
            because=model.because(sale, standing, kind, at),
            at=at,
            state=page_state(sale, sale.units_left, at),
            units_left=sale.units_left,
            shopper_units=held,
        )

    async def stats(self, sale_id: str, now: datetime) -> SaleStats:
        """Return a sale in numbers."""
        sale = await self.find(sale_id)
        counts = await claims_store.count_by_state(self._database, sale_id)

        def count(*states: str) -> StateCount:
            found = [counts.get(state, (0, 0)) for state in states]
            return StateCount(sum(claims for claims, _ in found), sum(units for _, units in found))

        tempo = await store.tempo_of(self._database, sale_id, TEMPO_SECONDS)
        recent = sum(claims for second, claims in tempo if second > now - timedelta(seconds=RECENT_SECONDS))
        loaded, agree = await self._compare(sale)
        return alike(
            SaleStats,
            sale,
            state=page_state(sale, sale.units_left, now),
            held=count("held"),
            paid=count("paid"),
            refunded=count("refunded"),
            lapsed=count("lapsed"),
            given_back=count("shopper", "order_closed", "operator"),
            refused=await store.refusals_of(self._database, sale_id),
            claims_per_second=recent / RECENT_SECONDS,
            busiest_second_claims=max((claims for _, claims in tempo), default=0),
            sold_out_after_ms=(
                None if sale.sold_out_at is None else milliseconds_until(sale.sold_out_at, sale.opens_at)
            ),
            redis_loaded=loaded,
            stores_agree=agree,
            server_time=now,
        )

    async def _compare(self, sale: Sale) -> tuple[bool, bool | None]:
        """Say whether Redis knows the sale, and whether it agrees with Postgres (of huge sales, only on units)."""
        glance = await self._stock.glance(sale.sale_id, 0)
        if glance.taken is None:
            return False, None
        if sale.taken > MAX_COMPARED_UNITS:
            return True, None if glance.taken != sale.taken else True
        differences = await self._loader.differences(sale.sale_id, model.FAR_FUTURE)
        if not differences:
            return True, True
        # What differs now and not in a moment was on its way.
        again = await self._loader.differences(sale.sale_id, model.FAR_FUTURE)
        still = {claim.claim_id for claim in differences} & {claim.claim_id for claim in again}
        return True, False if still else None
