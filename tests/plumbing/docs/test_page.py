"""The reader of the document: one page from our own files, that runs nothing but itself."""

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256

import httpx
import pytest
from litestar import Litestar, get
from litestar.openapi import OpenAPIConfig

from growth.plumbing.docs import page as docs
from growth.plumbing.http.problems import exception_handlers
from tests.app import running_app

pytestmark = pytest.mark.anyio


@get("/v1/tea", operation_id="tea_get", summary="Get tea", tags=["Tea"], sync_to_thread=False)
def get_tea() -> dict[str, int]:
    """Green."""
    return {}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar(
        [get_tea, docs.router],
        openapi_config=OpenAPIConfig(title="tea", version="1", path=docs.PATH, render_plugins=docs.plugins()),
        exception_handlers=dict(exception_handlers),
        logging_config=None,
    )
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://growth.test") as client:
        yield client


def sources(policy: str, directive: str) -> list[str]:
    return next(part.split()[1:] for part in policy.split(";") if part.split()[0] == directive)


async def test_the_reader_runs_its_own_script_and_nothing_else(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert sources(policy, "default-src") == ["'none'"]
    assert sources(policy, "connect-src") == ["'self'"]
    for tag in ("script", "style"):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        hashes = [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in inline]
        assert len(hashes) == page.text.count(f"<{tag}") == 1
        assert sources(policy, f"{tag}-src") == hashes


async def test_the_reader_names_no_other_host_and_writes_no_markup(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", page.text) == []
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|style=|\son[a-z]+=\"", page.text) == []
    )


async def test_the_document_says_what_the_handler_says(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/tea"]["get"]
    assert operation["description"] == "Green."
    assert operation["security"] == [{"shopper": []}]
    assert (await client.get("/openapi.json")).headers["content-type"] == "application/json"


async def test_the_document_is_served_in_chinese_beside_english_and_in_no_other_language(
    client: httpx.AsyncClient,
) -> None:
    english = await client.get("/openapi.json")
    chinese = await client.get("/openapi.json", params={"lang": "zh"})
    assert chinese.json()["components"]["examples"]["request.too_many"]["summary"] == "操作太频繁，请稍后再试"  # noqa: RUF001
    assert chinese.json()["paths"].keys() == english.json()["paths"].keys()
    assert (await client.get("/openapi.json", params={"lang": "en"})).content == english.content
    assert (await client.get("/openapi.json")).content == english.content
    part = (await client.get("/openapi.json", params={"lang": "zh", "part": "shopper"})).json()
    assert part["paths"].keys() == {path for path in chinese.json()["paths"] if path.startswith("/v1/")}
    assert (await client.get("/openapi.json", params={"lang": "fr"})).status_code == 400


@pytest.mark.parametrize(
    "path", ["/", "/tea", "/schema", "/schema/openapi.json", "/swagger", "/redoc", "/openapi.yaml"]
)
async def test_nothing_else_is_served_beside_it(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("environment", "served"),
    [
        ({"GROWTH_ENVIRONMENT": "production"}, False),
        ({"GROWTH_ENVIRONMENT": "production", "GROWTH_DOCS": "true"}, True),
        ({"GROWTH_ENVIRONMENT": "development"}, True),
        ({"GROWTH_ENVIRONMENT": "development", "GROWTH_DOCS": "false"}, False),
    ],
    ids=lambda case: "-".join(case.values()) if isinstance(case, dict) else "",
)
async def test_in_production_nobody_reads_what_calls_there_are_unless_the_settings_say_so(
    postgres_dsn: str, redis_url: str, environment: dict[str, str], *, served: bool
) -> None:
    async with running_app(postgres_dsn, redis_url):
        pass  # the document that all answers are held to is read once, from here
    async with running_app(postgres_dsn, redis_url, **environment) as app:
        statuses = {(await app.client.get(path)).status_code for path in ("/docs", "/openapi.json")}
        assert statuses == {200 if served else 404}
        assert (await app.shopper("alice", "GET", "/v1/points")).status_code == 200
