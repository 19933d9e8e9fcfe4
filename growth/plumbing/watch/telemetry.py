"""Telemetry: what operators see. Logs to stderr, metrics on a port of their own, one id for each request.

Logs are JSON lines without secrets: fields with a telling name are hidden, and what looks like a credential is cut out
of every text. Metrics of requests are labelled by route template, never by path, so that nobody can make new series.
"""

import asyncio
import logging
import re
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from itertools import accumulate, count
from secrets import token_hex
from typing import Any

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from growth.plumbing.http.problems import INTERNAL, MEDIA_TYPE, problem_bytes
from growth.plumbing.request import request_id

log = structlog.get_logger("telemetry")

SLOW_SECONDS = 1.0
MAX_LINES_PER_SECOND = 20
"""Of slow and failed requests: an outage must not fill the disk. Metrics count them all."""
UNMATCHED = "unmatched"
CLIENT_GONE = 499
"""Counted, never sent: the caller left, or the process stopped, before there was an answer."""
BUCKET_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

LAG_INTERVAL_SECONDS = 0.25
LAG_DECAY = 0.95
"""A spike of the loop's lag stays visible for about as long as a scrape takes to come round."""
MAX_HEAD_BYTES = 8192
MAX_HEAD_SECONDS = 5.0
MAX_SCRAPES = 16

# --- logs -----------------------------------------------------------------------------------------------------------

HIDDEN = "***"
MAX_DEPTH = 4
_TELLING_NAME = re.compile(
    r"(?:^|[^a-z])(?:authorization|cookie|credentials?|dsn|keys?|passw(?:or)?d|secrets?|signature|tokens?)(?:$|[^a-z])",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(
    r"(?i:\bbearer\s+)[^\s\"',;]+"  # Authorization headers
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # JSON web tokens
    r"|\bwhsec_[\w+/=-]+"  # secrets of the shop's hooks
    r"|\bgop_[\w-]+"  # operators' keys
    r"|(?<=://)[^/\s@]*:[^/\s@]*(?=@)"  # user and password of a URL
)


def _is_telling(name: str) -> bool:
    return _TELLING_NAME.search(name) is not None


def without_secrets(value: Any, depth: int = 0) -> Any:
    """Return `value` with everything hidden that is, or may be, a credential."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (dict, list, tuple)):
        if depth >= MAX_DEPTH:
            return HIDDEN
        if isinstance(value, dict):
            return hide_by_name(value, depth + 1)
        return [without_secrets(item, depth + 1) for item in value]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return _CREDENTIALS.sub(HIDDEN, text)


def hide_by_name(members: Mapping[Any, Any], depth: int = 0) -> dict[Any, Any]:
    """Return `members` without the values whose names tell that they are secret, and without secrets in the others."""
    return {key: HIDDEN if _is_telling(str(key)) else without_secrets(item, depth) for key, item in members.items()}


def _hide_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return hide_by_name(event)


def _add_request_id(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    current = request_id.get()
    if current:
        event.setdefault("request_id", current)
    return event


def _json_line(event: MutableMapping[str, Any], **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def configure_logging(level: str = "info", *, json: bool = True) -> None:
    """Send all logs, ours and the libraries', to stderr: as JSON lines, or for people."""
    number = logging.getLevelNamesMapping()[level.upper()]
    # Stacks go without local variables: those hold tokens and rows.
    render = (
        structlog.processors.JSONRenderer(serializer=_json_line)
        if json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _hide_secrets, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.INFO))


# --- metrics of requests --------------------------------------------------------------------------------------------

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))


class _Series:
    """Requests of one method, route and status. Written by the event loop alone, so it needs no lock."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKET_SECONDS) + 1)
        self.seconds = 0.0


class RequestMetrics(Collector):
    """Counts and times requests. A child of prometheus_client's own costs ten times as much for each request."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, int], _Series] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. `route` is a template, not a path."""
        series = self._series.get((method, route, status))
        if series is None:
            series = self._series[method if method in _METHODS else "OTHER", route, status] = self._series.get(
                ("OTHER", route, status), _Series()
            )
        series.buckets[bisect_left(BUCKET_SECONDS, seconds)] += 1
        series.seconds += seconds

    def collect(self) -> Iterable[Metric]:
        """Return what has been counted, as prometheus_client asks for it."""
        labels = ("method", "route", "status")
        requests = CounterMetricFamily("growth_http_requests", "Requests answered.", labels=labels)
        durations = HistogramMetricFamily(
            "growth_http_request_seconds", "Time to the end of the answer.", labels=labels
        )
        bounds = [*(str(bound) for bound in BUCKET_SECONDS), "+Inf"]
        for (method, route, status), series in list(self._series.items()):
            values = (method, route, str(status))
            running = list(accumulate(series.buckets))
            requests.add_metric(values, running[-1])
            durations.add_metric(values, list(zip(bounds, running, strict=True)), series.seconds)
        yield requests
        yield durations


# --- the middleware -------------------------------------------------------------------------------------------------

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def _ids() -> Iterator[str]:
    """Return ids that no other process makes: a random beginning, then a counter."""
    process = token_hex(6)
    for number in count(1):
        yield f"{process}-{number:x}"


def litestar_template(scope: Scope) -> str | None:
    """Return the route's template as Litestar found it."""
    return scope.get("path_template")


class Telemetry:
    """The outermost ASGI layer: gives each request its id, counts and times it, logs what failed or was slow."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        route_template: Callable[[Scope], str | None] = litestar_template,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._app = app
        self._route_template = route_template
        self._next_id = _ids().__next__
        self._metrics = RequestMetrics()
        registry.register(self._metrics)
        self._lines = 0
        self._lines_second = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        name = ""
        for key, value in scope["headers"]:
            if key == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                name = value.decode()
        name = name or self._next_id()
        request_id.set(name)
        header = (b"x-request-id", name.encode())
        # A new dict: servers may share theirs between requests.
        scope["state"] = {**(scope.get("state") or {}), "request_id": name}
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # A new message: ready-made answers are shared between requests.
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request.escaped", path=scope["path"])
            if status:
                raise
            status = INTERNAL.status
            await _answer_bug(send, name, header)
        finally:
            seconds = time.perf_counter() - started
            route = self._route_template(scope) or UNMATCHED
            self._metrics.observe(scope["method"], route, status or CLIENT_GONE, seconds)
            if status >= INTERNAL.status or seconds > SLOW_SECONDS:
                self._tell(scope, route, status, seconds)

    def _tell(self, scope: HTTPScope, route: str, status: int, seconds: float) -> None:
        second = int(time.monotonic())
        if second != self._lines_second:
            if self._lines > MAX_LINES_PER_SECOND:
                log.warning("request.lines_left_out", lines=self._lines - MAX_LINES_PER_SECOND)
            self._lines_second, self._lines = second, 0
        self._lines += 1
        if self._lines > MAX_LINES_PER_SECOND:
            return
        log.warning(
            "request.failed" if status >= INTERNAL.status else "request.slow",
            method=scope["method"],
            route=route,
            path=scope["path"][:200],
            status=status or CLIENT_GONE,
            seconds=round(seconds, 4),
            trouble=scope["state"].get("trouble"),
        )


async def _answer_bug(send: Send, name: str, header: tuple[bytes, bytes]) -> None:
    body = problem_bytes(INTERNAL, "Tell us the request_id", name)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode()), header]
    await send({"type": "http.response.start", "status": INTERNAL.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


# --- the loop's lag, and the port for metrics -------------------------------------------------------------------------

_loop_lag = Gauge("growth_event_loop_lag_seconds", "How late the event loop runs what is due; spikes fade slowly.")


async def _watch_loop() -> None:
    shown = 0.0
    while True:
        due = time.perf_counter() + LAG_INTERVAL_SECONDS
        await asyncio.sleep(LAG_INTERVAL_SECONDS)
        shown = max(time.perf_counter() - due, shown * LAG_DECAY)
        _loop_lag.set(shown)


def watch_loop() -> asyncio.Task[None]:
    """Start measuring the running loop's lag; cancel the task to stop. Keep a reference to it."""
    return asyncio.create_task(_watch_loop(), name="telemetry:loop_lag")


class _Scrapes:
    """A few words of HTTP/1.1: GET /metrics and GET /livez, one request a connection.

    One too many makes the one leave that has waited longest: a crowd that says nothing cannot keep a probe out.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_SCRAPES:
            self._cut(next(iter(self._open)))
        self._open[writer] = None
        try:
            async with asyncio.timeout(MAX_HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.transport.set_write_buffer_limits(high=0)
                writer.write(self._answer(head))
                await writer.drain()
            writer.close()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever called went away, does not speak HTTP, or does not read: a close would wait for that.
            writer.transport.abort()
        finally:
            self._open.pop(writer, None)

    def _cut(self, writer: asyncio.StreamWriter) -> None:
        del self._open[writer]
        writer.transport.abort()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        status, kind, body = b"404 Not Found", b"text/plain", b""
        if path in (b"/metrics", b"/livez") and method not in (b"GET", b"HEAD"):
            status = b"405 Method Not Allowed\r\nAllow: GET, HEAD"
        elif path == b"/metrics":
            status, kind, body = b"200 OK", CONTENT_TYPE_LATEST.encode(), generate_latest(self._registry)
        elif path == b"/livez":
            status, body = b"200 OK", b"ok\n"
        lines = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        return lines % (status, kind, len(body)) + (b"" if method == b"HEAD" else body)


async def serve_metrics(
    port: int,
    *,
    host: str = "0.0.0.0",  # noqa: S104 - a container's own; its port is not published
    registry: CollectorRegistry = REGISTRY,
) -> asyncio.Server:
    """Serve /metrics and /livez on a port of their own, for the API and the worker alike. Close what it returns."""
    return await asyncio.start_server(_Scrapes(registry), host, port, limit=MAX_HEAD_BYTES)
