"""Every no and every failure is one problem with a stable code; nothing of ours leaks through it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import msgspec
import pytest
from litestar import Litestar, Request, get, post
from litestar.exceptions import HTTPException, NotAuthorizedException, PermissionDeniedException
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct
from structlog.testing import capture_logs

from growth.plumbing.http.answers import MAX_BODY_BYTES, StrictRequest
from growth.plumbing.http.problems import MEDIA_TYPE, TYPE_PREFIX, exception_handlers, problem_bytes
from growth.vocabulary.refusals import Kind, Refusal, Unavailable

pytestmark = pytest.mark.anyio

SOLD_OUT = Kind("flash_sale.sold_out", "Everything is taken")
SLOW_DOWN = Kind("test.slow_down", "Slow down", 429)


class Line(Struct, forbid_unknown_fields=True):
    units: int


class Order(Struct, forbid_unknown_fields=True):
    lines: list[Line]


class Claim(Struct):
    claim_id: str
    held_until: datetime


OPENS = datetime(2026, 11, 21, 12, 0, 0, 5000, tzinfo=UTC)


@get("/sold-out")
async def sold_out() -> None:
    raise Refusal(SOLD_OUT, "", opens_at=OPENS, claims=[Claim("c-1", OPENS)])


@get("/slow-down")
async def slow_down() -> None:
    raise Refusal(SLOW_DOWN, retry_after_seconds=1.2)


@get("/unavailable")
async def unavailable() -> None:
    raise Unavailable("Postgres at 10.0.0.1 cannot be reached", retry_after_seconds=7)


@get("/bug")
async def bug() -> None:
    raise RuntimeError("the password is swordfish")


@get("/undecodable")
async def undecodable() -> None:
    msgspec.convert({"lines": [{"units": "x"}]}, Order)


@get("/private")
async def private() -> None:
    raise NotAuthorizedException


@get("/forbidden")
async def forbidden() -> None:
    raise PermissionDeniedException


@get("/teapot")
async def teapot() -> None:
    raise HTTPException(status_code=418, detail="secret detail")


@get("/list")
async def listed(
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    only: Annotated[str, QueryParameter(pattern="^[a-z]+$")] = "a",
) -> int:
    return limit


@get("/needs")
async def needs(day: Annotated[int, QueryParameter()]) -> int:
    return day


@post("/orders")
async def orders(data: JSONBody[Order]) -> int:
    return len(data.lines)


@post("/batches")
async def batches(data: JSONBody[Annotated[list[Line], Meta(max_length=2)]]) -> int:
    return len(data)


def _with_request_id(request: Request[Any, Any, Any]) -> None:
    request.scope.setdefault("state", {})["request_id"] = "r-1"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar(
        [
            sold_out,
            slow_down,
            unavailable,
            bug,
            undecodable,
            private,
            forbidden,
            teapot,
            listed,
            needs,
            orders,
            batches,
        ],
        request_class=StrictRequest,
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers=exception_handlers,
        before_request=_with_request_id,
        logging_config=None,
        openapi_config=None,
    )
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def _is_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.headers["cache-control"] == "no-store"
    problem: dict[str, Any] = response.json()
    assert list(problem)[:5] == ["type", "title", "status", "detail", "code"]
    assert problem["type"] == TYPE_PREFIX + code
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["title"]
    assert problem["detail"]
    return problem


async def test_a_refusal_shows_its_members_with_times_in_milliseconds(client: httpx.AsyncClient) -> None:
    problem = _is_problem(await client.get("/sold-out"), 409, "flash_sale.sold_out")
    assert problem["request_id"] == "r-1"
    assert problem["opens_at"] == "2026-11-21T12:00:00.005Z"
    assert problem["claims"] == [{"claim_id": "c-1", "held_until": "2026-11-21T12:00:00.005Z"}]


async def test_a_refusal_that_says_when_to_come_back_has_the_header_too(client: httpx.AsyncClient) -> None:
    response = await client.get("/slow-down")
    assert _is_problem(response, 429, "test.slow_down")["retry_after_seconds"] == 1.2
    assert response.headers["retry-after"] == "2"


async def test_an_unavailable_store_is_503_with_retry_after_and_no_word_of_what_it_was(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/unavailable")
    _is_problem(response, 503, "unavailable")
    assert response.headers["retry-after"] == "7"
    assert "10.0.0.1" not in response.text


async def test_a_bug_is_500_with_its_stack_in_the_log_alone(client: httpx.AsyncClient) -> None:
    with capture_logs() as lines:
        response = await client.get("/bug")
    problem = _is_problem(response, 500, "internal")
    assert problem["request_id"] == "r-1"
    assert "swordfish" not in response.text
    assert "Traceback" not in response.text
    (line,) = lines
    assert line["event"] == "request.failed"
    assert line["request_id"] == "r-1"
    assert isinstance(line["exc_info"][1], RuntimeError)


async def test_a_path_that_is_not_there_is_404(client: httpx.AsyncClient) -> None:
    _is_problem(await client.get("/nowhere"), 404, "request.not_found")


async def test_a_method_that_is_not_taken_is_405_with_allow(client: httpx.AsyncClient) -> None:
    response = await client.put("/orders")
    _is_problem(response, 405, "request.method_not_allowed")
    assert "POST" in response.headers["allow"]


async def test_401_names_the_scheme(client: httpx.AsyncClient) -> None:
    response = await client.get("/private")
    _is_problem(response, 401, "auth.required")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_403_is_a_problem(client: httpx.AsyncClient) -> None:
    _is_problem(await client.get("/forbidden"), 403, "auth.forbidden")


async def test_other_statuses_are_problems_without_their_words(client: httpx.AsyncClient) -> None:
    response = await client.get("/teapot")
    _is_problem(response, 418, "request.http_418")
    assert "secret detail" not in response.text


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("/list?limit=0", "limit"),
        ("/list?limit=1000000000", "limit"),
        ("/list?limit=x", "limit"),
        ("/list?limit=1.5", "limit"),
        ("/list?limit=true", "limit"),
        ("/list?limit=", "limit"),
        ("/list?only=A", "only"),
        ("/needs", "day"),
        ("/undecodable", "lines[0].units"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient, url: str, field: str) -> None:
    problem = _is_problem(await client.get(url), 400, "request.invalid")
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_what_was_wrong_with_two_parameters_is_told_at_once_and_their_values_are_not(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/list?limit=swordfish&only=SWORDFISH")
    problem = _is_problem(response, 400, "request.invalid")
    assert {error["field"] for error in problem["errors"]} == {"limit", "only"}
    assert "swordfish" not in response.text.lower()


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/orders", b'{"lines":[{"units":"1"}]}', "lines[0].units"),
        ("/orders", b'{"lines":[{"units":1,"units":2}]}', "lines[0].units"),
        ("/orders", b"", "body"),
        ("/orders", b"[", "body"),
        ("/batches", b'[{"units":1},{"units":true}]', "[1].units"),
        ("/batches", b'[{"units":1},{"units":1},{"units":1}]', "body"),
    ],
)
async def test_a_wrong_body_is_named(client: httpx.AsyncClient, path: str, body: bytes, field: str) -> None:
    response = await client.post(path, content=body, headers={"content-type": "application/json"})
    problem = _is_problem(response, 400, "request.invalid")
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_a_body_too_large_is_413(client: httpx.AsyncClient) -> None:
    body = b'{"lines":[]}' + b" " * MAX_BODY_BYTES
    response = await client.post("/orders", content=body, headers={"content-type": "application/json"})
    _is_problem(response, 413, "request.too_large")


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=gbk"]
)
async def test_a_body_of_another_type_is_415(client: httpx.AsyncClient, kind: str) -> None:
    response = await client.post("/orders", content=b'{"lines":[]}', headers={"content-type": kind})
    _is_problem(response, 415, "request.unsupported_type")


async def test_what_is_right_passes(client: httpx.AsyncClient) -> None:
    response = await client.post("/orders", json={"lines": [{"units": 1}]})
    assert response.status_code == 201
    assert response.json() == 1


def test_without_a_request_id_the_member_is_left_out() -> None:
    assert b"request_id" not in problem_bytes(SOLD_OUT)


def test_members_never_replace_the_standard_ones() -> None:
    with pytest.raises(AssertionError):
        problem_bytes(SOLD_OUT, members={"status": 200})
