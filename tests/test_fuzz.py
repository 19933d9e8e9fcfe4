"""The OpenAPI document, read by a machine that makes requests of it: right ones and wrong ones, for every call.

No answer is a 5xx, each is one that the document promises, and what the document forbids is refused.
"""

import asyncio
import copy
import itertools
import math
import re
import time
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

from growth.plumbing.http.signatures import sign
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from tests import one_of_each as everything
from tests.app import RunningApp, running_app
from tests.kit.invariants import violations
from tests.one_of_each import Everything
from tests.shop.order.telling import SECRET

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SEED = 20_261_121
EXAMPLES = 3
"""Of each call, in each mode."""
MANY_EXAMPLES = 40
MAX_SECONDS = 35.0
"""After these one example of each is made, so that a slow machine is not held up."""
ANSWER_SECONDS = 10.0
NOT_READ = (412, 413)
"""If-Match is missing, or the body is larger than the call takes: nobody looked at the rest."""

BATCHES = ("/shop/v1/events", "/v1/events")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class Fuzzer:
    """Makes requests in a thread of its own; the application answers in the test's loop."""

    def __init__(
        self, app: RunningApp, operator: str, loop: asyncio.AbstractEventLoop, examples: int, max_seconds: float
    ) -> None:
        self._app = app
        self._operator = operator
        self._loop = loop
        self._examples = examples
        self._until = time.monotonic() + max_seconds
        self.asked: dict[str, set[int]] = {}
        self.failures: list[str] = []
        self._numbers = itertools.count()

    def try_all(self, document: dict[str, Any], there_is: Everything) -> None:
        """Try every call in both modes: where there is something, and where ids are made up."""
        schema = schemathesis.openapi.from_dict(_without_credentials(document))
        for found in schema.get_all_operations():
            operation = found.ok()  # type: ignore[union-attr]
            names = re.findall(r"\{(\w+)\}", operation.path)
            there = {name: there_is.id_of(operation.path, name) for name in names}
            for mode in GenerationMode:
                strategy = operation.as_strategy(mode, path_parameters=there or None)
                self._try(strategy, mode)
            if there:
                self._try(operation.as_strategy(GenerationMode.NEGATIVE), GenerationMode.NEGATIVE)

    def _try(self, strategy: Any, mode: GenerationMode) -> None:
        begun = False

        @seed(SEED)
        @settings(
            max_examples=self._examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def one(case: Case[Any]) -> None:
            nonlocal begun
            if not begun or time.monotonic() < self._until:
                begun = True
                response = self.ask(case)
                asked = self.asked.setdefault(case.operation.label, set())
                # An operator may erase the very shopper: tokens of the same second are refused then.
                if b"auth.shopper_erased" not in response.content:
                    asked.add(response.status_code)
                # Of a batch each event is refused on its own.
                may_be_wrong = case.operation.path in BATCHES or response.status_code in NOT_READ
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
    await _fuzz(postgres_dsn, redis_url, EXAMPLES, MAX_SECONDS)


@pytest.mark.long
async def test_of_many_requests_made_of_the_document_none_meets_a_bug(postgres_dsn: str, redis_url: str) -> None:
    await _fuzz(postgres_dsn, redis_url, MANY_EXAMPLES, math.inf)


async def _fuzz(postgres_dsn: str, redis_url: str, examples: int, max_seconds: float) -> None:
    async with running_app(postgres_dsn, redis_url, **everything.ENVIRONMENT) as app:
        document = (await app.client.get("/openapi.json")).json()
        there_is = Everything(app, "fuzzer", "friend-of-fuzzer")
        await there_is.put()
        operator = (await app.operator_headers(Role.ADMIN))["authorization"]
        fuzzer = Fuzzer(app, operator, asyncio.get_running_loop(), examples, max_seconds)
        await asyncio.to_thread(fuzzer.try_all, document, there_is)
        assert fuzzer.failures == [], "\n".join(fuzzer.failures)
        calls = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
        assert fuzzer.asked.keys() == calls
        # Or it would all be refused at the door.
        assert {200, 201, 400, 404} <= set().union(*fuzzer.asked.values())
        assert not {status for statuses in fuzzer.asked.values() for status in statuses} & {401, 403}
        assert not await violations(app.growth.database)
