"""Serving: the two long-running processes, from start to a stop that loses nothing."""

import asyncio
import gc
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import structlog
import uvicorn

from growth.bootstrap import assembled, stop_task
from growth.plumbing.http.connection import BoundedProtocol
from growth.plumbing.http.crowd import MAX_CONNECTIONS, Crowd
from growth.plumbing.settings import Settings
from growth.plumbing.watch import traces
from growth.plumbing.watch.telemetry import serve_metrics, watch_loop
from growth.web import create_app
from growth.worker import run_worker

log = structlog.get_logger("serving")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKLOG = 4_096
"""Connections the kernel keeps while the process is busy."""
SPARE_FILES = 256
"""Files that are no client's: pools, logs, metrics."""
KEEP_ALIVE_SECONDS = 75
YOUNG_OBJECTS = 10_000
"""Made and not freed again before the garbage collector looks at them: about what 128 requests under way hold."""
DRAIN_SECONDS = 20
"""For requests under way at SIGTERM. A balancer's grace period must be longer."""


class ApiServer(uvicorn.Server):
    """Ends by returning.

    uvicorn raises the signal that ended it once more: that would end the process before claims whose shoppers have
    hung up are written, and before connections are closed.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT; a second SIGINT does not wait for requests under way."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def settle() -> None:
    """Take all that is there for good out of the garbage collector's sight: it looked through it with each look."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


@asynccontextmanager
async def _tracing(settings: Settings, service: str) -> AsyncIterator[None]:
    """Trace meanwhile, if the settings say where to."""
    if settings.traces_endpoint is None:
        yield
        return
    traces.begin(settings.traces_endpoint, settings.traces_share, service)
    try:
        yield
    finally:
        traces.end()


def _max_connections() -> int:
    """Return how many clients there may be; a file less than that, and nobody new would be let in at all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(MAX_CONNECTIONS, soft - SPARE_FILES))


async def serve_api(settings: Settings) -> None:
    """Answer HTTP until SIGTERM or SIGINT; then finish what is under way."""
    async with _tracing(settings, "growth-api"), assembled(settings) as growth:
        metrics = await serve_metrics(settings.metrics_port, host=settings.host) if settings.metrics_port else None
        crowd = Crowd(settings.trusted_proxies, max_connections=_max_connections())
        server = ApiServer(
            uvicorn.Config(
                traces.traced(create_app(growth)),
                host=settings.host,
                port=settings.port,
                http=partial(BoundedProtocol, crowd=crowd),  # type: ignore[arg-type] # whatever makes one
                loop="none",
                ws="none",
                lifespan="on",
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=DRAIN_SECONDS,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                log_config=None,
            )
        )
        settle()
        log.info("serving", host=settings.host, port=settings.port)
        await server.serve()
        if metrics is not None:
            metrics.close()
    log.info("stopped")


async def serve_worker(settings: Settings, metrics_port: int) -> None:
    """Work until SIGTERM or SIGINT; a task under way ends or is rolled back."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with _tracing(settings, "growth-worker"), assembled(settings) as growth:
        metrics = await serve_metrics(metrics_port, host=settings.host) if metrics_port else None
        watch = watch_loop()
        settle()
        log.info("working")
        try:
            await run_worker(growth, stop)
        finally:
            await stop_task(watch, 0)
            if metrics is not None:
                metrics.close()
    log.info("stopped")
