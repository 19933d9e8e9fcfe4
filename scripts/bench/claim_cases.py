"""The measurements: closed loops, one after the other, round by round, so that what drifts drifts for all alike."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from time import monotonic

from msgspec import Struct

from growth.load.calibrate import open_sale
from growth.load.conductor import GeneratorProcess, LoadError
from growth.load.messages import Play, Setup, Shares
from growth.load.processes import Processes, others_cores, used_between
from growth.load.service import SalePlan, Service
from growth.vocabulary import clock
from scripts.bench.stack import Stack

ONLY_CLAIMS = Shares(0, 0, 0, 0)
ONLY_PAGES = Shares(1, 0, 0, 0)
SHOPPERS = 60_000
"""Fewer than the tokens the service remembers: as in a sale, everybody has been seen on the page before they claim."""
CONNECTIONS = 256
"""Enough to keep the server busy while some of them wait for a commit."""
MAX_UNITS = 1_000_000
WARM_UP_SECONDS = 5.0
FAR_SECONDS = 3600
WINDOW_SECONDS, LONG_WINDOW_SECONDS, LONG_FROM = 1.0, 5.0, 100_000


class Ceiling(Struct, frozen=True):
    """What one run came to."""

    answered: int
    per_second: float
    cpu_us: dict[str, float]
    """CPU of each process for a request."""
    p50_us: int
    p99_us: int
    others_cores: float
    """Cores that were busy with what has no part in this."""


class HolderWindow(Struct, frozen=True):
    """The cost of a claim while holders grew from one number to another."""

    holders_from: int
    holders_to: int
    per_second: float
    cpu_us: dict[str, float]


class HolderGrowth(Struct, frozen=True):
    """The cost of a claim as holders grow, and what the process weighs in the end."""

    windows: list[HolderWindow]
    server_mib: float


class RoundSales(Struct, frozen=True):
    """The sales a round needs."""

    won: str
    sold_out: str
    not_open: str


class ClaimBench:
    """Measures one stack with one generator."""

    def __init__(self, stack: Stack, service: Service, generator: GeneratorProcess, run_id: str) -> None:
        self._stack = stack
        self._service = service
        self._generator = generator
        self._run_id = run_id
        self._sales = 0

    async def set_up(self, core: int | None, shoppers: int = SHOPPERS) -> None:
        """Have a crowd ready."""
        target = self._stack.target
        await self._generator.set_up(
            Setup(
                base_url=target.base_url,
                jwt_secret=target.jwt_secret,
                shoppers=shoppers,
                connections=CONNECTIONS,
                run_id=self._run_id,
                seed=1,
                core=core,
            )
        )

    async def make(self, units: int, *, open_now: bool = True) -> str:
        """Make a sale."""
        self._sales += 1
        plan = SalePlan(title="Bench", sku=f"{self._run_id}-{self._sales}", units_total=units)
        if not open_now:
            return await self._service.make_sale(plan, clock.now() + timedelta(seconds=FAR_SECONDS))
        sale_id, opens_at = await open_sale(self._service, plan)
        await asyncio.sleep(max(0.0, opens_at - monotonic()))
        return sale_id

    async def end(self, sale_id: str) -> None:
        """End a sale that is not needed any more."""
        await self._service.end_sale(sale_id)

    def closed(self, sale_id: str, seconds: float, mix: Shares = ONLY_CLAIMS, url: str = "", first: int = 0) -> Play:
        """Return a closed loop on a sale, at our service or at a bare one."""
        return Play(
            sale_id=sale_id,
            units_total=MAX_UNITS,
            max_per_shopper=1,
            opens_at=0.0,
            start_at=monotonic() + 0.1,
            closed_seconds=seconds,
            mix=mix,
            base_url=url,
            first_shopper=first,
        )

    async def ceiling(self, play: Play, expected: str, processes: Processes) -> Ceiling:
        """Play a closed loop; raises LoadError if the answers are not of the kind that is to be measured."""
        before = processes.sample()
        played = await self._generator.play_through(play)
        after = processes.sample()
        outcomes = played.recording.outcomes
        right = outcomes[expected].count if expected in outcomes else 0
        # The first winner of a bare server wins; all others get what the crowd takes for a replay.
        if right < played.answered * 0.99 - 1:
            counts = {name: found.count for name, found in outcomes.items()}
            raise LoadError(f"Wanted only {expected}, got {counts}: {played.recording.details}")
        used = used_between([before, after], before.at, after.at)
        return Ceiling(
            answered=played.answered,
            per_second=played.answered_in_time / played.seconds,
            cpu_us={name: seconds * 1e6 / played.answered for name, seconds in used.items()},
            p50_us=played.recording.all.p50_us,
            p99_us=played.recording.all.p99_us,
            others_cores=others_cores([before, after]),
        )

    def ours(self) -> Processes:
        """Return the processes of the service, and the generator."""
        processes = Processes(self._stack.target.pids)
        processes.add("generator", self._generator.pid)
        return processes

    def beside(self, pid: int) -> Processes:
        """Return a bare server in the place of ours; the stores still run, idle."""
        return Processes({"server": pid, "generator": self._generator.pid})

    async def warm_up(self, sales: RoundSales) -> None:
        """Let every process have seen every kind of request, and the service every token."""
        for sale_id, url in ((sales.sold_out, ""), (sales.sold_out, self._stack.asgi.url)):
            await self._generator.play_through(self.closed(sale_id, WARM_UP_SECONDS, url=url))
        await self._generator.play_through(self.closed(sales.sold_out, 1.0, url=self._stack.litestar.url))

    async def round(self, sales: RoundSales, seconds: float) -> dict[str, Ceiling]:
        """Measure everything once."""
        stack = self._stack
        asgi, litestar = self.beside(stack.asgi.pid), self.beside(stack.litestar.pid)
        ours = self.ours()
        found = {}
        for name, sale_id, mix, url, expected, processes in (
            ("won", sales.won, ONLY_CLAIMS, "", "won", ours),
            ("bare Litestar POST", sales.won, ONLY_CLAIMS, stack.litestar.url, "replay", litestar),
            ("sold out", sales.sold_out, ONLY_CLAIMS, "", "sold_out", ours),
            ("bare ASGI POST", sales.won, ONLY_CLAIMS, stack.asgi.url, "replay", asgi),
            ("not open", sales.not_open, ONLY_CLAIMS, "", "not_open", ours),
            ("page", sales.sold_out, ONLY_PAGES, "", "page", ours),
            ("bare ASGI GET", sales.won, ONLY_PAGES, stack.asgi.url, "page", asgi),
        ):
            found[name] = await self.ceiling(self.closed(sale_id, seconds, mix, url), expected, processes)
        return found

    async def growth(self, holders: int) -> HolderGrowth:
        """Claim until there are so many holders; the crowd must be larger than that."""
        sale_id = await self.make(MAX_UNITS)
        held = 0
        windows = []
        while held < holders:
            seconds = LONG_WINDOW_SECONDS if held >= LONG_FROM else WINDOW_SECONDS
            play = self.closed(sale_id, seconds, first=held)
            found = await self.ceiling(play, "won", self.ours())
            now = held + found.answered
            windows.append(HolderWindow(held, now, found.per_second, found.cpu_us))
            held = now
        await self.end(sale_id)
        return HolderGrowth(windows, resident_mib(self._stack.target.pids["serve"]))


def resident_mib(pid: int | Sequence[int]) -> float:
    """Return the resident memory of a process in MiB; 0 where the system does not tell."""
    path = Path(f"/proc/{pid}/status")
    if not path.exists():
        return 0.0
    lines = path.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
