"""Negative controls: each guard is taken away once, and something breaks that held with it."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from growth.kit.campaign import store as campaigns
from growth.plumbing.postgres.database import Tx
from growth.rewards.coupon.code import model as codes
from growth.rewards.coupon.code import store as codes_store
from growth.rewards.coupon.code.model import CodeBatch
from growth.rewards.coupon.model import Coupon
from growth.rewards.coupon.payment import store as payment
from growth.rewards.coupon.store import coupons as store
from growth.rewards.coupon.store import expiry as ending
from growth.rewards.coupon.store.coupons import Row
from growth.rewards.coupon.take import store as takes
from growth.rewards.coupon.template.model import TEMPLATES, CouponTemplate, term_of
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from tests.kit.invariants import violations
from tests.rewards.coupon.conftest import INVARIANTS, Room, a_draft, an_issue, line, paid, placed

pytestmark = pytest.mark.anyio

QUOTA = "No template has given more than it has, kept units for printed codes included"
ISSUED = "What a template says is issued is how many coupons it has"
NO_COUPON = "Who took something of a template has a coupon of it"
TAKINGS = "What a shopper took of a template is what the shopper has of it, grants aside"
CODES = "A batch counts the codes that were redeemed, and each of them has its coupon"


class Without:
    """A transaction whose statements have lost one guard."""

    def __init__(self, tx: Tx, guard: str, instead: str = "TRUE") -> None:
        self._tx = tx
        self._guard = guard
        self._instead = instead
        self.found = not guard

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._tx, name)

        def run(query: str, *args: object) -> Awaitable[Any]:
            if self._guard:
                self.found = self.found or self._guard in query
                query = query.replace(self._guard, self._instead)
            return call(query, *args)  # type: ignore[no-any-return]

        return run


class Undone(Exception):
    """What the test wrote is not kept."""


async def anyway(
    room: Room, guard: str, write: Callable[[Any], Awaitable[Any]], instead: str = "TRUE"
) -> tuple[Any, list[str]]:
    """Write with one guard gone ("": none); return what the statement said, and which invariants break. Undone."""
    said: Any = None
    broken: list[str] = []
    try:
        async with room.database.transaction() as tx:
            without = Without(tx, guard, instead)
            said = await write(without)
            assert without.found, "the guard is no longer written like this"
            if said:
                broken = [violation.name for violation in await violations(tx, INVARIANTS)]
            raise Undone  # noqa: TRY301
    except Undone:
        return said, broken


def row(template: CouponTemplate, user_id: str = "ann", coupon_id: str | None = None) -> Row:
    return store.row_of(an_issue(template, user_id, coupon_id), 0, term_of(template, now()))


def take(room: Room, *rows: Row) -> Callable[[Any], Awaitable[bool]]:
    """Take without having looked."""
    moment = now()
    return lambda tx: takes.take(tx, rows, moment, room.takes.day_of(moment))


async def test_without_the_guard_on_the_quota_only_the_check_of_the_table_is_left(room: Room) -> None:
    template = await room.template(claimable=True, units_total=1)
    # Granted, or else the quota of the day would say no as well.
    await room.grants(template, "bob")
    write = take(room, row(template))
    assert await anyway(room, "", write) == (False, [])
    with pytest.raises(asyncpg.CheckViolationError):
        await anyway(room, "template.issued + template.codes_left + more.units <= template.units_total", write)


async def test_without_the_shoppers_limit_one_has_more_than_are_allowed(room: Room) -> None:
    template = await room.template(claimable=True, max_per_shopper=1)
    await room.takes_one(template)
    write = take(room, row(template))
    assert await anyway(room, "", write) == (False, [])
    guard = "taking.taken + EXCLUDED.taken <= (\n                SELECT max_per_shopper"
    more = "taking.taken + EXCLUDED.taken <= (\n                SELECT 2 * max_per_shopper"
    # The day's limit is the other's, where it has none of its own.
    await room.database.fetchval("UPDATE coupon.takings SET day = day - 1")
    assert await anyway(room, "", write) == (False, [])
    assert (await anyway(room, guard, write, more))[0] is True


@pytest.mark.one_day
async def test_without_the_shoppers_limit_of_the_day_one_has_more_than_are_allowed_today(room: Room) -> None:
    template = await room.template(claimable=True, max_per_shopper=5, max_per_shopper_per_day=1)
    await room.takes_one(template)
    write = take(room, row(template))
    assert await anyway(room, "", write) == (False, [])
    guard = "SELECT coalesce(max_per_shopper_per_day, max_per_shopper)"
    assert (await anyway(room, guard, write, "SELECT max_per_shopper"))[0] is True


@pytest.mark.one_day
async def test_without_the_quota_of_the_day_more_are_taken_today(room: Room) -> None:
    template = await room.template(claimable=True, units_per_day=1)
    await room.takes_one(template, "bob")
    write = take(room, row(template))
    assert await anyway(room, "", write) == (False, [])
    guard = "coalesce(template.units_per_day, template.units_total)"
    assert (await anyway(room, guard, write, "template.units_total"))[0] is True


@pytest.mark.parametrize(
    ("change", "guard"),
    [
        ("state = 'paused'", "template.state = 'published'"),
        ("claimable = FALSE", "template.claimable"),
        ("opens_at = now() + interval '1 day'", "(template.opens_at IS NULL OR template.opens_at <= $2)"),
        ("closes_at = now() - interval '1 day'", "(template.closes_at IS NULL OR template.closes_at > $2)"),
    ],
)
async def test_without_the_guards_on_the_template_coupons_are_taken_of_a_closed_one(
    room: Room, change: str, guard: str
) -> None:
    template = await room.template(claimable=True)
    write = take(room, row(template))
    await room.database.fetchval(f"UPDATE coupon.templates SET {change}")
    assert await anyway(room, "", write) == (False, [])
    assert (await anyway(room, guard, write))[0] is True


async def test_without_the_primary_key_a_coupon_that_is_there_would_be_counted_twice(room: Room) -> None:
    template = await room.template(claimable=True, max_per_shopper=5)
    taken = await room.takes_one(template)
    write = take(room, row(template, coupon_id=taken.coupon.coupon_id))
    assert await anyway(room, "", write) == (False, [])
    # The statement says that it is not complete; who does not listen breaks the books.
    said, broken = await anyway(room, "(SELECT count(*) FROM issued) = (SELECT count(*) FROM asked)", write)
    assert said is True
    assert {ISSUED, TAKINGS} <= set(broken)


async def test_without_the_turn_a_batch_of_grants_gets_more_than_is_left(room: Room) -> None:
    template = await room.template(units_total=2)
    rows = [store.row_of(an_issue(template), place, term_of(template, now())) for place in range(3)]

    async def write(tx: Any) -> list[str]:
        return sorted((await store.issue(tx, rows, "granted", now())).values())

    assert (await anyway(room, "", write))[0] == ["gone", "issued", "issued"]
    guard = "wanted.turn <= template.units_total - template.issued - template.codes_left"
    with pytest.raises(AssertionError):
        await anyway(room, guard, write)
    both = (
        "template.issued + template.codes_left + more.units <= template.units_total",
        "wanted.turn <= template.units_total - template.issued - template.codes_left",
    )

    async def write_blindly(tx: Any) -> Any:
        return await write(Without(tx, both[0]))

    with pytest.raises(asyncpg.CheckViolationError):
        await anyway(room, both[1], write_blindly)


async def test_without_the_state_a_grant_raises_a_template_that_has_ended(room: Room) -> None:
    template = await room.template()
    await room.database.fetchval("UPDATE coupon.templates SET state = 'ended'")

    async def write(tx: Any) -> Any:
        return await store.issue(tx, [row(template)], "granted", now())

    with pytest.raises(AssertionError):
        await anyway(room, "", write)
    assert (await anyway(room, "template.state = 'published'", write))[0]


async def held_by(room: Room, order_id: str) -> Coupon:
    coupon = await room.grants(await room.template())
    await room.tells(placed(order_id, line(coupon)))
    return coupon


async def test_without_the_state_another_order_takes_a_used_coupon_away(room: Room) -> None:
    coupon = await held_by(room, "o1")
    await room.tells(paid("o1", line(coupon)))

    async def lock(tx: Any) -> bool:
        return await payment.lock(tx, coupon.coupon_id, "o2", "ann", now(), now())

    async def use(tx: Any) -> bool:
        return await payment.use(tx, coupon.coupon_id, "o2", "ann", 1, now())

    assert await anyway(room, "", lock) == (False, [])
    assert await anyway(room, "", use) == (False, [])
    with pytest.raises(asyncpg.CheckViolationError):
        # A used coupon has a time of use.
        await anyway(room, "state IN ('issued', 'expired')", lock)
    guard = "(state = 'locked' AND order_id = $2 OR state IN ('issued', 'locked', 'expired') AND user_id = $3)"
    assert (await anyway(room, guard, use, "$3 = $3"))[0] is True


async def test_without_the_shopper_a_stranger_uses_a_coupon(room: Room) -> None:
    coupon = await room.grants(await room.template())

    async def lock(tx: Any) -> bool:
        return await payment.lock(tx, coupon.coupon_id, "o2", "eve", now(), now())

    assert await anyway(room, "", lock) == (False, [])
    assert (await anyway(room, "user_id = $3", lock, "$3 = $3"))[0] is True


async def test_without_the_order_one_gives_back_what_another_has(room: Room) -> None:
    coupon = await held_by(room, "o1")

    async def give_back(tx: Any) -> str | None:
        return await payment.give_back(tx, coupon.coupon_id, "o2", now())

    assert await anyway(room, "", give_back) == (None, [])
    assert (await anyway(room, "order_id = $2\n", give_back, "$2 = $2\n"))[0] == "issued"


async def test_without_the_state_a_used_coupon_expires_or_is_voided(room: Room) -> None:
    coupon = await held_by(room, "o1")
    await room.over(coupon)

    async def expire(tx: Any) -> int:
        return len(await ending.expire(tx, now(), 10))

    async def void(tx: Any) -> Any:
        return await store.void(tx, [coupon.coupon_id], now())

    assert await anyway(room, "", expire) == (0, [])
    with pytest.raises(asyncpg.CheckViolationError):
        await anyway(room, "state = 'issued'", expire, "state IS NOT NULL")
    assert (await anyway(room, "", void))[1] == []
    with pytest.raises(asyncpg.CheckViolationError):
        await anyway(room, "CASE state WHEN 'issued' THEN 'voided' ELSE state END", void, "'voided'")


async def redeemable(room: Room) -> tuple[CouponTemplate, CodeBatch, bytes]:
    template = await room.template(units_total=5)
    made = await room.make(template)
    return template, made.batch, codes.hash_of(made.codes[0].replace("-", ""))


async def test_without_its_guard_a_code_is_redeemed_twice(room: Room) -> None:
    template, _, code_hash = await redeemable(room)
    await room.make(template)

    async def redeem(tx: Any) -> bool:
        moment = now()
        wish = row(template, "bob")
        return await codes_store.redeem(tx, code_hash, wish, moment, room.takes.day_of(moment))

    async with room.database.transaction() as tx:
        assert await redeem(tx)
    assert await anyway(room, "", redeem) == (False, [])
    await room.database.fetchval("UPDATE coupon.templates SET max_per_shopper = 9")
    with pytest.raises(asyncpg.CheckViolationError):
        # The batch counts no more codes than it has.
        await anyway(room, "code.coupon_id IS NULL", redeem)


async def test_without_its_guard_a_revoked_code_is_redeemed(room: Room) -> None:
    template, batch, code_hash = await redeemable(room)
    await room.make(template)
    async with room.database.transaction() as tx:
        await codes_store.revoke_batch(tx, batch.batch_id, now())

    async def redeem(tx: Any) -> bool:
        moment = now()
        return await codes_store.redeem(tx, code_hash, row(template), moment, room.takes.day_of(moment))

    assert await anyway(room, "", redeem) == (False, [])
    said, broken = await anyway(room, "batch.revoked_at IS NULL", redeem)
    assert said is True
    assert broken == ["What a template keeps for printed codes is how many can still be redeemed"]


async def test_without_its_guard_a_batch_is_revoked_twice(room: Room) -> None:
    _, batch, _ = await redeemable(room)
    async with room.database.transaction() as tx:
        await codes_store.revoke_batch(tx, batch.batch_id, now())

    async def revoke(tx: Any) -> Any:
        return await codes_store.revoke_batch(tx, batch.batch_id, now())

    assert await anyway(room, "", revoke) == (None, [])
    with pytest.raises(asyncpg.CheckViolationError):
        await anyway(room, "revoked_at IS NULL", revoke)


async def test_without_its_guard_an_edit_changes_what_was_promised(room: Room) -> None:
    template = await room.template()
    await room.grants(template)

    async def change(tx: Any) -> CouponTemplate | None:
        return await campaigns.change(
            tx, TEMPLATES, template.template_id, template.version, a_draft(threshold_fen=99_00)
        )

    kept, _ = await anyway(room, "", change)
    assert kept.threshold_fen == 0
    guard = "CASE WHEN campaign.state = 'draft' THEN told.threshold_fen ELSE campaign.threshold_fen END"
    changed, _ = await anyway(room, guard, change, "told.threshold_fen")
    assert changed.threshold_fen == 99_00


OWED_ONCE = """ON CONFLICT (order_id, line_id) DO UPDATE
        SET reason = excluded.reason, coupon_id = excluded.coupon_id, amount_fen = excluded.amount_fen
        WHERE known.reason <> excluded.reason"""


async def test_without_its_key_a_line_is_owed_back_twice(room: Room) -> None:
    coupon = await room.grants(await room.template())

    async def owe(tx: Any) -> bool:
        return await payment.require_refund(tx, "o1", "1", coupon.coupon_id, "coupon.voided", 100, now())

    async with room.database.transaction() as tx:
        assert await owe(tx)
    assert await anyway(room, "", owe) == (False, [])
    with pytest.raises(asyncpg.UniqueViolationError):
        await anyway(room, OWED_ONCE, owe, "")


async def test_a_batch_counts_its_codes(room: Room) -> None:
    """The invariants themselves: each sees what it is there for."""
    template, _, code_hash = await redeemable(room)
    other = await room.grants(template)
    for sql, sentence in (
        ("UPDATE coupon.code_batches SET redeemed = 1", CODES),
        ("UPDATE coupon.templates SET issued = 3", ISSUED),
        ("DELETE FROM coupon.coupons", ISSUED),
        (
            f"INSERT INTO coupon.takings VALUES ('{template.template_id}', 'ann', 1, now(), 1)",
            NO_COUPON,
        ),
    ):

        async def write(tx: Any, sql: str = sql) -> bool:
            await tx.execute(sql)
            return True

        assert sentence in (await anyway(room, "", write))[1]
    assert QUOTA not in (await anyway(room, "", _true))[1]
    assert len(code_hash) == 32
    assert other.coupon_id != new_id(now())


async def _true(_: Any) -> bool:
    return True
