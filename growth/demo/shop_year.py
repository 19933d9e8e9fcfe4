"""A shop's time, made up: who comes when, and what they do. Seeded; of any size, and as fast as rows can be written.

What it has of real shops: a weekly and a daily rhythm, growth, campaigns that bring many at once (most of whom do not
stay), sources of different worth, cohorts that decay as a power of their age, people of habit who check in, and
bots, which do much on one day and never come back. What it has not: the mechanics do nothing. Who likes to play also
likes to come back, and that alone makes the groups of `/admin/v1/retention/effects` differ.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from math import log
from random import Random

from msgspec import Struct

from growth.listeners.retention.model import KINDS
from growth.listeners.retention.sighting import Sighting
from growth.vocabulary.facts import FunnelStage

WEEK = (0.86, 0.84, 1.02, 0.93, 1.08, 1.25, 1.2)
"""How busy Monday to Sunday are; on Wednesday there are flash sales."""
DAY = (2, 1, 1, 1, 1, 2, 4, 8, 10, 9, 8, 9, 13, 11, 8, 8, 8, 9, 12, 15, 20, 17, 11, 5)
"""How busy the hours are."""
SOURCES = (("wechat", 0.42, 1.0), ("friend", 0.2, 1.3), ("search", 0.16, 1.1), ("poster", 0.12, 0.8), ("", 0.1, 0.9))
"""Name, share of newcomers, and how well they stay."""
CAMPAIGN_EVERY_DAYS, CAMPAIGN_DAYS, CAMPAIGN_LIFT, CAMPAIGN_STAY = 47, 4, 2.6, 0.45
RETURN, DECAY = 0.55, 0.6
"""On day n of their lives, about RETURN / n ** DECAY of newcomers are there."""
BOTS = 0.02
BOT_ACTS = 60
MAX_ACTS = 6
HABIT = 0.22
"""Of newcomers are people of habit: they check in, and come far more often."""
HABIT_STAY, OTHERS_STAY = 1.9, 0.75
GROWTH_A_YEAR = 1.6
WEDNESDAY = 2

_BIT = {name: 1 << bit for bit, name in enumerate(KINDS) if name}


class YearPlan(Struct, frozen=True, kw_only=True):
    """Which shop."""

    shoppers: int
    days: int
    last_day: date
    zone: tzinfo
    seed: int = 1
    prefix: str = "demo-"
    """Of shoppers' ids."""

    @property
    def first_day(self) -> date:
        """The day of the opening."""
        return self.last_day - timedelta(days=self.days - 1)


class Life(Struct, frozen=True):
    """One shopper."""

    number: int
    user_id: str
    source: str
    inviter: str | None
    is_bot: bool
    days: list[tuple[int, int]]
    """Days since the opening, each with its kinds (see the model of retention)."""


def lives(plan: YearPlan) -> Iterator[Life]:
    """Yield every shopper, by the day of the first visit."""
    dice = Random(plan.seed)
    weights = [_weight(plan, day) for day in range(plan.days)]
    left, total, number = plan.shoppers, sum(weights), 0
    for day, weight in enumerate(weights):
        count = round(left * weight / total) if day < plan.days - 1 else left
        left, total = left - count, total - weight
        is_campaign = _is_campaign(plan, day)
        for _ in range(count):
            yield _life(plan, dice, number, day, is_from_campaign=is_campaign and dice.random() < 1 - 1 / CAMPAIGN_LIFT)
            number += 1


def sightings(plan: YearPlan) -> Iterator[Sighting]:
    """Yield what everybody does, in the order of time."""
    dice = Random(plan.seed + 1)
    by_day: list[list[tuple[Life, int, bool]]] = [[] for _ in range(plan.days)]
    for life in lives(plan):
        for place, (day, kinds) in enumerate(life.days):
            by_day[day].append((life, kinds, place == 0))
    for day, present in enumerate(by_day):
        midnight = datetime.combine(plan.first_day + timedelta(days=day), time(), plan.zone)
        acts = [
            act for life, kinds, is_first in present for act in _acts(dice, life, kinds, midnight, is_first=is_first)
        ]
        acts.sort(key=lambda act: act.at)
        yield from acts


def _is_campaign(plan: YearPlan, day: int) -> bool:
    # From the end on: the newest is always to be seen, and ripe.
    return (plan.days - day + CAMPAIGN_EVERY_DAYS // 2) % CAMPAIGN_EVERY_DAYS < CAMPAIGN_DAYS


def _weight(plan: YearPlan, day: int) -> float:
    rhythm = WEEK[(plan.first_day.weekday() + day) % len(WEEK)]
    lift = CAMPAIGN_LIFT if _is_campaign(plan, day) else 1.0
    return float(rhythm * lift * GROWTH_A_YEAR ** (day / 365))


def _life(plan: YearPlan, dice: Random, number: int, first: int, *, is_from_campaign: bool) -> Life:
    user_id = f"{plan.prefix}{number:07d}"
    if dice.random() < BOTS:
        return Life(number, user_id, "", None, True, [(first, _BIT["app"] | _BIT["product"])])
    source, stay = "campaign", CAMPAIGN_STAY
    if not is_from_campaign:
        ((source, _, stay),) = dice.choices(SOURCES, [share for _, share, _ in SOURCES])
    # Those who bring others are mostly those who came long ago.
    inviter = f"{plan.prefix}{int(number * dice.random() ** 2):07d}" if source == "friend" and number else None
    has_habit = dice.random() < HABIT
    stay *= HABIT_STAY if has_habit else OTHERS_STAY
    days = [(first, _kinds(plan, dice, first, has_habit=has_habit, is_invited=inviter is not None, is_first=True))]
    # Visits are a Poisson process whose rate falls with age: the next one is where its sum has grown by an exponential.
    scale, power, spent, age = RETURN * stay / (1 - DECAY), 1 / (1 - DECAY), 0.0, 0
    while True:
        spent -= log(1.0 - dice.random())
        then = int((1 + spent / scale) ** power)
        if first + then >= plan.days:
            return Life(number, user_id, source, inviter, False, days)
        day = first + then
        if then > age and dice.random() < WEEK[(plan.first_day.weekday() + day) % len(WEEK)]:
            age = then
            days.append((day, _kinds(plan, dice, day, has_habit=has_habit)))


def _kinds(
    plan: YearPlan, dice: Random, day: int, *, has_habit: bool, is_invited: bool = False, is_first: bool = False
) -> int:
    kinds, luck = _BIT["app"], dice.random()
    if is_first:
        kinds |= _BIT["registration"]
    if is_invited and luck < 0.65:  # noqa: PLR2004 - a story with numbers in it
        kinds |= _BIT["referral"]
    if has_habit and luck < 0.8:  # noqa: PLR2004 - a story with numbers in it
        kinds |= _BIT["checkin"]
    if luck < 0.55:  # noqa: PLR2004 - as above
        kinds |= _BIT["product"]
    if (plan.first_day.weekday() + day) % 7 == WEDNESDAY and 0.2 < luck < 0.5:  # noqa: PLR2004 - as above
        kinds |= _BIT["flash_sale"]
    if 0.3 < luck < 0.36:  # noqa: PLR2004 - as above
        kinds |= _BIT["group_buy"]
    if 0.1 < luck < 0.2:  # noqa: PLR2004 - as above
        kinds |= _BIT["order"]
    if luck > 0.93:  # noqa: PLR2004 - as above
        kinds |= _BIT["task"]
    return kinds


def _acts(  # noqa: C901 - a story
    dice: Random, life: Life, kinds: int, midnight: datetime, *, is_first: bool
) -> Iterator[Sighting]:
    """Yield what one shopper does on one day."""
    start = dice.choices(range(24), DAY)[0] * 3600 + dice.randrange(3600)
    seconds = iter(range(start, 86_400, dice.randrange(5, 90)))

    def act(kind: str, step: FunnelStage | None = None, **more: str | None) -> Sighting:
        moment = midnight + timedelta(seconds=next(seconds, 86_399))
        return Sighting(user_id=life.user_id, at=moment.astimezone(UTC), kind=KINDS.index(kind), step=step, **more)

    if is_first:
        yield act("registration", source=life.source)
    yield act("app", FunnelStage.INVITED if is_first and life.inviter else None)
    if life.inviter and kinds & _BIT["referral"]:
        yield act("referral", inviter=life.inviter)
    if kinds & _BIT["product"]:
        for _ in range(BOT_ACTS if life.is_bot else dice.randrange(1, MAX_ACTS)):
            yield act("product", FunnelStage.VIEWED)
    for mechanic in ("flash_sale", "group_buy"):
        if kinds & _BIT[mechanic]:
            yield act(mechanic, FunnelStage.CLAIMED)
            if dice.random() < 0.7:  # noqa: PLR2004 - a story with numbers in it
                yield act(mechanic, FunnelStage.PAID)
    for kind in ("checkin", "task"):
        if kinds & _BIT[kind]:
            yield act(kind)
    if kinds & _BIT["order"]:
        yield act("order", FunnelStage.BOUGHT)
