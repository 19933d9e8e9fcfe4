"""What a sale does against scalpers, each switch on its own."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.model import Protection, Sale
from growth.plumbing.watch.audit import Act
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from tests import world
from tests.app import RunningApp, running_app
from tests.kit.invariants import violations
from tests.kit.turn import leading_at
from tests.mechanics.flash_sale.conftest import Room
from tests.mechanics.flash_sale.story import paid, tell
from tests.shop.order import telling

ADMIN_PATH = "/admin/v1/flash-sales"


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url, GROWTH_TRUSTED_PROXIES="10.0.0.0/8") as app:
        yield app
        assert not await violations(app.growth.database)


async def claim(app: RunningApp, sale: Sale, user_id: str, **headers: str) -> httpx.Response:
    return await app.shopper(user_id, "POST", f"/v1/flash-sales/{sale.sale_id}/claims", {"units": 1}, **headers)


async def code_of(app: RunningApp, sale: Sale, user_id: str, **headers: str) -> str:
    answer = await claim(app, sale, user_id, **headers)
    return "held" if answer.status_code == 201 else str(answer.json()["code"])


# --- allow-list -------------------------------------------------------------------------------------------------------


async def invite(app: RunningApp, sale: Sale, *user_ids: str) -> int:
    answer = await app.operator("POST", f"{ADMIN_PATH}/{sale.sale_id}/allow-list", {"user_ids": list(user_ids)})
    assert answer.status_code == 200, answer.text
    added: int = answer.json()["added"]
    return added


async def test_only_invited_shoppers_claim_before_and_after_the_gate_was_loaded_and_lost(app: RunningApp) -> None:
    sale = await world.put_sale(app.growth.database, protection=Protection(allow_list_only=True))
    assert await invite(app, sale, "alice", "alice", "bob") == 2
    assert await code_of(app, sale, "alice") == "held"
    assert await code_of(app, sale, "mallory") == "flash_sale.not_invited"
    assert await invite(app, sale, "bob", "carol") == 1
    assert await code_of(app, sale, "carol") == "held"
    await app.growth.redis.flushall()
    assert await code_of(app, sale, "mallory") == "flash_sale.not_invited"
    assert await code_of(app, sale, "bob") == "held"


async def test_an_allow_list_counts_only_where_it_is_switched_on(app: RunningApp) -> None:
    sale = await world.put_sale(app.growth.database)
    await invite(app, sale, "alice")
    assert await code_of(app, sale, "mallory") == "held"


async def test_an_allow_list_takes_a_thousand_at_a_time(app: RunningApp) -> None:
    sale = await world.put_sale(app.growth.database, protection=Protection(allow_list_only=True))
    assert await invite(app, sale, *[f"u{number}" for number in range(1_000)]) == 1_000
    path = f"{ADMIN_PATH}/{sale.sale_id}/allow-list"
    too_many = await app.operator("POST", path, {"user_ids": [f"u{number}" for number in range(1_001)]})
    assert (too_many.status_code, too_many.json()["errors"][0]["field"]) == (400, "user_ids")
    assert await code_of(app, sale, "u999") == "held"


# --- cool-down --------------------------------------------------------------------------------------------------------


async def lapse(room: Room, claim: Claim) -> None:
    assert (
        await room.keeper.end_lapsed_holds(await leading_at(room.database, claim.held_until + timedelta(seconds=6)))
        == 1
    )


async def wait_of(room: Room, sale: Sale, user_id: str) -> int:
    """Seconds that the gate tells a shopper to wait."""
    with pytest.raises(Refusal) as refused:
        await room.claim(sale.sale_id, user_id)
    assert refused.value.kind.code == "flash_sale.cooling_down"
    seconds: Any = refused.value.members["retry_after_seconds"]
    return int(seconds)


async def test_the_wait_doubles_with_each_hold_that_lapses_up_to_64_fold(room: Room) -> None:
    for lapses in range(1, 9):
        sale = await world.put_sale(
            room.database, sku=f"sku-{lapses}", protection=Protection(cool_down_seconds=10), hold_seconds=30
        )
        # Earlier waits are over, or they would keep alice out of this sale as well.
        await room.redis.flushall()
        async with room.database.transaction() as tx:
            await tx.execute("UPDATE flash_sale.lapses SET last_lapsed_at = last_lapsed_at - INTERVAL '1 day'")
        mine = (await room.claim(sale.sale_id, "alice")).claim
        await lapse(room, mine)
        # The worker's clock stood 36 s ahead when it counted the lapse.
        expected = 10 * 2 ** min(lapses - 1, 6) + 36
        assert expected - 5 <= await wait_of(room, sale, "alice") <= expected + 1
        await room.redis.flushall()
        assert expected - 5 <= await wait_of(room, sale, "alice") <= expected + 1
        bobs = (await room.claim(sale.sale_id, "bob")).claim
        await room.claims.give_back(bobs.claim_id, "bob", now())
        await room.sales.end(Act(Operator("test", Role.EDITOR), now()), sale.sale_id)


@pytest.mark.parametrize(("days", "would"), [(29, "refuse"), (31, "win")])
async def test_no_wait_is_longer_than_lapses_are_remembered(room: Room, days: int, would: str) -> None:
    sale = await world.put_sale(room.database, protection=Protection(cool_down_seconds=86_400))
    await room.database.fetch(
        "INSERT INTO flash_sale.lapses (user_id, lapses, last_lapsed_at) VALUES ('alice', 9, $1)",
        now() - timedelta(days=days),
    )
    assert (await room.sales.dry_run(sale.sale_id, "alice", 1, now())).would == would
    if would == "win":
        assert (await room.claim(sale.sale_id, "alice")).claim.state == "held"
    else:
        assert await wait_of(room, sale, "alice") > 80_000


async def test_what_a_shopper_gave_back_is_no_lapse(room: Room) -> None:
    sale = await world.put_sale(room.database, protection=Protection(cool_down_seconds=600))
    mine = (await room.claim(sale.sale_id, "alice")).claim
    await room.claims.give_back(mine.claim_id, "alice", now())
    again = (await room.claim(sale.sale_id, "alice")).claim
    assert await tell(room, telling.placed("o", telling.line(units=1, claim_id=again.claim_id), user_id="alice")) == [
        "applied"
    ]
    assert await tell(room, telling.closed("o")) == ["applied"]
    assert (await room.claim(sale.sale_id, "alice")).claim.state == "held"


async def test_a_lapse_in_one_sale_keeps_out_of_every_sale_that_has_a_wait_and_of_no_other(room: Room) -> None:
    here = await world.put_sale(room.database)
    strict = await world.put_sale(room.database, sku="b", protection=Protection(cool_down_seconds=600))
    mine = (await room.claim(here.sale_id, "alice")).claim
    await room.loader.load(strict.sale_id)
    await lapse(room, mine)
    assert await wait_of(room, strict, "alice") > 500
    assert (await room.claim(here.sale_id, "alice")).claim.state == "held"


async def test_whoever_pays_starts_anew(room: Room) -> None:
    here = await world.put_sale(room.database)
    strict = await world.put_sale(room.database, sku="b", protection=Protection(cool_down_seconds=600))
    await lapse(room, (await room.claim(here.sale_id, "alice")).claim)
    await wait_of(room, strict, "alice")
    again = (await room.claim(here.sale_id, "alice")).claim
    assert await tell(room, paid(again)) == ["applied"]
    assert (await room.claim(strict.sale_id, "alice")).claim.state == "held"


# --- age of the account -----------------------------------------------------------------------------------------------


async def test_an_account_must_be_old_enough_and_the_shop_must_have_told_of_it(app: RunningApp) -> None:
    sale = await world.put_sale(app.growth.database, protection=Protection(minimum_account_age_seconds=86_400))
    moment = now()
    for user_id, age in (("old", timedelta(days=2)), ("young", timedelta(hours=23))):
        data = {"user_id": user_id, "registered_at": (moment - age).isoformat()}
        await app.shop_tells(telling.event("shopper.registered", data))
    assert await code_of(app, sale, "old") == "held"
    assert await code_of(app, sale, "young") == "flash_sale.account_too_new"
    assert await code_of(app, sale, "unknown") == "flash_sale.account_too_new"
    # The shop corrects what it told, and tells late: it counts from the next attempt on.
    corrected = {"user_id": "young", "registered_at": (moment - timedelta(days=2)).isoformat()}
    await app.shop_tells(telling.event("shopper.registered", corrected))
    assert await code_of(app, sale, "young") == "held"
    await app.shop_tells(
        telling.event(
            "shopper.registered", {"user_id": "unknown", "registered_at": (moment - timedelta(3)).isoformat()}
        )
    )
    assert await code_of(app, sale, "unknown") == "held"


# --- pace -------------------------------------------------------------------------------------------------------------


async def test_attempts_of_one_shopper_have_a_pace_and_the_answer_says_how_long_to_wait(app: RunningApp) -> None:
    protection = Protection(claims_per_minute_per_shopper=8)
    sale = await world.put_sale(app.growth.database, protection=protection, max_per_shopper=9)
    assert [await code_of(app, sale, "alice") for _ in range(3)] == ["held", "held", "flash_sale.too_many_attempts"]
    refused = await claim(app, sale, "alice")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) == refused.json()["retry_after_seconds"] <= 8
    assert await code_of(app, sale, "bob") == "held"


async def test_a_repeat_under_its_key_is_no_attempt(app: RunningApp) -> None:
    sale = await world.put_sale(app.growth.database, protection=Protection(claims_per_minute_per_shopper=4))
    got = [await code_of(app, sale, "alice", idempotency_key="k") for _ in range(5)]
    assert got == ["held"] * 5


async def test_attempts_from_one_address_have_a_pace_whoever_makes_them(app: RunningApp) -> None:
    # httpx' peer is 127.0.0.1, which is no trusted proxy here: what it forwards is not believed.
    protection = Protection(claims_per_minute_per_address=8)
    sale = await world.put_sale(app.growth.database, protection=protection)
    got = [await code_of(app, sale, f"u{number}", x_forwarded_for=f"192.0.2.{number}") for number in range(3)]
    assert got == ["held", "held", "flash_sale.too_many_attempts"]


async def test_behind_a_trusted_proxy_the_address_is_what_the_proxy_saw(app: RunningApp) -> None:
    protection = Protection(claims_per_minute_per_address=4)
    sale = await world.put_sale(app.growth.database, protection=protection)
    transport = httpx.ASGITransport(app.asgi, client=("10.0.0.9", 80))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://growth.test") as proxy:
        got = []
        for user_id, forwarded in [
            ("a", "192.0.2.1"),
            ("b", "192.0.2.1"),
            ("c", "192.0.2.2"),
            ("d", "192.0.2.77, 192.0.2.2"),
            ("e", "192.0.2.77, 192.0.2.3, 10.1.1.1"),
        ]:
            headers = app.shopper_headers(user_id) | {"x-forwarded-for": forwarded}
            path = f"/v1/flash-sales/{sale.sale_id}/claims"
            got.append((await proxy.post(path, json={"units": 1}, headers=headers)).status_code)
    assert got == [201, 429, 201, 429, 201]
