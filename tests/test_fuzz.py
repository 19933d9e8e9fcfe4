"""The OpenAPI document, read by a machine that makes requests of it: right ones and wrong ones, for every call.

No answer is a 5xx, each is one that the document promises, and what the document forbids is refused.
"""

import asyncio
import copy
import itertools
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from growth.plumbing.invariants import violations
from growth.shop.signatures import sign
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from tests.app import RunningApp, running_app
from tests.shop.telling import SECRET

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SEED = 20_261_121
EXAMPLES = 6
"""Of each call, in each mode."""
MAX_SECONDS = 35.0
"""After these no more examples are made, so that a slow machine is not held up."""
ANSWER_SECONDS = 10.0
VERSION_REQUIRED = 412

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class Fuzzer:
    """Makes requests in a thread of its own; the application answers in the test's loop."""

    def __init__(self, app: RunningApp, operator: str, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._operator = operator
        self._loop = loop
        self._until = time.monotonic() + MAX_SECONDS
        self.asked: dict[str, set[int]] = {}
        self.failures: list[str] = []
        self._numbers = itertools.count()

    def try_all(self, document: dict[str, Any], ids: dict[str, str]) -> None:
        """Try every call in both modes: where there is something, and where ids are made up."""
        schema = schemathesis.openapi.from_dict(_without_credentials(document))
        for found in schema.get_all_operations():
            operation = found.ok()  # type: ignore[union-attr]
            there = {name: ids[name] for name in ids if f"{{{name}}}" in operation.path}
            for mode in GenerationMode:
                strategy = operation.as_strategy(mode, path_parameters=there or None)
                self._try(strategy, mode)
            if there:
                self._try(operation.as_strategy(GenerationMode.NEGATIVE), GenerationMode.NEGATIVE)

    def _try(self, strategy: Any, mode: GenerationMode) -> None:
        @seed(SEED)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def one(case: Case[Any]) -> None:
            if time.monotonic() < self._until:
                response = self.ask(case)
                self.asked.setdefault(case.operation.label, set()).add(response.status_code)
                # Of a hook each event is refused on its own; 412 says that If-Match is missing.
                may_be_wrong = case.operation.path.startswith("/shop") or response.status_code == VERSION_REQUIRED
                case.validate_response(response, checks=[*CHECKS, *([] if may_be_wrong else [negative_data_rejection])])

        try:
            one()
        except Unsatisfiable:
            pass  # nothing can be wrong about a call that takes nothing
        except (FailureGroup, Failure, AssertionError) as failure:
            self.failures.append(f"{mode.value} {failure}")

    def ask(self, case: Case[Any]) -> httpx.Response:
        """Send what `case` says, as whoever may."""
        prepared = requests.Request(**case.as_transport_kwargs(base_url="http://growth.test")).prepare()
        body: Any = prepared.body or b""
        raw: bytes = body.encode() if isinstance(body, str) else body
        headers = {name: value for name, value in prepared.headers.items() if name.lower() != "authorization"}
        headers |= self._credentials(case, raw)
        sent = [(_bytes(name), _bytes(value)) for name, value in headers.items()]
        request = httpx.Request(prepared.method or "", prepared.url or "", headers=sent, content=raw)
        answering = asyncio.run_coroutine_threadsafe(self._app.client.send(request), self._loop)
        return answering.result(ANSWER_SECONDS)

    def _credentials(self, case: Case[Any], raw: bytes) -> dict[str, str]:
        path = case.operation.path
        if path.startswith("/admin"):
            return {"Authorization": self._operator}
        if path.startswith("/shop"):
            return sign(SECRET, "fuzz", now(), raw)
        # Who asks for a claim or a seat has none yet.
        user_id = f"fuzzer-{next(self._numbers)}" if case.method == "POST" else "fuzzer"
        return {"Authorization": self._app.shopper_headers(user_id)["authorization"]}


def _without_credentials(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what `Fuzzer` adds itself taken out: requests without credentials are tried elsewhere."""
    copied: dict[str, Any] = copy.deepcopy(document)
    for operations in copied["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
            named = [one for one in operation.get("parameters", []) if not one["name"].startswith("webhook-")]
            operation["parameters"] = named
    return copied


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")


async def test_no_request_made_of_the_document_meets_a_bug(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        document = (await app.client.get("/openapi.json")).json()
        ids = await _world(app)
        operator = (await app.operator_headers(Role.EDITOR))["authorization"]
        fuzzer = Fuzzer(app, operator, asyncio.get_running_loop())
        await asyncio.to_thread(fuzzer.try_all, document, ids)
        assert fuzzer.failures == [], "\n".join(fuzzer.failures)
        calls = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
        assert time.monotonic() > fuzzer._until or fuzzer.asked.keys() == calls
        # Or it would all be refused at the door.
        assert {200, 201, 400, 404} <= set().union(*fuzzer.asked.values())
        assert not {status for statuses in fuzzer.asked.values() for status in statuses} & {401, 403}
        assert not await violations(app.growth.database)


async def _world(app: RunningApp) -> dict[str, str]:
    """Something for each id in a path."""
    ids: dict[str, str] = {}
    opens_at = now() - timedelta(minutes=1)
    times = {"opens_at": opens_at.isoformat(), "closes_at": (opens_at + timedelta(days=1)).isoformat()}
    sold = {"title": "Tea", "sku": "tea", "price_fen": 100, "list_price_fen": 9900, "units_total": 100}
    drafts: dict[str, dict[str, Any]] = {
        "flash-sales": sold | times,
        "group-buys": sold | times | {"team_size": 3},
        "flash-sale-series": {
            "title": "Noon",
            "items": [sold | {"sku": "noon"}],
            "zone": "Asia/Shanghai",
            "days_of_week": ["mon"],
            "start_time": "12:00",
            "duration_minutes": 30,
            "from_day": "2026-11-23",
        },
    }
    for room, draft in drafts.items():
        made = await app.operator("POST", f"/admin/v1/{room}", draft)
        assert made.status_code == 201, made.text
        ids |= {
            name: value
            for name, value in made.json().items()
            if name in {"sale_id", "series_id", "group_buy_id"} and value
        }
    for path in (f"flash-sales/{ids['sale_id']}", f"group-buys/{ids['group_buy_id']}"):
        assert (await app.operator("POST", f"/admin/v1/{path}/publish")).status_code == 200
    claim = await app.shopper("fuzzer", "POST", f"/v1/flash-sales/{ids['sale_id']}/claims", {})
    team = await app.shopper("fuzzer", "POST", f"/v1/group-buys/{ids['group_buy_id']}/teams", {})
    ids["claim_id"] = claim.json()["claim_id"]
    ids["team_id"], ids["seat_id"] = team.json()["team"]["team_id"], team.json()["seat"]["seat_id"]
    return ids
