"""Traces: spans of requests, deliveries, turns and webhooks, to a collector by OTLP. Off unless `begin` was called.

Needs the extra `traces`; nothing of it is imported before. A few requests are traced, the rest costs a roll of dice:
what is decided when a span begins is decided for good, by the caller's `traceparent` (W3C Trace Context, level 1) or by
the share. Spans wait in a bounded queue for a thread of their own; while the collector is away they are dropped, and
nobody waits. They hold routes, states and ids of requests, and nothing that a caller wrote.
"""

import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from growth.plumbing.watch.telemetry import CLIENT_GONE, UNMATCHED, litestar_template

log = structlog.get_logger("traces")

EXTRA = "opentelemetry.exporter.otlp.proto.http"
MAX_WAITING_SPANS = 2_048
MAX_BATCH_SPANS = 512
BATCH_SECONDS = 2.0
EXPORT_SECONDS = 1.0
"""For the collector to take one batch, tries included."""
STOP_SECONDS = 2.0
"""For what waits to leave when the process ends."""
MAX_ASKED_PER_SECOND = 100
"""Requests traced because their callers say so: anybody may say it."""
FAILED = 500

_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header; of versions to come, what begins like this one."""
_SAMPLED = 1


def is_installed() -> bool:
    """Say whether the extra is there, without importing it."""
    try:
        return find_spec(EXTRA) is not None
    except ModuleNotFoundError:
        return False


class Traces:
    """Makes spans, and sends them by `processor`, OpenTelemetry's."""

    def __init__(self, processor: Any, share: float, service: str) -> None:
        # Only here: whoever does not trace does not wait for it.
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.context import Context  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415

        resource = Resource.create({"service.name": service, "service.version": metadata.version("growth")})
        # What is not to be traced never gets as far as the sampler.
        provider = TracerProvider(resource=resource, sampler=ALWAYS_ON, shutdown_on_exit=False)
        provider.add_span_processor(processor)
        self._provider = provider
        self._tracer = provider.get_tracer("growth")
        self._api = trace
        self._no_parent = Context()
        self._share = share
        self._asked = 0
        self._asked_second = 0

    def request(self, header: bytes) -> Any:
        """Begin the span of a request with this `traceparent`, b"" for none; None if it is not to be traced."""
        given = _TRACEPARENT.fullmatch(header) if header else None
        if given is None or not int(given[2], 16) or not int(given[3], 16) or (given[1] == b"00" and given[5]):
            return self.start("request", self._api.SpanKind.SERVER)
        if not int(given[4], 16) & _SAMPLED or not self._may_ask():
            return None
        parent = self._api.SpanContext(int(given[2], 16), int(given[3], 16), True, self._api.TraceFlags(_SAMPLED))
        around = self._api.set_span_in_context(self._api.NonRecordingSpan(parent))
        return self._tracer.start_span("request", context=around, kind=self._api.SpanKind.SERVER)

    def start(self, name: str, kind: Any = None) -> Any:
        """Begin a span that has no parent, or return None: a share of them is made."""
        if random.random() >= self._share:
            return None
        return self._tracer.start_span(name, context=self._no_parent, kind=kind or self._api.SpanKind.INTERNAL)

    def outgoing(self, name: str) -> Any:
        """Begin the span of a request that we make."""
        return self.start(name, self._api.SpanKind.CLIENT)

    def fail(self, span: Any, why: str) -> None:
        """Mark `span` as failed."""
        span.set_status(self._api.StatusCode.ERROR, why)

    def _may_ask(self) -> bool:
        second = int(time.monotonic())
        if second != self._asked_second:
            self._asked_second, self._asked = second, 0
        self._asked += 1
        return self._asked <= MAX_ASKED_PER_SECOND

    def end(self) -> None:
        """Send what waits, for `STOP_SECONDS` at most; then leave the rest. Blocks: the loop has ended or waits."""
        # The processor's own stop may wait for its exporter; nobody waits for a thread that is a daemon.
        ending = threading.Thread(target=self._provider.shutdown, name="traces:end", daemon=True)
        ending.start()
        ending.join(STOP_SECONDS)
        if ending.is_alive():
            log.warning("traces.left_behind")


_on: Traces | None = None


def begin(endpoint: str, share: float, service: str) -> None:
    """Trace from now on: a `share` (0 to 1) of what happens, to the collector at `endpoint`, a whole URL."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    switch(
        Traces(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint, timeout=EXPORT_SECONDS),
                max_queue_size=MAX_WAITING_SPANS,
                max_export_batch_size=MAX_BATCH_SPANS,
                schedule_delay_millis=BATCH_SECONDS * 1000,
            ),
            share,
            service,
        )
    )


def switch(traces: Traces | None) -> None:
    """Trace with `traces` from now on, or not at all."""
    global _on  # noqa: PLW0603 - one process, one tracer; an argument through every room would cost those without
    _on = traces


def end() -> None:
    """Send what waits, and trace no more."""
    before = _on
    switch(None)
    if before is not None:
        before.end()


def traced(app: ASGIApp) -> ASGIApp:
    """Return `app` with a span for each request; `app` itself, at no cost, if nothing is traced."""
    traces = _on
    if traces is None:
        return app

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        header = b""
        for key, value in scope["headers"]:
            if key == b"traceparent":
                # Of two neither counts.
                header = b"" if header else value
        span = traces.request(header)
        if span is None:
            await app(scope, receive, send)
            return
        status = CLIENT_GONE

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, send_and_see)
        finally:
            route = litestar_template(scope) or UNMATCHED
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.request.method", scope["method"])
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            span.set_attribute("growth.request_id", (scope.get("state") or {}).get("request_id", ""))
            if status >= FAILED:
                traces.fail(span, str(status))
            span.end()

    return serve


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[None]:
    """Trace what is done here: its time, and the kind of what it raises. `name` is one of few."""
    traces = _on
    made = traces.start(name) if traces is not None else None
    if traces is None or made is None:
        yield
        return
    for key, value in attributes.items():
        made.set_attribute(f"growth.{key}", value)
    try:
        yield
    except BaseException as error:
        traces.fail(made, type(error).__name__)
        raise
    finally:
        made.end()


class Outgoing:
    """The span of one request that we make; nothing at all if it is not traced."""

    __slots__ = ("_span", "_traces", "headers")

    def __init__(self, name: str, request_id: str) -> None:
        """`request_id` is of the request that it came of, "" for none."""
        self.headers: dict[str, str] = {}
        """To be sent along."""
        self._traces = _on
        self._span = _on.outgoing(name) if _on is not None else None
        if self._span is not None:
            context = self._span.get_span_context()
            self.headers["traceparent"] = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
            self._span.set_attribute("growth.request_id", request_id)

    def end(self, status: int | None, error: str | None) -> None:
        """Say what was answered, and what went wrong."""
        if self._traces is None or self._span is None:
            return
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if error is not None:
            self._traces.fail(self._span, error)
        self._span.end()
