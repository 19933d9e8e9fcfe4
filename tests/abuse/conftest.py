"""One house for all attacks of a file: each must leave it as it was."""

from collections.abc import AsyncIterator

import pytest
import structlog
from structlog.testing import capture_logs

from growth.embedded import EmbeddedServers
from tests import servers as test_servers
from tests.abuse.attacked import Attacked, attacked


@pytest.fixture(scope="module")
async def attacked_house(servers: EmbeddedServers) -> AsyncIterator[Attacked]:
    servers.ensure_running()
    async with test_servers.database(servers) as dsn, attacked(dsn, await test_servers.empty_valkey(servers)) as house:
        yield house


@pytest.fixture
async def house(attacked_house: Attacked, capfd: pytest.CaptureFixture[str]) -> AsyncIterator[Attacked]:
    """The house; afterwards nothing in it has changed, nothing went wrong, and no secret was written down."""
    before = await attacked_house.stored()
    with capture_logs([structlog.processors.format_exc_info]) as lines:
        yield attacked_house
    assert await attacked_house.stored() == before
    wrong = [line for line in lines if line["log_level"] in ("error", "critical")]
    assert not wrong, wrong
    captured = capfd.readouterr()
    assert attacked_house.leaks(captured.out + captured.err + str(lines)) == []
