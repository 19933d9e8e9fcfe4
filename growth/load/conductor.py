"""The generator, as the conductor sees it: a child process that is told and asked."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import msgspec

from growth.load.generator import MAX_LINE_BYTES
from growth.load.messages import (
    Failed,
    Hammer,
    Hammered,
    Instruction,
    LetGo,
    Play,
    Played,
    Progress,
    Quit,
    Ready,
    Setup,
)

GOODBYE_SECONDS = 5.0
AnyReport = Ready | Progress | Played | Hammered | Failed


class LoadError(Exception):
    """The run cannot be made; the message says why and what to do next."""


class GeneratorProcess:
    """A generator process: `async with Generator() as generator`."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._decoder: msgspec.json.Decoder[AnyReport] = msgspec.json.Decoder(AnyReport)

    async def __aenter__(self) -> Self:
        """Start the process."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "growth.load.generator",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        assert self._process is not None
        with contextlib.suppress(ConnectionError):
            await self.tell(Quit())
        try:
            await asyncio.wait_for(self._process.wait(), GOODBYE_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def tell(self, order: Instruction) -> None:
        """Give an order."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        await self._process.stdin.drain()

    async def _hear(self) -> AnyReport:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise LoadError("The generator ended by itself; what it printed is above.")
        report = self._decoder.decode(line)
        if isinstance(report, Failed):
            raise LoadError(f"Cannot put load on the service: {report.reason}. Is it running, and at that address?")
        return report

    async def set_up(self, setup: Setup) -> Ready:
        """Have a crowd ready."""
        await self.tell(setup)
        report = await self._hear()
        assert isinstance(report, Ready)
        return report

    async def hammer(self, hammer: Hammer) -> Hammered:
        """Hammer another server."""
        await self.tell(hammer)
        report = await self._hear()
        assert isinstance(report, Hammered)
        return report

    async def play(self, play: Play) -> AsyncIterator[Progress | Played]:
        """Play a run; yields several times a second, at last what was played."""
        await self.tell(play)
        while True:
            report = await self._hear()
            assert isinstance(report, Progress | Played)
            yield report
            if isinstance(report, Played):
                return

    async def play_through(self, play: Play) -> Played:
        """Play a run and return what was played."""
        async for report in self.play(play):
            if isinstance(report, Played):
                return report
        raise AssertionError

    async def let_go(self, claim_ids: list[str], seconds: float) -> None:
        """Have winners give their claims back during the run under way."""
        if claim_ids:
            await self.tell(LetGo(claim_ids, seconds))


@asynccontextmanager
async def null_server(core: int | None) -> AsyncIterator[str]:
    """Run a server that says 204 to everything; gives its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "growth.load.null_server",
        *([] if core is None else [str(core)]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = (await process.stdout.readline()).decode().strip()
        if not port:
            raise LoadError("The server that measures the generator ended by itself; what it printed is above.")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.stdin.close()
        await process.wait()
