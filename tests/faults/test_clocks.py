"""A process whose clock is wrong decides nothing by it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from growth.embedded import EmbeddedServers
from growth.vocabulary.clock import now
from tests.faults import houses
from tests.faults.crowd import CREATED, Answer, Crowd
from tests.faults.houses import House, faults, until
from tests.faults.laws import judge
from tests.faults.story import withstands

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

OFF_SECONDS = 5
EAGER = 20
PROMPT = timedelta(seconds=1)


@pytest.fixture(scope="module")
async def house(anyio_backend: Any, mortal_servers: EmbeddedServers) -> AsyncIterator[House]:
    """An api process and a worker that are ahead, and one each that is behind; Redis and Postgres are right."""
    off = [faults(clock_seconds=OFF_SECONDS), faults(clock_seconds=-OFF_SECONDS)]
    async with houses.house(mortal_servers, apis=off, workers=off) as house:
        yield house


async def test_a_crowd_at_processes_whose_clocks_differ_is_served_rightly(house: House) -> None:
    async def nothing_more(_: Crowd) -> None:
        pass

    await withstands(house, "clocks 5 s ahead and 5 s behind", nothing_more)


async def test_nobody_claims_before_opening_whatever_a_process_thinks_the_time_is(house: House) -> None:
    opens_at = now() + timedelta(seconds=2.5)
    crowd = Crowd(house, await house.put_sale(opens_at=opens_at, units_total=2 * EAGER), shoppers=0)

    got: dict[int, Answer] = {}

    async def insists(n: int) -> None:
        async def is_open() -> bool:
            got[n] = await crowd.ask_once(house.addresses[n % 2], n)
            return got[n].code != "flash_sale.not_open"

        await until("the sale opens", is_open)

    async with crowd.shopping():
        await asyncio.gather(*[insists(n) for n in range(EAGER)])
        answers = list(got.values())
        assert [answer.status for answer in answers] == [CREATED] * EAGER
        held = [datetime.fromisoformat(answer.body["server_time"]) for answer in answers]
        assert min(held) >= sale_opened(crowd)
        assert max(held) <= sale_opened(crowd) + PROMPT
        await judge(house, crowd)


def sale_opened(crowd: Crowd) -> datetime:
    """When it opened, in the whole milliseconds of Redis' clock."""
    opens_at = crowd.sale.opens_at
    return opens_at.replace(microsecond=opens_at.microsecond // 1000 * 1000)
