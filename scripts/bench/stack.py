"""What is measured: a service on servers of its own in a scratch folder, and bare servers to compare it with."""

import asyncio
import os
import secrets
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import aiohttp
from msgspec import Struct

from growth.embedded import EmbeddedServers
from growth.embedded.folder import free_port
from growth.embedded.waiting import Waiting, why_dead
from growth.load.conductor import LoadError
from growth.load.processes import Processes, cores
from growth.load.service import ServiceTarget

STOP_SECONDS = 30.0


class ServerProcess(Struct, frozen=True):
    """A server that is measured."""

    url: str
    pid: int


class Stack(Struct, frozen=True, kw_only=True):
    """Everything that runs."""

    target: ServiceTarget
    postgres_dsn: str
    asgi: ServerProcess
    litestar: ServerProcess
    ready_seconds: float
    """From starting `growth serve` until it was ready."""

    @property
    def serve(self) -> ServerProcess:
        """The api process."""
        pid = self.target.pids["serve"]
        assert isinstance(pid, int)
        return ServerProcess(self.target.base_url, pid)

    def pin(self) -> tuple[int | None, int | None]:
        """Give the servers that are compared one core, the stores the others; returns theirs and the generator's."""
        found = cores()
        if len(found) == 1:
            return None, None
        served = Processes({"server": self.target.pids["serve"], "asgi": self.asgi.pid, "litestar": self.litestar.pid})
        served.pin({found[0]})
        others = {name: pid for name, pid in self.target.pids.items() if name != "serve"}
        # With three cores or more the generator has one for itself; with two it shares with the stores.
        Processes(others).pin(set(found[1:-1] or found[1:]))
        return found[0], found[-1]


async def _run(*arguments: str, environment: Mapping[str, str]) -> str:
    """Run a `growth` command to its end; returns what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "growth", *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise LoadError(f"`growth {' '.join(arguments)}` failed; what it said is above.")
    return printed.decode().strip()


@asynccontextmanager
async def _running(
    *arguments: str, environment: Mapping[str, str] | None = None, log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a Python module until the block ends."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=errors.fileno()
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _bare(stack: AsyncExitStack, name: str, folder: Path) -> ServerProcess:
    log = folder / f"{name}.log"
    process = await stack.enter_async_context(_running("scripts.bench.baselines", name, log=log))
    assert process.stdout is not None
    port = (await process.stdout.readline()).decode().strip()
    if not port:
        await process.wait()
        raise LoadError(await asyncio.to_thread(why_dead, f"The bare server {name}", process.returncode, log))
    return ServerProcess(f"http://127.0.0.1:{port}", process.pid)


async def _until_ready(url: str, process: asyncio.subprocess.Process, log: Path) -> float:
    """Wait as long as it lives; return the seconds it took."""
    begin = monotonic()
    waiting = Waiting("`growth serve`")
    async with aiohttp.ClientSession() as session:
        while process.returncode is None:
            why = ""
            try:
                async with session.get(f"{url}/readyz") as answer:
                    if answer.status == 200:  # noqa: PLR2004
                        return monotonic() - begin
                    why = await answer.text()
            except aiohttp.ClientError:
                pass
            waiting.goes_on(why)
            await asyncio.sleep(0.02)
    raise LoadError(await asyncio.to_thread(why_dead, "`growth serve`", process.returncode, log))


@asynccontextmanager
async def running_stack() -> AsyncIterator[Stack]:
    """Start everything in a scratch folder; end it with the block."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="growth-bench-")))
        servers = await asyncio.to_thread(EmbeddedServers.start, folder / "data")
        stack.callback(servers.stop)
        port = free_port()
        secret, shop_secret = secrets.token_urlsafe(32), "whsec_" + b64encode(os.urandom(32)).decode()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GROWTH_")} | {
            "GROWTH_ENVIRONMENT": "production",
            "GROWTH_HOST": "127.0.0.1",
            "GROWTH_PORT": str(port),
            "GROWTH_METRICS_PORT": str(free_port()),
            "GROWTH_POSTGRES_DSN": servers.postgres.dsn,
            "GROWTH_REDIS_URL": servers.valkey.url,
            "GROWTH_JWT_SECRET": secret,
            "GROWTH_SHOP_SECRETS": shop_secret,
            "GROWTH_LOG_LEVEL": "warning",
        }
        await _run("migrate", "up", environment=environment)
        key = await _run("operator", "add", "bench", "--role", "admin", environment=environment)
        log = folder / "serve.log"
        serve = await stack.enter_async_context(_running("growth", "serve", environment=environment, log=log))
        url = f"http://127.0.0.1:{port}"
        ready_seconds = await _until_ready(url, serve, log)
        worker = await stack.enter_async_context(
            _running("growth", "worker", "--metrics-port", "0", environment=environment, log=folder / "worker.log")
        )
        yield Stack(
            target=ServiceTarget(
                base_url=url,
                operator_key=key.split()[-1],
                jwt_secret=secret,
                shop_secret=shop_secret,
                pids={
                    "serve": serve.pid,
                    "worker": worker.pid,
                    "redis": servers.valkey.pid,
                    "postgres": servers.postgres.pid,
                },
            ),
            postgres_dsn=servers.postgres.dsn,
            asgi=await _bare(stack, "asgi", folder),
            litestar=await _bare(stack, "litestar", folder),
            ready_seconds=ready_seconds,
        )
