"""What a page costs must not depend on how much others have: plans that Postgres keeps for any shopper."""

import pytest

from growth.plumbing.postgres.database import Database, Tx
from growth.rewards.ledger.model import Currency
from growth.rewards.ledger.store import entries as store
from growth.vocabulary import clock
from scripts.bench.rewards_rows import FACTS, RewardCrowd, make_books

pytestmark = pytest.mark.anyio


async def walks_over_all(database: Database) -> int:
    """Ask for the newest entries of a shopper who has few, among few who have many; tell how often all were walked."""
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        before = await _walks(tx)
        assert len(await store.entries(tx, "few0", Currency.POINTS, None, 21)) == 10
        return await _walks(tx) - before


async def _walks(tx: Tx) -> int:
    walks: int = await tx.fetchval(
        """
        SELECT pg_stat_get_xact_numscans('ledger.transfers_order'::regclass)
        """
    )
    return walks


@pytest.fixture
async def shop(database: Database) -> Database:
    async with database.pool.acquire() as connection:
        await connection.execute(FACTS)
    now, said = clock.now(), list[str]()
    await make_books(database, RewardCrowd(name="few", first=0, shoppers=10, each=10), now, said.append)
    await make_books(database, RewardCrowd(name="many", first=0, shoppers=4, each=5_000), now, said.append)
    async with database.transaction() as tx:
        await tx.execute("ANALYZE ledger.transfers")
    return database


async def test_a_shoppers_newest_are_not_sought_among_everybodys(shop: Database) -> None:
    assert await walks_over_all(shop) == 0


async def test_without_its_condition_the_index_of_all_would_be_walked(shop: Database) -> None:
    async with shop.transaction() as tx:
        await tx.execute("DROP INDEX ledger.transfers_order")
        await tx.execute("CREATE INDEX transfers_order ON ledger.transfers (position)")
        await tx.execute("ANALYZE ledger.transfers")
    assert await walks_over_all(shop) > 0
