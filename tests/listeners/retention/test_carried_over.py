"""A database of the release before: what was counted keeps its numbers, and there is room for more mechanics."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from growth.embedded import EmbeddedServers
from growth.listeners.retention import model
from growth.plumbing.watch.invariants import all_invariants
from tests import servers as test_servers
from tests.kit.carried_over import carried_over
from tests.kit.invariants import violations

pytestmark = pytest.mark.anyio

# Ann, who met the sixth mechanic on her first and only day.
ROWS = """
    INSERT INTO retention.zone (name) VALUES ('UTC');
    INSERT INTO retention.shoppers
        (shopper_id, user_id, first_day, last_day, last_kinds, mechanic, mechanic_at, segments)
    VALUES (1, 'ann', '2026-03-01', '2026-03-01', 1 << 13, 6, '2026-03-01 12:00Z',
            ARRAY[0, 1 << 24, (2 << 24) + (6 << 4), (3 << 24) + (6 << 4), (4 << 24) + (6 << 4)]);
    UPDATE retention.sources SET shoppers = 1 WHERE source = 0;
    INSERT INTO retention.active_days (shopper_id, day, kinds) VALUES (1, '2026-03-01', 1 << 13);
    INSERT INTO retention.cells (segment, n, cohort_day, active, returned)
    SELECT unnest(segments), 0, first_day, 1, 0 FROM retention.shoppers;
    INSERT INTO retention.returns (day, gap, shoppers) VALUES ('2026-03-01', 30, 1);
"""


@pytest.fixture
async def empty_dsn(servers: EmbeddedServers) -> AsyncIterator[str]:
    async with test_servers.database(servers, template="template1") as dsn:
        yield dsn


async def test_what_was_counted_is_counted_still_and_a_new_mechanic_fits(empty_dsn: str, tmp_path: Path) -> None:
    async with carried_over(empty_dsn, tmp_path, before="0031", rows=ROWS) as database:
        of_room = tuple(one for one in all_invariants() if one.room == "retention")
        assert len(of_room) > 0
        assert await violations(database, of_room) == []
        (coupon,) = [number for number, name in enumerate(model.MECHANICS) if name == "coupon"]
        early = model.segment(model.Family.EARLY, mechanic=coupon)
        assert await database.fetchval("SELECT active FROM retention.cells WHERE segment = $1", early) == 1

        await database.fetch("UPDATE retention.shoppers SET mechanic = 20")
        found = {one.name for one in await violations(database, of_room)}
        assert found == {"The mechanic that a shopper met first is one that there is."}, "a number without a name"
        await database.fetch("INSERT INTO retention.mechanics (mechanic, name) VALUES (20, 'lucky_bag')")
        assert await violations(database, of_room) == []
        with pytest.raises(asyncpg.CheckViolationError):
            await database.fetch("UPDATE retention.shoppers SET mechanic = 24")
