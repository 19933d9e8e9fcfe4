"""The benchmark's parts. Its figures are nobody's test: they depend on the machine, and on what else it does."""

import asyncio
import io
import sys

import aiohttp
import asyncpg
import pytest
from rich.console import Console

from growth.load.calibrate import Alone
from scripts.bench import hot_row
from scripts.bench.claim_cases import Ceiling, HolderGrowth, HolderWindow
from scripts.bench.claims import BenchResults, print_results, spread
from scripts.bench.hot_row import HotRow

pytestmark = pytest.mark.anyio

SALE = "00000000-0000-7000-8000-000000000001"


async def test_the_hot_row_counts_every_claim_whichever_way_it_is_written(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_row, "CONNECTIONS", 4)
    connection = await asyncpg.connect(postgres_dsn)
    async with HotRow(postgres_dsn) as row:
        for write in (row.each_alone, row.together):
            # However slow the machine: some are counted in the end.
            while not await write(0.2):
                pass
            taken = await connection.fetchval("SELECT taken FROM load_bench.sales")
            assert taken == await connection.fetchval("SELECT count(*) FROM load_bench.claims") > 0
    assert not await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = 'load_bench'")
    await connection.close()


@pytest.mark.parametrize(("name", "status", "refuses"), [("asgi", 200, False), ("litestar", 201, True)])
async def test_a_bare_server_answers_a_claim(name: str, status: int, *, refuses: bool) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scripts.bench.baselines", name, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    url = f"http://127.0.0.1:{port}/v1/flash-sales/{SALE}/claims"
    try:
        async with aiohttp.ClientSession() as session:
            async with session.post(url, json={"units": 1}) as answer:
                assert answer.status == status
                assert (await answer.json())["units"] == 1
            async with session.post(url, json={"units": "many"}) as answer:
                assert (answer.status == 400) is refuses
    finally:
        process.terminate()
        await process.wait()


def results(won_per_second: float) -> BenchResults:
    def ceiling(per_second: float) -> Ceiling:
        cpu = {"server": 1e6 / per_second, "redis": 5.0, "postgres": 20.0}
        return Ceiling(1000, per_second, cpu, 1000, 2000, 0.1)

    quick = {name: ceiling(20_000) for name in ("sold out", "not open", "page", "bare ASGI POST", "bare ASGI GET")}
    rounds = [quick | {"won": ceiling(won_per_second), "bare Litestar POST": ceiling(10_000)}] * 3
    windows = [
        HolderWindow(n * 1000, n * 1000 + 1000, 1000, {"server": 50, "worker": 1, "redis": 5, "postgres": 5})
        for n in range(12)
    ]
    return BenchResults(
        alone=Alone(100_000, 8.0),
        ready_seconds=0.5,
        rounds=rounds,
        each_alone=[1000, 1100],
        together=[30_000, 31_000],
        growth=[HolderGrowth(windows, 120.0)],
    )


@pytest.mark.parametrize(("won_per_second", "reached"), [(16_500, True), (15_500, False)])
def test_a_goal_is_reached_or_missed_by_the_median_of_its_ratios(won_per_second: float, *, reached: bool) -> None:
    printed = io.StringIO()
    console = Console(file=printed, width=160)
    assert print_results(console, results(won_per_second)) is reached
    assert ("missed" in printed.getvalue()) is not reached


def test_a_spread_says_where_the_middle_and_the_ends_are() -> None:
    assert spread([3.0, 1.0, 2.0]).shown(1) == "2.0 (1.0 to 3.0)"
