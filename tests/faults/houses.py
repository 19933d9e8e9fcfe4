"""A whole service of its own: Postgres, Valkey, api and worker processes, each to be killed, frozen and started again.

Waits that are long in earnest are short here, so that the suite is: see `SHORT`. With `FAULTS_AS_SHIPPED=1` in the
environment nothing is shortened; the figures in `tests/README.md` were measured that way.
"""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import msgspec

from growth.embedded import EmbeddedServers
from growth.embedded.folder import free_port
from growth.embedded.processes import start_process
from growth.mechanics.flash_sale.model import Sale
from growth.plumbing.postgres.database import Database
from growth.plumbing.redis.client import AnyRedis
from growth.vocabulary.refusals import Unavailable
from tests import servers as test_servers
from tests import world
from tests.app import ENVIRONMENT
from tests.faults.launcher import ENVIRONMENT as FAULTS
from tests.faults.launcher import Faults
from tests.patience import PATIENCE_SECONDS, inherited

ROOT = Path(__file__).parents[2]
AS_SHIPPED = "1" in (os.environ.get("FAULTS_AS_SHIPPED"), os.environ.get("LONG"))
SHORT: dict[str, Any] = {} if AS_SHIPPED else {"grace_seconds": 3, "reconcile_seconds": 1, "lease_seconds": 2}
"""The grace of a claim between the stores (15 s as shipped), the pause between two comparisons (3 s), leases (10 s)."""
LOOK_SECONDS = 0.05
LOG_TAIL_LINES = 12

_numbers = itertools.count(1)


def faults(**changes: Any) -> Faults:
    """What is wrong with a process: nothing but shorter waits, unless said otherwise."""
    return Faults(**SHORT | changes)


async def until(what: str, is_so: Callable[[], Awaitable[object]]) -> float:
    """Look again and again until it is so; return the seconds it took, which are measured and bound to nothing."""
    started = time.monotonic()
    while True:
        try:
            if await is_so():
                return time.monotonic() - started
        except (Unavailable, OSError, aiohttp.ClientError, TimeoutError):
            pass  # not yet
        assert time.monotonic() - started < PATIENCE_SECONDS, f"never: {what}"
        await asyncio.sleep(LOOK_SECONDS)


class Process:
    """One process of the service; `serve` answers at `address`."""

    def __init__(self, kind: str, folder: Path, environment: dict[str, str], faults: Faults) -> None:
        self.kind = kind
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._faults = faults
        self._environment = environment | {"GROWTH_PORT": str(self.port)}
        self._log = folder / f"{kind}-{next(_numbers)}.log"
        self._started: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, again if need be, at the same address."""
        kept = inherited("PATH", "HOME", "PYTHONPATH")
        environment = kept | self._environment | {FAULTS: msgspec.json.encode(self._faults).decode()}
        command = [
            *("/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environment.items())),
            *(sys.executable, "-m", "tests.faults.launcher", self.kind),
        ]
        with self._log.open("ab") as output:
            self._started = start_process(
                command, cwd=ROOT, output=output.fileno(), user=None, death_signal=signal.SIGKILL
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._started is not None
        return self._started

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def ask_to_stop(self) -> None:
        self.process.terminate()

    async def ended(self) -> int:
        """Wait for its end; return the exit code, or the negative number of the signal."""

        async def has_ended() -> bool:
            return not self.running

        await until(f"the end of {self.kind}. Its log ends:\n{self.log_tail()}", has_ended)
        return int(self.process.returncode)

    async def died_as_planned(self) -> None:
        """Wait until it has killed itself at the step it was to die at."""
        code = await self.ended()
        assert code == -signal.SIGKILL, f"ended with {code}. Its log ends:\n{self.log_tail()}"
        assert self._faults.death is not None
        assert f"dies {self._faults.death.when} {self._faults.death.at}" in self.log()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def log_tail(self) -> str:
        """The last lines, less those that only say that a request was answered with 503."""
        lines = [line for line in self.log().splitlines() if '"event":"request.' not in line or "Traceback" in line]
        return "\n".join(lines[-LOG_TAIL_LINES:])


class House:
    """The service and its stores."""

    def __init__(self, servers: EmbeddedServers, dsn: str, folder: Path, database: Database, redis: AnyRedis) -> None:
        self.servers = servers
        self.dsn = dsn
        self.database = database
        self.redis = redis
        self.apis: list[Process] = []
        self.workers: list[Process] = []
        self._folder = folder
        self._processes: list[Process] = []

    @property
    def addresses(self) -> list[str]:
        return [api.address for api in self.apis]

    def process(self, kind: str, faults: Faults, **settings: str) -> Process:
        """Start one process; `settings` by their own names. Nobody starts it again."""
        where = {
            "GROWTH_POSTGRES_DSN": self.dsn,
            "GROWTH_REDIS_URL": self.servers.valkey.url,
            "GROWTH_HOST": "127.0.0.1",
            "GROWTH_METRICS_PORT": "0",
            "GROWTH_LOG_LEVEL": "warning",
        }
        started = Process(kind, self._folder, ENVIRONMENT | where | settings, faults)
        self._processes.append(started)
        return started

    def add_apis(self, *all_faults: Faults, **settings: str) -> list[Process]:
        """Start api processes that belong to the house."""
        started = [self.process("serve", faults, **settings) for faults in all_faults]
        self.apis += started
        return started

    def add_workers(self, *all_faults: Faults) -> list[Process]:
        """Start workers that belong to the house."""
        started = [self.process("worker", faults) for faults in all_faults]
        self.workers += started
        return started

    def start_dead(self) -> None:
        """Start again what has died, as whatever keeps processes running would."""
        self.servers.ensure_running()
        for process in self.apis + self.workers:
            if not process.running:
                process.start()

    async def ready(self, processes: Sequence[Process] | None = None) -> float:
        """Wait until the api processes answer `/readyz` with 200; return the seconds it took."""
        started = time.monotonic()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            for process in self.apis if processes is None else processes:

                async def is_ready(process: Process = process) -> bool:
                    assert process.running, (
                        f"ended with {process.process.returncode}. Its log ends:\n{process.log_tail()}"
                    )
                    async with session.get(f"{process.address}/readyz") as answer:
                        return answer.status == 200

                await until(f"{process.address} is ready", is_ready)
        return time.monotonic() - started

    async def put_sale(self, **changes: Any) -> Sale:
        """A sale that is open."""
        plain: dict[str, Any] = {"sku": f"tea-{next(_numbers)}", "units_total": 160, "max_per_shopper": 2}
        return await world.put_sale(self.database, **plain | changes)

    async def be_served(self, ask: Callable[[], Awaitable[object]]) -> float:
        """Wait until every api process is ready and `ask` has its answer; return the seconds it took."""
        started = time.monotonic()
        await self.ready()
        await ask()
        return time.monotonic() - started

    async def let_lapse(self, claim_ids: Sequence[str]) -> None:
        """Let the time of held claims be over, by more than clocks may be apart. Holds are at least 30 s otherwise."""
        await self.database.fetchval(
            """
            UPDATE flash_sale.claims
            SET held_until = now() - INTERVAL '6 seconds'
            WHERE claim_id = ANY($1::uuid[])
              AND state = 'held'
            """,
            list(claim_ids),
        )

    def troubles(self) -> str:
        """The ends of all logs, for whoever looks into a failed test."""
        return "\n\n".join(f"{one.kind} {one.address}\n{one.log_tail()}" for one in self._processes)

    def end(self) -> None:
        """Kill whatever runs."""
        for process in self._processes:
            process.kill()


@asynccontextmanager
async def house(
    servers: EmbeddedServers, *, apis: Sequence[Faults] = (), workers: Sequence[Faults] = ()
) -> AsyncIterator[House]:
    """A service on a database of its own and an empty Valkey; ended in any case."""
    with TemporaryDirectory(prefix="growth-house-", ignore_cleanup_errors=True) as folder:
        servers.ensure_running()
        async with (
            test_servers.database(servers) as dsn,
            world.stores(dsn, await test_servers.empty_valkey(servers)) as (database, redis),
        ):
            house = House(servers, dsn, Path(folder), database, redis)
            try:
                house.add_apis(*apis)
                house.add_workers(*workers)
                await house.ready()
                yield house
            finally:
                servers.ensure_running()
                house.end()
