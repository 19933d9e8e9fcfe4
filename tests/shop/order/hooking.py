"""How a test speaks to the shop's room over HTTP."""

import httpx
from litestar import Litestar
from litestar.di import Provide

from growth.plumbing.http.answers import JsonResponse, StrictRequest
from growth.plumbing.http.problems import exception_handlers
from growth.plumbing.http.signatures import sign
from growth.plumbing.postgres.database import Database
from growth.shop.order.routes import router
from growth.shop.order.service import ShopService
from tests.shop.order.telling import JSON, NOON, SECRET, raw_of, stored

PATH = "/shop/v1/events"
APP_MAX_BODY_BYTES = 64 * 1024
OK = 200


class Shop:
    """Sends hooks."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    def beside(self, service: ShopService) -> "Shop":
        """Send hooks to another process."""
        transport = httpx.ASGITransport(app_of(service), raise_app_exceptions=True)  # type: ignore[arg-type]
        return Shop(httpx.AsyncClient(transport=transport, base_url="http://shop.test"))

    async def send(self, raw: bytes, headers: dict[str, str] | None = None, secret: str = SECRET) -> httpx.Response:
        signed = sign(secret, "hook", NOON, raw) | {"content-type": "application/json"}
        return await self.client.post(PATH, content=raw, headers=signed | (headers or {}))

    async def tells(self, *events: JSON) -> list[JSON]:
        response = await self.send(raw_of(*events))
        assert response.status_code == OK, response.text
        results: list[JSON] = response.json()["results"]
        return results


def app_of(service: ShopService) -> Litestar:
    return Litestar(
        [router],
        dependencies={"shop": Provide(lambda: service, sync_to_thread=False)},
        exception_handlers=dict(exception_handlers),
        request_class=StrictRequest,
        response_class=JsonResponse,
        request_max_body_size=APP_MAX_BODY_BYTES,
        logging_config=None,
    )


def refused(response: httpx.Response, status: int, code: str) -> None:
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in response.text
    assert "whsec_" not in response.text


async def nothing_is_stored(database: Database) -> bool:
    return not any((await stored(database)).values()) and not await database.fetch("SELECT FROM shop.events")
