"""The whole application in the test's own process, on real Postgres and Valkey, spoken to over HTTP.

Every answer is held to the OpenAPI document, whatever the test is about.
"""

import asyncio
import itertools
import json
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from litestar.types import ASGIApp, Receive, Scope, Send
from prometheus_client import REGISTRY

from growth.bootstrap import Growth, assembled
from growth.plumbing.http import operators
from growth.plumbing.http.signatures import sign
from growth.plumbing.settings import load_settings
from growth.plumbing.watch.telemetry import RequestMetrics
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from growth.web import Routes, create_app, serves_docs
from growth.webhook.delivery.courier import Courier
from tests.documented import Document
from tests.patience import PATIENCE_SECONDS
from tests.shop.order.telling import SECRET

JSON = dict[str, Any]
Headers = dict[str, str]

OK = 200
_numbers = itertools.count(1)
_documents: list[Document] = []
_spare: defaultdict[object, list[Routes]] = defaultdict(list)
"""By what they serve."""

ENVIRONMENT = {
    "GROWTH_ENVIRONMENT": "development",
    "GROWTH_JWT_SECRET": "a toy secret of more than thirty-two bytes",
    "GROWTH_SHOP_SECRETS": SECRET,
    # A test is a crowd of its own; one about limits sets them.
    "GROWTH_SHOPPER_REQUESTS_PER_SECOND": "0",
    "GROWTH_OPERATOR_REQUESTS_PER_SECOND": "0",
    "GROWTH_ADDRESS_REQUESTS_PER_SECOND": "0",
}


PATIENT = {
    # A machine that is three times slower is no fault; a test about what a service does then sets its own.
    f"GROWTH_{name}_SECONDS": "60"
    for name in ("POSTGRES_ACQUIRE", "POSTGRES_STATEMENT", "REDIS_ANSWER")
}


class NobodyKnows(AbstractResolver):
    """A name server that knows no name: whatever URL a test makes up, nobody outside is asked about it."""

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002 - nobody knows, whatever the port
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002
    ) -> list[ResolveResult]:
        raise OSError(f"nobody knows {host}")

    async def close(self) -> None:
        pass


class RunningApp:
    """One api process, as far as HTTP can tell."""

    def __init__(self, growth: Growth, asgi: ASGIApp, client: httpx.AsyncClient) -> None:
        self.growth = growth
        self.asgi = asgi
        self.client = client
        self.signs_ahead = timedelta()
        """How much later than now tokens say they were signed: they tell whole seconds, and who was erased in this one
        is signed in anew in a later one."""
        self._keys: dict[Role, str] = {}
        self._hooks = 0

    def shopper_headers(self, user_id: str, *, lifetime_seconds: int = 3600) -> Headers:
        token = self.growth.identity.sign(user_id, now=now() + self.signs_ahead, lifetime_seconds=lifetime_seconds)
        return {"authorization": f"Bearer {token}"}

    async def operator_headers(self, role: Role = Role.EDITOR) -> Headers:
        """The headers of this process' one operator of this role, made when first asked for."""
        if role not in self._keys:
            name = f"{role.name.lower()}-{next(_numbers)}"
            async with self.growth.database.transaction() as tx:
                key = await operators.add(tx, name, role, now())
            # Now that it is committed: others may ask under it at once.
            self._keys.setdefault(role, key)
        return {"authorization": f"Bearer {self._keys[role]}"}

    async def shopper(
        self, user_id: str, method: str, path: str, body: object = None, **headers: str
    ) -> httpx.Response:
        """What a mini-program of this shopper asks; header names with `_` for `-`."""
        return await self._ask(method, path, body, self.shopper_headers(user_id) | headers)

    async def operator(
        self, method: str, path: str, body: object = None, *, role: Role = Role.EDITOR, **headers: str
    ) -> httpx.Response:
        """What an operator of this role asks; header names with `_` for `-`."""
        return await self._ask(method, path, body, await self.operator_headers(role) | headers)

    async def hook(self, raw: bytes, *, secret: str = SECRET, **headers: str) -> httpx.Response:
        """Send one signed hook with these bytes."""
        self._hooks += 1
        signed = sign(secret, f"hook-{self._hooks}", now(), raw) | {"content-type": "application/json"}
        return await self.client.post("/shop/v1/events", content=raw, headers=signed | _named(headers))

    async def shop_tells(self, *events: JSON) -> list[JSON]:
        """Send one hook with these events (`tests.shop.order.telling` makes them); what became of each."""
        response = await self.hook(json.dumps(events).encode())
        assert response.status_code == OK, response.text
        results: list[JSON] = response.json()["results"]
        return results

    async def _ask(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> httpx.Response:
        shown = _named(headers)
        if body is None:
            return await self.client.request(method, path, headers=shown)
        return await self.client.request(method, path, json=body, headers=shown)


@asynccontextmanager
async def running_app(postgres_dsn: str, redis_url: str, **environment: str) -> AsyncIterator[RunningApp]:
    """The application, started; two at once are two replicas. `environment` adds settings, in their own names."""
    where = {"GROWTH_POSTGRES_DSN": postgres_dsn, "GROWTH_REDIS_URL": redis_url}
    settings = load_settings(ENVIRONMENT | PATIENT | where | environment)
    async with assembled(settings) as growth:
        growth.of(Courier).names = NobodyKnows()
        _forget_metrics()
        serves = serves_docs(settings), tuple(room.name for room in growth.rooms)
        # Making routes takes longer than most tests: those of a test before serve again, unless another has them now.
        routes = _spare[serves].pop() if _spare[serves] else Routes(growth, serves_docs=serves[0])
        asgi = create_app(growth, routes)
        transport = httpx.ASGITransport(_in_one_piece(asgi))  # type: ignore[arg-type]
        async with _up(asgi), httpx.AsyncClient(transport=transport, base_url="http://growth.test") as client:
            if not _documents:
                _documents.append(Document((await client.get("/openapi.json")).json()))
            client.event_hooks = {"response": [_hold_to_document]}
            yield RunningApp(growth, asgi, client)
        _spare[serves].append(routes)


def _in_one_piece(asgi: ASGIApp) -> ASGIApp:
    """Hand over a body as a server does that read it whole: httpx always ends it with one more, empty message."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        pieces: list[bytes] = []
        is_read = False

        async def receive_whole() -> Any:
            nonlocal is_read
            if is_read:
                return await receive()
            more = True
            while more:
                message: Any = await receive()
                pieces.append(message.get("body", b""))
                more = message.get("more_body", False)
            is_read = True
            return {"type": "http.request", "body": b"".join(pieces), "more_body": False}

        await asgi(scope, receive_whole, send)

    return served


async def _hold_to_document(response: httpx.Response) -> None:
    await response.aread()
    faults = _documents[0].faults(response)
    assert not faults, faults


def _named(headers: Mapping[str, str]) -> Headers:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _forget_metrics() -> None:
    """A process registers the metrics of its one application; a test process has many applications."""
    for collector in list(REGISTRY._collector_to_names):
        if isinstance(collector, RequestMetrics):
            REGISTRY.unregister(collector)


@asynccontextmanager
async def _up(asgi: ASGIApp) -> AsyncIterator[None]:
    """Drive the lifespan, as a server does; what fails there fails the test."""
    to_app: asyncio.Queue[Any] = asyncio.Queue()
    to_server: asyncio.Queue[Any] = asyncio.Queue()
    scope: Any = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    running = asyncio.ensure_future(asgi(scope, to_app.get, to_server.put))

    async def told(what: str) -> None:
        await to_app.put({"type": f"lifespan.{what}"})
        answer = asyncio.ensure_future(to_server.get())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait({answer, running}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            await running
        assert answer.result()["type"] == f"lifespan.{what}.complete", answer.result()

    await told("startup")
    try:
        yield
    finally:
        await told("shutdown")
        await running
