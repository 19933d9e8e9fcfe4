"""The made-up shop has what it is said to have, and is the same for the same seed."""

from collections import Counter
from datetime import date
from zoneinfo import ZoneInfo

from growth.demo.shop_year import CAMPAIGN_STAY, Life, YearPlan, lives, sightings

PLAN = YearPlan(shoppers=4_000, days=200, last_day=date(2026, 11, 21), zone=ZoneInfo("Asia/Shanghai"))


def came_back(some: list[Life], n: int) -> float:
    old = [life for life in some if life.days[0][0] + n < PLAN.days]
    return sum(any(day == life.days[0][0] + n for day, _ in life.days) for life in old) / len(old)


def test_the_same_seed_makes_the_same_shop() -> None:
    small = YearPlan(shoppers=50, days=30, last_day=PLAN.last_day, zone=PLAN.zone)
    assert list(sightings(small)) == list(sightings(small))
    assert list(lives(small)) != list(
        lives(YearPlan(shoppers=50, days=30, last_day=PLAN.last_day, zone=PLAN.zone, seed=2))
    )


def test_there_are_as_many_shoppers_as_asked_for_and_nobody_comes_before_the_opening_or_after_the_end() -> None:
    made = list(lives(PLAN))
    assert len(made) == len({life.user_id for life in made}) == PLAN.shoppers
    days = [day for life in made for day, _ in life.days]
    assert (min(days), max(days)) == (0, PLAN.days - 1)
    assert all(life.inviter is None or life.inviter < life.user_id for life in made)


def test_cohorts_decay_and_those_of_campaigns_decay_faster() -> None:
    made = [life for life in lives(PLAN) if not life.is_bot]
    rates = [came_back(made, n) for n in (0, 1, 7, 30)]
    assert rates == sorted(rates, reverse=True)
    assert 0.2 < rates[1] < 0.5
    campaign = [life for life in made if life.source == "campaign"]
    wechat = [life for life in made if life.source == "wechat"]
    assert came_back(campaign, 7) < came_back(wechat, 7) * (CAMPAIGN_STAY + 0.25)


def test_weeks_and_days_have_a_rhythm_and_campaigns_bring_many() -> None:
    new = Counter(life.days[0][0] for life in lives(PLAN))
    weekday = Counter((PLAN.first_day.weekday() + life.days[0][0]) % 7 for life in lives(PLAN))
    assert weekday[5] > weekday[0] * 1.2
    assert max(new.values()) > 2 * sorted(new.values())[len(new) // 2]
    small = YearPlan(shoppers=300, days=20, last_day=PLAN.last_day, zone=PLAN.zone)
    hours = Counter(one.at.astimezone(PLAN.zone).hour for one in sightings(small))
    assert hours[20] > 4 * hours[3]


def test_bots_do_much_on_one_day_and_never_return() -> None:
    bots = [life for life in lives(PLAN) if life.is_bot]
    assert 0.01 < len(bots) / PLAN.shoppers < 0.04
    assert all(len(life.days) == 1 for life in bots)
    small = YearPlan(shoppers=300, days=20, last_day=PLAN.last_day, zone=PLAN.zone)
    acts = Counter(one.user_id for one in sightings(small))
    (bot, *_) = [life.user_id for life in lives(small) if life.is_bot]
    assert acts[bot] > 50
