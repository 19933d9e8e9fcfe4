"""The line to Postgres is cut at COMMIT: it may have happened, it may not, and nobody is told wrong."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from growth.embedded import EmbeddedServers
from tests.faults import houses
from tests.faults.crowd import Crowd
from tests.faults.houses import House, faults, until
from tests.faults.story import withstands
from tests.plumbing.postgres_proxy import PostgresProxy

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

CUTS = 20


class Scissors(PostgresProxy):
    """Counts what it cuts."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.lines = 0

    async def _connected(self, *streams: Any) -> None:
        self.lines += 1
        await super()._connected(*streams)


@pytest.fixture(scope="module")
async def house(anyio_backend: Any, mortal_servers: EmbeddedServers) -> AsyncIterator[House]:
    async with houses.house(mortal_servers, workers=[faults()]) as house:
        yield house


@pytest.fixture(scope="module")
async def scissors(house: House) -> AsyncIterator[Scissors]:
    """Between two api processes and Postgres; the worker and the judge have lines of their own."""
    async with Scissors(house.dsn) as scissors:
        house.add_apis(faults(), faults(), GROWTH_POSTGRES_DSN=scissors.dsn)
        await house.ready()
        yield scissors
        house.end()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_line_cut_at_commit_loses_nothing_and_sells_nothing_twice(
    house: House, scissors: Scissors, when: str
) -> None:
    async def cut(_: Crowd) -> None:
        lines = scissors.lines
        setattr(scissors, f"cut_{when}_commit", True)

        async def often() -> bool:
            return scissors.lines >= lines + CUTS

        await until("many lines were cut", often)
        setattr(scissors, f"cut_{when}_commit", False)

    await withstands(house, f"line to Postgres cut {when} COMMIT", cut)
