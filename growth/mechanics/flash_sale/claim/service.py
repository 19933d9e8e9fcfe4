"""What shoppers and operators do with claims. The way in is `gate.py`; Redis follows each commit."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter

from growth.kit.campaign.audience import Audiences, Candidate
from growth.mechanics.flash_sale import model as sales
from growth.mechanics.flash_sale.board import SaleBoard
from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.aftermath import after_release
from growth.mechanics.flash_sale.claim.draw.model import DrawEntry
from growth.mechanics.flash_sale.claim.draw.service import Draws
from growth.mechanics.flash_sale.claim.gate import DecidedClaim, Gate
from growth.mechanics.flash_sale.claim.model import CLAIM_NOT_FOUND, CLAIM_NOT_HELD, Claim, show
from growth.mechanics.flash_sale.claim.redis_sync import Loader
from growth.mechanics.flash_sale.model import Admission, Sale
from growth.mechanics.flash_sale.stock import KEYS_KEPT_AFTER_CLOSE, ClaimAsk, Stock, admission_of
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.http.idempotency import OTHER_CONTENT, is_kept, later_names
from growth.plumbing.postgres.database import Database
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.coalesce import Coalescer
from growth.shop.order.service import ShopService
from growth.vocabulary.audience import NOT_IN_AUDIENCE, AudienceType
from growth.vocabulary.clock import milliseconds_until
from growth.vocabulary.ids import child_id, derived_id
from growth.vocabulary.refusals import Kind, Refusal

log = structlog.get_logger("flash_sale.claim")

MAX_FINDS_AT_ONCE = 64
MAX_FINDS_WAITING = 1_024
MAX_ASKED_AT_ONCE = 256
MAX_ASKED_WAITING = 4_096
"""Shoppers whose claims one read asks for."""
MAX_AGES_AT_ONCE = 512
MAX_AGES_WAITING = 8_192
"""Of shoppers never seen by this process, in sales that ask how old an account is; and in those with an audience."""
MAX_CLAIMS_SHOWN = 100
MAX_LIVE_SALES = 1_000
MAX_REGISTRATIONS_REMEMBERED = 65_536
MAX_GIVEN_BACK = 30
"""Claims that a shopper may give back in one sale within `GIVEN_BACK_WITHIN`: each is a row for good. The next ones end
by themselves, or are paid. Looked at before, not under a lock: who asks at once is let through at once."""
GIVEN_BACK_WITHIN = timedelta(hours=1)

WON = Counter("growth_flash_sale_won_total", "Claims answered with units")


class Claims:
    """Everything a shopper does with units of a sale."""

    def __init__(
        self,
        database: Database,
        stock: Stock,
        board: SaleBoard,
        loader: Loader,
        draws: Draws,
        shop: ShopService,
        audiences: Audiences,
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
            "flash_sale.live_claims", self._live_claims, max_batch=MAX_ASKED_AT_ONCE, max_queue=MAX_ASKED_WAITING
        )
        self._registrations: Coalescer[str, datetime | None] = Coalescer(
            "flash_sale.registered_at", self._registered_at, max_batch=MAX_AGES_AT_ONCE, max_queue=MAX_AGES_WAITING
        )
        self._registered: dict[str, datetime] = {}
        self._audiences = audiences
        self._missed: Coalescer[Candidate, AudienceType | None] = Coalescer(
            "flash_sale.audience", self._outside, max_batch=MAX_AGES_AT_ONCE, max_queue=MAX_AGES_WAITING
        )

    async def sale(self, sale_id: str) -> Sale:
        """Return a sale shoppers may know of, from the board or from Postgres. Raises `Refusal` (404)."""
        sale = self._board.sale(sale_id) or await self._sales(sale_id)
        if sale is None or sale.state == "draft":
            raise Refusal(sales.NOT_FOUND)
        return sale

    async def claim(
        self, sale_id: str, user_id: str, units: int, key: str | None, address: str, token_id: str | None = None
    ) -> "DecidedClaim | DrawEntry":
        """Hold `units` for a shopper, or enter the sale's draw; when this returns, it is committed.

        The same `key` (Idempotency-Key) names the same claim for a day, under the id that the shopper's token names
        (`token_id`), also when that has been merged into `user_id` since. Raises `Refusal` with the reason, and
        `Unavailable` when a store does not answer: asking again with the same key is safe.
        """
        sale = await self.sale(sale_id)
        if self._board.now() >= sale.closes_at + KEYS_KEPT_AFTER_CLOSE:
            # Redis has let go of the sale; nobody has it read again claim by claim to hear what is known.
            raise self._refused(sale, sales.ENDED)
        barred = 0
        if sale.protection.minimum_account_age_seconds is not None and await self._is_too_new(sale, user_id):
            barred = Admission.ACCOUNT_TOO_NEW.value
        missed = await self._missed(Candidate(sale.audience, user_id)) if sale.audience else None
        if missed is not None:
            barred = barred or Admission.NOT_IN_AUDIENCE.value
        asked_as = await self._database.people.life(self._database, token_id or user_id) if key else ""
        claim_id = derived_id(sale_id, asked_as, key) if key else child_id(sale_id)
        answer = await self._gate(sale_id).admit(ClaimAsk(claim_id, user_id, units, address, barred))
        if key and isinstance(answer, DecidedClaim) and (names := later_names(key, answer.claim.held_at, answer.at)):
            claim_id = await self._later(sale_id, asked_as, names, answer.at)
            answer = await self._gate(sale_id).admit(ClaimAsk(claim_id, user_id, units, address, barred))
        if isinstance(answer, DecidedClaim):
            if answer.claim.units != units:
                raise Refusal(OTHER_CONTENT)
            WON.inc()
            return answer
        admission, wait_seconds = admission_of(answer.number)
        if admission is Admission.DRAWING:
            return await self._draws.enter(sale, user_id, units, answer.at)
        if admission is Admission.NOT_IN_AUDIENCE:
            raise self._refused(sale, NOT_IN_AUDIENCE, {"condition": missed, "server_time": answer.at})
        raise await self._explain(sale, user_id, admission, wait_seconds, answer.at)

    async def _is_too_new(self, sale: Sale, user_id: str) -> bool:
        # What is remembered lets in and never keeps out: the shop may have told of an earlier time since.
        return sales.account_too_new(sale, self._registered.get(user_id), self._board.now()) and sales.account_too_new(
            sale, await self._registrations(user_id), self._board.now()
        )

    async def _later(self, sale_id: str, asked_as: str, names: Sequence[str], at: datetime) -> str:
        """Return the id that a key stands for whose first claim is older than a key is kept."""
        before, today = (derived_id(sale_id, asked_as, name) for name in names)
        known = (await store.find_claims(self._database, [before])).get(before)
        return before if known is not None and is_kept(known.held_at, at) else today

    async def _explain(
        self, sale: Sale, user_id: str, admission: Admission, wait_seconds: int, at: datetime
    ) -> Refusal:
        members: dict[str, object] = {"server_time": at, "opens_at": sale.opens_at, "closes_at": sale.closes_at}
        if admission is Admission.NOT_OPEN:
            members["opens_in_ms"] = milliseconds_until(sale.opens_at, at)
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
        """Release a shopper's held claim; one already released stays so.

        Raises `Refusal` for a paid one, and 429 for who claims and gives back again and again.
        """
        async with self._database.transaction(people=[user_id]) as tx:
            first = await store.given_back_before(tx, claim_id, user_id, now - GIVEN_BACK_WITHIN, MAX_GIVEN_BACK)
            if first is not None:
                wait_seconds = max(1, math.ceil((first + GIVEN_BACK_WITHIN - now).total_seconds()))
                told = "Pay for the claim, or let it lapse."
                raise Refusal(sales.TOO_MANY, told, retry_after_seconds=wait_seconds)
            released = await store.release(tx, [claim_id], "shopper", now, user_id)
            await after_release(tx, self._stock, released, "shopper", now)
        if released:
            return released[0]
        claim = await self.find(claim_id, user_id)
        if claim.state != "released":
            raise Refusal(CLAIM_NOT_HELD, f"This claim is {claim.state}.", state=claim.state)
        return claim

    async def page(self, after: str | None, limit: int, **only: str | None) -> list[Claim]:
        """Return operators' claims in the order of their ids: `only` of this sale_id, user_id, state or order_id."""
        return await store.page_of_claims(self._database, **only, after=after, limit=limit)

    async def release(self, act: Act, claim_id: str) -> Claim:
        """Release a held claim for an operator, who says why. Raises `Refusal` 404 and 409."""
        async with self._database.transaction(everyone=True) as tx:
            before = (await store.lock_claims(tx, [claim_id])).get(claim_id)
            if before is None:
                raise Refusal(CLAIM_NOT_FOUND)
            released = await store.release(tx, [claim_id], "operator", act.now)
            if not released:
                raise Refusal(CLAIM_NOT_HELD, f"This claim is {before.state}.", state=before.state)
            await audit.record(tx, act, "flash_sale.release_claim", claim_id, before=before, after=released[0])
            await after_release(tx, self._stock, released, "operator", act.now)
        return released[0]

    async def _find_sales(self, sale_ids: list[str]) -> Sequence[Sale | None]:
        found = await sales_store.find_sales(self._database, sorted(set(sale_ids)))
        return [found.get(sale_id) for sale_id in sale_ids]

    async def _live_claims(self, asked: list[tuple[str, str]]) -> Sequence[list[Claim]]:
        found = await store.live_claims_of(
            self._database, [sale_id for sale_id, _ in asked], [user_id for _, user_id in asked]
        )
        return [found.get(pair, []) for pair in asked]

    async def _outside(self, asked: list[Candidate]) -> Sequence[AudienceType | None]:
        found = await self._audiences.outside(self._database, dict(enumerate(asked)))
        return [found.get(place) for place in range(len(asked))]

    async def _registered_at(self, user_ids: list[str]) -> Sequence[datetime | None]:
        found = await self._shop.registered_at(user_ids)
        if len(self._registered) + len(found) > MAX_REGISTRATIONS_REMEMBERED:
            self._registered.clear()
        self._registered.update(found)
        return [found.get(user_id) for user_id in user_ids]
