"""The service under load, as its operator and its shop see it: sales made, orders paid, books read."""

import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic, time
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from msgspec import Struct, field

from growth.load.conductor import LoadError
from growth.load.messages import SeenWin
from growth.load.tokens import hook_headers, shopper_token
from growth.vocabulary import clock
from growth.vocabulary.clock import rfc3339

ANSWER_SECONDS = 15.0
CLOCK_LOOKS = 9
"""Answers from which the difference of the clocks is told: the quickest one says it best."""
SALE_WINDOW = timedelta(hours=2)
PRICE_FEN, LIST_PRICE_FEN = 100, 19_900
MAX_PROBLEM_CHARACTERS = 300


class ServiceTarget(Struct, frozen=True, kw_only=True):
    """A running service and its credentials, as `dev.json` tells. What else it tells is not for us: not refused."""

    base_url: str
    operator_key: str
    jwt_secret: str
    shop_secret: str = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    pids: dict[str, int | list[int]] = field(default_factory=dict)
    """Process ids by name; empty: CPU is not measured."""


def read_dev_json(path: Path) -> dict[str, Any]:
    """Return what `dev.json` says; `path` is the file or its folder."""
    file = path / "dev.json" if path.is_dir() else path
    try:
        found = msgspec.json.decode(file.read_bytes())
    except FileNotFoundError as error:
        raise LoadError(f"There is no {file}: start a service with `growth dev`, or name one by options.") from error
    except msgspec.DecodeError as error:
        raise LoadError(f"{file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise LoadError(f"{file} holds no object.")
    return {name: value for name, value in found.items() if value is not None}


class SalePlan(Struct, frozen=True, kw_only=True):
    """A sale to be made."""

    title: str
    sku: str
    units_total: int
    max_per_shopper: int = 1
    hold_seconds: int = 1800


class ClaimTally(Struct):
    """Claims of one state, and their units."""

    claims: int
    units: int


class ServiceStats(Struct, kw_only=True):
    """What the operator is told of a sale; None where this service does not tell."""

    taken: int | None = None
    held: ClaimTally | None = None
    paid: ClaimTally | None = None
    stores_agree: bool | None = None


class ClaimSeen(Struct):
    """A claim as its winner sees it."""

    claim_id: str
    units: int
    state: str


class ReportedViolation(Struct):
    """A sentence that does not hold."""

    room: str
    name: str
    rows: list[Any] = field(default_factory=list)


class Invariants(Struct):
    """What the service says of itself."""

    checked: int
    violations: list[ReportedViolation]


class Service:
    """Calls as operator, shop and single shopper: `async with Service(target) as service`."""

    def __init__(self, target: ServiceTarget) -> None:
        self.target = target
        self._base = target.base_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._operator = {"authorization": f"Bearer {target.operator_key}"}

    async def __aenter__(self) -> Self:
        """Open a session."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        assert self._session is not None
        await self._session.close()

    async def _call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        assert self._session is not None
        try:
            async with self._session.request(method, self._base + path, data=body, headers=headers) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LoadError(f"{method} {path} of {self._base} has no answer: {error!r}. Is the service up?") from error

    async def _operate(self, method: str, path: str, content: object = None, key: str = "") -> bytes:
        headers = dict(self._operator)
        if key:
            headers["idempotency-key"] = key
        body = None
        if content is not None:
            headers["content-type"] = "application/json"
            body = msgspec.json.encode(content)
        status, answer = await self._call(method, path, body, headers)
        if status >= 300:  # noqa: PLR2004
            said = answer[:MAX_PROBLEM_CHARACTERS].decode(errors="replace")
            raise LoadError(f"{method} {path} was answered {status}: {said}")
        return answer

    async def reach(self) -> None:
        """Raise LoadError unless somebody answers at that address."""
        await self._call("GET", "/livez", None, {})

    # The operator.

    async def make_sale(self, plan: SalePlan, opens_at: datetime) -> str:
        """Make a sale and publish it; returns its id."""
        draft = msgspec.to_builtins(plan) | {
            "price_fen": PRICE_FEN,
            "list_price_fen": LIST_PRICE_FEN,
            "opens_at": rfc3339(opens_at),
            "closes_at": rfc3339(opens_at + SALE_WINDOW),
        }
        answer = await self._operate("POST", "/admin/v1/flash-sales", draft, key=f"{plan.sku}-draft")
        sale_id = str(msgspec.json.decode(answer)["sale_id"])
        await self._operate("POST", f"/admin/v1/flash-sales/{sale_id}/publish", key=f"{plan.sku}-publish")
        return sale_id

    async def end_sale(self, sale_id: str) -> None:
        """End a sale, so that it stands in nobody's way. It is no harm if that fails."""
        with contextlib.suppress(LoadError):
            await self._operate("POST", f"/admin/v1/flash-sales/{sale_id}/end")

    async def stats(self, sale_id: str) -> ServiceStats | None:
        """Return the sale's figures, or None if this service tells none."""
        try:
            return msgspec.json.decode(
                await self._operate("GET", f"/admin/v1/flash-sales/{sale_id}/stats"), type=ServiceStats
            )
        except (LoadError, msgspec.DecodeError):
            return None

    async def invariants(self) -> Invariants | None:
        """Have the service check all that must hold; None if it cannot be asked."""
        try:
            return msgspec.json.decode(await self._operate("GET", "/admin/v1/invariants"), type=Invariants)
        except (LoadError, msgspec.DecodeError):
            return None

    # Clocks.

    async def clock_ahead(self, sale_id: str) -> tuple[float, float]:
        """Return how many seconds the service's clock is ahead of ours, and how wrong that may be."""
        headers = self.shopper_headers("clock.watcher")
        best = (0.0, float("inf"))
        for _ in range(CLOCK_LOOKS):
            asked, begin = time(), monotonic()
            status, answer = await self._call("GET", f"/v1/flash-sales/{sale_id}", None, headers)
            took = monotonic() - begin
            if status != 200:  # noqa: PLR2004
                said = answer[:MAX_PROBLEM_CHARACTERS].decode(errors="replace")
                raise LoadError(f"The sale's page was answered {status}: {said}. Is the token's secret right?")
            told = datetime.fromisoformat(msgspec.json.decode(answer)["server_time"]).timestamp()
            best = min(best, (told - (asked + took / 2), took / 2 + 0.001), key=lambda look: look[1])
        return best

    # Shoppers.

    def shopper_headers(self, user_id: str) -> dict[str, str]:
        """Return the credentials of one shopper."""
        target = self.target
        token = shopper_token(target.jwt_secret, user_id, clock.now(), target.jwt_issuer, target.jwt_audience)
        return {"authorization": f"Bearer {token.decode()}"}

    async def ask(self, user_id: str, method: str, path: str) -> tuple[int, bytes]:
        """Ask as one shopper; return status and body."""
        return await self._call(method, path, None, self.shopper_headers(user_id))

    async def claim(self, win: SeenWin) -> ClaimSeen | None:
        """Return a claim as its winner sees it, or None if the service does not know it."""
        status, answer = await self._call("GET", f"/v1/claims/{win.claim_id}", None, self.shopper_headers(win.user_id))
        return msgspec.json.decode(answer, type=ClaimSeen) if status == 200 else None  # noqa: PLR2004

    # The shop.

    async def pay(self, sku: str, wins: Sequence[SeenWin]) -> list[str]:
        """Tell the service that orders for these claims are paid; returns what it said of each."""
        now = clock.now()
        events = [
            {
                "specversion": "1.0",
                "id": f"paid-{win.claim_id}",
                "source": "growth/load",
                "type": "order.paid",
                "time": rfc3339(now),
                "data": {
                    "order_id": f"load-{win.claim_id}",
                    "user_id": win.user_id,
                    "paid_at": rfc3339(now),
                    "paid_fen": PRICE_FEN * win.units,
                    "lines": [
                        {
                            "line_id": "1",
                            "sku": sku,
                            "units": win.units,
                            "amount_fen": PRICE_FEN * win.units,
                            "claim_id": win.claim_id,
                        }
                    ],
                },
            }
            for win in wins
        ]
        body = msgspec.json.encode(events)
        headers = hook_headers(self.target.shop_secret, f"hook-{wins[0].claim_id}", now, body)
        status, answer = await self._call("POST", "/shop/v1/events", body, headers)
        if status != 200:  # noqa: PLR2004
            said = answer[:MAX_PROBLEM_CHARACTERS].decode(errors="replace")
            raise LoadError(f"The shop's hook was answered {status}: {said}")
        return [str(result["outcome"]) for result in msgspec.json.decode(answer)["results"]]
