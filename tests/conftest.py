"""Fixtures every test may ask for, and the guard that keeps tests on this machine."""

import asyncio
import ipaddress
import logging
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis
import pytest
import structlog

from growth.embedded import EmbeddedServers
from scripts import unproven
from tests import servers as test_servers
from tests.patience import PATIENCE_SECONDS

ZONES = (UTC, ZoneInfo("Asia/Shanghai"))
COUNT_DAYS = (
    "mechanics/checkin/",
    "mechanics/flash_sale/series/",
    "mechanics/referral/",
    "mechanics/task/",
    "rewards/coupon/",
    "listeners/",
    "shopper/activity/",
    "rewards/withdrawal/",
)
"""Rooms that count days, weeks or months: of all that needs servers, `scripts/test-at --fast` runs these alone."""
SEE_NO_CALENDAR = ("architecture/", "bench/", "test_command_line.py", "test_pages.py", "test_serving.py")
"""Texts, arguments, shapes: at another instant they are what they are."""
START_THEIR_OWN = ("demo/", "faults/", "k8s/", "load/", "test_embedded.py", "test_starting.py")
ONE_DAY_SECONDS = 60.0
"""Many times what a test takes that is marked `one_day`."""

# A slow or busy machine is no fault of what is made up.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

_outside: list[str] = []


def seconds_of_the_day(now: datetime) -> float:
    """Return what is left of the day by UTC or of the day in Shanghai, whichever ends sooner."""
    ends = [
        (now + timedelta(days=1)).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0) for zone in ZONES
    ]
    return min((end - now).total_seconds() for end in ends)


def published_tests() -> set[str]:
    """The tests that `README.md` sets beside failures published about comparable systems."""
    text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Published failures")[2].partition("\n## ")[0]
    return set(re.findall(r"`(test_\w+)`", table))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    named = published_tests()
    for item in items:
        if item.name.partition("[")[0] in named:
            item.add_marker("published")
        room = item.path.relative_to(Path(__file__).parent).as_posix()
        needs_none = "servers" not in getattr(item, "fixturenames", ()) and not room.startswith(START_THEIR_OWN)
        if (needs_none and not room.startswith(SEE_NO_CALENDAR)) or room.startswith(COUNT_DAYS):
            item.add_marker("fast")
        if hasattr(getattr(item, "module", None), "examples"):
            item.add_marker("examples")
    # Whole files are handed out in this order: a long one that begins last would be waited for.
    long_ones = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("examples")}
    items.sort(key=lambda item: item.path not in long_ones)


def pytest_runtest_logreport(report: pytest.TestReport | pytest.CollectReport) -> None:
    """A test that was skipped proved nothing: `scripts/test` tells it at its end."""
    if report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr
        unproven.note(report.nodeid, why[-1] if isinstance(why, tuple) else str(why))


pytest_collectreport = pytest_runtest_logreport
"""Of files that skip themselves."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("one_day"):
        # What a day's end does is told by tests that set the clock; here it would only come between two lines.
        left = seconds_of_the_day(datetime.now(UTC))
        if left < ONE_DAY_SECONDS:
            time.sleep(left)


@pytest.fixture(scope="session", autouse=True)
def patient_house() -> Iterator[None]:
    """Lets parts wait that go on without an answer after a moment: a slow machine is no answer either.

    A test about such a moment sets it back.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("growth.plumbing.http.limits.MAX_WAIT_SECONDS", PATIENCE_SECONDS)
        patched.setattr("growth.plumbing.postgres.database.MAX_AFTER_COMMIT_SECONDS", PATIENCE_SECONDS)
        patched.setattr("growth.mechanics.flash_sale.claim.redis_sync.LOAD_WAIT_SECONDS", PATIENCE_SECONDS)
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    # The plain loop: its debug mode and its errors are the readable ones.
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """Postgres, with the migrated template database, and Valkey: started once."""
    with test_servers.started() as started:
        asyncio.run(test_servers.make_template(started))
        yield started


@pytest.fixture(scope="session", autouse=True)
def loggers_keep_nothing() -> Iterator[None]:
    """Has every logger ask for its configuration anew: one that kept a test's would be silent in the next.

    In a process of the service, which is configured once, they keep it.
    """
    configure = structlog.configure

    def keep_nothing(**changes: Any) -> None:
        configure(**changes | {"cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(structlog, "configure", keep_nothing)
        yield


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Forgets how the test configured its logs."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
async def postgres_dsn(servers: EmbeddedServers) -> AsyncIterator[str]:
    """The address of a migrated database that no other test sees."""
    servers.ensure_running()
    async with test_servers.database(servers) as dsn:
        yield dsn


@pytest.fixture
async def redis_url(servers: EmbeddedServers) -> str:
    """The address of a Valkey without a key."""
    servers.ensure_running()
    return await test_servers.empty_valkey(servers)


@pytest.fixture(autouse=True)
def stays_on_this_machine() -> Iterator[list[str]]:
    """Fails the test that reached out: also when its code swallowed the error."""
    _outside.clear()
    yield _outside
    assert not _outside, f"the test reached out to {_outside}"


def _is_here(host: object) -> bool:
    if host in {None, "", "localhost", b"localhost", socket.gethostname()}:
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        connection, address = arguments
        if connection.family not in {socket.AF_INET, socket.AF_INET6} or address is None or _is_here(address[0]):
            return
        target = f"{address[0]}:{address[1]}"
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = arguments[0]
        if _is_here(host) or _is_address(host):  # writing an address down is not asking a name server
            return
        target = str(host)
    else:
        return
    _outside.append(target)
    raise PermissionError(f"tests stay on this machine: {target}")


def _is_address(host: object) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return True


# An audit hook sees every socket of the interpreter, whoever opens it; it cannot be taken off again, nor need it be.
sys.addaudithook(_guard)
