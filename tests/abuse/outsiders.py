"""Processes of the product as they run in a pod, and people outside who send them whatever bytes they like."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import yaml

from growth.embedded.folder import free_port
from growth.embedded.processes import start_process
from growth.plumbing.http.identity import Identity
from growth.vocabulary.clock import now
from tests.app import ENVIRONMENT

ROOT = Path(__file__).parents[2]
MEBIBYTE = 1024 * 1024
ANSWER_SECONDS = 60.0
"""Nothing is measured by it: who waits so long has waited for nothing."""

LISTENING = "0A"
LOOPBACK = "0100007F"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def pod_bytes(manifest: str) -> int:
    """The memory that Kubernetes gives such a pod."""
    documents = yaml.safe_load_all((ROOT / "k8s" / "base" / manifest).read_text())
    deployment = next(one for one in documents if one["kind"] == "Deployment")
    limit = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    return int(limit.removesuffix("Mi")) * MEBIBYTE


class Outside:
    """One process, seen from outside."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, metrics_port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.metrics_port = metrics_port
        self.log = log

    def peak_bytes(self) -> int:
        """The most memory it had since `forget_peak`: resident, as the kernel counts what ends a pod."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def listens_on(self) -> set[str]:
        """The addresses, as the kernel writes them, on which it takes connections."""
        files = Path(f"/proc/{self.process.pid}/fd").iterdir()
        mine = {str(file.readlink()).removeprefix("socket:[").removesuffix("]") for file in files}
        found = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.process.pid}/net/{table}").read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == LISTENING and columns[9] in mine:
                    found.add(columns[1].partition(":")[0])
        return found

    async def connect(self, *, address: str = "127.0.0.1", port: int | None = None) -> Connection:
        """A connection from one of this machine's addresses."""
        return await asyncio.open_connection("127.0.0.1", port or self.port, local_addr=(address, 0))

    async def hurl(self, data: bytes, *, address: str = "127.0.0.1") -> Connection | None:
        """Send bytes on a connection of their own; None if the other side hung up meanwhile."""
        try:
            reader, writer = await self.connect(address=address)
            writer.write(data)
            await writer.drain()
        except OSError:
            return None
        return reader, writer

    async def ask(self, path: str, *, headers: dict[str, str] | None = None) -> int:
        """What somebody else is told meanwhile, on a connection of their own from an address of their own."""
        transport = httpx.AsyncHTTPTransport(local_address="127.77.0.1")
        async with httpx.AsyncClient(transport=transport, timeout=ANSWER_SECONDS) as client:
            return (await client.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)).status_code

    async def shopper_is_served(self) -> bool:
        """Whether another shopper, with a good token, reads what is for sale."""
        identity = Identity(algorithms=("HS256",), secret=ENVIRONMENT["GROWTH_JWT_SECRET"])
        token = identity.sign("bystander", now=now(), lifetime_seconds=600)
        return await self.ask("/v1/flash-sales", headers={"authorization": f"Bearer {token}"}) == httpx.codes.OK

    async def cuts(self) -> dict[str, float]:
        """Why connections were ended, and how often, as its metrics tell."""
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
            text = (await client.get(f"http://127.0.0.1:{self.metrics_port}/metrics")).text
        found = {}
        for line in text.splitlines():
            if line.startswith("growth_connections_cut_total{"):
                found[line.partition('reason="')[2].partition('"')[0]] = float(line.rpartition(" ")[2])
        return found


async def answer_of(connection: Connection | None) -> bytes:
    """All that one connection is told until its end."""
    if connection is None:
        return b""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await connection[0].read()
    except ConnectionError:
        return b""


def hang_up(connections: Iterable[Connection | None]) -> None:
    """Leave without a word."""
    for connection in connections:
        if connection is not None:
            connection[1].transport.abort()


def more_files(wanted: int) -> int:
    """Let this process open so many files, if it may; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = max(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


@asynccontextmanager
async def outside(
    kind: str, postgres_dsn: str, redis_url: str, module: Sequence[str] = ("growth",), **environment: Any
) -> AsyncIterator[Outside]:
    """Start `growth serve` or `growth worker`; it has what it starts with, and no proxy in front."""
    port, metrics_port = free_port(), free_port()
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    where = {
        "GROWTH_POSTGRES_DSN": postgres_dsn,
        "GROWTH_REDIS_URL": redis_url,
        "GROWTH_HOST": "127.0.0.1",
        "GROWTH_PORT": str(port),
        "GROWTH_METRICS_PORT": str(metrics_port),
        "PYTHONPATH": str(ROOT),
    }
    settings = {name: value for name, value in ENVIRONMENT.items() if not name.endswith("_PER_SECOND")}
    variables = kept | settings | where | environment
    command = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in variables.items())]
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = start_process(
                [*command, sys.executable, "-m", *module, kind],
                cwd=Path(folder),
                output=output.fileno(),
                user=None,
                death_signal=signal.SIGKILL,
            )
        try:
            probe = f"http://127.0.0.1:{metrics_port}/livez" if kind == "worker" else f"http://127.0.0.1:{port}/readyz"
            async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
                while True:
                    assert process.poll() is None, log.read_text()
                    with suppress(httpx.TransportError):
                        if (await client.get(probe)).is_success:
                            break
                    await asyncio.sleep(0.05)
            one = Outside(process, port, metrics_port, log)
            yield one
            assert process.poll() is None, f"it died:\n{log.read_text()[-3000:]}"
        finally:
            process.kill()
            process.wait()
