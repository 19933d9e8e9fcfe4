"""What Redis is told after a commit it may never hear: whatever it was, it is compared with Postgres and mended.

For each telling the room is brought to the moment before it, Redis falls silent, the act commits, Redis is back. Then
the reconciler runs, and Redis must hold what a rebuild from Postgres would put there.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct

from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.claim.redis_sync import GRACE
from growth.mechanics.flash_sale.model import Protection, Sale, SaleDraft
from growth.mechanics.flash_sale.series.service import SeriesService
from growth.mechanics.flash_sale.stock import ClaimAsk, Face
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.watch.audit import Act
from growth.privacy.service import Shoppers
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.ids import child_id
from growth.vocabulary.refusals import Refusal, Unavailable
from tests import world
from tests.housed import shoppers_on
from tests.kit.turn import leading_at
from tests.mechanics.flash_sale.claim.draw.drawing import enter_all, put_draw, time_to_draw
from tests.mechanics.flash_sale.conftest import Room
from tests.mechanics.flash_sale.series.test_plans import a_plan
from tests.mechanics.flash_sale.story import paid, placed, tell, told
from tests.shop.order import telling

pytestmark = pytest.mark.anyio

NOT_OF_POSTGRES = {b"generation", b"back_ms", b"back_after_ms"}
PICKY = Protection(cool_down_seconds=3600, allow_list_only=True)

Picture = dict[str, Any]


def act(moment: Any = None) -> Act:
    return Act(Operator("olga", Role.ADMIN), moment or now(), "req-1", "because")


class Silence(Struct):
    """Redis answers nobody while `is_on`; `heard` counts what it did not hear."""

    is_on: bool = False
    missed: int = 0


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Silence:
    state = Silence()

    def deaf(name: str) -> None:
        real = getattr(Face, name)

        async def asked(self: Face, *args: Any) -> Any:
            if state.is_on:
                state.missed += 1
                raise Unavailable("Redis is silent")
            return await real(self, *args)

        monkeypatch.setattr(Face, name, asked)

    deaf("_run")
    deaf("_command")
    return state


class Story(Struct):
    """A sale of which Redis knows everything so far, and what follows."""

    sale: Sale
    act: Callable[[], Awaitable[object]]


async def claimed(room: Room, sale: Sale, user_id: str, units: int = 1) -> Claim:
    return (await room.claim(sale.sale_id, user_id, units)).claim


async def edited(room: Room) -> Story:
    sale = await world.put_sale(room.database)
    await claimed(room, sale, "ann")
    draft = {name: getattr(sale, name) for name in SaleDraft.__struct_fields__} | {"units_total": 3}
    return Story(sale, lambda: room.sales.change(act(), sale.sale_id, sale.version, SaleDraft(**draft)))


async def moved_before_opening(room: Room) -> Story:
    opens_at = now() + timedelta(minutes=5)
    sale = await world.put_sale(room.database, opens_at=opens_at, closes_at=opens_at + timedelta(hours=1))
    await room.loader.load(sale.sale_id)
    later = {"opens_at": opens_at + timedelta(days=2), "closes_at": opens_at + timedelta(days=3)}
    draft = {name: getattr(sale, name) for name in SaleDraft.__struct_fields__} | later
    return Story(sale, lambda: room.sales.change(act(), sale.sale_id, sale.version, SaleDraft(**draft)))


async def paused(room: Room) -> Story:
    sale = await world.put_sale(room.database)
    await claimed(room, sale, "ann")
    return Story(sale, lambda: room.sales.pause(act(), sale.sale_id))


async def resumed(room: Room) -> Story:
    sale = await world.put_sale(room.database)
    await claimed(room, sale, "ann")
    await room.sales.pause(act(), sale.sale_id)
    return Story(sale, lambda: room.sales.resume(act(), sale.sale_id))


async def ended(room: Room) -> Story:
    sale = await world.put_sale(room.database)
    await claimed(room, sale, "ann")
    return Story(sale, lambda: room.sales.end(act(), sale.sale_id))


async def _series(room: Room) -> tuple[SeriesService, str, Sale]:
    series = SeriesService(room.database, room.stock, room.sales)
    plan = a_plan(
        from_day=now().astimezone(ZoneInfo("Asia/Shanghai")).date().isoformat(), until_day=None, plan_ahead_days=14
    )
    made = (await series.create(act(), plan, None, b"")).answer
    await series.publish(act(), made.series_id)
    found = await sales_store.page_of_sales(
        room.database, state="published", series_id=made.series_id, before=None, limit=1
    )
    await room.loader.load(found[0].sale_id)
    return series, made.series_id, found[0]


async def paused_with_its_series(room: Room) -> Story:
    series, series_id, sale = await _series(room)
    return Story(sale, lambda: series.pause(act(), series_id))


async def resumed_with_its_series(room: Room) -> Story:
    series, series_id, sale = await _series(room)
    await series.pause(act(), series_id)
    return Story(sale, lambda: series.resume(act(), series_id))


async def ended_with_its_series(room: Room) -> Story:
    series, series_id, sale = await _series(room)
    return Story(sale, lambda: series.end(act(), series_id))


async def invited(room: Room) -> Story:
    sale = await world.put_sale(room.database, protection=PICKY)
    await room.sales.invite(act(), sale.sale_id, ["ann"])
    await claimed(room, sale, "ann")
    return Story(sale, lambda: room.sales.invite(act(), sale.sale_id, ["bob", "ann"]))


async def given_back(room: Room) -> Story:
    sale = await world.put_sale(room.database)
    claim = await claimed(room, sale, "ann")
    await claimed(room, sale, "bob")
    return Story(sale, lambda: room.claims.give_back(claim.claim_id, "ann", now()))


async def taken_back_by_an_operator(room: Room) -> Story:
    sale = await world.put_sale(room.database)
    claim = await claimed(room, sale, "ann")
    return Story(sale, lambda: room.claims.release(act(), claim.claim_id))


async def lapsed(room: Room) -> Story:
    sale = await world.put_sale(room.database, protection=Protection(cool_down_seconds=3600))
    await claimed(room, sale, "ann")
    turn = await leading_at(room.database, now() + timedelta(minutes=10))
    return Story(sale, lambda: room.keeper.end_lapsed_holds(turn))


async def closed(room: Room) -> Story:
    sale = await world.put_sale(room.database)
    claim = await claimed(room, sale, "ann")
    assert await tell(room, placed(claim)) == ["applied"]
    return Story(sale, lambda: tell(room, telling.closed()))


async def paid_late(room: Room) -> Story:
    sale = await world.put_sale(room.database)
    claim = await claimed(room, sale, "ann")
    await room.claims.give_back(claim.claim_id, "ann", now())
    return Story(sale, lambda: told(room, paid(claim)))


async def forgiven(room: Room) -> Story:
    sale = await world.put_sale(room.database, protection=Protection(cool_down_seconds=3600))
    other = await world.put_sale(room.database, sku="coffee")
    claim, lost = await claimed(room, other, "ann"), await claimed(room, sale, "ann")
    assert lost.user_id == claim.user_id
    await room.keeper.end_lapsed_holds(await leading_at(room.database, now() + timedelta(minutes=10)))
    return Story(sale, lambda: told(room, paid(claim)))


async def refunded(room: Room) -> Story:
    sale = await world.put_sale(room.database, refund_returns_units=True, max_per_shopper=2)
    claim = await claimed(room, sale, "ann", 2)
    await told(room, paid(claim))
    return Story(sale, lambda: told(room, telling.refunded("o1", "r1", telling.of(1, 100))))


async def drawn(room: Room) -> Story:
    sale = await put_draw(room.database)
    await room.loader.load(sale.sale_id)
    await enter_all(room.draws, sale, "ann", "bob")
    turn = await leading_at(room.database, time_to_draw(sale))
    return Story(sale, lambda: room.draws.draw_due(turn))


async def _gone(room: Room) -> tuple[Shoppers, Sale]:
    """Ann gave back what she had; she is invited, and kept out for a while."""
    sale = await world.put_sale(room.database, protection=PICKY)
    await room.sales.invite(act(), sale.sale_id, ["ann", "bob"])
    claim = await claimed(room, sale, "ann")
    await room.keeper.end_lapsed_holds(await leading_at(room.database, now() + timedelta(minutes=10)))
    assert claim.state == "held"
    return shoppers_on(room.database, room.loader.rename_shopper), sale


async def erased(room: Room) -> Story:
    people, sale = await _gone(room)
    return Story(sale, lambda: people.erase(act(), "ann"))


async def erased_after_the_end(room: Room) -> Story:
    sale = await world.put_sale(room.database)
    claim = await claimed(room, sale, "ann")
    await claimed(room, sale, "bob")
    await told(room, paid(claim))
    await room.sales.end(act(), sale.sale_id)
    return Story(sale, lambda: shoppers_on(room.database, room.loader.rename_shopper).erase(act(), "ann"))


async def merged(room: Room) -> Story:
    people, sale = await _gone(room)
    return Story(sale, lambda: people.merge(act(), "ann", "anna"))


async def merged_after_the_end(room: Room) -> Story:
    sale = await world.put_sale(room.database)
    claim = await claimed(room, sale, "ann")
    await told(room, paid(claim))
    await room.sales.end(act(), sale.sale_id)
    return Story(sale, lambda: shoppers_on(room.database, room.loader.rename_shopper).merge(act(), "ann", "anna"))


TELLINGS = [
    edited,
    moved_before_opening,
    paused,
    resumed,
    ended,
    paused_with_its_series,
    resumed_with_its_series,
    ended_with_its_series,
    invited,
    given_back,
    taken_back_by_an_operator,
    lapsed,
    closed,
    paid_late,
    forgiven,
    refunded,
    drawn,
    erased,
    erased_after_the_end,
    merged,
    merged_after_the_end,
]


async def picture(room: Room, sale: Sale) -> Picture:
    """What Redis holds of a sale, without what is its own: when a claim was last asked for, who gave all back."""

    def key(name: str) -> str:
        return f"flash_sale:{{{sale.sale_id}}}:{name}"

    redis: Any = room.redis
    claims = {claim.claim_id: (claim.units, claim.user_id) for claim in await _claims(room, sale)}
    shoppers = {who: int(units) for who, units in (await redis.hgetall(key("shoppers"))).items() if int(units)}
    winners = await redis.lrange(key("winners"), 0, -1)
    held = {who: sum(units for units, user_id in claims.values() if user_id.encode() == who) for who in shoppers}
    assert held == shoppers
    return {
        "sale": {
            name: value for name, value in (await redis.hgetall(key("sale"))).items() if name not in NOT_OF_POSTGRES
        },
        "claims": claims,
        "shoppers": shoppers,
        "winners": sorted(who for who in winners if who in shoppers),
        "cooldowns": await redis.hgetall(key("cooldowns")),
        "allowed": await redis.smembers(key("allowed")),
    }


async def _claims(room: Room, sale: Sale) -> list[Any]:
    return [claim async for page in room.stock.known_claims(sale.sale_id) for claim in page]


async def rebuilt(room: Room, sale: Sale) -> Picture:
    """What a Redis that had forgotten everything would hold."""
    await room.redis.flushall()
    await room.loader.load(sale.sale_id)
    return await picture(room, sale)


async def unheard(room: Room, silence: Silence, story: Story) -> None:
    """Have Redis miss all that the act tells."""
    silence.is_on = True
    await story.act()
    silence.is_on = False
    assert silence.missed, "it was told nothing, so nothing is tried here"


@pytest.mark.parametrize("telling_", TELLINGS, ids=lambda made: made.__name__)
async def test_what_redis_did_not_hear_it_knows_after_a_comparison(
    room: Room, silence: Silence, telling_: Callable[[Room], Awaitable[Story]]
) -> None:
    story = await telling_(room)
    await unheard(room, silence, story)
    # Past the grace of claims that may be on their way.
    await room.keeper.reconcile(await leading_at(room.database, now() + timedelta(minutes=1)))
    mended = await picture(room, story.sale)
    assert mended == await rebuilt(room, story.sale)


@pytest.mark.parametrize("telling_", TELLINGS, ids=lambda made: made.__name__)
async def test_without_the_comparison_it_never_knows(
    room: Room, silence: Silence, telling_: Callable[[Room], Awaitable[Story]]
) -> None:
    story = await telling_(room)
    before = await picture(room, story.sale)
    await unheard(room, silence, story)
    assert await picture(room, story.sale) == before != await rebuilt(room, story.sale)


@pytest.mark.parametrize("telling_", TELLINGS, ids=lambda made: made.__name__)
async def test_what_redis_did_hear_needs_no_comparison(
    room: Room, telling_: Callable[[Room], Awaitable[Story]]
) -> None:
    story = await telling_(room)
    await story.act()
    heard = await picture(room, story.sale)
    assert heard == await rebuilt(room, story.sale)


async def test_an_invitation_that_redis_missed_lets_in_and_asking_again_adds_nobody(
    room: Room, silence: Silence
) -> None:
    sale = await world.put_sale(room.database, protection=Protection(allow_list_only=True))
    await room.loader.load(sale.sale_id)
    silence.is_on = True
    assert await room.sales.invite(act(), sale.sale_id, ["ann"]) == 1
    silence.is_on = False
    with pytest.raises(Refusal, match="not_invited"):
        await room.claim(sale.sale_id, "ann")
    await room.keeper.reconcile(await leading_at(room.database, now()))
    assert (await room.claim(sale.sale_id, "ann")).claim.state == "held"


# --- names --------------------------------------------------------------------------------------------------------


async def everything_in(redis: Any) -> str:
    """All keys of Redis with all they hold."""
    read = {
        b"hash": redis.hgetall,
        b"set": redis.smembers,
        b"string": redis.get,
        b"list": lambda key: redis.lrange(key, 0, -1),
    }
    return repr([(key, await read[await redis.type(key)](key)) for key in await redis.keys("*")])


@pytest.mark.parametrize("is_heard", [True, False])
@pytest.mark.parametrize("telling_", [erased, erased_after_the_end, merged, merged_after_the_end])
async def test_nothing_of_an_id_that_is_gone_stays_in_redis(
    room: Room, silence: Silence, telling_: Callable[[Room], Awaitable[Story]], *, is_heard: bool
) -> None:
    story = await telling_(room)
    assert "b'ann'" in await everything_in(room.redis)
    silence.is_on = not is_heard
    await story.act()
    silence.is_on = False
    if not is_heard:
        for _ in range(2):
            await room.keeper.reconcile(await leading_at(room.database, now()))
    found = await everything_in(room.redis)
    assert "b'ann'" not in found
    assert "|ann'" not in found


async def test_an_id_whose_claim_never_got_to_postgres_is_forgotten_with_it(room: Room) -> None:
    sale = await world.put_sale(room.database)
    await room.loader.load(sale.sale_id)
    await room.stock.claim(sale.sale_id, [ClaimAsk(child_id(sale.sale_id), "ann", 1)])
    await room.loader.reconcile(sale.sale_id, now() + timedelta(hours=1))
    await room.loader.reconcile(sale.sale_id, now() + timedelta(hours=1))
    assert "ann" not in await everything_in(room.redis)


async def test_a_list_of_winners_that_was_lost_is_whole_again(room: Room) -> None:
    sale = await world.put_sale(room.database)
    for who in ("ann", "bob"):
        await room.claim(sale.sale_id, who)
    key = f"flash_sale:{{{sale.sale_id}}}:winners"
    await room.redis.delete(key)
    await room.loader.reconcile(sale.sale_id, now())
    assert sorted(await room.redis.lrange(key, 0, -1)) == [b"ann", b"bob"]


async def test_units_of_a_shopper_that_were_lost_have_the_sale_read_anew(room: Room) -> None:
    sale = await world.put_sale(room.database)
    for who in ("ann", "bob"):
        await room.claim(sale.sale_id, who)
    key = f"flash_sale:{{{sale.sale_id}}}:shoppers"
    await room.redis.hset(key, "ann", "2")
    await room.redis.hset(key, "bob", "0")
    began = now()
    # As long as a claim may be on its way it is not said of a shopper that what Redis has is wrong.
    for later in (timedelta(), GRACE / 2, GRACE, GRACE + timedelta(seconds=1)):
        assert await room.stock.is_loaded(sale.sale_id)
        await room.loader.reconcile(sale.sale_id, began + later)
    assert not await room.stock.is_loaded(sale.sale_id)


async def test_a_claim_that_its_process_took_along_has_no_sale_read_anew(room: Room) -> None:
    """The api process died between the two stores: the unit is given back after the grace, and that is all."""
    sale = await world.put_sale(room.database)
    await room.claim(sale.sale_id, "ann")
    claim_id = child_id(sale.sale_id)
    await room.stock.claim(sale.sale_id, [ClaimAsk(claim_id, "bob", 1)])
    began = now()
    for seconds in range(0, 40, 3):
        await room.loader.reconcile(sale.sale_id, began + timedelta(seconds=seconds))
        assert await room.stock.is_loaded(sale.sale_id)
    assert (await room.stock.glance(sale.sale_id, 0)).taken == 1
