"""What is known of one shopper, how news changes it, and what it adds to the counters. No I/O.

Days are numbers here: whole days since 1970-01-01 in the merchant's zone.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, tzinfo
from enum import IntEnum
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from growth.vocabulary.facts import FunnelStage

T = TypeVar("T", int, str)

KINDS = (
    "app",
    "product",
    "share",
    "order",
    "registration",
    "shop",
    "",
    "",
    "flash_sale",
    "group_buy",
    "referral",
    "checkin",
    "task",
    "coupon",
)
"""By what a shopper was active: bit n of `active_days.kinds`. Only ever added to, see the bounds below."""
_FIRST_MECHANIC_BIT = 8
MECHANICS = ("", *KINDS[_FIRST_MECHANIC_BIT:])
"""By number, as in `shoppers.mechanic`; 0 is none."""
_MECHANICS_MASK = -1 << _FIRST_MECHANIC_BIT
_REGISTRATION = 1 << KINDS.index("registration")

NO_SOURCE, OTHER_SOURCE, FIRST_SOURCE = 0, 1, 2
"""Numbers of sources: for those of whom none was told, for those whose source has none, and the first that is one."""

MAX_DAY = 365
"""Of a shopper's life: the matrix counts no day after it."""
EARLY_DAYS = 7
"""Who first takes part in a mechanic on day 0 to 6 can be told apart by that."""
MAX_GAP_DAYS = 30
"""The longest window of actives."""
MAX_WITHIN_DAYS = 60
"""A step of a funnel that comes later is not counted."""

# What segments and columns have room for: 31 bits of kinds, four of mechanics and of days of life, 16 of sources. A
# mechanic too many would be counted as another one of another source; `invariants.sql` walks as many as there are.
assert len(KINDS) <= 31  # noqa: PLR2004
assert len(MECHANICS) <= 1 << 4
assert EARLY_DAYS <= 1 << 4

_EPOCH = date(1970, 1, 1).toordinal()


class Family(IntEnum):
    """What the shoppers of one segment share. A shopper is in one segment of each family, and in one a mechanic met."""

    ALL = 0
    SOURCE = 1
    MECHANIC = 2
    """First mechanic, and whether invited."""
    CUBE = 3
    """Source, first mechanic, and whether invited."""
    EARLY = 4
    """A mechanic, and the day of life on which it was first met, up to `EARLY_DAYS`."""


FUNNELS: Mapping[str, tuple[str, str, str]] = {
    "purchase": ("viewed", "claimed", "paid"),
    "invitation": ("invited", "bound", "bought"),
}


def day_of(at: datetime, zone: tzinfo) -> int:
    """Return the day of an instant."""
    return at.astimezone(zone).toordinal() - _EPOCH


def to_date(day: int) -> date:
    """Return a day as the calendar names it."""
    return date.fromordinal(day + _EPOCH)


def from_date(day: date) -> int:
    """Return the number of a day."""
    return day.toordinal() - _EPOCH


def kinds_in(kinds: int) -> list[str]:
    """Return the names of the bits."""
    return [name for bit, name in enumerate(KINDS) if kinds >> bit & 1]


def mechanic_of(kind: int) -> int:
    """Return the number of the mechanic that a kind is; 0 if it is none."""
    return max(0, kind - _FIRST_MECHANIC_BIT + 1)


def segment(family: Family, *, source: int = 0, mechanic: int = 0, tail: int = 0) -> int:
    """Return the number of a segment. `tail`: whether invited, or the day of life of an early meeting."""
    return family << 24 | source << 8 | mechanic << 4 | tail


class ShopperRow(Struct, frozen=True, kw_only=True):
    """The row of one shopper."""

    shopper_id: int
    user_id: str
    first_day: int
    last_day: int
    last_kinds: int
    source: int = 0
    source_at: datetime | None = None
    mechanic: int = 0
    mechanic_at: datetime | None = None
    inviter: str | None = None
    bound_at: datetime | None = None
    viewed_at: datetime | None = None
    claimed_at: datetime | None = None
    paid_at: datetime | None = None
    invited_at: datetime | None = None
    bought_at: datetime | None = None
    segments: list[int] = []


class ShopperFacts(Struct):
    """All that counters need to know of one shopper."""

    shopper: ShopperRow
    days: dict[int, int]
    """Day → kinds."""
    steps: set[tuple[int, datetime]]
    """Claims, payments and orders that may become a step."""


class News(Struct):
    """What one batch tells of one shopper."""

    days: dict[int, int] = {}
    registered: tuple[datetime, int] | None = None
    """When, and from which source."""
    met: tuple[datetime, int] | None = None
    """When which mechanic was met first."""
    bound: tuple[datetime, str] | None = None
    """When and by whom invited."""
    viewed_at: datetime | None = None
    invited_at: datetime | None = None
    steps: set[tuple[int, datetime]] = set()


class Counts:
    """What to add to the counters; what is to be taken away is negative."""

    def __init__(self) -> None:
        self.active: Counter[tuple[int, int, int]] = Counter()
        """By segment, n and cohort day."""
        self.returned: Counter[tuple[int, int, int]] = Counter()
        """Those of them who were active again on a later day."""
        self.returns: Counter[tuple[int, int]] = Counter()
        """By day and gap."""
        self.funnel_steps: Counter[tuple[int, int, int, int]] = Counter()
        """By funnel, step, day of the first step and days after it."""
        self.sources: Counter[int] = Counter()
        """Shoppers by source."""

    def add(self, facts: ShopperFacts, sign: int, zone: tzinfo) -> None:
        """Add all that one shopper contributes, or take it away."""
        shopper = facts.shopper
        first, last = shopper.first_day, shopper.last_day
        self.sources[shopper.source] += sign
        before = None
        for day in sorted(facts.days):
            self.returns[day, MAX_GAP_DAYS if before is None else min(day - before, MAX_GAP_DAYS)] += sign
            before = day
            if day - first <= MAX_DAY:
                for one in shopper.segments:
                    self.active[one, day - first, first] += sign
                    if day < last:
                        self.returned[one, day - first, first] += sign
        for funnel, chain in enumerate(_chains(shopper)):
            self._add_chain(funnel, [None if at is None else day_of(at, zone) for at in chain], sign)

    def _add_chain(self, funnel: int, days: list[int | None], sign: int) -> None:
        start = days[0]
        if start is None:
            return
        for step, day in enumerate(days):
            if day is not None and day - start <= MAX_WITHIN_DAYS:
                self.funnel_steps[funnel, step, start, day - start] += sign

    def append(self, shopper: ShopperRow, day: int) -> None:
        """Add what changes when a shopper is seen on a day after the last, and nothing else changes."""
        first, last = shopper.first_day, shopper.last_day
        self.returns[day, min(day - last, MAX_GAP_DAYS)] += 1
        for one in shopper.segments:
            if last - first <= MAX_DAY:
                self.returned[one, last - first, first] += 1
            if day - first <= MAX_DAY:
                self.active[one, day - first, first] += 1


def _chains(shopper: ShopperRow) -> Iterator[tuple[datetime | None, datetime | None, datetime | None]]:
    """Yield the steps of each funnel, in the order of `FUNNELS`."""
    yield shopper.viewed_at, shopper.claimed_at, shopper.paid_at
    yield shopper.invited_at, shopper.bound_at, shopper.bought_at


def is_known(shopper: ShopperRow, news: News) -> bool:
    """Say whether the news can change nothing but the days: what it tells beside them is known, or comes too late."""
    return (
        news.registered is None
        and _is_no_earlier(news.met and news.met[0], shopper.mechanic_at)
        and _is_no_earlier(news.bound and news.bound[0], shopper.bound_at)
        and _is_no_earlier(news.viewed_at, shopper.viewed_at)
        and _is_no_earlier(news.invited_at, shopper.invited_at)
        and (not news.steps or all(_is_past(shopper, step, at) for step, at in news.steps))
    )


def _is_no_earlier(told: datetime | None, known: datetime | None) -> bool:
    # Of two at the same instant the smaller one wins, so they are looked at.
    return told is None or (known is not None and told > known)


def _is_past(shopper: ShopperRow, step: int, at: datetime) -> bool:
    """Say whether a step was found that no later one can replace: earlier steps only ever move back in time."""
    found = {FunnelStage.CLAIMED: shopper.claimed_at, FunnelStage.PAID: shopper.paid_at}.get(
        FunnelStage(step), shopper.bought_at
    )
    return found is not None and at >= found


def new_day_of(shopper: ShopperRow, news: News) -> tuple[int, int] | None:
    """Return the one day (and its kinds) that follows the last one, or is the last one; None for any other news."""
    if len(news.days) != 1:
        return None
    ((day, kinds),) = news.days.items()
    if day < shopper.last_day:
        return None
    if day - shopper.first_day < EARLY_DAYS and kinds & _MECHANICS_MASK:
        known = 0
        for one in shopper.segments:
            if one >> 24 == Family.EARLY:
                known |= 1 << (_FIRST_MECHANIC_BIT - 1 + (one >> 4 & 15))
        if kinds & _MECHANICS_MASK & ~known:
            return None
    return day, kinds


def told(facts: ShopperFacts | None, news: News, shopper_id: int, user_id: str, zone: tzinfo) -> ShopperFacts:
    """Return what is known of a shopper after the news."""
    days = dict(facts.days) if facts else {}
    for day, kinds in news.days.items():
        days[day] = days.get(day, 0) | kinds
    old = facts.shopper if facts else None
    steps = (facts.steps if facts else set()) | news.steps
    # Of two at the same instant the one told later counts: the shop's room has compared them.
    registered = _pair(old.source_at, old.source) if old else None
    if news.registered and (registered is None or news.registered[0] <= registered[0]):
        registered = news.registered
    met = _first(news.met, _pair(old.mechanic_at, old.mechanic) if old else None)
    bound = _first(news.bound, _pair(old.bound_at, old.inviter) if old else None)
    return _finished(
        ShopperRow(
            shopper_id=shopper_id,
            user_id=user_id,
            first_day=0,
            last_day=0,
            last_kinds=0,
            source_at=registered and registered[0],
            source=registered[1] if registered else 0,
            mechanic_at=met and met[0],
            mechanic=met[1] if met else 0,
            bound_at=bound and bound[0],
            inviter=bound and bound[1],
            viewed_at=_earlier(news.viewed_at, old.viewed_at if old else None),
            invited_at=_earlier(news.invited_at, old.invited_at if old else None),
        ),
        _registered_once(days, registered and day_of(registered[0], zone)),
        steps,
    )


def of_other_source(facts: ShopperFacts) -> ShopperFacts:
    """Return a shopper counted with those whose source has no number of its own."""
    shopper = replace(facts.shopper, source=OTHER_SOURCE)
    segments = _segments(shopper, shopper.first_day, facts.days)
    return ShopperFacts(replace(shopper, segments=segments), facts.days, facts.steps)


def _registered_once(days: Mapping[int, int], registered_day: int | None) -> dict[int, int]:
    """Return the days on which a shopper was active, who registered on one of them: that of the earliest telling.

    So the order in which several were told leaves no trace, and a wrong date that was corrected is no visit.
    """
    kept = {day: kinds if day == registered_day else kinds & ~_REGISTRATION for day, kinds in days.items()}
    return {day: kinds for day, kinds in kept.items() if kinds}


def united(one: ShopperFacts, other: ShopperFacts, zone: tzinfo) -> ShopperFacts:
    """Return what is known of the person whom two ids turned out to be, under the first one's."""
    theirs = other.shopper
    news = News(
        days=other.days,
        registered=_pair(theirs.source_at, theirs.source),
        met=_pair(theirs.mechanic_at, theirs.mechanic),
        bound=_pair(theirs.bound_at, theirs.inviter),
        viewed_at=theirs.viewed_at,
        invited_at=theirs.invited_at,
        steps=other.steps,
    )
    return told(one, news, one.shopper.shopper_id, one.shopper.user_id, zone)


def _finished(shopper: ShopperRow, days: dict[int, int], steps: set[tuple[int, datetime]]) -> ShopperFacts:
    """Fill in what follows from the rest."""
    first, last = min(days), max(days)
    # Who was bound was invited, whether or not that was seen.
    invited_at = _earlier(shopper.invited_at, shopper.bound_at)
    claimed_at = _next(steps, FunnelStage.CLAIMED, shopper.viewed_at)
    done = replace(
        shopper,
        first_day=first,
        last_day=last,
        last_kinds=days[last],
        claimed_at=claimed_at,
        paid_at=_next(steps, FunnelStage.PAID, claimed_at),
        invited_at=invited_at,
        bought_at=_next(steps, FunnelStage.BOUGHT, shopper.bound_at),
        segments=_segments(shopper, first, days),
    )
    return ShopperFacts(done, days, steps)


def _segments(shopper: ShopperRow, first: int, days: Mapping[int, int]) -> list[int]:
    source, mechanic, is_invited = shopper.source, shopper.mechanic, int(shopper.bound_at is not None)
    early: dict[int, int] = {}
    for day in range(first, first + EARLY_DAYS):
        met = days.get(day, 0) & _MECHANICS_MASK
        while met:
            bit = (met & -met).bit_length() - 1
            met &= met - 1
            early.setdefault(mechanic_of(bit), day - first)
    return [
        segment(Family.ALL),
        segment(Family.SOURCE, source=source),
        segment(Family.MECHANIC, mechanic=mechanic, tail=is_invited),
        segment(Family.CUBE, source=source, mechanic=mechanic, tail=is_invited),
        *(segment(Family.EARLY, mechanic=number, tail=day) for number, day in sorted(early.items())),
    ]


def _next(steps: Iterable[tuple[int, datetime]], step: FunnelStage, after: datetime | None) -> datetime | None:
    if after is None:
        return None
    return min((at for kind, at in steps if kind == step and at >= after), default=None)


def _pair(at: datetime | None, value: T | None) -> tuple[datetime, T] | None:
    return None if at is None or value is None else (at, value)


def _first(one: tuple[datetime, T] | None, other: tuple[datetime, T] | None) -> tuple[datetime, T] | None:
    return min((pair for pair in (one, other) if pair is not None), default=None)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((at for at in (one, other) if at is not None), default=None)
