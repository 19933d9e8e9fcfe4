"""Who judges the judge: each law is broken once on purpose, and the judge must say so."""

from typing import Any

import msgspec
import pytest

from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.model import Claim, Wanted
from growth.mechanics.flash_sale.model import Sale
from growth.mechanics.flash_sale.stock import ClaimAsk, Occupied
from growth.plumbing.outbox.outbox import emit
from growth.vocabulary.clock import now
from growth.vocabulary.events.flash_sale import FlashSaleClaimHeld
from growth.vocabulary.ids import child_id
from tests import world
from tests.faults.crowd import Acknowledged, Paid
from tests.faults.laws import Told, broken_laws, differing, drop_check_on_taken, uncounted
from tests.mechanics.flash_sale.conftest import Room
from tests.mechanics.flash_sale.conftest import room as _room
from tests.shop.order import telling

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

room = _room
UNITS = 5


class Story(msgspec.Struct):
    """Three shoppers hold a unit each, one has paid; everything is as it must be."""

    room: Room
    sale: Sale
    claims: list[Claim]
    told: Told

    async def broken(self, told: Told | None = None) -> list[str]:
        return await broken_laws(self.room.database, self.room.redis, self.sale.sale_id, told or self.told)

    async def execute(self, sql: str, *args: Any) -> None:
        async with self.room.database.transaction() as tx:
            await tx.execute(sql, *args)


@pytest.fixture
async def story(room: Room) -> Story:
    sale = await world.put_sale(room.database, units_total=UNITS)
    claims = [(await room.claim(sale.sale_id, f"u{n}")).claim for n in range(3)]
    line = telling.line(sku="tea", units=1, amount_fen=100, claim_id=claims[0].claim_id)
    (result,) = await telling.tell(room.shop, telling.paid("o1", line, user_id="u0", paid_fen=100), now=now())
    assert result.outcome == "applied"
    told = Told(
        acknowledged=[Acknowledged(claim.claim_id, claim.user_id, claim.units) for claim in claims],
        paid=[Paid("o1", "1", claims[0].claim_id, "applied")],
    )
    return Story(room, sale, claims, told)


def says(broken: list[str], word: str) -> bool:
    return any(word in sentence for sentence in broken)


async def test_what_is_as_it_must_be_is_not_complained_of(story: Story) -> None:
    assert await story.broken() == []
    assert await differing(story.room.database, story.room.redis, story.sale.sale_id) == set()


async def test_an_oversell_is_seen(story: Story) -> None:
    await drop_check_on_taken(story.room.database)
    await story.execute("UPDATE flash_sale.sales SET units_total = 2 WHERE sale_id = $1", story.sale.sale_id)
    assert says(await story.broken(), "oversold: 3 units occupied")
    await story.execute("UPDATE flash_sale.sales SET units_total = 3 WHERE sale_id = $1", story.sale.sale_id)


async def test_an_oversell_that_the_counter_does_not_know_of_is_seen(story: Story) -> None:
    """Claims are counted one by one: a counter that was set back hides nothing."""
    await story.execute("UPDATE flash_sale.claims SET units = 9 WHERE claim_id = $1", story.claims[1].claim_id)
    assert says(await story.broken(), "oversold: 11 units occupied, 3 taken")
    await story.execute("UPDATE flash_sale.claims SET units = 1 WHERE claim_id = $1", story.claims[1].claim_id)


async def test_a_claim_that_was_acknowledged_and_is_not_there_is_seen(story: Story) -> None:
    lost = Acknowledged(child_id(story.sale.sale_id), "u9", 1)
    told = msgspec.structs.replace(story.told, acknowledged=[*story.told.acknowledged, lost])
    assert says(await story.broken(told), "acknowledged and lost")


async def test_a_claim_that_is_taken_away_for_no_reason_is_seen(story: Story) -> None:
    async with story.room.database.transaction() as tx:
        await store.release(tx, [story.claims[1].claim_id], "lapsed", now())
    assert says(await story.broken(), "acknowledged and taken away")
    forgotten = msgspec.structs.replace(story.told, forgotten=frozenset({story.claims[1].claim_id}))
    assert not says(await story.broken(forgotten), "acknowledged and taken away")


async def test_a_shopper_above_the_limit_is_seen(story: Story) -> None:
    await story.execute("UPDATE flash_sale.claims SET user_id = 'u1' WHERE claim_id = $1", story.claims[2].claim_id)
    assert says(await story.broken(), "above the limit: u1 has 2")
    await story.execute("UPDATE flash_sale.claims SET user_id = 'u2' WHERE claim_id = $1", story.claims[2].claim_id)


async def test_a_payer_without_units_is_seen(story: Story) -> None:
    nothing = Paid("o2", "1", story.claims[1].claim_id, "applied")
    told = msgspec.structs.replace(story.told, paid=[*story.told.paid, nothing])
    assert says(await story.broken(told), "paid and not settled as told")


async def test_a_payer_with_units_and_a_refund_is_seen(story: Story) -> None:
    await story.execute(
        """
        INSERT INTO flash_sale.refunds_required (order_id, line_id, claim_id, reason, at)
        VALUES ('o1', '1', $1, 'flash_sale.other_sku', now())
        """,
        story.claims[0].claim_id,
    )
    assert says(await story.broken(), "paid and not settled as told")


async def test_a_unit_stranded_in_redis_is_seen(story: Story) -> None:
    """As by a process that died between Redis and Postgres."""
    stranded = child_id(story.sale.sale_id)
    await story.room.stock.claim(story.sale.sale_id, [ClaimAsk(stranded, "u9", 1)])
    assert says(await story.broken(), f"stranded in Redis: ['{stranded}']")
    assert await differing(story.room.database, story.room.redis, story.sale.sale_id) == {stranded}


async def test_a_claim_that_redis_forgot_is_seen(story: Story) -> None:
    gone = story.claims[1]
    await story.room.stock.settle(story.sale.sale_id, [Occupied(gone.claim_id, gone.user_id, 0, now())])
    assert says(await story.broken(), f"forgotten by Redis: ['{gone.claim_id}']")


async def test_a_count_in_redis_that_is_off_is_seen(story: Story) -> None:
    await story.room.redis.hincrby(f"flash_sale:{{{story.sale.sale_id}}}:sale", "taken", 1)
    assert says(await story.broken(), "Redis counts 4 units as taken, Postgres 3")


async def test_an_event_told_twice_and_one_never_told_are_seen(story: Story) -> None:
    again = FlashSaleClaimHeld(
        at=now(),
        sale_id=story.sale.sale_id,
        claim_id=story.claims[1].claim_id,
        user_id="u1",
        units=1,
        held_until=now(),
    )
    async with story.room.database.transaction() as tx:
        await emit(tx, again)
        await store.win(tx, story.sale.sale_id, [Wanted(child_id(story.sale.sale_id), "u9", 1, now())])
    broken = await story.broken()
    assert says(broken, "told 2 times")
    assert says(broken, "never told")


async def test_a_listener_that_missed_claims_is_seen(story: Story) -> None:
    assert await uncounted(story.room.database, story.sale.sale_id) == ["3 claims, and the listener has counted 0"]
