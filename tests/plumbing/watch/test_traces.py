"""Traces: off they cost nothing; on they say where time goes, and a collector that is away harms nobody."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from litestar.types import ASGIApp
from prometheus_client import CollectorRegistry

from growth import cli
from growth.plumbing.settings import SettingsError, load_settings
from growth.plumbing.watch import traces
from growth.plumbing.watch.telemetry import Telemetry
from tests.app import ENVIRONMENT
from tests.k8s.running import running

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not traces.is_installed(), reason="NOT PROVEN: the extra `traces` is not installed"),
]

ROOT = Path(__file__).parents[3]
PARENT = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
WHERE = {"GROWTH_POSTGRES_DSN": "postgresql://x@localhost/x", "GROWTH_REDIS_URL": "redis://localhost"}


@pytest.fixture
def spans() -> Iterator[Any]:
    """All that is traced from here on, in memory."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415 - the extra may be missing
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415

    exporter = InMemorySpanExporter()
    traces.switch(traces.Traces(SimpleSpanProcessor(exporter), 1.0, "growth-test"))
    yield exporter
    traces.end()


def answering(status: int = 200) -> ASGIApp:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        scope["path_template"] = "/v1/x/{id}"
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


async def ask(app: Any, *headers: tuple[bytes, bytes]) -> None:
    async def send(_message: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/v1/x/secret", "headers": list(headers), "state": {}}
    await app(scope, None, send)


def traceparent(flags: str = "01", version: str = "00", more: str = "") -> tuple[bytes, bytes]:
    return b"traceparent", f"{version}-{PARENT}-{CALLER}-{flags}{more}".encode()


# --- requests -------------------------------------------------------------------------------------------------------


async def test_a_request_is_a_span_by_its_route(spans: Any) -> None:
    app = traces.traced(Telemetry(answering(), registry=CollectorRegistry()))
    await ask(app, (b"x-request-id", b"mine"))
    (span,) = spans.get_finished_spans()
    assert span.name == "GET /v1/x/{id}"
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "http.route": "/v1/x/{id}",
        "http.response.status_code": 200,
        "growth.request_id": "mine",
    }
    assert span.status.is_ok is True or span.status.is_unset
    assert span.resource.attributes["service.name"] == "growth-test"


async def test_a_bug_is_a_span_that_failed(spans: Any) -> None:
    await ask(traces.traced(answering(500)))
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok
    assert span.status.description == "500"


async def test_a_request_whose_caller_left_is_a_span_too(spans: Any) -> None:
    async def cut(_scope: Any, _receive: Any, _send: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await ask(traces.traced(cut))
    (span,) = spans.get_finished_spans()
    assert (span.name, span.attributes["http.response.status_code"]) == ("GET unmatched", 499)


async def test_the_callers_trace_goes_on(spans: Any) -> None:
    await ask(traces.traced(answering()), traceparent())
    (span,) = spans.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == PARENT
    assert f"{span.parent.span_id:016x}" == CALLER


async def test_what_the_caller_does_not_trace_is_not_traced(spans: Any) -> None:
    await ask(traces.traced(answering()), traceparent("00"))
    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize(
    "headers",
    [
        [(b"traceparent", b"tea")],
        [(b"traceparent", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01")],
        [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01")],
        [traceparent(version="ff")],
        [traceparent(more="-more")],
        [traceparent(), traceparent()],
    ],
)
async def test_a_header_that_is_none_begins_a_trace_of_our_own(spans: Any, headers: Any) -> None:
    await ask(traces.traced(answering()), *headers)
    (span,) = spans.get_finished_spans()
    assert span.parent is None


async def test_a_version_to_come_is_read_as_far_as_it_is_known(spans: Any) -> None:
    await ask(traces.traced(answering()), traceparent(version="01", more="-more"))
    (span,) = spans.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == PARENT


async def test_callers_cannot_have_everything_traced(spans: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    app = traces.traced(answering())
    for _ in range(traces.MAX_ASKED_PER_SECOND + 50):
        await ask(app, traceparent())
    assert len(spans.get_finished_spans()) == traces.MAX_ASKED_PER_SECOND


async def test_a_share_is_traced(monkeypatch: pytest.MonkeyPatch, spans: Any) -> None:
    dice = iter([0.005, 0.01, 0.5])
    monkeypatch.setattr(traces, "random", SimpleNamespace(random=lambda: next(dice)))
    monkeypatch.setattr(traces._on, "_share", 0.01)
    app = traces.traced(answering())
    for _ in range(3):
        await ask(app)
    assert len(spans.get_finished_spans()) == 1


# --- what else is traced --------------------------------------------------------------------------------------------


def test_work_that_fails_says_of_what_kind_and_no_more(spans: Any) -> None:
    with pytest.raises(ValueError, match="secret"), traces.span("turn tea", events=2):
        raise ValueError("a secret")
    (span,) = spans.get_finished_spans()
    assert (span.name, span.attributes["growth.events"], span.status.description) == (
        "turn tea",
        2,
        "ValueError",
    )
    assert span.events == ()


def test_a_request_that_we_make_carries_its_span(spans: Any) -> None:
    sent = traces.Outgoing("webhook", "r-1")
    sent.end(500, "status")
    (span,) = spans.get_finished_spans()
    assert sent.headers == {"traceparent": f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"}
    assert (span.attributes["http.response.status_code"], span.attributes["growth.request_id"]) == (500, "r-1")
    assert span.status.description == "status"


# --- off ------------------------------------------------------------------------------------------------------------


def test_off_there_is_nothing_in_between() -> None:
    app = answering()
    assert traces.traced(app) is app
    sent = traces.Outgoing("webhook", "r-1")
    sent.end(200, None)
    assert sent.headers == {}
    with traces.span("turn tea"):
        pass


@pytest.mark.slow
def test_off_it_costs_less_than_a_microsecond_or_two() -> None:
    rounds, best = 20_000, float("inf")
    for _ in range(5):
        started = time.process_time()
        for _ in range(rounds):
            with traces.span("turn tea"):
                pass
        best = min(best, (time.process_time() - started) / rounds)
    print(f"a span that is not made: {best * 1e6:.2f} us (never on a request's way)")
    # Wide of what was measured (0.6): a guard against a change of kind.
    assert best < 5e-6


# --- the way out ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def collector(*, silent: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Something that takes OTLP on this machine; where it is, and the bodies that came."""
    bodies: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                size = int(next(line for line in head.split("\r\n") if line.startswith("content-length"))[15:])
                bodies.append(await reader.readexactly(size))
                if silent:
                    await reader.read(1)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces", bodies


async def test_spans_reach_a_collector_before_the_process_ends() -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415 - as above
        ExportTraceServiceRequest,
    )

    async with collector() as (endpoint, bodies):
        traces.begin(endpoint, 1.0, "growth-test")
        for _ in range(3):
            await ask(traces.traced(answering()))
        await asyncio.to_thread(traces.end)
        received = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    names = [
        span.name
        for one in received
        for resource in one.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert names == ["GET /v1/x/{id}"] * 3


async def test_a_collector_that_says_nothing_holds_up_neither_requests_nor_the_end() -> None:
    async with collector(silent=True) as (endpoint, _):
        traces.begin(endpoint, 1.0, "growth-test")
        app = traces.traced(answering())
        # It says nothing for as long as this takes: that it ends is the proof.
        for _ in range(traces.MAX_WAITING_SPANS + 500):
            await ask(app)
        await asyncio.to_thread(traces.end)


async def test_a_collector_that_is_away_holds_up_nothing() -> None:
    traces.begin("http://127.0.0.1:9/v1/traces", 1.0, "growth-test")
    await ask(traces.traced(answering()))
    await asyncio.to_thread(traces.end)


# --- settings -------------------------------------------------------------------------------------------------------


def test_it_is_off_unless_said() -> None:
    assert load_settings(ENVIRONMENT | WHERE).traces_endpoint is None


def test_without_the_extra_the_start_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise ModuleNotFoundError

    monkeypatch.setattr(traces, "find_spec", missing)
    with pytest.raises(SettingsError, match=r"GROWTH_TRACES_ENDPOINT is set.*Install growth\[traces\], or remove it"):
        load_settings(ENVIRONMENT | WHERE | {"GROWTH_TRACES_ENDPOINT": "http://collector:4318/v1/traces"})


def test_the_command_says_it_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli._fail("Install growth[traces].")
    assert capsys.readouterr().err == "growth: Install growth[traces].\n"


def test_a_share_beyond_all_is_refused() -> None:
    with pytest.raises(SettingsError, match="GROWTH_TRACES_SHARE"):
        load_settings(ENVIRONMENT | WHERE | {"GROWTH_TRACES_SHARE": "1.5"})


# --- whole processes ------------------------------------------------------------------------------------------------


async def test_api_and_worker_tell_a_collector_and_stop_in_time(
    postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415 - as above
        ExportTraceServiceRequest,
    )

    async with collector() as (endpoint, bodies):
        stores = {"GROWTH_POSTGRES_DSN": postgres_dsn, "GROWTH_REDIS_URL": redis_url}
        traced = stores | {"GROWTH_TRACES_ENDPOINT": endpoint, "GROWTH_TRACES_SHARE": "1"}
        command = [sys.executable, "-m", "growth"]
        with (
            running([*command, "serve"], tmp_path, cwd=ROOT, environment=traced) as api,
            running([*command, "worker"], tmp_path, cwd=ROOT, environment=traced) as worker,
        ):
            await api.answers(f"{api.address}/readyz")
            await worker.answers(f"{worker.metrics}/livez")
            # Their last spans come while they stop: the collector must run meanwhile.
            stopped = await asyncio.gather(asyncio.to_thread(api.stop), asyncio.to_thread(worker.stop))
            assert set(stopped) == {0}
            assert "Traceback" not in api.log() + worker.log()
        received = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    names = {
        (resource.resource.attributes[index].value.string_value, span.name)
        for one in received
        for resource in one.resource_spans
        for index, attribute in enumerate(resource.resource.attributes)
        if attribute.key == "service.name"
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert ("growth-api", "GET /readyz") in names
    assert any(service == "growth-worker" and name.startswith("turn ") for service, name in names)
