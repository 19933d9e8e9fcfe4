"""What reports say, as Structs."""

from datetime import date
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

CohortUnit = Literal["day", "week", "month"]
Metric = Literal["on", "on_or_after"]
Split = Literal["source", "mechanic", "inviter"]

GroupKind = Literal["name", "not_told", "others"]
"""What a group is called by: its name; that none was told; or that it is what the other groups leave."""

Rate = Annotated[float | None, Meta(description="0 to 1, four digits; null if there is nobody.")]


class RetentionCell(Struct, frozen=True):
    """How many of a cohort were active."""

    count: int
    rate: Rate
    """Of the cohort's size."""


class RetentionCohort(Struct, frozen=True):
    """Those first seen from `start` to `end`."""

    start: date
    end: date
    """The last day that is part of it."""
    group: str | None
    """With `split`: of which source, mechanic or way; `unknown` and `(others)` by `group_kind`, or by name."""
    group_kind: GroupKind | None
    """With `split`: `name`, as somebody called it; `not_told`, of whom no source is known; `others`, all the rest."""
    size: int
    days: dict[int, RetentionCell | None]
    """By day of their lives, 0 being the first; null before that day is over for all of them."""


class PooledCell(Struct, frozen=True):
    """All cohorts together that are ripe."""

    count: int
    size: int
    """Of those cohorts."""
    rate: Rate


class RetentionTotal(Struct, frozen=True):
    """All cohorts of one group together."""

    group: str | None
    group_kind: GroupKind | None
    size: int
    days: dict[int, PooledCell | None]
    """Each over the cohorts that are ripe on that day; null if none is."""


class RetentionMatrix(Struct, frozen=True, kw_only=True):
    """Cohorts by rows, days of life by columns."""

    cohort: CohortUnit
    metric: Metric
    zone: str
    """In which days begin and end."""
    today: date
    """Not over yet."""
    from_: date = field(name="from")
    """Whole cohorts: moved back to the start of the week or month."""
    to: date
    """Moved on to its end."""
    split: Split | None
    warning: str | None
    """How not to read it, where it is easily misread."""
    cohorts: list[RetentionCohort]
    """Oldest first; those that have members."""
    totals: list[RetentionTotal]
    """One, or one for each group."""


class EffectGroup(Struct, frozen=True):
    """How many there are, and how many of them came back."""

    size: int
    retained: int
    rate: Rate


class Effect(Struct, frozen=True, kw_only=True):
    """Those who met one mechanic early beside those who did not."""

    mechanic: str
    took_part: EffectGroup
    others: EffectGroup
    difference: float | None
    """Of the rates; null if a group is empty."""
    interval: tuple[float, float] | None
    """Where the difference lies with a confidence of 95 %: Newcombe's hybrid score interval."""


class Effects(Struct, frozen=True, kw_only=True):
    """What became of those who took part early."""

    warning: str
    metric: Metric
    day: int
    """The day of life that is looked at."""
    within_days: int
    """Took part: on one of the first so many days."""
    confidence: float
    zone: str
    today: date
    from_: date = field(name="from")
    to: date
    """No later than the last day for which `day` is over."""
    effects: list[Effect]


class FunnelStep(Struct, frozen=True):
    """How many took a step, and the ones before it, in order."""

    step: str
    count: int | None
    """Null before the time for it is over for all who entered."""
    rate: Rate
    """Of those who entered."""


class FunnelCohort(Struct, frozen=True):
    """Those who entered from `start` to `end`."""

    start: date
    end: date
    steps: list[FunnelStep]


class Funnel(Struct, frozen=True):
    """Steps of a way, and how many took them."""

    funnel: str
    cohorts: list[FunnelCohort]
    """Oldest first; those that somebody entered."""
    total: list[FunnelStep]
    """Over the cohorts whose time is over."""


class Funnels(Struct, frozen=True, kw_only=True):
    """Every shopper once: by the day of the first view, or of the first visit that came from an invitation."""

    cohort: CohortUnit
    within_days: int
    zone: str
    today: date
    from_: date = field(name="from")
    to: date
    funnels: list[Funnel]


class ActiveShoppers(Struct, frozen=True):
    """Distinct shoppers active on one day, and in the 7 and 30 days that end with it."""

    day: date
    daily: int
    weekly: int
    monthly: int
    new: int
    """Seen for the first time."""
    stickiness: float | None
    """`daily` in `monthly`."""
    is_complete: bool
    """False for today."""


class Actives(Struct, frozen=True, kw_only=True):
    """Actives by day, oldest first."""

    zone: str
    today: date
    from_: date = field(name="from")
    to: date
    days: list[ActiveShoppers]
