"""A crowd at one sale: it claims, pays, gives back, forgets, pays late, and writes down every answer it gets.

Each shopper has a client's patience: what is no answer (no connection, a time-out, 503) is asked again with the same
Idempotency-Key, at another address if there is one.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from random import Random
from typing import Any

import aiohttp
from msgspec import Struct

from growth.mechanics.flash_sale.model import Sale
from growth.plumbing.http.identity import Identity
from growth.plumbing.http.signatures import sign
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Unavailable
from tests.app import ENVIRONMENT
from tests.faults.houses import House
from tests.patience import PATIENCE_SECONDS
from tests.shop.order import telling

ANSWER_SECONDS = 3.0
"""So long a client waits for one answer."""
DOWN_SECONDS = 0.5
"""An address that did not take a connection is left alone so long."""
TIME_PASSES_SECONDS = 0.25
CLAIM, GIVE_BACK, PAY = "claim", "give back", "pay"

OK, CREATED, ACCEPTED, UNAVAILABLE = 200, 201, 202, 503

_identity = Identity(algorithms=["HS256"], secret=ENVIRONMENT["GROWTH_JWT_SECRET"])


class Acknowledged(Struct, frozen=True):
    """A claim that a shopper was told of with 201."""

    claim_id: str
    user_id: str
    units: int


class Paid(Struct, frozen=True):
    """What the shop was told of a payment."""

    order_id: str
    line_id: str
    claim_id: str
    outcome: str
    """`applied` or `refund_required`; of a duplicate, what the first delivery was answered with."""


class Answer(Struct, frozen=True):
    status: int
    body: dict[str, Any]

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))


SILENCE = Answer(0, {})


class Shares(Struct, frozen=True):
    """What shoppers do with a claim, as shares of one; the rest keeps it, held."""

    pay: float = 0.35
    give_back: float = 0.2
    forget: float = 0.15
    """Neither pay nor give back: the hold lapses."""
    pay_late: float = 0.2
    """Pay when the hold has lapsed."""
    leave: float = 0.1
    """Of all shoppers: ask once, and never come back if there is no answer."""
    ask_again: float = 0.4
    """Of those who won: ask once more with the same key."""
    grab: float = 0.15
    """Of all shoppers: ask a second time, under another key, for as much as anybody may have."""


class Crowd:
    """Shoppers of one sale, and what they were told."""

    def __init__(
        self,
        house: House,
        sale: Sale,
        *,
        shoppers: int = 300,
        over_seconds: float = 4.0,
        shares: Shares | None = None,
        first: dict[str, str] | None = None,
    ) -> None:
        """`first` says which address is asked first for `CLAIM`, `GIVE_BACK` or `PAY`."""
        self.house = house
        self.sale = sale
        self.entered: list[str] = []
        """Shoppers who were told with 202 that they are in the draw."""
        self.slowest_seconds = 0.0
        """The longest that one answer took."""
        self.acknowledged: dict[str, Acknowledged] = {}
        self.given_back: set[str] = set()
        self.forgotten: set[str] = set()
        self.paid: list[Paid] = []
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        """Answers that nobody may ever get."""
        self._shoppers = shoppers
        self._over_seconds = over_seconds
        self._shares = shares or Shares()
        self._first = first or {}
        self._down: dict[str, float] = {}
        self._changed = asyncio.Condition()
        self._newcomers = 0
        self._turn = 0
        self._patience_ends_at = float("inf")
        self._shopping: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def shopping(self) -> AsyncIterator[None]:
        """Let them come; on leaving, whoever is still there is sent home."""
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS), connector=aiohttp.TCPConnector(limit=0)
        ) as self._session:
            # Told to end, not only cancelled: before Python 3.12 a wait with a time-out may swallow a cancellation.
            over = asyncio.Event()
            clock = asyncio.create_task(self._time_passes(over), name="crowd: time passes")
            self._shopping = [asyncio.create_task(self._shop(n), name=f"crowd: {n}") for n in range(self._shoppers)]
            try:
                yield
            finally:
                over.set()
                self._patience_ends_at = float("-inf")
                for task in (clock, *self._shopping):
                    task.cancel()
                await asyncio.gather(clock, *self._shopping, return_exceptions=True)

    async def gone(self) -> None:
        """Wait until every shopper has got an answer to everything."""
        await asyncio.gather(*self._shopping)

    async def forget(self) -> None:
        """One more shopper claims, if there is something to be had, and lets the hold lapse."""
        answer = await self.newcomer()
        if answer.status == CREATED:
            self.forgotten.add(answer.body["claim_id"])

    async def has_won(self, claims: int) -> None:
        """Wait until so many claims were acknowledged."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: len(self.acknowledged) >= claims)

    async def newcomer(self, units: int = 1) -> Answer:
        """One more shopper; returns what they were told in the end."""
        self._newcomers += 1
        return await self.claim(f"newcomer-{self._newcomers}", units, "only")

    async def ask_once(self, address: str, n: int) -> Answer:
        """One claim by somebody who asks one process, once; raises what the connection does."""
        headers = self._headers(f"once-{n}") | {"idempotency-key": f"once-{n}"}
        path = f"/v1/flash-sales/{self.sale.sale_id}/claims"
        answer = await self._once("POST", address + path, headers, {"units": 1}, seconds=PATIENCE_SECONDS)
        if answer.status == CREATED:
            claim_id = answer.body["claim_id"]
            self.acknowledged[claim_id] = Acknowledged(claim_id, f"once-{n}", 1)
        return answer

    async def is_shown_by(self, address: str) -> bool:
        """Say whether a process shows the sale from memory: only such pages have an ETag."""
        async with self._page(address) as page:
            return "ETag" in page.headers

    async def is_open_at(self, address: str) -> bool:
        """Say whether a process shows that there is something to be had."""
        async with self._page(address) as page:
            return bool((await page.json())["state"] == "open")

    def _page(self, address: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None
        url, headers = f"{address}/v1/flash-sales/{self.sale.sale_id}", self._headers("onlooker")
        return self._session.get(url, headers=headers)

    def summary(self) -> str:
        return f"{len(self.acknowledged)} claims acknowledged, {len(self.paid)} payments answered, {dict(self.answers)}"

    async def _shop(self, n: int) -> None:
        dice = Random(f"{self.sale.sku}:{n}")
        user_id = f"shopper-{n}"
        await asyncio.sleep(self._over_seconds * n / self._shoppers)
        units = 1 + (dice.random() < 0.3)
        answer = await self.claim(user_id, units, "first", patient=dice.random() >= self._shares.leave)
        if dice.random() < self._shares.grab:
            await self.claim(user_id, 2, "grab")
        if answer.status != CREATED:
            return
        claim_id = answer.body["claim_id"]
        if dice.random() < self._shares.ask_again:
            await self._ask_again(user_id, units, claim_id)
        await self._go_on(dice.random(), Acknowledged(claim_id, user_id, units))

    async def _go_on(self, chance: float, claim: Acknowledged) -> None:
        shares = self._shares
        if chance < shares.pay:
            return await self._pay(claim)
        chance -= shares.pay
        if chance < shares.give_back:
            return await self._give_back(claim)
        chance -= shares.give_back
        if chance < shares.forget + shares.pay_late:
            self.forgotten.add(claim.claim_id)
        if shares.forget <= chance < shares.forget + shares.pay_late:
            await self._pay_late(claim)
        return None

    async def claim(self, user_id: str, units: int, key: str, *, patient: bool = True) -> Answer:
        """Claim; the answer is written down. Status 0 is the silence that an impatient shopper has left with."""
        headers = self._headers(user_id) | {"idempotency-key": f"{user_id}-{key}"}
        path = f"/v1/flash-sales/{self.sale.sale_id}/claims"
        answer = await self._ask(CLAIM, "POST", path, headers, {"units": units}, patient=patient)
        if answer.status == ACCEPTED:
            self.entered.append(user_id)
        elif answer.status == CREATED:
            claim_id = answer.body["claim_id"]
            self.acknowledged.setdefault(claim_id, Acknowledged(claim_id, user_id, units))
            async with self._changed:
                self._changed.notify_all()
        elif answer.status and answer.code not in {"flash_sale.sold_out", "flash_sale.limit_reached"}:
            self.wrong.append(f"{user_id} claims: {answer}")
        return answer

    async def _ask_again(self, user_id: str, units: int, claim_id: str) -> None:
        """Whoever has won and asks again, with the same key, is told of the same claim."""
        again = await self.claim(user_id, units, "first")
        if again.status != CREATED or again.body["claim_id"] != claim_id:
            self.wrong.append(f"{user_id} has {claim_id}, asks again and is told: {again}")

    async def _give_back(self, claim: Acknowledged) -> None:
        answer = await self._ask(GIVE_BACK, "DELETE", f"/v1/claims/{claim.claim_id}", self._headers(claim.user_id))
        if answer.status == OK and answer.body["state"] == "released":
            self.given_back.add(claim.claim_id)
        else:
            self.wrong.append(f"{claim.user_id} gives back: {answer}")

    async def _pay_late(self, claim: Acknowledged) -> None:
        """Pay once the hold is over, whatever became of the units."""
        headers = self._headers(claim.user_id)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answer := await self._ask("look", "GET", f"/v1/claims/{claim.claim_id}", headers)).status == OK:
            if answer.body["state"] != "held":
                return await self._pay(claim)
            assert time.monotonic() < deadline, f"the hold of {claim} never lapses"
            await asyncio.sleep(TIME_PASSES_SECONDS)
        self.wrong.append(f"{claim.user_id} looks: {answer}")
        return None

    async def _pay(self, claim: Acknowledged) -> None:
        order_id = f"order-{claim.claim_id}"
        line = telling.line(sku=self.sale.sku, units=claim.units, amount_fen=100, claim_id=claim.claim_id)
        raw = json.dumps(telling.paid(order_id, line, user_id=claim.user_id, paid_fen=100)).encode()
        answer = await self._ask(PAY, "POST", "/shop/v1/events", {}, raw)
        results = answer.body.get("results")
        if answer.status != OK or not results:
            self.wrong.append(f"{order_id} pays: {answer}")
            return
        (result,) = results
        outcome = result["code"] if result["outcome"] == "duplicate" else result["outcome"]
        self.answers[f"pay {result['outcome']} {result['code']}".strip()] += 1
        if outcome not in {"applied", "refund_required"}:
            self.wrong.append(f"{order_id} pays: {answer}")
        self.paid.append(Paid(order_id, "1", claim.claim_id, outcome))

    async def _time_passes(self, over: asyncio.Event) -> None:
        while not over.is_set():
            await asyncio.sleep(TIME_PASSES_SECONDS)
            if self.forgotten:
                with suppress(Unavailable):
                    await self.house.let_lapse(list(self.forgotten))

    def _headers(self, user_id: str) -> dict[str, str]:
        token = _identity.sign(user_id, now=now(), lifetime_seconds=3600)
        return {"authorization": f"Bearer {token}"}

    async def _ask(
        self,
        what: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: object = None,
        *,
        patient: bool = True,
    ) -> Answer:
        """Ask until there is an answer, or only once."""
        assert self._session is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        tries = 0
        while True:
            assert time.monotonic() < min(deadline, self._patience_ends_at), f"no answer to {method} {path}"
            address = self._address(what, tries)
            tries += 1
            asked_at = time.monotonic()
            try:
                answer = await self._once(method, address + path, headers, body)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.answers[f"{what} {type(error).__name__}"] += 1
                if isinstance(error, aiohttp.ClientConnectorError):
                    self._down[address] = time.monotonic() + DOWN_SECONDS
            else:
                if answer.status != UNAVAILABLE:
                    self.answers[f"{what} {answer.code or answer.status}"] += 1
                    self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - asked_at)
                    return answer
                self.answers[f"{what} 503"] += 1
            if not patient:
                return SILENCE
            await asyncio.sleep(min(0.5, 0.05 * tries))

    async def _once(
        self, method: str, url: str, headers: dict[str, str], body: object, *, seconds: float = ANSWER_SECONDS
    ) -> Answer:
        assert self._session is not None
        wait = aiohttp.ClientTimeout(total=seconds)
        if isinstance(body, bytes):
            # Signed anew each time, under the same id: as a shop that delivers again.
            signed = sign(telling.SECRET, "hook", now(), body) | {"content-type": "application/json"}
            asked = self._session.request(method, url, headers=headers | signed, data=body, timeout=wait)
        elif body is None:
            asked = self._session.request(method, url, headers=headers, timeout=wait)
        else:
            asked = self._session.request(method, url, headers=headers, json=body, timeout=wait)
        async with asked as response:
            raw = await response.read()
            return Answer(response.status, json.loads(raw) if raw else {})

    def _address(self, what: str, tries: int) -> str:
        """The first address, if there is one and it takes connections; else each in turn."""
        first = self._first.get(what)
        if first is not None and tries == 0 and self._is_up(first):
            return first
        known = self.house.addresses
        alive = [address for address in known if self._is_up(address)] or known
        self._turn += 1
        return alive[self._turn % len(alive)]

    def _is_up(self, address: str) -> bool:
        return self._down.get(address, 0.0) < time.monotonic()
