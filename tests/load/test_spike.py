"""The whole of it, as somebody at a terminal would run it, against a service that follows the contract."""

import asyncio
import contextlib
import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import jwt
import pytest

from growth.load.processes import Processes, used_between
from growth.load.tokens import bad_tokens
from tests.load.fake_service import JWT_SECRET, OPERATOR_KEY, SHOP_SECRET, FakeService, Lies

pytestmark = pytest.mark.anyio

PROGRAM = "from growth.load.commands import load; load()"


async def spike(service: FakeService, folder: Path, *options: str) -> tuple[int, str]:
    """Run the command; returns its exit code and what it printed."""
    told = {
        "base_url": service.url,
        "operator_key": OPERATOR_KEY,
        "jwt_secret": JWT_SECRET,
        "shop_secret": SHOP_SECRET,
        "postgres_dsn": "postgresql://not-asked",
        "pids": {"serve": os.getpid()},
    }
    (folder / "dev.json").write_text(json.dumps(told))
    arguments = ["spike", "--dev-json", str(folder), "--shoppers", "3000", "--no-progress", *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


@pytest.mark.slow
async def test_a_whole_sale_is_played_measured_and_judged(tmp_path: Path) -> None:
    page, figures = tmp_path / "report.html", tmp_path / "report.json"
    async with FakeService() as service:
        code, printed = await spike(
            service, tmp_path, "--rate", "250", "--seconds", "6", "--before", "1.5", "--units", "50",
            "--html", str(page), "--json", str(figures),
        )  # fmt: skip
    assert code == 0, printed
    assert printed.count("PASS") == 13
    found = json.loads(figures.read_bytes())
    phases = [phase["name"] for phase in found["phases"]]
    assert phases[0] == "before opening"
    assert phases[-1] == "sold out again"
    assert {"won", "sold_out", "not_open", "replay", "bad_token", "page", "released"} <= set(
        found["recording"]["outcomes"]
    )
    assert found["wins"] == 50 + found["released"]
    assert found["cpu"][0]["milliseconds"]["server"] > 0
    assert found["cpu"][0]["milliseconds"]["generator"] > 0
    drawings = re.findall(r"<svg.*?</svg>", page.read_text(), re.DOTALL)
    assert len(drawings) == 5
    assert all(ET.fromstring(drawing) for drawing in drawings)
    assert "http" not in re.sub(r"http://127\.0\.0\.1:\d+", "", page.read_text())


@pytest.mark.slow
async def test_an_oversold_sale_ends_with_exit_code_1_and_says_what_broke(tmp_path: Path) -> None:
    async with FakeService(Lies(oversells_by=3)) as service:
        code, printed = await spike(
            service, tmp_path, "--rate", "200", "--seconds", "5", "--before", "1", "--units", "20"
        )
    assert code == 1
    assert "FAIL  No unit was given twice: 23 of 20 units" in printed


async def test_a_service_that_is_not_there_ends_with_exit_code_2(tmp_path: Path) -> None:
    service = FakeService()
    service.url = "http://127.0.0.1:9"
    code, printed = await spike(service, tmp_path, "--rate", "100")
    assert code == 2
    assert "Is the service up?" in printed


async def test_no_secret_stands_in_the_arguments_of_a_process(tmp_path: Path) -> None:
    async with FakeService() as service:
        arguments = ("--rate", "50", "--seconds", "5", "--before", "1")
        running = asyncio.create_task(spike(service, tmp_path, *arguments))
        await service.sale_made.wait()
        lines = arguments_of_all_processes()
        service.stop_answering()
        await running
    assert any(b"growth.load.generator" in line for line in lines)
    assert not [line for line in lines if JWT_SECRET.encode() in line or OPERATOR_KEY.encode() in line]


def arguments_of_all_processes() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found


def test_cpu_counts_children_also_after_they_ended() -> None:
    processes = Processes({"serve": os.getpid()})
    before = processes.sample()
    child = os.fork()
    if not child:
        sum(number * number for number in range(3_000_000))
        os._exit(0)
    os.waitpid(child, 0)
    after = processes.sample()
    assert used_between([before, after], before.at, after.at)["server"] >= 0.05


def test_bad_tokens_are_bad_in_four_ways() -> None:
    tokens = bad_tokens(JWT_SECRET, datetime.now(UTC), 8)
    assert len(set(tokens)) == 8
    for token in tokens:
        with pytest.raises(jwt.InvalidTokenError):
            jwt.decode(token, JWT_SECRET, algorithms=["HS256"])
