"""The gate of one sale: claims of this process go to Redis in batches, winners to Postgres in batches."""

from collections.abc import Awaitable, Collection, Sequence
from datetime import datetime, timedelta

import structlog
from msgspec import Struct

from growth.mechanics.flash_sale import model as sales
from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.keeping.store import holdings_of
from growth.mechanics.flash_sale.claim.model import Claim, Wanted
from growth.mechanics.flash_sale.claim.redis_sync import Loader
from growth.mechanics.flash_sale.model import Admission
from growth.mechanics.flash_sale.stock import ClaimAsk, Occupied, Stock, admission_of
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.http.idempotency import OTHER_CONTENT
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database
from growth.plumbing.work.coalesce import Coalescer, Handover
from growth.plumbing.work.decide import Decisions, NotWhole
from growth.vocabulary.events import Event
from growth.vocabulary.events.flash_sale import FlashSaleClaimHeld, FlashSaleSoldOut
from growth.vocabulary.refusals import Refusal, Unavailable

log = structlog.get_logger("flash_sale.claim")

MAX_BATCH_CLAIMS = 128
MAX_QUEUE_CLAIMS = 4_096
"""For each sale: what a process admits in well under a second. More waiting would only be late."""


class DecidedClaim(Struct, frozen=True):
    """A claim that Postgres has, and at which time Redis said so."""

    claim: Claim
    at: datetime
    replayed: bool
    """It had been made before, under the same Idempotency-Key."""


class NotAdmitted(Struct, frozen=True):
    """What the gate said instead: a number of `claim.lua`, and when."""

    number: int
    at: datetime


class Gate:
    """One sale's way in, for this process: a batch at Redis, a batch at Postgres."""

    def __init__(self, sale_id: str, database: Database, stock: Stock, loader: Loader) -> None:
        self._sale_id = sale_id
        self._database = database
        self._stock = stock
        self._loader = loader
        self.admit: Coalescer[ClaimAsk, DecidedClaim | NotAdmitted] = Coalescer(
            "flash_sale.admit", self._admit, max_batch=MAX_BATCH_CLAIMS, max_queue=MAX_QUEUE_CLAIMS
        )
        # Filled by handover alone: who was admitted is never turned away here.
        self._writes: Decisions[Wanted, DecidedClaim] = Decisions(
            "flash_sale.write",
            self._write,
            person_of=lambda claim: claim.user_id,
            # Of several sizes under one key, the first is the one that Redis counted.
            id_of=lambda claim: claim.claim_id,
            replayed=lambda told: DecidedClaim(told.claim, told.at, replayed=True),
            turned_away=self._turn_away,
            given_up=self._give_up,
            max_batch=MAX_BATCH_CLAIMS,
            max_queue=0,
        )

    @property
    def is_busy(self) -> bool:
        """Say whether claims are on their way."""
        return self.admit.is_busy or self._writes.calls.is_busy

    async def drain(self) -> None:
        """Wait until every claim on its way has its answer."""
        await self.admit.drain()
        await self._writes.calls.drain()

    async def _admit(self, asks: list[ClaimAsk]) -> Sequence[NotAdmitted | Handover]:
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
                answers.append(Handover(self._writes.calls, wanted))
            elif number == Admission.NOT_LOADED:
                raise Unavailable("the sale was forgotten by Redis as soon as it was loaded")
            else:
                answers.append(NotAdmitted(number, at))
        return answers

    async def _write(self, wanted: Sequence[Wanted]) -> Sequence[DecidedClaim | BaseException]:
        """Write a batch. Raises `NotWhole` if its guards do not let all of it in; then nothing is written."""
        async with self._database.transaction(people={claim.user_id for claim in wanted}) as tx:
            win = await store.win(tx, self._sale_id, wanted)
            if not win.complete:
                raise NotWhole
            fresh = [claim for claim in wanted if claim.claim_id not in win.known]
            claims = [_held(self._sale_id, claim, win) for claim in fresh]
            asked_by = [self._writes.calls.request_id_of(claim) for claim in fresh]
            known = await store.find_claims(tx, list(win.known)) if win.known else {}
            events = _told(claims, sold_out_now=win.sold_out_now)
            await emit(tx, *events, request_ids=asked_by + asked_by[-1:] * win.sold_out_now)
        decided = {claim.claim_id: DecidedClaim(claim, claim.held_at, replayed=False) for claim in claims}
        if not known:
            return list(decided.values())
        await self._correct(wanted, known)
        return [decided.get(one.claim_id) or _again(one, known[one.claim_id]) for one in wanted]

    async def _give_up(self, wanted: Sequence[Wanted]) -> None:
        """Give back what is certainly not written. Not the units of a repeat, which may well be held."""
        await self._give_back([claim for claim in wanted if not claim.is_repeat])

    async def _correct(self, wanted: Sequence[Wanted], known: dict[str, Claim]) -> None:
        """Tell Redis what claims that existed before really occupy: it may have let one in that ended long ago."""
        wrong = [
            Occupied(claim.claim_id, claim.user_id, claim.occupied_units, claim.held_at)
            for ask in wanted
            if (claim := known.get(ask.claim_id)) is not None and claim.occupied_units != ask.units
        ]
        if wrong:
            await self._tell(self._stock.settle(self._sale_id, wrong))

    async def _turn_away(self, claim: Wanted) -> Refusal:
        """Say why Postgres refused what Redis let in, take it back there, and have the two compared."""
        await self._give_back([claim])
        self._loader.suspect(self._sale_id)
        sale = await sales_store.find_sale(self._database, self._sale_id)
        held = await holdings_of(self._database, self._sale_id, [claim.user_id])
        log.warning("flash_sale.redis_had_drifted", sale_id=self._sale_id)
        if sale is None:
            return Refusal(sales.NOT_FOUND)
        admission = sales.admit(sale, sales.ShopperInSale(units=held.get(claim.user_id, 0)), claim.units, claim.held_at)
        return Refusal(sales.REFUSED_AS.get(admission, sales.SOLD_OUT))

    async def _give_back(self, claims: Sequence[Wanted]) -> None:
        if claims:
            await self._tell(self._stock.give_up(self._sale_id, claims))

    async def _tell(self, told: Awaitable[int]) -> None:
        try:
            await told
        except Unavailable as error:
            # Redis is gone as well; what it forgets or remembers wrongly, the reconciler mends.
            log.warning("flash_sale.redis_not_told", sale_id=self._sale_id, why=error.what)


def _again(wanted: Wanted, claim: Claim) -> DecidedClaim | Refusal:
    # Not theirs: it is an erased shopper's, whose id this one has now.
    return (
        DecidedClaim(claim, wanted.held_at, replayed=True)
        if claim.user_id == wanted.user_id
        else Refusal(OTHER_CONTENT)
    )


def _held(sale_id: str, claim: Wanted, win: store.WinOutcome) -> Claim:
    return Claim(
        claim_id=claim.claim_id,
        sale_id=sale_id,
        user_id=claim.user_id,
        sku=win.sku,
        units=claim.units,
        price_fen=win.price_fen,
        state="held",
        held_at=claim.held_at,
        held_until=claim.held_at + timedelta(seconds=win.hold_seconds),
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
