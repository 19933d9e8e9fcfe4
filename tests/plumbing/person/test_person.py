"""One shopper, one lock: acts share it, a merge holds it alone; an id that changed hands is known to be another's."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from growth.plumbing.person import memory, store
from growth.plumbing.person.memory import People, PersonChanged, stripe_of
from growth.plumbing.postgres.database import Database, connect_postgres
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 3, 1, tzinfo=UTC)


async def _merge(database: Database, old_user_id: str, user_id: str) -> None:
    async with database.transaction(people=[old_user_id, user_id], alone=True) as tx:
        await store.note_merge(tx, old_user_id, user_id)


async def _erase(database: Database, user_id: str, *had: str) -> None:
    async with database.transaction(people=[user_id], alone=True) as tx:
        await store.note_erasure(tx, user_id, had or ["pack"], NOW)


async def _had(database: Database, *asked: tuple[str, str]) -> dict[tuple[str, str], int]:
    await database.people.refresh(database)
    return dict(await database.people.units_had(database, asked))


async def _act(database: Database, *user_ids: str) -> None:
    async with database.transaction(people=user_ids):
        pass


async def test_a_merge_waits_for_an_act_and_an_act_for_a_merge(database: Database) -> None:
    order: list[str] = []
    acting, merging = asyncio.Event(), asyncio.Event()

    async def act() -> None:
        async with database.transaction(people=["a", "c"]):
            acting.set()
            await merging.wait()
            # The merge is at the door by now, or will be; it cannot be through.
            await asyncio.sleep(0.05)
            order.append("act")

    async def merge() -> None:
        await acting.wait()
        merging.set()
        async with database.transaction(people=["a", "b"], alone=True) as tx:
            await store.note_merge(tx, "a", "b")
            order.append("merge")

    async with asyncio.TaskGroup() as group:
        group.create_task(act())
        group.create_task(merge())
    assert order == ["act", "merge"]
    with pytest.raises(PersonChanged):
        await _act(database, "a")
    await _act(database, "b", "c")


async def test_acts_of_one_shopper_do_not_wait_for_each_other(database: Database) -> None:
    async with database.transaction(people=["a"]), asyncio.timeout(PATIENCE_SECONDS):
        await _act(database, "a")


async def test_what_another_process_merged_is_refused_before_anything_is_written(
    database: Database, postgres_dsn: str
) -> None:
    other = await connect_postgres(postgres_dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)
    await _act(database, "a")
    await _merge(other, "a", "b")
    # This process remembers nothing of it yet.
    assert not database.people.is_closed("a")
    with pytest.raises(PersonChanged) as refused:
        await _act(database, "a", "b")
    assert refused.value.user_ids == {"a"}
    assert database.people.is_closed("a")
    await other.close()


async def test_a_change_of_another_shopper_with_the_same_lock_harms_nobody(
    database: Database, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await connect_postgres(postgres_dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)
    monkeypatch.setattr(memory, "STRIPES", 1)
    await _act(database, "c")
    await _merge(other, "a", "b")
    await _act(database, "c")
    await other.close()


async def test_every_former_id_leads_to_the_last_survivor_and_an_erasure_ends_them_all(database: Database) -> None:
    await _merge(database, "a", "b")
    await _merge(database, "b", "c")
    found = await database.people.standings(database, ["a", "b", "c"])
    assert {user_id: one.survivor for user_id, one in found.items()} == {"a": "c", "b": "c"}
    await _erase(database, "c")
    found = await database.people.standings(database, ["a", "b", "c"])
    assert {one.survivor for one in found.values()} == {None}
    assert {one.erased_at for one in found.values()} == {NOW}
    for user_id in "abc":
        with pytest.raises(PersonChanged):
            await _act(database, user_id)


async def test_an_erased_id_that_comes_back_is_a_new_person_and_can_be_erased_again(database: Database) -> None:
    await _erase(database, "a")
    async with database.transaction(people=["a"], alone=True) as tx:
        await store.note_return(tx, "a", NOW + timedelta(days=1))
    await _act(database, "a")
    assert await _had(database, ("a", "pack"), ("a", "else"), ("b", "pack")) == {("a", "pack"): 1}
    await _erase(database, "a")
    with pytest.raises(PersonChanged):
        await _act(database, "a")


async def test_what_several_lives_had_adds_up(database: Database) -> None:
    await _erase(database, "a", "tea", "tea", "pack")
    await _erase(database, "a", "tea")
    assert await _had(database, ("a", "tea"), ("a", "pack")) == {("a", "tea"): 3, ("a", "pack"): 1}
    assert await database.people.had(database, ["a", "b"], "tea") == {"a"}


async def test_what_a_former_id_had_its_survivor_had_and_all_of_them_once_that_is_erased(database: Database) -> None:
    await _erase(database, "a", "tea", "tea")
    await _merge(database, "a", "b")
    assert await _had(database, ("b", "tea"), ("c", "tea")) == {("b", "tea"): 2}
    await _erase(database, "b", "tea")
    assert await _had(database, ("a", "tea"), ("b", "tea")) == {("a", "tea"): 3, ("b", "tea"): 3}


async def test_what_was_had_is_forgotten_in_its_time_also_of_ids_that_were_merged(database: Database) -> None:
    await _erase(database, "a")
    await _merge(database, "a", "b")
    async with database.transaction() as tx:
        await store.forget(tx, NOW)
    assert await _had(database, ("b", "pack"))
    async with database.transaction() as tx:
        await store.forget(tx, NOW + timedelta(seconds=1))
    assert not await _had(database, ("b", "pack"))


async def test_what_is_remembered_of_one_shopper_has_a_bound(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_THINGS", 3)
    await _erase(database, "a", *[f"thing-{number}" for number in range(9)])
    assert await database.fetchval("SELECT count(*) FROM plumbing.given_once") == 3


async def test_asking_what_was_had_costs_nothing_while_nobody_was_ever_erased(database: Database) -> None:
    await _merge(database, "a", "b")
    await database.people.refresh(database)

    class Closed:
        async def fetch(self, query: str, *args: object) -> list[object]:
            raise AssertionError(query, args)

    assert not await database.people.had(Closed(), ["b"], "pack")
    await _erase(database, "c")
    await database.people.refresh(database)
    with pytest.raises(AssertionError):
        await database.people.had(Closed(), ["b"], "pack")


async def test_the_life_of_an_id_has_another_name_after_each_erasure(database: Database) -> None:
    names = [await database.people.life(database, "a")]
    for number in range(2):
        async with database.transaction(people=["a"], alone=True) as tx:
            await store.note_erasure(tx, "a", [], NOW + timedelta(hours=number))
            await store.note_return(tx, "a", NOW + timedelta(hours=number))
        await database.people.refresh(database)
        names.append(await database.people.life(database, "a"))
    assert names[0] == "a"
    assert len(set(names)) == 3
    # A merge is no new life.
    await _merge(database, "a", "b")
    await database.people.refresh(database)
    assert await database.people.life(database, "a") == names[-1]
    assert await database.people.life(database, "b") == "b"


async def test_ids_are_nowhere_in_the_table(database: Database) -> None:
    await _merge(database, "somebody-a", "somebody-b")
    await _erase(database, "somebody-b")
    rows = await database.fetch(
        """
        SELECT former::text AS told FROM plumbing.former_ids AS former
        UNION ALL SELECT given::text FROM plumbing.given_once AS given
        """
    )
    assert len(rows) == 4
    assert not [row["told"] for row in rows if "somebody" in row["told"] or "pack" in row["told"]]


async def test_erased_ids_are_forgotten_after_their_time_and_merges_never(database: Database) -> None:
    await _merge(database, "a", "b")
    await _erase(database, "c")
    async with database.transaction() as tx:
        assert await store.forget(tx, NOW) == 0
        assert await store.forget(tx, NOW + timedelta(seconds=1)) == 1
    assert list(await database.people.standings(database, ["a", "b", "c"])) == ["a"]


async def test_the_memory_keeps_the_newest(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_REMEMBERED", 3)
    for old in "abcde":
        await _merge(database, old, "z")
    people = People()
    await people.refresh(database)
    assert [one for one in "abcde" if people.is_closed(one)] == ["c", "d", "e"]


async def test_a_restored_database_is_believed(database: Database) -> None:
    await _merge(database, "a", "b")
    await database.people.refresh(database)
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM plumbing.former_ids")
    await database.people.refresh(database)
    await _act(database, "a")


async def test_tokens_of_a_changed_id_are_heard_of_once(database: Database) -> None:
    heard: list[int] = []
    database.people.on_change(heard.extend)
    await _merge(database, "a", "b")
    await database.people.refresh(database)
    await database.people.refresh(database)
    assert heard == [database.people.key_of("a")]


async def test_without_the_lock_an_act_is_committed_under_an_id_that_is_no_more(database: Database) -> None:
    """The control: a transaction that does not say by whom it writes goes through beside a merge."""
    async with database.transaction() as act:
        await asyncio.wait_for(_merge(database, "a", "b"), PATIENCE_SECONDS)
        await act.execute("SELECT 1")


async def test_the_same_stripe_in_sql_and_here(database: Database) -> None:
    await database.people.refresh(database)
    row = await database.fetchrow(
        """
        SELECT told.hash, (get_byte(told.hash, 0) * 256 + get_byte(told.hash, 1)) % 4096 AS stripe
        FROM (SELECT sha256(secret || convert_to('用户-1', 'UTF8')) AS hash FROM plumbing.person_secret) AS told
        """
    )
    assert row is not None
    assert row["hash"][:16] == database.people.hash_of("用户-1")
    assert row["stripe"] == stripe_of(row["hash"])
    # What was remembered before is hashed by the migration.
    assert row["hash"][:8] == database.people.thing_of("用户-1")
