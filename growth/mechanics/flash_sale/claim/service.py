"""Claims from gate to ledger: Redis admits in batches, Postgres decides in batches, each caller gets its own."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import structlog
from msgspec import Struct
from prometheus_client import Counter

from growth.mechanics.flash_sale import model as sales
from growth.mechanics.flash_sale import store as sales_store
from growth.mechanics.flash_sale.board import Board
from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.loading import Loader, occupied
from growth.mechanics.flash_sale.claim.model import CLAIM_NOT_FOUND, CLAIM_NOT_HELD, Claim, ReleaseReason, Wanted, show
from growth.mechanics.flash_sale.draw.service import Draws, Entry
from growth.mechanics.flash_sale.model import Admission, Sale
from growth.mechanics.flash_sale.stock import Ask, Occupied, Stock, admission_of
from growth.plumbing import audit
from growth.plumbing.audit import Act
from growth.plumbing.coalesce import Coalescer, Handover
from growth.plumbing.idempotency import OTHER_CONTENT
from growth.plumbing.outbox import emit
from growth.plumbing.postgres import CommitUnknown, Database, Tx
from growth.shop.service import ShopService
from growth.vocabulary.events import (
    Event,
    FlashSaleClaimHeld,
    FlashSaleClaimReleased,
    FlashSaleSoldOut,
)
from growth.vocabulary.ids import child_id, derived_id
from growth.vocabulary.refusals import Kind, Refusal, Unavailable

log = structlog.get_logger("flash_sale.claim")

MAX_BATCH_CLAIMS = 128
MAX_QUEUE_CLAIMS = 4_096
"""For each sale: what a process admits in well under a second. More waiting would only be late."""
MAX_FINDS_AT_ONCE = 64
MAX_FINDS_WAITING = 1_024
MAX_ASKED_AT_ONCE = 256
"""Shoppers whose claims one read asks for."""
MAX_AGES_AT_ONCE = 512
MAX_AGES_WAITING = 8_192
"""Of shoppers never seen by this process, in sales that ask how old an account is."""
MAX_CLAIMS_SHOWN = 100
MAX_LIVE_SALES = 1_000
MAX_REGISTRATIONS_REMEMBERED = 65_536

WON = Counter("growth_flash_sale_won_total", "Claims answered with units")


class Decided(Struct, frozen=True):
    """A claim that Postgres has, and at which time Redis said so."""

    claim: Claim
    at: datetime
    replayed: bool
    """It had been made before, under the same Idempotency-Key."""


class NotAdmitted(Struct, frozen=True):
    """What the gate said instead: a number of `claim.lua`, and when."""

    number: int
    at: datetime


class Claims:
    """Everything a shopper does with units of a sale."""

    def __init__(
        self, database: Database, stock: Stock, board: Board, loader: Loader, draws: Draws, shop: ShopService
    ) -> None:
        self._database = database
        self._stock = stock
        self._board = board
        self._loader = loader
        self._draws = draws
        self._shop = shop
        self._gates: dict[str, Gate] = {}
        self._sales: Coalescer[str, Sale | None] = Coalescer(
            "flash_sale.find", self._find_sales, max_batch=MAX_FINDS_AT_ONCE, max_queue=MAX_FINDS_WAITING
        )
        self._mine: Coalescer[tuple[str, str], list[Claim]] = Coalescer(
            "flash_sale.live_claims", self._live_claims, max_batch=MAX_ASKED_AT_ONCE, max_queue=MAX_QUEUE_CLAIMS
        )
        self._registrations: Coalescer[str, datetime | None] = Coalescer(
            "flash_sale.registered_at", self._registered_at, max_batch=MAX_AGES_AT_ONCE, max_queue=MAX_AGES_WAITING
        )
        self._registered: dict[str, datetime] = {}

    async def sale(self, sale_id: str) -> Sale:
        """Return a sale shoppers may know of, from the board or from Postgres. Raises `Refusal` (404)."""
        sale = self._board.sale(sale_id) or await self._sales(sale_id)
        if sale is None or sale.state == "draft":
            raise Refusal(sales.NOT_FOUND)
        return sale

    async def claim(self, sale_id: str, user_id: str, units: int, key: str | None, address: str) -> "Decided | Entry":
        """Hold `units` for a shopper, or enter the sale's draw; when this returns, it is committed.

        The same `key` (Idempotency-Key) names the same claim for as long as the claim exists. Raises `Refusal` with the
        reason, and `Unavailable` when a store does not answer: asking again with the same key is safe.
        """
        sale = await self.sale(sale_id)
        if sale.protection.minimum_account_age_seconds is not None:
            registered_at = self._registered.get(user_id) or await self._registrations(user_id)
            if sales.account_too_new(sale, registered_at, self._board.now()):
                raise self._refused(sale, sales.ACCOUNT_TOO_NEW)
        claim_id = derived_id(sale_id, user_id, key) if key else child_id(sale_id)
        answer = await self._gate(sale_id).admit(Ask(claim_id, user_id, units, address))
        if isinstance(answer, Decided):
            if answer.claim.units != units:
                raise Refusal(OTHER_CONTENT)
            WON.inc()
            return answer
        admission, wait_seconds = admission_of(answer.number)
        if admission is Admission.DRAWING:
            return await self._draws.enter(sale, user_id, units, answer.at)
        raise await self._explain(sale, user_id, admission, wait_seconds, answer.at)

    async def _explain(
        self, sale: Sale, user_id: str, admission: Admission, wait_seconds: int, at: datetime
    ) -> Refusal:
        members: dict[str, object] = {"server_time": at, "opens_at": sale.opens_at, "closes_at": sale.closes_at}
        if admission is Admission.NOT_OPEN:
            members["opens_in_ms"] = sales.milliseconds_until(sale.opens_at, at)
        elif admission is Admission.LIMIT_REACHED:
            claims = await self._mine((sale.sale_id, user_id))
            members = {"max_per_shopper": sale.max_per_shopper, "claims": [show(claim, at) for claim in claims]}
        elif wait_seconds:
            members = {"retry_after_seconds": wait_seconds}
        return self._refused(sale, sales.REFUSED_AS[admission], members)

    def _refused(self, sale: Sale, kind: Kind, members: dict[str, object] | None = None) -> Refusal:
        self._board.count_refusal(sale.sale_id, kind)
        refusal = Refusal(kind)
        refusal.members.update(members or {})
        return refusal

    def _gate(self, sale_id: str) -> "Gate":
        gate = self._gates.get(sale_id)
        if gate is None:
            if len(self._gates) >= MAX_LIVE_SALES:
                self._gates = {known: gate for known, gate in self._gates.items() if gate.is_busy}
            gate = self._gates[sale_id] = Gate(sale_id, self._database, self._stock, self._loader)
        return gate

    async def drain(self) -> None:
        """Wait until every claim on its way has its answer."""
        for gate in list(self._gates.values()):
            await gate.drain()

    async def mine(self, sale_id: str, user_id: str) -> list[Claim]:
        """Return a shopper's claims in one sale, of every state. Raises `Refusal` (404) for an unknown sale."""
        await self.sale(sale_id)
        return await store.page_of_claims(self._database, sale_id=sale_id, user_id=user_id, limit=MAX_CLAIMS_SHOWN)

    async def find(self, claim_id: str, user_id: str) -> Claim:
        """Return a shopper's claim. Raises `Refusal` (404), alike for what is not there and not theirs."""
        claim = (await store.find_claims(self._database, [claim_id])).get(claim_id)
        if claim is None or claim.user_id != user_id:
            raise Refusal(CLAIM_NOT_FOUND)
        return claim

    async def give_back(self, claim_id: str, user_id: str, now: datetime) -> Claim:
        """Release a shopper's held claim; one already released stays so. Raises `Refusal` for a paid one."""
        async with self._database.transaction() as tx:
            released = await store.release(tx, [claim_id], "shopper", now, user_id)
            await after_release(tx, self._stock, released, "shopper", now)
        if released:
            return released[0]
        claim = await self.find(claim_id, user_id)
        if claim.state != "released":
            raise Refusal(CLAIM_NOT_HELD, f"This claim is {claim.state}.", state=claim.state)
        return claim

    async def page(
        self,
        *,
        sale_id: str | None,
        user_id: str | None,
        state: str | None,
        order_id: str | None,
        after: str | None,
        limit: int,
    ) -> list[Claim]:
        """Return operators' claims in the order of their ids."""
        return await store.page_of_claims(
            self._database, sale_id=sale_id, user_id=user_id, state=state, order_id=order_id, after=after, limit=limit
        )

    async def release(self, act: Act, claim_id: str) -> Claim:
        """Release a held claim for an operator, who says why. Raises `Refusal` 404 and 409."""
        async with self._database.transaction() as tx:
            before = (await store.lock_claims(tx, [claim_id])).get(claim_id)
            if before is None:
                raise Refusal(CLAIM_NOT_FOUND)
            released = await store.release(tx, [claim_id], "operator", act.now)
            if not released:
                raise Refusal(CLAIM_NOT_HELD, f"This claim is {before.state}.", state=before.state)
            await audit.record(
                tx,
                act.operator,
                "flash_sale.release_claim",
                claim_id,
                before=before,
                after=released[0],
                reason=act.reason,
                request_id=act.request_id,
                now=act.now,
            )
            await after_release(tx, self._stock, released, "operator", act.now)
        return released[0]

    async def _find_sales(self, sale_ids: list[str]) -> Sequence[Sale | None]:
        found = {sale_id: await sales_store.find_sale(self._database, sale_id) for sale_id in set(sale_ids)}
        return [found[sale_id] for sale_id in sale_ids]

    async def _live_claims(self, asked: list[tuple[str, str]]) -> Sequence[list[Claim]]:
        found = await store.live_claims_of(
            self._database, [sale_id for sale_id, _ in asked], [user_id for _, user_id in asked]
        )
        return [found.get(pair, []) for pair in asked]

    async def _registered_at(self, user_ids: list[str]) -> Sequence[datetime | None]:
        found = await self._shop.registered_at(user_ids)
        if len(self._registered) + len(found) > MAX_REGISTRATIONS_REMEMBERED:
            self._registered.clear()
        self._registered.update(found)
        return [found.get(user_id) for user_id in user_ids]


class Gate:
    """One sale's way in, for this process: a batch at Redis, a batch at Postgres."""

    def __init__(self, sale_id: str, database: Database, stock: Stock, loader: Loader) -> None:
        self._sale_id = sale_id
        self._database = database
        self._stock = stock
        self._loader = loader
        self.admit: Coalescer[Ask, Decided | NotAdmitted] = Coalescer(
            "flash_sale.admit", self._admit, max_batch=MAX_BATCH_CLAIMS, max_queue=MAX_QUEUE_CLAIMS
        )
        # Filled by handover alone: who was admitted is never turned away here.
        self._write: Coalescer[Wanted, Decided] = Coalescer(
            "flash_sale.write", self._decide, max_batch=MAX_BATCH_CLAIMS, max_queue=0
        )

    @property
    def is_busy(self) -> bool:
        """Say whether claims are on their way."""
        return self.admit.is_busy or self._write.is_busy

    async def drain(self) -> None:
        """Wait until every claim on its way has its answer."""
        await self.admit.drain()
        await self._write.drain()

    async def _admit(self, asks: list[Ask]) -> Sequence[NotAdmitted | Handover]:
        """Ask Redis. Losers are answered now; winners wait on for Postgres, and are written even if they have left."""
        admissions = await self._stock.claim(self._sale_id, asks)
        if admission_of(admissions.answers[0])[0] is Admission.NOT_LOADED:
            await self._loader.load(self._sale_id)
            admissions = await self._stock.claim(self._sale_id, asks)
        at = admissions.at
        answers: list[NotAdmitted | Handover] = []
        for ask, number in zip(asks, admissions.answers, strict=True):
            if number in {Admission.WON, Admission.REPLAY}:
                wanted = Wanted(ask.claim_id, ask.user_id, ask.units, at, number == Admission.REPLAY)
                answers.append(Handover(self._write, wanted))
            elif number == Admission.NOT_LOADED:
                raise Unavailable("the sale was forgotten by Redis as soon as it was loaded")
            else:
                answers.append(NotAdmitted(number, at))
        return answers

    async def _decide(self, wanted: list[Wanted]) -> Sequence[Decided | BaseException]:
        """Let Postgres decide a batch: all at once if it can, else one by one so that none harms the others."""
        # Of several sizes under one key, the first is the one that Redis counted.
        unique = list({claim.claim_id: claim for claim in reversed(wanted)}.values())[::-1]
        decided = await self._commit(unique)
        if decided is None:
            decided = {}
            for claim in unique:
                alone = await self._commit([claim])
                decided |= alone if alone is not None else {claim.claim_id: await self._turn_away(claim)}
        answers: list[Decided | BaseException] = []
        told: set[str] = set()
        for claim in wanted:
            answer = decided[claim.claim_id]
            if claim.claim_id in told and isinstance(answer, Decided):
                answer = Decided(answer.claim, answer.at, replayed=True)
            told.add(claim.claim_id)
            answers.append(answer)
        return answers

    async def _commit(self, wanted: Sequence[Wanted]) -> dict[str, Decided | BaseException] | None:
        """Write a batch; None if its guards do not let all of it in, and then nothing was written."""
        try:
            return await self._write_once(wanted)
        except CommitUnknown:
            log.warning("flash_sale.commit_unknown", sale_id=self._sale_id, claims=len(wanted))
        except Unavailable:
            # Rolled back for certain: the units go back to the gate. Not those of a repeat, which may well be held.
            await self._give_back([claim for claim in wanted if not claim.is_repeat])
            raise
        # It may have been committed. The same ids again tell: those written are known, the rest is written now. Should
        # this fail too, nothing is given back here; the reconciler looks later, when nobody is in doubt.
        return await self._write_once(wanted)

    async def _write_once(self, wanted: Sequence[Wanted]) -> dict[str, Decided | BaseException] | None:
        try:
            async with self._database.transaction() as tx:
                win = await store.win(tx, self._sale_id, wanted)
                if not win.complete:
                    raise _Incomplete  # noqa: TRY301 - rolls the transaction back
                claims = [_held(self._sale_id, claim, win) for claim in wanted if claim.claim_id not in win.known]
                known = await store.find_claims(tx, list(win.known)) if win.known else {}
                await emit(tx, *_told(claims, sold_out_now=win.sold_out_now))
        except _Incomplete:
            return None
        decided: dict[str, Decided | BaseException] = {
            claim.claim_id: Decided(claim, claim.held_at, replayed=False) for claim in claims
        }
        if known:
            await self._correct(wanted, known)
            decided |= {claim_id: Decided(claim, wanted[0].at, replayed=True) for claim_id, claim in known.items()}
        return decided

    async def _correct(self, wanted: Sequence[Wanted], known: dict[str, Claim]) -> None:
        """Tell Redis what claims that existed before really occupy: it may have let one in that ended long ago."""
        wrong = [
            Occupied(claim.claim_id, claim.user_id, claim.occupied_units, claim.held_at)
            for ask in wanted
            if (claim := known.get(ask.claim_id)) is not None and claim.occupied_units != ask.units
        ]
        if wrong:
            await self._settle(wrong)

    async def _turn_away(self, claim: Wanted) -> Refusal:
        """Say why Postgres refused what Redis let in, take it back there, and have the two compared."""
        await self._give_back([claim])
        self._loader.suspect(self._sale_id)
        sale = await sales_store.find_sale(self._database, self._sale_id)
        held = await store.units_held(self._database, self._sale_id, claim.user_id)
        log.warning("flash_sale.redis_had_drifted", sale_id=self._sale_id)
        if sale is None:
            return Refusal(sales.NOT_FOUND)
        admission = sales.admit(sale, sales.Standing(units=held), claim.units, claim.at)
        return Refusal(sales.REFUSED_AS.get(admission, sales.SOLD_OUT))

    async def _give_back(self, claims: Sequence[Wanted]) -> None:
        await self._settle([Occupied(claim.claim_id, claim.user_id, 0, claim.at) for claim in claims])

    async def _settle(self, claims: Sequence[Occupied]) -> None:
        try:
            await self._stock.settle(self._sale_id, claims)
        except Unavailable as error:
            # Redis is gone as well; what it forgets or remembers wrongly, the reconciler mends.
            log.warning("flash_sale.not_given_back", sale_id=self._sale_id, claims=len(claims), why=error.what)


class _Incomplete(Exception):
    """Rolls back a batch that its guards do not let in whole."""


def _held(sale_id: str, claim: Wanted, win: store.Win) -> Claim:
    return Claim(
        claim_id=claim.claim_id,
        sale_id=sale_id,
        user_id=claim.user_id,
        sku=win.sku,
        units=claim.units,
        price_fen=win.price_fen,
        state="held",
        held_at=claim.at,
        held_until=claim.at + timedelta(seconds=win.hold_seconds),
    )


def _told(claims: Collection[Claim], *, sold_out_now: bool) -> list[Event]:
    events: list[Event] = [
        FlashSaleClaimHeld(
            at=claim.held_at,
            sale_id=claim.sale_id,
            claim_id=claim.claim_id,
            user_id=claim.user_id,
            units=claim.units,
            held_until=claim.held_until,
        )
        for claim in claims
    ]
    if sold_out_now:
        last = max(claims, key=lambda claim: claim.held_at)
        events.append(FlashSaleSoldOut(at=last.held_at, sale_id=last.sale_id))
    return events


async def after_release(tx: Tx, stock: Stock, claims: Sequence[Claim], reason: ReleaseReason, now: datetime) -> None:
    """Tell of claims just released in `tx`; Redis follows the commit."""
    await emit(
        tx,
        *[
            FlashSaleClaimReleased(
                at=now,
                sale_id=claim.sale_id,
                claim_id=claim.claim_id,
                user_id=claim.user_id,
                units=claim.units,
                reason=reason,
            )
            for claim in claims
        ],
    )
    for sale_id in {claim.sale_id for claim in claims}:
        follow(tx, stock, sale_id, [claim for claim in claims if claim.sale_id == sale_id])


def follow(tx: Tx, stock: Stock, sale_id: str, claims: Sequence[Claim]) -> None:
    """After the commit, bring Redis to what `claims` of one sale occupy."""

    async def settle() -> None:
        await stock.settle(sale_id, occupied(claims))

    tx.after_commit(settle)
