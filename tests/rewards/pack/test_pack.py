"""The new-shopper pack: several rewards, once a person."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from growth.plumbing.outbox.outbox import Envelope
from growth.plumbing.person import store as person
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Budget
from growth.rewards.pack import person as shopper
from growth.rewards.pack import service
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from growth.vocabulary.events.shop import ShopShopperRegistered
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal, Unavailable
from growth.vocabulary.rewards import CouponReward, PointsReward
from tests.app import RunningApp, running_app
from tests.rewards.pack.conftest import Room, an_act

pytestmark = pytest.mark.anyio

PATH = "/admin/v1/new-shopper-pack"


async def coupons_of(room: Room, user_id: str) -> int:
    return int(await room.database.fetchval("SELECT count(*) FROM coupon.coupons WHERE user_id = $1", user_id))


async def test_who_registers_is_given_all_that_is_in_the_pack(room: Room) -> None:
    template = await room.template()
    await room.holds(PointsReward(points=10), CouponReward(template_id=template.template_id), PointsReward(points=5))
    await room.registers("ann", "bob")
    for user_id in ("ann", "bob"):
        assert (await room.points(user_id), await coupons_of(room, user_id)) == (15, 1)
    page = await room.packs.page()
    assert (page.shoppers, page.rewards_given, page.rewards_missed) == (2, 6, 0)


async def test_the_pack_is_given_once_however_often_it_is_told(room: Room) -> None:
    await room.holds()
    await room.registers("ann")
    event = ShopShopperRegistered(at=now(), user_id="ann", registered_at=now(), source=None)

    async def again() -> None:
        async with room.database.transaction() as tx:
            await room.packs.give(tx, [Envelope(new_id(now()), event)] * 3)

    await asyncio.gather(*[again() for _ in range(64)])
    assert await room.points("ann") == 10
    # Nor what it is changed to later.
    await room.holds(PointsReward(points=99))
    await again()
    assert await room.points("ann") == 10


async def test_of_64_at_once_one_gives_it(room: Room) -> None:
    await room.holds()
    event = ShopShopperRegistered(at=now(), user_id="ann", registered_at=now(), source=None)

    async def give() -> None:
        async with room.database.transaction() as tx:
            await room.packs.give(tx, [Envelope(new_id(now()), event)])

    await asyncio.gather(*[give() for _ in range(64)])
    assert await room.points("ann") == 10


async def test_without_the_row_a_changed_pack_would_be_given_again(room: Room) -> None:
    await room.holds()
    await room.registers("ann")
    await room.holds(PointsReward(points=1), PointsReward(points=2))
    await room.database.fetchval("DELETE FROM pack.recipients")
    event = ShopShopperRegistered(at=now(), user_id="ann", registered_at=now(), source=None)
    async with room.database.transaction() as tx:
        await room.packs.give(tx, [Envelope(new_id(now()), event)])
    # Keys name nobody: the row alone says who had it.
    assert await room.points("ann") == 13


async def test_a_pack_that_is_off_gives_nothing_and_nobody_missed_it_later(room: Room) -> None:
    await room.registers("ann")
    await room.holds()
    await room.registers("bob")
    assert (await room.points("ann"), await room.points("bob")) == (0, 10)
    await room.holds(enabled=False)
    await room.registers("cat")
    assert await room.recipient("cat") is None


@pytest.mark.parametrize(("ago", "points"), [(timedelta(days=6), 10), (timedelta(days=8), 0), (-timedelta(hours=1), 0)])
async def test_old_shoppers_that_are_told_of_late_are_not_new(room: Room, ago: timedelta, points: int) -> None:
    await room.holds()
    await room.registers("ann", registered_at=now() - ago)
    assert await room.points("ann") == points


async def test_near_the_end_of_a_budget_a_pack_is_given_in_part(room: Room) -> None:
    await room.holds(PointsReward(points=10), PointsReward(points=5), budget=Budget(max_grants=3, max_value=None))
    await room.registers("ann", "bob", "cat")
    assert [await room.points(user_id) for user_id in ("ann", "bob", "cat")] == [15, 10, 0]
    page = await room.packs.page()
    assert (page.shoppers, page.rewards_given, page.rewards_missed) == (3, 3, 3)


async def test_a_coupon_that_is_gone_holds_nothing_else_back(room: Room) -> None:
    template = await room.template(units_total=1)
    await room.holds(CouponReward(template_id=template.template_id), PointsReward(points=10))
    await room.registers("ann", "bob")
    assert [await coupons_of(room, user_id) for user_id in ("ann", "bob")] == [1, 0]
    assert await room.points("bob") == 10


async def test_many_at_once_are_given_in_batches(room: Room, monkeypatch: Any) -> None:
    monkeypatch.setattr(granting, "MAX_GRANTS", 7)
    await room.holds(*[PointsReward(points=1)] * 3)
    await room.registers(*[f"u{number}" for number in range(10)])
    assert (await room.packs.page()).rewards_given == 30


async def test_a_worker_that_dies_gives_it_when_it_is_back(room: Room, monkeypatch: Any) -> None:
    await room.holds()

    async def dies(*_: object) -> None:
        raise Unavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(service.store, "note_given", dies)  # type: ignore[attr-defined]
        with pytest.raises(Unavailable):
            await room.registers("ann")
    assert await room.points("ann") == 0
    await room.delivers()
    assert await room.points("ann") == 10


async def test_two_ids_of_one_person_have_one_pack(room: Room) -> None:
    await room.holds()
    for has, later in (("old", "new"), ("new", "old"), ("", "old"), ("", "new")):
        old, new = f"{has}-{later}-old", f"{has}-{later}-new"
        if has:
            await room.registers(f"{has}-{later}-{has}")
        for _ in range(2):
            async with room.database.transaction(people=[old, new], alone=True) as tx:
                await shopper.merge(tx, old, new, now())
                await person.note_merge(tx, old, new)
        await room.registers(f"{has}-{later}-{later}")
        await room.registers(old)
        # The old id is the new one: its registration, told late, is another of the same person.
        assert await room.points(old) + await room.points(new) == 10


async def test_who_is_erased_is_told_of_no_more(room: Room) -> None:
    await room.holds()
    await room.registers("ann")
    for _ in range(2):
        async with room.database.transaction() as tx:
            await shopper.erase(tx, "ann", "erased:01")
    assert (await shopper.export(room.database, "ann")).recipient is None
    known = (await shopper.export(room.database, "erased:01")).recipient
    assert known is not None
    assert known.given == 1
    assert (await room.packs.page()).shoppers == 1


async def test_an_edit_of_an_old_version_is_refused(room: Room) -> None:
    pack = await room.holds()
    with pytest.raises(Refusal, match=r"pack\.version_mismatch"):
        await room.packs.change(an_act(), pack.version - 1, pack_draft())


def pack_draft() -> Any:
    from growth.rewards.pack.model import PackDraft  # noqa: PLC0415

    return PackDraft(enabled=False, rewards=[])


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app


async def test_operators_see_and_change_the_pack(app: RunningApp) -> None:
    seen = await app.operator("GET", PATH, role=Role.VIEWER)
    assert (seen.json()["pack"]["enabled"], seen.json()["pack"]["rewards"]) == (False, [])
    draft = {"enabled": True, "rewards": [{"type": "points", "points": 10}], "budget": {"max_grants": 1000}}
    assert (await app.operator("PUT", PATH, draft)).status_code == 412
    changed = await app.operator("PUT", PATH, draft, if_match=seen.headers["etag"])
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    stale = await app.operator("PUT", PATH, draft, if_match=seen.headers["etag"])
    assert (stale.status_code, stale.json()["code"]) == (412, "pack.version_mismatch")
    current = changed.headers["etag"]
    for wrong, field in (
        ({"rewards": []}, "rewards"),
        ({"rewards": [{"type": "coupon", "template_id": new_id(now())}]}, "rewards[0].template_id"),
        ({"rewards": [{"type": "points", "points": 0}]}, "rewards[0].points"),
        ({"registered_within_days": 0}, "registered_within_days"),
    ):
        answer = await app.operator("PUT", PATH, draft | wrong, if_match=current)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
    (entry,) = (await app.operator("GET", "/admin/v1/audit?action=pack.change")).json()["items"]
    assert entry["after"]["rewards"][0]["points"] == 10
