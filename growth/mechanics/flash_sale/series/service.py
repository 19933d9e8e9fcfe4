"""What operators do with series, and the planning of their rounds. Each write is one transaction with its audit."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby, product

import structlog
from msgspec import Struct, structs

from growth.kit.campaign import store as campaigns
from growth.kit.campaign.model import STEPS, Step
from growth.kit.campaign.service import Campaigns
from growth.mechanics.flash_sale import model as sales_model
from growth.mechanics.flash_sale.model import SALES, Sale, SaleDraft
from growth.mechanics.flash_sale.series import model, store
from growth.mechanics.flash_sale.series.model import (
    MAX_PREVIEWED,
    SERIES,
    PreviewedRound,
    PreviewedSale,
    RoundStats,
    Series,
    SeriesDraft,
    SeriesDryRun,
    SeriesPage,
    SeriesStats,
    SoldSale,
    draft_of,
    faults,
    local,
)
from growth.mechanics.flash_sale.series.timetable import FIRST_DAY, LAST_DAY, RoundWindow, is_over, next_rounds, rounds
from growth.mechanics.flash_sale.service import Sales
from growth.mechanics.flash_sale.stock import Stock
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.field_errors import FieldError
from growth.plumbing.http.answers import encode_cursor
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.periodic import LeaseLost, Turn
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.alike import alike
from growth.vocabulary.clock import milliseconds_until, to_milliseconds
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal

log = structlog.get_logger("flash_sale.series")

PLAN_STEP = timedelta(minutes=10)
"""Series are planned on by at least so much: one transaction each in ten minutes."""
PLAN_BATCH = 50
"""Series planned in one turn, each in a transaction of its own."""
RETRY_BATCH = 50
SKIPPED_KEPT = timedelta(days=90)
FORGET_BATCH = 1_000
PLANNER = Operator("series", Role.EDITOR)
"""Who publishes the sales of rounds."""


class RoundsPlanned(Struct):
    """What planning did."""

    planned: int = 0
    skipped: int = 0


class SeriesService(Campaigns[SeriesDraft, Series]):
    """The operators' side of series, and what the clock does to them."""

    kind = SERIES

    def __init__(self, database: Database, stock: Stock, sales: Sales) -> None:
        super().__init__(database)
        self._stock = stock
        self._sales = sales

    # --- what operators write ---------------------------------------------------------------------------------------

    def faults(self, draft: SeriesDraft, now: datetime) -> list[FieldError]:
        """Return what does not fit together, rounds that overlap each other among it."""
        return faults(draft, now)

    def late(self, draft: SeriesDraft, now: datetime) -> FieldError | None:
        """Say that no round is to come."""
        return FieldError("until_day", f"It ended on {draft.until_day}.") if is_over(draft, now) else None

    def too_late(self, late: FieldError) -> Refusal:
        """Return the refusal of a series without rounds."""
        return Refusal(model.NO_ROUNDS_LEFT, late.detail)

    async def step_in(self, tx: Tx, act: Act, campaign_id: str, step: Step, *, accept_warnings: bool = False) -> Series:
        """Take a step, and with it the planned sales that have not opened; plan the rounds of one that goes on."""
        series = await super().step_in(tx, act, campaign_id, step, accept_warnings=accept_warnings)
        if step == "publish":
            return await self._go_on(tx, act, campaign_id)
        if step == "pause":
            sales = await store.lock_sales(tx, campaign_id, ("published",), opens_after=act.now)
        else:
            paused = await store.paused_sales(tx, campaign_id)
            # What the series paused and has not resumed never opened, whatever its time.
            after = act.now if step == "end" else None
            sales = await store.lock_sales(tx, campaign_id, ("paused",), opens_after=after, sale_ids=paused)
        if step == "end":
            sales += await store.lock_sales(tx, campaign_id, ("draft", "published"), opens_after=act.now)
        elif step == "resume":
            sales = [sale for sale in sales if sale.closes_at > act.now]
        await self._move_sales(tx, act, sales, step)
        await store.set_paused_sales(tx, campaign_id, [sale.sale_id for sale in sales] if step == "pause" else [])
        return await self._go_on(tx, act, campaign_id) if step == "resume" else series

    async def _go_on(self, tx: Tx, act: Act, series_id: str) -> Series:
        series = await self.lock(tx, series_id)
        late = self.late(series, act.now)
        if late is not None:
            raise self.too_late(late)
        await self._plan(tx, series, act)
        return await self.lock(tx, series_id)

    async def _move_sales(self, tx: Tx, act: Act, sales: Sequence[Sale], step: Step) -> None:
        """Take each sale one step on, as an operator does with a single one; the caller has locked them."""
        moved: list[Sale] = []
        for before in sales:
            sale = await campaigns.move(tx, SALES, before.sale_id, (before.state,), STEPS[step][1], act.now)
            assert sale is not None, "locked, so nobody else moved it"
            event = SALES.event(step, sale, act.now)
            assert event is not None
            await emit(tx, event)
            await audit.record(
                tx,
                act,
                f"flash_sale.{step}",
                sale.sale_id,
                before=before,
                after=sale,
                reason=act.reason or f"With its series {sale.series_id}",
            )
            moved.append(sale)

        async def tell() -> None:
            for sale in moved:
                await self._stock.configure(sale)

        tx.after_commit(tell)

    # --- what operators read ----------------------------------------------------------------------------------------

    async def shown(self, series_id: str, now: datetime) -> SeriesPage:
        """Return a series in any state, and what was skipped of it. Raises `Refusal` 404."""
        series = await self.find(series_id)
        return alike(SeriesPage, series, skipped=await store.skipped_of(self._database, series_id, now))

    async def dry_run(self, series_id: str, at: datetime) -> SeriesDryRun:
        """Say which rounds come next after `at`, and of each sale whether it would be planned, and why not."""
        if not FIRST_DAY.year <= at.year <= LAST_DAY.year:
            raise invalid(FieldError("now", f"Between {FIRST_DAY} and {LAST_DAY}"))
        series = await self.find(series_id)
        windows = next_rounds(series, at, MAX_PREVIEWED)
        wanted = [(window.opens_at, window.closes_at, item.sku) for window, item in product(windows, series.items)]
        places = dict(zip(wanted, await store.places(self._database, series_id, wanted), strict=True))

        def preview(window: RoundWindow) -> PreviewedRound:
            return PreviewedRound(
                opens_at=window.opens_at,
                closes_at=window.closes_at,
                opens_local=local(window.opens_at, series.zone),
                closes_local=local(window.closes_at, series.zone),
                sales=[
                    _preview(series, window, item.sku, places[window.opens_at, window.closes_at, item.sku])
                    for item in series.items
                ],
            )

        return SeriesDryRun(rounds=[preview(window) for window in windows], at=at)

    async def stats(self, series_id: str, before: datetime | None, limit: int, now: datetime) -> SeriesStats:
        """Return the rounds of a series in numbers, the latest first."""
        series = await self.find(series_id)
        sales = await store.sales_of_rounds(self._database, series_id, before, limit + 1)
        found = [_stats(list(sold)) for _, sold in groupby(sales, key=lambda sale: sale.opens_at)]
        shown = found[:limit]
        more = len(found) > limit
        return SeriesStats(
            series_id=series_id,
            state=series.state,
            items=shown,
            next_cursor=encode_cursor(to_milliseconds(shown[-1].opens_at)) if more else None,
            server_time=now,
        )

    # --- what the clock does ----------------------------------------------------------------------------------------

    async def plan_due(self, turn: Turn) -> int:
        """Plan on, end series whose last round has closed, and try skipped sales again; return how many sales came."""
        counted, failed = RoundsPlanned(), None
        for series_id in await store.due_series(self._database, turn.now, PLAN_STEP, PLAN_BATCH):
            try:
                async with turn.transaction() as tx:
                    await self._plan_due(tx, series_id, turn.now, counted)
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - the other series are not to wait for this one; raised below
                log.warning("flash_sale.series_not_planned", series_id=series_id, error=repr(error))
                failed = failed or error
        if failed is not None:
            raise failed
        for again in await store.free_again(self._database, turn.now, RETRY_BATCH):
            async with turn.transaction() as tx:
                counted.planned += await self._plan_again(tx, again, turn.now)
        async with turn.transaction() as tx:
            await store.forget_skipped(tx, turn.now - SKIPPED_KEPT, FORGET_BATCH)
        return counted.planned

    async def _plan_due(self, tx: Tx, series_id: str, now: datetime, counted: RoundsPlanned) -> None:
        series = await self.lock(tx, series_id)
        if series.state != "published":
            return
        act = Act(PLANNER, now)
        if is_over(series, now):
            await super().step_in(tx, act, series_id, "end")
            return
        done = await self._plan(tx, series, act)
        counted.planned += done.planned
        counted.skipped += done.skipped

    async def _plan(self, tx: Tx, series: Series, act: Act) -> RoundsPlanned:
        """Make the sales of all rounds of the next days that were not planned yet; the caller has locked the series."""
        until = act.now + timedelta(days=series.plan_ahead_days)
        windows = rounds(series, max(series.planned_until or act.now, act.now), until)
        counted = RoundsPlanned()
        # By SKU, as whoever publishes locks them: nothing waits for itself.
        for item in sorted(series.items, key=lambda item: item.sku):
            for window in windows:
                in_the_way = await self._plan_sale(tx, series.series_id, draft_of(series, item, window), act)
                if in_the_way is None:
                    counted.planned += 1
                else:
                    # Whom it is for is the series' to say, when the round is planned after all.
                    draft = structs.replace(draft_of(series, item, window), audience=[])
                    await self._skip(tx, series.series_id, draft, in_the_way, act)
                    counted.skipped += 1
        await store.set_planned(tx, series.series_id, until)
        return counted

    async def _plan_sale(self, tx: Tx, series_id: str, draft: SaleDraft, act: Act) -> str | None:
        """Make and publish one sale of a round, unless it is there; return the id of the sale in the way, if one is."""
        planner = Act(PLANNER, act.now, act.request_id, f"A round of series {series_id}")
        try:
            async with tx.savepoint():
                sale = await sales_store.add_sale(tx, new_id(act.now), draft, act.now, series_id)
                if sale is not None:
                    await self._sales.step_in(tx, planner, sale.sale_id, "publish", accept_warnings=True)
        except Refusal as refusal:
            if refusal.kind is not sales_model.SKU_ON_SALE:
                raise
            return str(refusal.members["sale_id"])
        return None

    async def _skip(self, tx: Tx, series_id: str, draft: SaleDraft, in_the_way: str, act: Act) -> None:
        if not await store.add_skipped(tx, series_id, draft, in_the_way, act.now):
            return
        log.warning(
            "flash_sale.round_skipped", series_id=series_id, sku=draft.sku, opens_at=draft.opens_at, by=in_the_way
        )
        planner = Act(PLANNER, act.now, act.request_id, f"Sale {in_the_way} sells {draft.sku} in the same window.")
        await audit.record(tx, planner, "flash_sale_series.skip_round", series_id, after=draft)

    async def _plan_again(self, tx: Tx, again: store.FreeAgain, now: datetime) -> int:
        series = await self.lock(tx, again.series_id)
        if series.state != "published" or not await store.remove_skipped(tx, again.series_id, again.draft):
            return 0
        draft = structs.replace(again.draft, audience=series.audience)
        in_the_way = await self._plan_sale(tx, again.series_id, draft, Act(PLANNER, now))
        if in_the_way is not None:
            await store.add_skipped(tx, again.series_id, again.draft, in_the_way, now)
        return int(in_the_way is None)


def _preview(series: Series, window: RoundWindow, sku: str, place: store.Place) -> PreviewedSale:
    if place.planned_sale_id is not None:
        return PreviewedSale(sku=sku, would="planned", sale_id=place.planned_sale_id, because=None)
    because = None
    if series.state == "ended":
        because = "The series has ended."
    elif place.other_sale_id is not None:
        because = f"Sale {place.other_sale_id} sells {sku} in the same window."
    elif series.planned_until is not None and window.opens_at <= series.planned_until:
        because = "Rounds of this time were planned before, when this was none; edits are about those after them."
    would: model.Would = "plan" if because is None else "skip"
    return PreviewedSale(sku=sku, would=would, sale_id=place.other_sale_id, because=because)


def _stats(sales: Sequence[Sale]) -> RoundStats:
    gone = [_sold_out_after(sale) for sale in sales]
    return RoundStats(
        opens_at=sales[0].opens_at,
        closes_at=max(sale.closes_at for sale in sales),
        units_total=sum(sale.units_total for sale in sales),
        taken=sum(sale.taken for sale in sales),
        sold_out_after_ms=None if None in gone else max(after for after in gone if after is not None),
        sales=[alike(SoldSale, sale, sold_out_after_ms=after) for sale, after in zip(sales, gone, strict=True)],
    )


def _sold_out_after(sale: Sale) -> int | None:
    return None if sale.sold_out_at is None else milliseconds_until(sale.sold_out_at, sale.opens_at)
