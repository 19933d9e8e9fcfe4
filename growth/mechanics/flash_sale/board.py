"""The board: what this process remembers of the sales, never older than `MAX_AGE_SECONDS`. It shows pages and says no.

One background task keeps it: the list of sales from Postgres twice a second, the stock of those that are on from Redis
several times a second. So a sale's page costs memory, whoever polls it, and the crowd that comes too early or too late
is turned away here. The board never says yes.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from msgspec import Struct, field
from prometheus_client import Counter as Metric
from prometheus_client import Gauge

from growth.mechanics.flash_sale.model import (
    ENDED,
    NOT_OPEN,
    PAUSED,
    SOLD_OUT,
    Sale,
    SalePage,
    page,
)
from growth.mechanics.flash_sale.stock import KEYS_KEPT_AFTER_CLOSE, MAX_WINNERS, SaleGlance, Stock
from growth.mechanics.flash_sale.store import sales as store
from growth.plumbing.http.short_cut import No
from growth.plumbing.postgres.database import Database
from growth.plumbing.strict_json import json_bytes
from growth.vocabulary.clock import Clock, from_milliseconds, milliseconds_until, to_milliseconds
from growth.vocabulary.refusals import Kind, Unavailable

log = structlog.get_logger("flash_sale.board")

MAX_AGE_SECONDS = 0.3
"""Nothing older is shown or used to say no."""
REFRESH_SECONDS = 0.1
CATALOGUE_SECONDS = 5.0
"""All sales are read anew as often as this, and with the next refresh after one of them changed."""
SPARED_SECONDS = 0.5
"""How long a Postgres that did not answer is not asked again."""
REFUSALS_WRITTEN_SECONDS = 5.0
ENDED_SHOWN = timedelta(days=1)
WARM = timedelta(seconds=60)
"""The stock is looked at from this long before opening."""
MAX_GLANCES_AT_ONCE = 16

REFUSED = Metric("growth_flash_sale_refused", "Claims turned away, by reason", ["reason"])
UNITS = Gauge("growth_flash_sale_units", "Units of live sales as last seen", ["sale_id", "what"])


class BoardSale(Struct, eq=False):
    """One sale on the board."""

    sale: Sale
    generation: int = 0
    winners: set[bytes] | None = field(default_factory=set)
    """Shoppers who won so far; None when there are more than are remembered here."""
    winners_read: int = 0
    last_winner: bytes = b""
    seen_at: float = float("-inf")
    """When the stock was looked at, on this process' monotonic clock."""
    page: SalePage | None = None
    page_body: bytes = b""
    etag: bytes = b""
    no: No | None = None
    no_until: float = float("-inf")

    def learn_winners(self, glance: SaleGlance) -> None:
        """Add what is new; a sale that was rebuilt, or came back as it was earlier, starts over."""
        if glance.winners_known > MAX_WINNERS:
            self.winners = None
            return
        if glance.generation != self.generation or glance.winners_before != self.winners_read or self.winners is None:
            self.generation, self.winners, self.winners_read, self.last_winner = glance.generation, set(), 0, b""
            if glance.winners_before:
                return
        self.winners.update(glance.winners)
        self.winners_read += len(glance.winners)
        self.last_winner = glance.winners[-1] if glance.winners else self.last_winner

    def knows_all_winners(self, glance: SaleGlance) -> bool:
        """Say whether a retry of somebody who won can be told from the crowd."""
        return self.winners is not None and self.winners_read >= glance.winners_known


class SaleBoard:
    """Pages and ready-made refusals of all sales that shoppers may see."""

    def __init__(self, database: Database, stock: Stock, clock: Clock) -> None:
        self._database = database
        self._stock = stock
        self._clock = clock
        self.entries: dict[str, BoardSale] = {}
        self.refused: Counter[tuple[str, str]] = Counter()
        self._catalogue_at = float("-inf")
        self._mark = 0
        self._spared_until = float("-inf")
        self._refusals_at = 0.0
        self._ahead = 0.0
        """Redis' clock less this process' monotonic clock, seconds."""
        self._refreshing: asyncio.Task[None] | None = None
        self._glances = asyncio.Semaphore(MAX_GLANCES_AT_ONCE)
        self._ahead = clock().timestamp() - time.monotonic()

    def now(self) -> datetime:
        """Return the time on Redis' clock, as this process reckons it."""
        return from_milliseconds(round((time.monotonic() + self._ahead) * 1000))

    def sale(self, sale_id: str) -> Sale | None:
        """Return what operators decided about a visible sale, at most `MAX_AGE_SECONDS` ago."""
        entry = self.entries.get(sale_id)
        return None if entry is None else entry.sale

    async def visible(self) -> Sequence[SalePage]:
        """Return the pages of all visible sales, soonest first."""
        await self.fresh()
        return [entry.page for entry in self.entries.values() if entry.page is not None]

    def count_refusal(self, sale_id: str, kind: Kind) -> None:
        """Count a claim that was turned away; written down every few seconds."""
        self.refused[sale_id, kind.code] += 1

    def verdict(self, entry: BoardSale) -> No | None:
        """Return the refusal that every new claim to this sale gets right now, if there is one."""
        return entry.no if time.monotonic() < entry.no_until else None

    def is_fresh(self, entry: BoardSale) -> bool:
        """Say whether the entry's page may be shown."""
        return time.monotonic() - entry.seen_at <= MAX_AGE_SECONDS

    async def fresh(self, sale_id: str | None = None) -> None:
        """Wait for a refresh if what there is, is too old. All who wait share one. Raises `Unavailable`."""
        entry = self.entries.get(sale_id) if sale_id else next(iter(self.entries.values()), None)
        if entry is not None and self.is_fresh(entry):
            return
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh(), name="flash_sale.board.refresh")
        await asyncio.shield(self._refreshing)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the board until `stop`."""
        while not stop.is_set():
            try:
                if self._refreshing is None:
                    self._refreshing = asyncio.create_task(self._refresh(), name="flash_sale.board.refresh")
                await asyncio.shield(self._refreshing)
                if time.monotonic() - self._refusals_at > REFUSALS_WRITTEN_SECONDS:
                    await self.write_refusals()
            except Unavailable as error:
                log.warning("flash_sale.board_is_stale", why=error.what)
            except Exception:
                # A bug must not end the task that everybody's page depends on.
                log.exception("flash_sale.board_failed")
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await stop.wait()
            except TimeoutError:
                pass
        await self.write_refusals()

    async def write_refusals(self) -> None:
        """Add this process' counts to the sales'; kept for the next time if Postgres does not answer."""
        counts, self.refused = self.refused, Counter()
        self._refusals_at = time.monotonic()
        if counts:
            try:
                await store.add_refusals(self._database, counts)
            except Unavailable:
                self.refused.update(counts)
                raise
            for (_, code), count in counts.items():
                REFUSED.labels(code).inc(count)

    async def refresh_catalogue(self) -> None:
        """Read anew which sales there are: at once after an operator's change on this process."""
        self._catalogue_at = float("-inf")
        await self._read_catalogue()

    async def _refresh(self) -> None:
        started = time.monotonic()
        try:
            try:
                if started >= self._spared_until:
                    await self._read_catalogue()
            except Unavailable:
                # Sales stay as they were read last; Redis still tells their stock.
                if not self.entries:
                    raise
                started = time.monotonic()
                self._spared_until = started + SPARED_SECONDS
            await asyncio.gather(*[self._look(entry, started) for entry in list(self.entries.values())])
        finally:
            self._refreshing = None

    async def _read_catalogue(self) -> None:
        started = time.monotonic()
        ended_after = self._clock() - ENDED_SHOWN
        # The mark first: what changes after it is read once more, with the next one.
        mark = await store.mark_of_visible(self._database, ended_after)
        if mark == self._mark and started - self._catalogue_at < CATALOGUE_SECONDS:
            return
        sales = await store.visible_sales(self._database, ended_after)
        kept: dict[str, BoardSale] = {}
        for sale in sales:
            kept[sale.sale_id] = entry = self.entries.get(sale.sale_id) or BoardSale(sale)
            entry.sale = sale
        for gone in self.entries.keys() - kept.keys():
            for what in ("total", "left"):
                with suppress(KeyError):
                    UNITS.remove(gone, what)
        self.entries = kept
        self._catalogue_at, self._mark = started, mark

    async def _look(self, entry: BoardSale, seen_at: float) -> None:
        sale = entry.sale
        now = self.now()
        glance: SaleGlance | None = None
        if sale.opens_at - WARM <= now < sale.closes_at + KEYS_KEPT_AFTER_CLOSE:
            async with self._glances:
                started = time.monotonic()
                with suppress(Unavailable):
                    glance = await self._stock.glance(
                        sale.sale_id, entry.winners_read, entry.last_winner, want_winners=entry.winners is not None
                    )
                    self._ahead = to_milliseconds(glance.at) / 1000 - (started + time.monotonic()) / 2
                    entry.learn_winners(glance)
                    now = self.now()
        self._write(entry, glance, now, seen_at)

    def _write(self, entry: BoardSale, glance: SaleGlance | None, now: datetime, seen_at: float) -> None:
        """Lay out the page and the refusal, ready to send."""
        sale = entry.sale
        taken = sale.taken if glance is None or glance.taken is None else glance.taken
        shown = page(sale, sale.units_total - taken, now)
        entry.page = shown
        entry.page_body = json_bytes(shown)
        entry.etag = f'W/"{sale.version}-{shown.state}-{shown.units_left}"'.encode()
        entry.seen_at = seen_at
        times = {"server_time": now, "opens_at": sale.opens_at, "closes_at": sale.closes_at}
        # A retry of somebody who won must never hear "no": without knowing every winner, say nothing.
        long_over = now >= sale.closes_at + KEYS_KEPT_AFTER_CLOSE
        known = long_over or (glance is not None and glance.taken is not None and entry.knows_all_winners(glance))
        until = seen_at + MAX_AGE_SECONDS
        if shown.state == "scheduled":
            # Nobody can have won yet. Holds until opening on Redis' clock, not a moment longer.
            opens_in = milliseconds_until(sale.opens_at, now)
            entry.no = No(NOT_OPEN, {**times, "opens_in_ms": opens_in})
            entry.no_until = min(until, time.monotonic() + opens_in / 1000)
            return
        kind = {"ended": ENDED, "paused": PAUSED, "sold_out": SOLD_OUT}.get(shown.state)
        entry.no = No(kind, dict(times)) if kind is not None and known else None
        entry.no_until = until
        UNITS.labels(sale.sale_id, "total").set(sale.units_total)
        UNITS.labels(sale.sale_id, "left").set(shown.units_left)
