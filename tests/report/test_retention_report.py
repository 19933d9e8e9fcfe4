"""The report for people: what it shows, and that it is one file that fetches nothing."""

import asyncio
import os
import re
import sys
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from growth.demo.shop_year import YearPlan, sightings
from growth.listeners.retention.report.service import Reports
from growth.listeners.retention.service import RetentionProjection
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.report.charts import Line, curves
from growth.report.gathering import Gathered, gather
from growth.report.page import page_of
from growth.report.terminal import show
from growth.report.wording import landmarks, short_percent, sparkline
from tests.app import ENVIRONMENT

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 22, 4, tzinfo=UTC)
PLAN = YearPlan(shoppers=300, days=60, last_day=date(2026, 11, 21), zone=ZoneInfo("Asia/Shanghai"))
VOID = {"meta", "line", "circle", "polyline", "br"}


class Balanced(HTMLParser):
    """Fails on a tag that is not closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - as the parser calls it
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag


@pytest.fixture
async def database(postgres_dsn: str) -> Database:
    return await connect_postgres(postgres_dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)


async def gathered(database: Database, *, is_empty: bool = False) -> Gathered:
    try:
        if not is_empty:
            async with database.transaction() as tx:
                await RetentionProjection("Asia/Shanghai").see(tx, sightings(PLAN))
        return await gather(Reports(database, "Asia/Shanghai"), NOW, "week", 30)
    finally:
        await database.close()


def in_terminal(found: Gathered, width: int) -> str:
    out = StringIO()
    show(found, Console(file=out, width=width, force_terminal=True, color_system="truecolor"))
    return out.getvalue()


async def test_the_terminal_shows_a_heat_map_in_colour_that_fits(database: Database) -> None:
    found = await gathered(database)
    for width in (60, 80, 120, 240):
        text = in_terminal(found, width)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert "\x1b[38;2" in text
        assert "week of 16 Nov" in plain
        assert "not an experiment" in plain.replace("\n", " ")
        table = plain[plain.index("first seen  ") : plain.index("all that are ripe")].splitlines()
        assert max(map(len, table)) <= width
        assert all(name in table[0].split() for name in ("D1", "D7", "D30"))
        assert "·" in "".join(table)


async def test_a_database_without_visitors_says_so(database: Database) -> None:
    found = await gathered(database, is_empty=True)
    assert "Nobody was seen" in in_terminal(found, 80)
    assert "Nobody was seen" in page_of(found)


async def test_the_page_is_one_file_that_fetches_nothing(database: Database) -> None:
    page = page_of(await gathered(database))
    reader = Balanced()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert re.findall(r"(?:src|href|url|@import|<script|<link|https?:)", page) == []
    assert "not an experiment" in page
    assert page.count('class="unripe"') > 10
    assert page.count("<svg") >= 3
    assert len(page) < 200_000


async def test_the_command_shows_it_and_writes_the_page(postgres_dsn: str, redis_url: str, tmp_path: Path) -> None:
    page = tmp_path / "retention.html"
    environment = ENVIRONMENT | {"GROWTH_POSTGRES_DSN": postgres_dsn, "GROWTH_REDIS_URL": redis_url}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "growth", "report", "retention", "--html", str(page)),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert b"Nobody was seen" in printed
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_numbers_are_short() -> None:
    assert [short_percent(rate) for rate in (None, 0.0, 0.031, 0.0994, 0.0996, 1.0)] == [
        "\N{EN DASH}",
        "0%",
        "3.1%",
        "9.9%",
        "10%",
        "100%",
    ]
    assert sparkline([0, 1, 2]) == " ▄█"
    assert sparkline([]) == ""


def test_where_there_is_no_room_the_days_that_people_ask_for_stay() -> None:
    assert landmarks(30, 40) == list(range(31))
    assert {0, 1, 7, 30} <= set(landmarks(30, 6))
    assert landmarks(365, 3)[-1] == 365


def test_curves_of_nothing_say_so() -> None:
    assert "ripe" in curves([Line("all", [], "c0")], ticks=[], is_share=True)
    assert "<svg" in curves([Line("all", [(1, 0.0)], "c0")], ticks=[(1, "day 1")], is_share=True)
