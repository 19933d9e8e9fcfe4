"""The gate in Redis decides as the model does, and its keys always add up."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.mechanics.flash_sale import model
from growth.mechanics.flash_sale.model import Admission, Protection, Sale, ShopperInSale
from growth.mechanics.flash_sale.stock import ClaimAsk, Occupied, Stock, admission_of
from growth.plumbing.redis.client import AnyRedis, connect_redis
from growth.vocabulary.clock import from_milliseconds, now
from growth.vocabulary.ids import child_id, new_id
from growth.vocabulary.refusals import Unavailable
from tests.kit.examples import examples
from tests.mechanics.flash_sale.story import off_by
from tests.world import a_sale


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[AnyRedis]:
    client = connect_redis(redis_url, max_connections=4, answer_seconds=60)
    yield client
    await client.aclose()


@pytest.fixture
def stock(redis: AnyRedis) -> Stock:
    return Stock(redis)


async def ask(stock: Stock, sale: Sale, user_id: str, units: int = 1, address: str = "") -> Admission:
    reply = await stock.claim(sale.sale_id, [ClaimAsk(child_id(sale.sale_id), user_id, units, address)])
    return admission_of(reply.answers[0])[0]


async def test_a_sale_that_redis_does_not_know_is_not_loaded(stock: Stock) -> None:
    assert await ask(stock, a_sale(), "alice") is Admission.NOT_LOADED


async def test_the_last_unit_goes_to_one_of_a_batch(stock: Stock) -> None:
    sale = a_sale(units_total=1)
    await stock.load(sale, 1)
    reply = await stock.claim(sale.sale_id, [ClaimAsk(child_id(sale.sale_id), f"u{n}", 1) for n in range(64)])
    assert sorted(reply.answers) == [Admission.WON] + [Admission.SOLD_OUT] * 63
    assert reply.units_left == 0


async def test_the_same_claim_id_is_a_replay_even_when_sold_out_paused_or_over(stock: Stock) -> None:
    sale = a_sale(units_total=1)
    await stock.load(sale, 1)
    mine = ClaimAsk(child_id(sale.sale_id), "alice", 1)
    assert (await stock.claim(sale.sale_id, [mine])).answers == [Admission.WON]
    assert (await stock.claim(sale.sale_id, [mine])).answers == [Admission.REPLAY]
    await stock.configure(a_sale(sale_id=sale.sale_id, version=2, state="paused"))
    assert (await stock.claim(sale.sale_id, [mine])).answers == [Admission.REPLAY]
    assert await ask(stock, sale, "bob") is Admission.PAUSED


async def test_giving_back_twice_gives_back_once(stock: Stock) -> None:
    sale = a_sale(units_total=2)
    await stock.load(sale, 1)
    first = ClaimAsk(child_id(sale.sale_id), "alice", 1)
    await stock.claim(sale.sale_id, [first, ClaimAsk(child_id(sale.sale_id), "bob", 1)])
    gone = Occupied(first.claim_id, "alice", 0, now())
    assert await stock.settle(sale.sale_id, [gone]) == 1
    assert await stock.settle(sale.sale_id, [gone]) == 0
    assert (await stock.glance(sale.sale_id, 0)).taken == 1
    assert await off_by(stock, sale.sale_id) == 0


async def test_an_older_edit_never_replaces_a_newer_one(stock: Stock) -> None:
    sale = a_sale(version=3, units_total=5)
    await stock.load(sale, 1)
    await stock.configure(a_sale(sale_id=sale.sale_id, version=2, state="paused"))
    assert await ask(stock, sale, "alice") is Admission.WON


async def test_a_slow_rebuild_never_replaces_a_newer_one(stock: Stock) -> None:
    sale = a_sale(units_total=5)
    await stock.load(sale, 2)
    assert await ask(stock, sale, "alice") is Admission.WON
    assert not await stock.load(sale, 1)
    assert (await stock.glance(sale.sale_id, 0)).taken == 1


async def test_a_rebuild_knows_what_was_gathered(stock: Stock) -> None:
    sale = a_sale(units_total=5, max_per_shopper=2)
    claims = [Occupied(child_id(sale.sale_id), "alice", 2, now()), Occupied(child_id(sale.sale_id), "bob", 1, now())]
    await stock.gather_claims(sale.sale_id, 1, claims)
    await stock.load(sale, 1)
    glance = await stock.glance(sale.sale_id, 0)
    assert (glance.taken, set(glance.winners)) == (3, {b"alice", b"bob"})
    assert await ask(stock, sale, "alice") is Admission.LIMIT_REACHED
    assert (await stock.claim(sale.sale_id, [ClaimAsk(claims[1].claim_id, "bob", 1)])).answers == [Admission.REPLAY]


async def test_every_key_of_a_sale_ends_some_time_after_it(stock: Stock, redis: AnyRedis) -> None:
    sale = a_sale(protection=Protection(claims_per_minute_per_shopper=60, cool_down_seconds=60))
    await stock.load(sale, 1)
    await ask(stock, sale, "alice")
    await stock.cool_down(sale.sale_id, {"bob": now() + timedelta(minutes=1)}, sale.closes_at)
    keys = await redis.keys(f"flash_sale:{{{sale.sale_id}}}:*")
    assert len(keys) == 6
    for key in keys:
        assert await redis.pttl(key) > 0, key


async def test_attempts_have_a_pace_for_each_shopper_and_address(stock: Stock) -> None:
    sale = a_sale(protection=Protection(claims_per_minute_per_shopper=8, claims_per_minute_per_address=12))
    await stock.load(sale, 1)
    got = [await ask(stock, sale, "alice", address="10.0.0.1") for _ in range(3)]
    assert got == [Admission.WON, Admission.LIMIT_REACHED, Admission.TOO_MANY]
    assert await ask(stock, sale, "bob", address="10.0.0.1") is Admission.WON
    assert await ask(stock, sale, "carol", address="10.0.0.1") is Admission.TOO_MANY
    assert await ask(stock, sale, "carol", address="10.0.0.2") is Admission.WON


async def test_a_redis_that_is_gone_is_unavailable() -> None:
    nowhere = Stock(connect_redis("redis://127.0.0.1:1/0", max_connections=1, answer_seconds=0.2))
    with pytest.raises(Unavailable):
        await nowhere.glance(new_id(now()), 0)


states = st.sampled_from(["published", "paused", "ended"])
hours = st.sampled_from([-2, -1, 1, 2])


@examples(150)
@given(
    state=states,
    opens_in=hours,
    total=st.integers(1, 4),
    limit=st.integers(1, 3),
    taken=st.integers(0, 4),
    mine=st.integers(0, 3),
    units=st.integers(1, 3),
    invited_only=st.booleans(),
    invited=st.booleans(),
    cooling=st.sampled_from([None, -1, 1]),
    draw=st.booleans(),
)
async def test_the_gate_and_the_model_agree(
    stock: Stock,
    *,
    state: str,
    opens_in: int,
    total: int,
    limit: int,
    taken: int,
    mine: int,
    units: int,
    invited_only: bool,
    invited: bool,
    cooling: int | None,
    draw: bool,
) -> None:
    moment = now()
    mine = min(mine, limit, total)
    taken = max(mine, min(taken, total))
    protection = Protection(
        allow_list_only=invited_only,
        cool_down_seconds=None if cooling is None else 60,
        draw_seconds=3600 if draw else None,
    )
    opens_at = moment + timedelta(hours=opens_in)
    sale = a_sale(
        sale_id=new_id(moment),
        state=state,
        opens_at=opens_at,
        closes_at=opens_at + timedelta(minutes=90),
        units_total=total,
        max_per_shopper=limit,
        taken=taken,
        protection=protection,
    )
    others = [Occupied(child_id(sale.sale_id), f"other-{n}", 1, moment) for n in range(taken - mine)]
    own = [Occupied(child_id(sale.sale_id), "alice", mine, moment)] if mine else []
    if others or own:
        await stock.gather_claims(sale.sale_id, 1, [*others, *own])
    if invited:
        await stock.gather_allowed(sale.sale_id, 1, ["alice"])
    cooling_until = None if cooling is None else moment + timedelta(minutes=cooling)
    if cooling_until is not None:
        await stock.gather_cooling(sale.sale_id, 1, {"alice": cooling_until})
    await stock.load(sale, 1)
    standing = ShopperInSale(units=mine, cooling_until=cooling_until, invited=invited)
    assert await ask(stock, sale, "alice", units) is model.admit(sale, standing, units, moment)
    assert await off_by(stock, sale.sale_id) == 0


async def test_the_gate_never_opens_before_the_ledger_does(stock: Stock, redis: AnyRedis) -> None:
    opens_at = now().replace(microsecond=123_001)
    sale = a_sale(opens_at=opens_at)
    await stock.load(sale, 1)
    opens_ms = int(await redis.hget(f"flash_sale:{{{sale.sale_id}}}:sale", "opens_ms"))  # type: ignore[arg-type]
    assert timedelta(0) <= from_milliseconds(opens_ms) - opens_at < timedelta(milliseconds=1)
