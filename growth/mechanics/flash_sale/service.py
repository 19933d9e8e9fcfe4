"""What operators do with sales. Each write is one transaction with its audit entry; Redis follows the commit."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from growth.mechanics.flash_sale import model
from growth.mechanics.flash_sale.board import SaleBoard
from growth.mechanics.flash_sale.claim import store as claims_store
from growth.mechanics.flash_sale.claim.keeping import store as keeping_store
from growth.mechanics.flash_sale.claim.redis_sync import Loader
from growth.mechanics.flash_sale.model import Sale, SaleDraft
from growth.mechanics.flash_sale.stock import Stock
from growth.mechanics.flash_sale.store import sales as store
from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.shop.order.service import ShopService
from growth.vocabulary.events import Event
from growth.vocabulary.events.flash_sale import (
    FlashSaleEnded,
    FlashSalePaused,
    FlashSalePublished,
    FlashSaleResumed,
    FlashSaleSoldOut,
)
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal

TEMPO_SECONDS = 60
RECENT_SECONDS = 10
MAX_COMPARED_UNITS = 20_000
"""Up to here an operator's look compares every claim; the reconciler does so at any size."""


class ClaimDryRun(Struct, frozen=True, kw_only=True):
    """What a claim would get, without making it."""

    would: str
    """`win`, `enter_draw` or `refuse`."""
    code: str | None
    because: str
    at: datetime
    state: model.PageState
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
    state: model.PageState
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


class Sales:
    """The operators' side of flash sales."""

    def __init__(self, database: Database, stock: Stock, board: SaleBoard, loader: Loader, shop: ShopService) -> None:
        self._database = database
        self._stock = stock
        self._board = board
        self._loader = loader
        self._shop = shop

    async def create(self, act: Act, draft: SaleDraft, key: str | None, content: bytes) -> Once[Sale]:
        """Make a draft. Raises `Refusal` 400 for fields that do not fit together."""
        _check(draft)

        async with self._database.transaction() as tx:

            async def work() -> Sale:
                sale = await store.add_sale(tx, new_id(act.now), draft, act.now)
                assert sale is not None, "only rounds of a series can meet themselves"
                await self._audit(tx, act, "create", None, sale)
                return sale

            scope = f"{act.operator.name} POST flash-sales"
            return await once(tx, scope=scope, key=key, content=content, answer_type=Sale, work=work, now=act.now)

    async def find(self, sale_id: str) -> Sale:
        """Return a sale in any state. Raises `Refusal` 404."""
        sale = await store.find_sale(self._database, sale_id)
        if sale is None:
            raise Refusal(model.NOT_FOUND)
        return sale

    async def page(self, *, state: str | None, series_id: str | None, before: str | None, limit: int) -> list[Sale]:
        """Return sales, newest first."""
        return await store.page_of_sales(self._database, state=state, series_id=series_id, before=before, limit=limit)

    async def change(self, act: Act, sale_id: str, version: int, draft: SaleDraft) -> Sale:
        """Edit a sale that is still at `version`. Raises `Refusal`: 412 for an older one, 409 for a locked field."""
        _check(draft)
        async with self._database.transaction() as tx:
            await store.lock_sku(tx, draft.sku)
            before = await self._lock(tx, sale_id)
            if before.version != version:
                raise Refusal(model.VERSION_MISMATCH, f"It is at version {before.version}.", version=before.version)
            model.check_edit(before, draft, act.now)
            after = await store.change_sale(tx, sale_id, version, draft, act.now)
            assert after is not None, "locked, so nobody else changed it"
            if after.sold_out_at != before.sold_out_at:
                await emit(tx, FlashSaleSoldOut(at=act.now, sale_id=sale_id))
            if after.state in {"published", "paused"}:
                await self._refuse_overlap(tx, after)
            await self._audit(tx, act, "change", before, after)
            if after.state != "draft":
                self._tell_redis(tx, after)
        return after

    async def publish(self, act: Act, sale_id: str) -> Sale:
        """Show a draft to shoppers. Raises `Refusal` 409 if its window is over or its SKU is on sale then."""
        async with self._database.transaction() as tx:
            sale = await self.publish_in(tx, act, sale_id)
        await self._board.refresh_catalogue()
        return sale

    async def publish_in(self, tx: Tx, act: Act, sale_id: str) -> Sale:
        """Publish within a transaction of the caller's."""
        sku = (await self.find_in(tx, sale_id)).sku
        await store.lock_sku(tx, sku)
        before = await self._lock(tx, sale_id)
        if before.sku != sku:
            # The lock is on another SKU than it has now, and locks are taken before the sale's.
            raise Refusal(model.WRONG_STATE, "Its SKU was changed a moment ago; look at it again.", state=before.state)
        if before.closes_at <= act.now:
            raise Refusal(model.WRONG_STATE, "The window is over; change closes_at first.")
        sale = await self._step(tx, act, before, ("draft",), "published", "publish")
        await self._refuse_overlap(tx, sale)
        await emit(
            tx,
            FlashSalePublished(
                at=act.now, sale_id=sale_id, sku=sale.sku, opens_at=sale.opens_at, closes_at=sale.closes_at
            ),
        )
        return sale

    async def find_in(self, tx: Tx, sale_id: str) -> Sale:
        """Return a sale as `tx` sees it. Raises `Refusal` 404."""
        sale = await store.find_sale(tx, sale_id)
        if sale is None:
            raise Refusal(model.NOT_FOUND)
        return sale

    async def pause(self, act: Act, sale_id: str) -> Sale:
        """Stop claims at once; what is held stays held and can be paid."""
        return await self._move(act, sale_id, ("published",), "paused", FlashSalePaused(at=act.now, sale_id=sale_id))

    async def resume(self, act: Act, sale_id: str) -> Sale:
        """Let claims go on."""
        return await self._move(act, sale_id, ("paused",), "published", FlashSaleResumed(at=act.now, sale_id=sale_id))

    async def end(self, act: Act, sale_id: str) -> Sale:
        """End a sale for good; what is held can still be paid until its hold lapses."""
        return await self._move(act, sale_id, ("draft", "published", "paused"), "ended", None)

    async def _move(
        self, act: Act, sale_id: str, from_states: Sequence[str], to_state: str, event: Event | None
    ) -> Sale:
        action = {"paused": "pause", "published": "resume", "ended": "end"}[to_state]
        async with self._database.transaction() as tx:
            before = await self._lock(tx, sale_id)
            sale = await self._step(tx, act, before, from_states, to_state, action)
            if to_state == "ended":
                event = ended(sale, act.now)
            if event is not None:
                await emit(tx, event)
        await self._board.refresh_catalogue()
        return sale

    async def _step(
        self, tx: Tx, act: Act, before: Sale, from_states: Sequence[str], to_state: str, action: str
    ) -> Sale:
        sale = await store.move_sale(tx, before.sale_id, from_states, to_state, act.now)
        if sale is None:
            raise Refusal(model.WRONG_STATE, f"Cannot {action} a sale that is {before.state}.", state=before.state)
        await self._audit(tx, act, action, before, sale)
        if before.state != "draft":
            self._tell_redis(tx, sale)
        return sale

    async def _lock(self, tx: Tx, sale_id: str) -> Sale:
        sale = await store.lock_sale(tx, sale_id)
        if sale is None:
            raise Refusal(model.NOT_FOUND)
        return sale

    async def _refuse_overlap(self, tx: Tx, sale: Sale) -> None:
        other = await store.overlapping_sale(tx, sale)
        if other is not None:
            raise Refusal(model.SKU_ON_SALE, f"Sale {other} sells {sale.sku} in the same window.", sale_id=other)

    def _tell_redis(self, tx: Tx, sale: Sale) -> None:
        async def tell() -> None:
            await self._stock.configure(sale)

        tx.after_commit(tell)

    async def _audit(self, tx: Tx, act: Act, action: str, before: Sale | None, after: Sale) -> None:
        await audit.record(
            tx,
            act,
            f"flash_sale.{action}",
            after.sale_id,
            before=before,
            after=after,
        )

    async def invite(self, act: Act, sale_id: str, user_ids: Sequence[str]) -> int:
        """Add shoppers to the allow-list, whoever they are now; return how many were new."""
        async with self._database.transaction(everyone=True) as tx:
            user_ids = await tx.people.all_today(tx, user_ids)
            sale = await self._lock(tx, sale_id)
            added = await store.invite(tx, sale_id, user_ids)
            await audit.record(
                tx,
                act,
                "flash_sale.invite",
                sale_id,
                after={"user_ids": list(user_ids)},
            )

            async def tell() -> None:
                if await self._stock.is_loaded(sale_id):
                    await self._stock.invite(sale_id, user_ids, sale.closes_at)

            tx.after_commit(tell)
        return added

    async def dry_run(self, sale_id: str, user_id: str, units: int, at: datetime) -> ClaimDryRun:
        """Say what a claim at `at` would get, with today's stock, and why; nothing is changed."""
        user_id = await self._database.people.today(self._database, user_id)
        sale = await self.find(sale_id)
        held = await claims_store.units_held(self._database, sale_id, user_id)
        registered = (await self._shop.registered_at([user_id])).get(user_id)
        cooling_until = None
        seconds = sale.protection.cool_down_seconds
        if seconds is not None and (lapses := await keeping_store.lapses_of(self._database, [user_id])):
            ((_, count, last_lapsed_at),) = lapses
            cooling_until = model.cooling_until(seconds, count, last_lapsed_at)
        invited = await store.is_allowed(self._database, sale_id, user_id)
        standing = model.ShopperInSale(
            units=held,
            cooling_until=cooling_until,
            invited=invited,
            registered_at=registered,
            is_new=model.account_too_new(sale, registered, at),
        )
        kind = model.refusal_of(sale, standing, units, at)
        would = {None: "win", model.DRAWING: "enter_draw"}.get(kind, "refuse")
        return ClaimDryRun(
            would=would,
            code=None if kind is None else kind.code,
            because=model.because(sale, standing, kind, at),
            at=at,
            state=model.page_state(sale, sale.units_left, at),
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
        return SaleStats(
            sale_id=sale_id,
            state=model.page_state(sale, sale.units_left, now),
            units_total=sale.units_total,
            taken=sale.taken,
            units_left=sale.units_left,
            held=count("held"),
            paid=count("paid"),
            refunded=count("refunded"),
            lapsed=count("lapsed"),
            given_back=count("shopper", "order_closed", "operator"),
            refused=await store.refusals_of(self._database, sale_id),
            claims_per_second=recent / RECENT_SECONDS,
            busiest_second_claims=max((claims for _, claims in tempo), default=0),
            sold_out_at=sale.sold_out_at,
            sold_out_after_ms=(
                None if sale.sold_out_at is None else model.milliseconds_until(sale.sold_out_at, sale.opens_at)
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


def ended(sale: Sale, now: datetime) -> FlashSaleEnded:
    """Tell that a sale is over."""
    return FlashSaleEnded(at=now, sale_id=sale.sale_id, units_total=sale.units_total, units_taken=sale.taken)


def _check(draft: SaleDraft) -> None:
    if found := model.faults(draft):
        raise invalid(*found)
