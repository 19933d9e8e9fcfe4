"""Entries and the draw. Entries of a process are written in batches; the draw is one transaction."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter

from growth.mechanics.flash_sale import model as sales
from growth.mechanics.flash_sale.claim import store as claims_store
from growth.mechanics.flash_sale.claim.draw import store
from growth.mechanics.flash_sale.claim.draw.model import (
    ENTRY_NOT_FOUND,
    NO_DRAW,
    DrawEntry,
    DrawPage,
    EntryPage,
    EntryWish,
    claim_id,
    refusal_of,
    show_entry,
)
from growth.mechanics.flash_sale.claim.model import Wanted
from growth.mechanics.flash_sale.model import Sale
from growth.mechanics.flash_sale.stock import Stock
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.work.coalesce import Coalescer
from growth.plumbing.work.decide import Decisions
from growth.plumbing.work.periodic import LeaseLost, Turn
from growth.vocabulary.alike import alike
from growth.vocabulary.events.flash_sale import FlashSaleClaimHeld, FlashSaleDrawn, FlashSaleSoldOut
from growth.vocabulary.refusals import Refusal, Unavailable

log = structlog.get_logger("flash_sale.draw")

MAX_BATCH_ENTRIES = 256
MAX_QUEUE_ENTRIES = 8_192
"""What a process writes in well under a second. More waiting would only be late."""
WIN_BATCH = 1_000
"""Winners written by one statement, and told to Redis at once."""
DRAW_BATCH = 20
"""Sales drawn in one turn, each in a transaction of its own."""
MAX_TOLD_AGAIN = 200
"""Drawn sales, the latest first, that Redis is told of again and again."""
ENTRIES_KEPT = timedelta(days=90)
"""After a sale ended: as long as somebody may want to check its draw."""
FORGET_BATCH = 5_000
SEED_BYTES = 32
FIRST_ID = "00000000-0000-0000-0000-000000000000"

ENTERED = Counter("growth_flash_sale_draw_entries", "Entries to draws that were acknowledged")


class Draws:
    """The draws of all sales."""

    def __init__(self, database: Database, stock: Stock) -> None:
        self._database = database
        self._stock = stock
        self._entries: Decisions[EntryWish, DrawEntry] = Decisions(
            "flash_sale.enter",
            self._write,
            person_of=lambda wish: wish.user_id,
            max_batch=MAX_BATCH_ENTRIES,
            max_queue=MAX_QUEUE_ENTRIES,
        )
        self._look: Coalescer[tuple[str, str], store.EntryState] = Coalescer(
            "flash_sale.entries", self._read, max_batch=MAX_BATCH_ENTRIES, max_queue=MAX_QUEUE_ENTRIES
        )

    async def enter(self, sale: Sale, user_id: str, units: int, now: datetime) -> DrawEntry:
        """Enter a shopper into the draw of a sale; when this returns, it is committed and will be drawn.

        `now` is when the gate said that the sale draws. Who has entered gets the same entry again. Raises `Refusal`:
        `flash_sale.drawing` between the end of entries and the draw, `flash_sale.draw_over` once it is drawn and the
        shopper may claim like everybody, the usual ones if the sale does not go on; and `Unavailable`.
        """
        return await self._entries.calls(EntryWish(sale.sale_id, user_id, units, now))

    async def entry(self, sale_id: str, user_id: str, now: datetime) -> EntryPage:
        """Return a shopper's entry. Raises `Refusal` 404 if there is none."""
        seen = await self._look((sale_id, user_id))
        if seen.draw is None or seen.draw.state == "draft":
            raise Refusal(sales.NOT_FOUND)
        if seen.entry is None:
            raise Refusal(ENTRY_NOT_FOUND)
        return show_entry(seen.entry, now)

    async def page(self, sale_id: str, now: datetime) -> DrawPage:
        """Return a draw as operators see it. Raises `Refusal` 404 for a sale that is not there, or has none."""
        sale = await sales_store.find_sale(self._database, sale_id)
        if sale is None:
            raise Refusal(sales.NOT_FOUND)
        if sale.draw_at is None:
            raise Refusal(NO_DRAW)
        counted = await store.count(self._database, sale_id)
        return alike(DrawPage, sale, **counted, seed=sale.draw_seed, server_time=now)

    async def drain(self) -> None:
        """Wait until every entry on its way has its answer."""
        await self._entries.calls.drain()
        await self._look.drain()

    async def _write(self, wishes: Sequence[EntryWish]) -> Sequence[DrawEntry | BaseException]:
        async with self._database.transaction(people={wish.user_id for wish in wishes}) as tx:
            await store.enter(tx, wishes)
            # A statement of its own: what others inserted a moment ago is not in sight of the one before.
            seen = await store.look(tx, [wish.sale_id for wish in wishes], [wish.user_id for wish in wishes])
        answers = [_answer(wish, found) for wish, found in zip(wishes, seen, strict=True)]
        ENTERED.inc(sum(isinstance(answer, DrawEntry) for answer in answers))
        return answers

    async def _read(self, asked: list[tuple[str, str]]) -> Sequence[store.EntryState]:
        return await store.look(self._database, [sale_id for sale_id, _ in asked], [user_id for _, user_id in asked])

    async def draw(self, tx: Tx, sale_id: str, now: datetime) -> bool:
        """Draw a sale in `tx`; False, with nothing done, if it is not to be drawn now. Redis follows the commit."""
        seed = secrets.token_hex(SEED_BYTES)
        # Locks the sale: it waits for entries being written, and those that come wait for `tx`. All that were
        # acknowledged are in sight of the next statement.
        if not await store.set_drawn(tx, sale_id, seed, now):
            return False
        entries, winners = await store.pick(tx, sale_id, seed)
        sold_out = await self._win(tx, sale_id, now)
        if sold_out:
            await emit(tx, FlashSaleSoldOut(at=now, sale_id=sale_id))
        await emit(tx, FlashSaleDrawn(at=now, sale_id=sale_id, entries=entries, winners=winners, seed=seed))
        sale = await sales_store.find_sale(tx, sale_id)
        assert sale is not None, "it is locked"

        async def tell() -> None:
            await self._tell(sale)

        tx.after_commit(tell)
        log.info("flash_sale.drawn", sale_id=sale_id, entries=entries, winners=winners)
        return True

    async def _win(self, tx: Tx, sale_id: str, now: datetime) -> bool:
        """Give winners their claims, a batch at a time; say whether they took the last unit."""
        sold_out, last_user = False, ""
        while batch := await store.winners_after(tx, sale_id, last_user, WIN_BATCH):
            last_user = batch[-1][0]
            wanted = [Wanted(claim_id(sale_id, user_id), user_id, units, now) for user_id, units in batch]
            win = await claims_store.win(tx, sale_id, wanted)
            assert win.complete, "the sale is locked and the lot kept to its stock and limits"
            assert not win.known, "nothing but the draw makes these ids"
            await store.set_claims(tx, sale_id, {one.user_id: one.claim_id for one in wanted})
            held_until = now + timedelta(seconds=win.hold_seconds)
            await emit(
                tx,
                *[alike(FlashSaleClaimHeld, claim, at=now, sale_id=sale_id, held_until=held_until) for claim in wanted],
            )
            sold_out = sold_out or win.sold_out_now
        return sold_out

    async def _tell(self, sale: Sale) -> None:
        """Tell Redis who holds what, and only then that all may claim: so it admits nobody whom Postgres refuses."""
        last_id = FIRST_ID
        while page := await claims_store.occupying_after(self._database, sale.sale_id, last_id, WIN_BATCH):
            last_id = page[-1].claim_id
            await self._stock.settle(sale.sale_id, page)
        await self._stock.configure(sale)

    async def draw_due(self, turn: Turn) -> int:
        """Draw the sales whose time has come, each on its own; return how many."""
        drawn, failed = 0, None
        for sale_id in await store.due(self._database, turn.now, DRAW_BATCH):
            try:
                async with turn.transaction(everyone=True) as tx:
                    drawn += await self.draw(tx, sale_id, turn.now)
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001 - the other draws are not to wait for this one; raised below
                log.warning("flash_sale.not_drawn", sale_id=sale_id, error=repr(error))
                failed = failed or error
        if failed is not None:
            raise failed
        await self._tell_again(turn)
        return drawn

    async def _tell_again(self, turn: Turn) -> None:
        """Say the end of draws again: whoever was to say it may have died, or have been overtaken by a rebuild."""
        for sale in await store.drawn(self._database, turn.now, MAX_TOLD_AGAIN):
            try:
                await self._stock.configure(sale)
            except Unavailable as error:
                log.warning("flash_sale.end_of_draw_not_told", sale_id=sale.sale_id, why=error.what)
                return

    async def forget_old_entries(self, turn: Turn) -> int:
        """Delete entries of sales that ended long ago; return how many, up to `FORGET_BATCH`."""
        async with turn.transaction() as tx:
            return await store.forget(tx, turn.now, ENTRIES_KEPT, FORGET_BATCH)


def _answer(wish: EntryWish, seen: store.EntryState) -> DrawEntry | Refusal | Unavailable:
    entry = seen.entry
    # Who lost may claim what is left, like everybody; who won or waits is told so.
    if entry is not None and entry.state != "lost":
        return entry
    return refusal_of(seen.draw, wish)
