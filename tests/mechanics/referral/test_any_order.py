"""What inviter and invitee have is what a fold of the facts says, whatever the order in which the facts are told."""

import random
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct

from growth.mechanics.referral.model import Caps, FixedRule, PercentRule
from growth.mechanics.referral.settlement import LISTENS_TO, InviteeSettlement
from growth.plumbing.outbox.outbox import Subscription, deliver
from growth.privacy.service import Shoppers
from growth.shop.order.service import ShopService
from growth.vocabulary.clock import now
from growth.vocabulary.rewards import PointsReward
from tests.housed import shoppers_on
from tests.kit.invariants import violations
from tests.mechanics.referral.conftest import PRICE_FEN, ZONE, Room, an_act, milestones, paid, refunded
from tests.shop.order import telling
from tests.shop.order.telling import JSON

pytestmark = pytest.mark.anyio

STORIES = 150
FIXED_FEN = 1_000
OLD, LATE, EARLY = timedelta(days=3), timedelta(), timedelta(days=40)
"""Before now: when the old order was paid, when goods were received as told first, and as corrected."""

FACTS = ("old", "old back", "a", "a received", "a received early", "a back", "b", "b received", "long ago", "merge")


class Told(Struct):
    """One invitee, whose order b is that of a guest; and what was told of both."""

    number: int
    facts: list[str]

    @property
    def user(self) -> str:
        return f"bob{self.number}"

    @property
    def guest(self) -> str:
        return f"guest{self.number}"

    @property
    def inviter(self) -> str:
        return f"ann{self.number}"

    def first(self) -> str | None:
        """The first order by the facts alone."""
        is_old = "old" in self.facts and "old back" not in self.facts
        if is_old or "long ago" in self.facts:
            return None
        kept = [
            name
            for name in ("a", "b")
            if name in self.facts and f"{name} back" not in self.facts and (name == "a" or "merge" in self.facts)
        ]
        return kept[0] if kept else None

    def months(self, moment: datetime) -> list[datetime]:
        """When the first order was received, as told last; at most one."""
        first = self.first()
        if f"{first} received early" in self.facts:
            return [moment - EARLY]
        return [moment] if f"{first} received" in self.facts else []

    def event(self, fact: str, moment: datetime) -> JSON:
        name, _, what = fact.partition(" ")
        order = f"{name}{self.number}"
        owner = self.guest if name == "b" else self.user
        if fact == "long ago":
            told = {"user_id": self.user, "registered_at": (moment - timedelta(days=400)).isoformat()}
            return telling.event("shopper.registered", told, id_=f"registered:{self.user}", time=moment.isoformat())
        if what.startswith("received"):
            at = moment - (EARLY if what.endswith("early") else LATE)
            return telling.event(
                "order.received", {"order_id": order}, id_=f"{what.replace(' ', ':')}:{order}", time=at.isoformat()
            )
        if what == "back":
            return refunded(order)
        # Within what clocks may differ: a was paid before b.
        before = {"old": OLD, "a": timedelta(seconds=20), "b": timedelta(seconds=10)}[name]
        return paid(owner, order, at=moment - before)


class Person(Struct):
    """The room with money beside it, and with what is heard of registrations and merges."""

    room: Room
    shoppers: Shoppers
    again: InviteeSettlement

    async def tells(self, *events: JSON) -> None:
        await self.room.tells(*events)
        while await deliver(self.room.database, Subscription("referral.again", LISTENS_TO, self.again.hear)):
            pass

    async def tell(self, story: Told, moment: datetime) -> None:
        for fact in story.facts:
            if fact == "merge":
                await self.shoppers.merge(an_act(), story.guest, story.user)
            else:
                await self.tells(story.event(fact, moment))

    async def earned(self, inviter: str) -> int:
        return int(
            await self.room.database.fetchval(
                "SELECT coalesce(sum(amount_fen), 0) FROM referral.commissions WHERE inviter_id = $1", inviter
            )
        )

    async def months(self, inviter: str) -> list[datetime]:
        rows = await self.room.database.fetch(
            "SELECT month FROM referral.inviter_months WHERE inviter_id = $1 AND people > 0", inviter
        )
        return [row["month"] for row in rows]


@pytest.fixture
async def person(room: Room) -> Person:
    room.shop = ShopService(room.database, [InviteeSettlement(ZoneInfo(ZONE))], [telling.SECRET])
    again = InviteeSettlement(ZoneInfo(ZONE))
    return Person(room, shoppers_on(room.database), again)


def stories(count: int) -> list[Told]:
    """So many, of any facts, in any order."""
    chance = random.Random(17)
    found = []
    for number in range(count):
        facts = chance.sample(FACTS, k=chance.randint(3, len(FACTS)))
        if chance.random() < 1 / 2:
            facts = [fact for fact in facts if fact != "long ago"]
        found.append(Told(number, facts))
    return found


async def test_any_facts_in_any_order_of_arrival_end_in_what_the_facts_say(person: Person) -> None:
    room = person.room
    await room.program(
        level_1=FixedRule(amount_fen=FIXED_FEN),
        inviter_rewards=[PointsReward(points=10)],
        milestones=milestones(at_1=5),
    )
    async with room.database.transaction() as tx:
        await tx.execute("UPDATE referral.terms SET from_at = from_at - interval '1 hour'")
    for story in stories(STORIES):
        moment = now()
        await room.binds(story.user, story.inviter)
        await person.tell(story, moment)
        first, months = story.first(), story.months(moment)
        assert (
            await person.earned(story.inviter),
            await room.points(story.inviter),
            await room.points(story.user),
            await room.totals(story.inviter),
            await person.months(story.inviter),
        ) == (
            FIXED_FEN if first else 0,
            15 if months else 0,
            10 if months else 0,
            (int(not first), int(bool(first) and not months), int(bool(months))),
            [at.astimezone(ZoneInfo(ZONE)).date().replace(day=1) for at in months],
        ), story.facts
    assert not await violations(room.database)


async def test_an_order_of_before_the_binding_told_late_takes_back_what_the_first_order_gave(person: Person) -> None:
    room = person.room
    await room.program(level_1=FixedRule(amount_fen=FIXED_FEN))
    await room.binds("bob", "ann")
    await room.buys("bob", "new")
    assert (await room.points("ann"), await person.earned("ann")) == (10, FIXED_FEN)
    await room.tells(paid("bob", "old", at=now() - OLD))
    assert (await room.points("ann"), await room.points("bob"), await person.earned("ann")) == (0, 0, 0)
    assert [event["order_id"] for event in await room.events("invitee_lost")] == ["new"]
    await room.refunds("old")
    assert (await room.points("ann"), await room.points("bob"), await person.earned("ann")) == (10, 10, FIXED_FEN)


async def test_when_the_first_order_is_paid_back_the_next_one_that_was_kept_is_the_first_at_once(
    person: Person,
) -> None:
    room = person.room
    await room.program(milestones=milestones(at_1=100))
    await room.binds("bob", "ann")
    await room.buys("bob", "a")
    await room.buys("bob", "b")
    await room.refunds("a")
    assert (await room.points("ann"), await room.points("bob"), await room.totals("ann")) == (110, 10, (0, 0, 1))
    # The inviter had a valid invitee all the time.
    assert not await room.events("milestone_lost")


async def test_who_registered_long_before_the_binding_earns_nobody_a_first_order(person: Person) -> None:
    room = person.room
    await room.program(attribution_days=7, level_1=FixedRule(amount_fen=FIXED_FEN))
    await room.binds("bob", "ann")
    await room.buys("bob")
    story = Told(0, [])
    told = story.event("long ago", now())
    told["data"]["user_id"] = "bob"
    await person.tells(told)
    assert (await room.points("ann"), await room.points("bob"), await person.earned("ann")) == (0, 0, 0)
    assert await room.totals("ann") == (1, 0, 0)


async def test_a_shopper_whom_an_operator_binds_may_have_registered_long_ago(person: Person) -> None:
    room = person.room
    await room.program(attribution_days=7)
    told = Told(0, []).event("long ago", now())
    await person.tells(told)
    await room.corrections.rebind(an_act(), "bob0", "ann", "other", None, b"")
    await room.buys("bob0")
    assert await room.points("ann") == 10


async def test_an_order_of_a_guest_earns_for_the_inviter_of_whom_the_guest_turns_out_to_be(person: Person) -> None:
    room = person.room
    await room.program(level_1=PercentRule(basis_points=1_000))
    await room.binds("bob", "ann")
    await room.buys("guest", "o1")
    assert (await room.points("ann"), await person.earned("ann")) == (0, 0)
    await person.shoppers.merge(an_act(), "guest", "bob")
    assert (await room.points("ann"), await person.earned("ann")) == (10, PRICE_FEN // 10)


@pytest.mark.one_day
async def test_a_receipt_told_earlier_takes_its_place_under_the_cap_of_that_day(person: Person) -> None:
    room = person.room
    await room.program(caps=Caps(invitees_per_day=1))
    moment = now()
    at = {"x": moment, "y": moment - timedelta(days=1), "z": moment}

    async def receives(user: str, time: datetime) -> None:
        await room.tells(
            telling.event("order.received", {"order_id": user}, id_=f"{user}:{time.date()}", time=time.isoformat())
        )

    for user, time in at.items():
        await room.binds(user, "ann")
        await room.pays(user, user)
        await receives(user, time)
    # z found the day full.
    assert await room.points("ann") == 20
    await receives("z", moment - timedelta(days=2))
    assert await room.points("ann") == 30
    # x finds the day of y full; what x got as an invitee stays.
    await receives("x", moment - timedelta(days=1))
    assert await room.points("ann") == 20
    assert [await room.points(user) for user in at] == [10, 10, 10]
    assert await room.totals("ann") == (0, 0, 3)
    # And on another day there is room again.
    await receives("x", moment - timedelta(days=3))
    assert await room.points("ann") == 30
