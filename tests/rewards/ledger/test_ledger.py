"""The ledger: each transfer once, balances guarded, lots in the order of their ends, and a sum of zero."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from growth.plumbing.postgres.database import Database
from growth.plumbing.watch.invariants import read_invariants
from growth.rewards.ledger import service
from growth.rewards.ledger.model import INSUFFICIENT, Balance, Currency, Transfer
from growth.rewards.ledger.store import entries as store
from growth.rewards.ledger.store import lots
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal
from tests.kit.invariants import violations
from tests.rewards.ledger.conftest import ROOM

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def gain(amount: int, to: str = "alice", **changes: Any) -> Transfer:
    plain: dict[str, Any] = {
        "transfer_id": new_id(NOON),
        "debit": "house/checkin",
        "credit": to,
        "currency": Currency.POINTS,
        "amount": amount,
        "reason": "checkin.day",
    }
    return Transfer(**plain | changes)


def spend(amount: int, by: str = "alice", **changes: Any) -> Transfer:
    return gain(amount, **{"debit": by, "credit": "house/shop", "reason": "shop.spent"} | changes)


async def move(database: Database, *transfers: Transfer, now: datetime = NOON) -> frozenset[str]:
    async with database.transaction() as tx:
        return await service.transfer(tx, transfers, now)


async def balance(database: Database, owner: str = "alice", currency: Currency = Currency.POINTS) -> Balance:
    return (await service.balances(database, owner))[currency]


async def remaining(database: Database, owner: str = "alice") -> list[int]:
    rows = await database.fetch("SELECT remaining FROM ledger.lots WHERE owner = $1 ORDER BY expires_at, lot_id", owner)
    return [row["remaining"] for row in rows]


async def test_the_same_transfer_moves_once(database: Database) -> None:
    one = gain(10)
    assert await move(database, one) == {one.transfer_id}
    assert await move(database, one, gain(5)) != {one.transfer_id}
    assert await balance(database) == Balance(posted=15)


async def test_64_who_ask_for_the_same_transfer_move_it_once(database: Database) -> None:
    one = gain(10)
    fresh = await asyncio.gather(*[move(database, one) for _ in range(64)])
    assert sum(map(len, fresh)) == 1
    assert await balance(database) == Balance(posted=10)


async def test_of_64_who_spend_the_same_100_points_one_does(database: Database) -> None:
    await move(database, gain(100))

    async def try_to() -> bool:
        try:
            return bool(await move(database, spend(100)))
        except Refusal as refusal:
            refusals.append(refusal)
            return False

    refusals: list[Refusal] = []
    assert sum(await asyncio.gather(*[try_to() for _ in range(64)])) == 1
    assert [refusal.kind for refusal in refusals] == [INSUFFICIENT] * 63
    assert await balance(database) == Balance(posted=0)


async def test_without_the_guard_on_balances_they_fall_below_zero(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move(database, gain(100))
    plain = store.move

    async def unguarded(tx: Any, transfers: Any, now: datetime) -> Any:
        return await plain(
            tx,
            [msgspec.structs.replace(t, may_owe=True) for t in transfers],
            now,
        )

    monkeypatch.setattr(store, "move", unguarded)
    await asyncio.gather(*[move(database, spend(100)) for _ in range(4)])
    assert await balance(database) == Balance(posted=-300)


async def test_nothing_is_taken_from_who_never_had_anything(database: Database) -> None:
    with pytest.raises(Refusal):
        await move(database, spend(1))
    assert await database.fetchval("SELECT count(*) FROM ledger.transfers") == 0


async def test_what_ends_first_is_spent_first(database: Database) -> None:
    await move(
        database,
        gain(10),
        gain(10, expires_at=NOON + 2 * DAY),
        gain(10, expires_at=NOON + DAY),
    )
    await move(database, spend(15))
    assert await remaining(database) == [0, 5, 10]
    told = await service.points(database, "alice", NOON)
    assert [(one.points, one.expires_at) for one in told.expiring] == [(5, NOON + 2 * DAY)]
    assert told.points == 15


async def test_several_spendings_of_one_batch_share_the_lots(database: Database) -> None:
    await move(database, *[gain(10, expires_at=NOON + n * DAY) for n in (1, 2, 3)])
    await move(database, spend(7), spend(7), spend(7))
    assert await remaining(database) == [0, 0, 9]
    rows = await database.fetch("SELECT amount FROM ledger.takings")
    assert sum(row["amount"] for row in rows) == 21


async def test_points_that_are_over_cannot_be_spent_though_nobody_moved_them_away_yet(database: Database) -> None:
    await move(database, gain(10, expires_at=NOON + DAY), gain(5))
    later = NOON + DAY
    assert (await service.points(database, "alice", later)).points == 5
    with pytest.raises(Refusal):
        await move(database, spend(6), now=later)
    await move(database, spend(5), now=later)
    assert await balance(database) == Balance()


async def test_what_is_clawed_back_after_it_was_spent_is_owed_and_paid_by_what_comes_in(database: Database) -> None:
    earned = gain(10)
    await move(database, earned)
    await move(database, spend(8))
    await move(database, spend(10, may_owe=True, from_lot=earned.transfer_id))
    assert (await service.points(database, "alice", NOON)).owed == 8
    await move(database, gain(5))
    assert (await service.points(database, "alice", NOON)).owed == 3
    await move(database, gain(2), gain(3), gain(4))
    told = await service.points(database, "alice", NOON)
    assert (told.points, told.owed) == (6, 0)
    assert sum(await remaining(database)) == 6
    await move(database, spend(6))


async def test_a_clawback_uses_up_its_own_lot_first(database: Database) -> None:
    forever = gain(10)
    await move(database, forever, gain(10, expires_at=NOON + DAY))
    await move(database, spend(10, may_owe=True, from_lot=forever.transfer_id))
    assert await remaining(database) == [10, 0]


async def test_pending_money_is_posted_whole_in_part_or_not_at_all_and_once(database: Database) -> None:
    held = [gain(100, currency=Currency.COMMISSION, pending=True) for _ in range(3)]
    whole, part, none = (one.transfer_id for one in held)
    await move(database, *held)
    assert await balance(database, currency=Currency.COMMISSION) == Balance(pending_in=300)
    async with database.transaction() as tx:
        assert await service.post(tx, {whole: None, part: 30}, NOON) == {whole, part}
        assert await service.void(tx, [none], NOON) == {none}
    async with database.transaction() as tx:
        assert await service.void(tx, [whole, part, none], NOON) == frozenset()
        assert await service.post(tx, {whole: None, none: None}, NOON) == frozenset()
    assert await balance(database, currency=Currency.COMMISSION) == Balance(posted=130)
    told = await service.entries(database, "alice", Currency.COMMISSION, None, 10)
    assert sorted((entry.amount, entry.state) for entry in told) == [(30, "posted"), (100, "posted"), (100, "voided")]


async def test_money_set_aside_cannot_be_set_aside_again(database: Database) -> None:
    await move(database, gain(100, currency=Currency.COMMISSION))
    hold = spend(100, currency=Currency.COMMISSION, pending=True)

    async def try_to(one: Transfer) -> bool:
        try:
            return bool(await move(database, one))
        except Refusal:
            return False

    tries = [spend(100, currency=Currency.COMMISSION, pending=True) for _ in range(63)]
    assert sum(await asyncio.gather(*map(try_to, [hold, *tries]))) == 1
    assert (await balance(database, currency=Currency.COMMISSION)).available == 0


async def test_of_post_and_void_at_once_one_happens(database: Database) -> None:
    hold = gain(100, currency=Currency.COMMISSION, pending=True)
    await move(database, hold)

    async def end(n: int) -> int:
        async with database.transaction() as tx:
            if n % 2:
                return len(await service.post(tx, {hold.transfer_id: None}, NOON))
            return len(await service.void(tx, [hold.transfer_id], NOON))

    assert sum(await asyncio.gather(*map(end, range(64)))) == 1
    after = await balance(database, currency=Currency.COMMISSION)
    assert after in (Balance(posted=100), Balance())


async def test_a_history_is_read_page_by_page_newest_first(database: Database) -> None:
    for n in range(1, 8):
        await move(database, gain(n))
    await move(database, spend(5))
    first = await service.entries(database, "alice", Currency.POINTS, None, 5)
    second = await service.entries(database, "alice", Currency.POINTS, first[-1].position, 5)
    assert [entry.amount for entry in [*first, *second]] == [-5, 7, 6, 5, 4, 3, 2, 1]


async def test_books_cannot_be_changed(database: Database) -> None:
    await move(database, gain(10))
    for statement in ("UPDATE ledger.transfers SET amount = 1", "DELETE FROM ledger.transfers"):
        with pytest.raises(Exception, match="only ever added to"):
            async with database.transaction() as tx:
                await tx.execute(statement)


async def test_a_killed_transaction_moves_nothing(database: Database) -> None:
    await move(database, gain(10))

    async def die() -> None:
        async with database.transaction() as tx:
            await service.transfer(tx, [spend(3)], NOON)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await die()
    assert await balance(database) == Balance(posted=10)
    assert await remaining(database) == [10]


async def test_expiry_goes_on_after_a_kill_and_moves_each_lot_once(database: Database) -> None:
    await move(database, *[gain(10, f"u{n}", expires_at=NOON + DAY) for n in range(30)])
    later = NOON + DAY

    async def die() -> None:
        async with database.transaction() as tx:
            await lots.expire(tx, await lots.lock_due(tx, later, 10), later)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await die()

    async def sweep() -> int:
        moved = 0
        while True:
            async with database.transaction() as tx:
                owners = await lots.lock_due(tx, later, 7)
                if not owners:
                    return moved
                moved += await lots.expire(tx, owners, later)

    await asyncio.gather(sweep(), sweep(), sweep())
    assert await database.fetchval("SELECT sum(posted) FROM ledger.accounts") == 0
    assert await database.fetchval("SELECT count(*) FROM ledger.transfers WHERE reason = 'points.expired'") == 30


async def test_folding_the_house_changes_no_sum(database: Database) -> None:
    await asyncio.gather(*[move(database, gain(n, f"u{n}")) for n in range(1, 30)])

    async def fold() -> None:
        async with database.transaction() as tx:
            await store.fold_house(tx, 10)

    await asyncio.gather(*[fold() for _ in range(5)])
    async with database.transaction() as tx:
        told = await store.liabilities(tx)
    assert [(one.currency, one.outstanding) for one in told] == [("points", sum(range(1, 30)))]


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE ledger.accounts SET posted = posted + 1",
        "UPDATE ledger.lots SET remaining = remaining - 1",
        "DELETE FROM ledger.house_moves",
    ],
)
async def test_books_that_were_tampered_with_are_seen(database: Database, harm: str) -> None:
    await move(database, gain(10))
    sentences = tuple(read_invariants(ROOM / "invariants.sql", "ledger"))
    transaction = database.pool.acquire()
    async with transaction as connection:
        begun = connection.transaction()
        await begun.start()
        await connection.execute(harm)
        assert await violations(connection, sentences)  # type: ignore[arg-type]
        await begun.rollback()


async def test_points_end_in_the_months_of_the_merchant(database: Database) -> None:
    # 2 in the morning of 1 December in Shanghai is still November in UTC.
    await move(database, gain(5, expires_at=datetime(2026, 11, 30, 18, tzinfo=UTC)))
    await move(database, gain(7, expires_at=datetime(2026, 11, 30, 15, 59, tzinfo=UTC)))
    told = await lots.expiring_by_month(database, NOON, "Asia/Shanghai")
    assert [(one.month, one.points) for one in told] == [("2026-11", 7), ("2026-12", 5)]
