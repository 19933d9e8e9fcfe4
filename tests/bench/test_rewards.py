"""The shop that the benchmark of rewards makes. Its figures are nobody's test."""

import pytest

from growth.plumbing.postgres.database import connect_postgres
from growth.plumbing.watch.invariants import all_invariants
from growth.vocabulary import clock
from scripts.bench.rewards_night import run
from scripts.bench.rewards_rows import FACTS, RewardCrowd, drop_indexes, make_books, settle
from tests.kit.invariants import violations

pytestmark = pytest.mark.anyio

SHOPPERS, EACH = 200, 10


async def test_its_books_balance_before_and_after_the_night(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scripts.bench.rewards_rows.CHUNK", 700)
    monkeypatch.setattr("growth.rewards.ledger.service.EXPIRE_BATCH", 80)
    database = await connect_postgres(postgres_dsn, max_connections=4, acquire_seconds=20, statement_seconds=20)
    async with database.pool.acquire() as connection:
        await connection.execute(FACTS)
    said: list[str] = []
    crowd = RewardCrowd(name="shopper", first=7, shoppers=SHOPPERS, each=EACH, ending=SHOPPERS)
    indexes = await drop_indexes(database)
    await make_books(database, crowd, clock.now(), said.append)
    await settle(database, indexes)
    assert len(said) == 3
    own = tuple(one for one in all_invariants() if one.room in {"ledger", "granting"})
    assert not await violations(database, own)
    taken = await database.fetchrow(
        "SELECT count(*), count(lot.lot_id) FROM ledger.takings LEFT JOIN ledger.lots AS lot USING (lot_id)"
    )
    assert taken is not None
    assert tuple(taken) == (800, 800)
    await run(postgres_dsn)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("batch")] == [
        *("80", "80", "40"),
        "0",
    ]
    assert await database.fetchval("SELECT count(*) FROM ledger.transfers WHERE reason = 'points.expired'") == SHOPPERS
    assert await database.fetchval("SELECT DISTINCT posted FROM ledger.accounts") == 30
    assert not await violations(database, own)
    await database.close()
