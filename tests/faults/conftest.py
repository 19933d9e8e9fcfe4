"""The servers that are killed here are not those of the other tests. At the end, a table of what was measured."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from growth.embedded import EmbeddedServers
from tests import servers as test_servers
from tests.faults import houses
from tests.faults.houses import House, faults
from tests.faults.story import MEASURED


@pytest.fixture(scope="session")
def mortal_servers() -> Iterator[EmbeddedServers]:
    """Postgres, with the migrated template database, and Valkey: to be killed and frozen."""
    with test_servers.started() as started:
        asyncio.run(test_servers.make_template(started))
        yield started


@pytest.fixture(scope="module")
async def house(anyio_backend: Any, mortal_servers: EmbeddedServers) -> AsyncIterator[House]:
    """Two api processes and two workers."""
    async with houses.house(mortal_servers, apis=[faults()] * 2, workers=[faults()] * 2) as house:
        yield house


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if MEASURED:
        terminalreporter.section("faults: seconds until served, until mended")
        for name, served, mended in MEASURED:
            terminalreporter.line(f"{served:6.1f} {mended:6.1f}  {name}")
