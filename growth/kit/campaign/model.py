"""What a kind of campaign is: its states and steps, its columns, and what is fixed once shoppers see it. No I/O."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Any, Generic, Literal, Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from growth.kit.campaign.findings import Finding
from growth.plumbing.field_errors import FieldError
from growth.plumbing.postgres.database import Record
from growth.plumbing.postgres.rows import Table
from growth.vocabulary.alike import alike
from growth.vocabulary.events import Event
from growth.vocabulary.refusals import Kind, Refusal

State = Literal["draft", "published", "paused", "ended"]
Step = Literal["publish", "pause", "resume", "end"]

STEPS: Mapping[Step, tuple[tuple[State, ...], State]] = {
    "publish": (("draft",), "published"),
    "pause": (("published",), "paused"),
    "resume": (("paused",), "published"),
    "end": (("draft", "published", "paused"), "ended"),
}
"""Step → the states that it is taken from, and the one that it leads to."""
LIVE: tuple[State, ...] = ("published", "paused")
PageState = Literal["scheduled", "open", "sold_out", "paused", "ended"]
"""What shoppers see of a campaign with a window and a stock."""


class Campaign(Protocol):
    """What Postgres adds to every kind's draft. Structs cannot have two bases: each kind names these fields."""

    @property
    def state(self) -> State:
        """Where in its life it is."""
        ...

    @property
    def version(self) -> int:
        """Grows with every edit and step."""
        ...


D = TypeVar("D", bound=Struct)
C = TypeVar("C", bound=Campaign)


class Recipe(Struct, Generic[D], frozen=True):
    """A draft that is ready to be published as it stands, or to be changed before."""

    recipe: str
    """Stable."""
    title_en: str
    title_zh: str
    draft: D


class Recipes(Struct, Generic[D], frozen=True):
    """All there are of a kind."""

    items: list[Recipe[D]]


class DraftCheck(Struct, frozen=True):
    """What publishing a draft would meet; it was not saved."""

    faults: list[FieldError]
    """What does not fit together, or is too late. With any, it cannot be published."""
    findings: list[Finding]
    """What rules of platforms and law say. Warnings pass once they are accepted."""


class CampaignKind(Table[C], Generic[D, C], frozen=True, kw_only=True, eq=False):
    """All that tells one kind of campaign from another, its behaviour aside. A room makes one, in its `model.py`."""

    noun: str
    nouns: str
    """More than one."""
    path: str
    """In URLs, and in the scope of Idempotency-Keys: `group-buys`."""
    audited_as: str
    """Before the dot in the audit's actions: `group_buy`."""
    table: str
    """`schema.name`."""
    draft: type[D]
    campaign: type[C]
    """The draft's fields, the id, and what Postgres adds. Each is a column, unless `document` is given."""
    document: str | None = None
    """The one column that holds the whole draft."""
    copied: tuple[str, ...] = ()
    """Fields of the draft that are columns beside `document`."""
    promise: tuple[str, ...] = ()
    """Columns that an edit changes in drafts alone: the statement itself holds that."""
    over: str | None = "closes_at"
    """SQL for when its time is over, see `store.end_over`; None where the room looks after that."""
    faults: Callable[[D], list[FieldError]] | None = None
    """What does not fit together in a draft, by field; None where `Campaigns.faults` says it."""
    findings: Callable[[Any], list[Finding]]
    """What rules of platforms and law say to a draft."""
    told: Mapping[Step, type[Event]]
    """The room's own events. Their facts are fields or properties of the campaign of the same names."""
    not_found: Kind
    wrong_state: Kind
    version_mismatch: Kind
    not_compliant: Kind
    locked_field: Kind | None = None
    changeable_once_open: frozenset[str] = frozenset()
    """Fields of the draft that may change when shoppers see it, see `keep_window`. The audience always may."""
    recipes: Callable[[datetime, ZoneInfo], list[Recipe[D]]] | None = None
    """Ready drafts, as of now in the merchant's zone."""

    def sql(self, statement: str) -> str:
        """Return `statement`, which is written for `kit.campaigns`, for this kind.

        `kit.id` stands for the column of the id, `kit.draft` for those of the draft, `kit.columns` for all that `read`
        needs; `kit.edited` for what an edit makes of those of the draft, `kit.title`, `kit.over` and `kit.audience` for
        expressions, `kit.put_audience` for writing `$2` as that.
        """
        return _written(self, statement)

    def read(self, row: Record) -> C:
        """Make a campaign of a row of `kit.columns`."""
        known: dict[str, Any] = dict(row)
        if self.document is not None:
            known = known.pop(self.document) | known
        return msgspec.convert(known, self.campaign)

    def stored(self, draft: D) -> dict[str, object]:
        """Return the values of `kit.draft`, by column, as `jsonb_populate_record` takes them."""
        whole: dict[str, object] = {} if self.document is None else {self.document: draft}
        return whole | {name: getattr(draft, name) for name in self.columns_of_draft if name != self.document}

    @property
    def columns_of_draft(self) -> tuple[str, ...]:
        """What an edit replaces."""
        return self.draft.__struct_fields__ if self.document is None else (self.document, *self.copied)

    def id_of(self, campaign: C) -> str:
        """Return its id."""
        return str(getattr(campaign, self.id_field))

    def event(self, step: Step, campaign: C, now: datetime) -> Event | None:
        """Return what is told of a step, if anything is."""
        told = self.told.get(step)
        return None if told is None else alike(told, campaign, at=now)


@cache
def _written(kind: CampaignKind[Any, Any], statement: str) -> str:
    fields, read = kind.campaign.__struct_fields__, kind.columns_of_draft[: 1 if kind.document else None]
    words = {
        "campaigns": kind.table,
        "id": kind.id_field,
        "draft": ", ".join(kind.columns_of_draft),
        "edited": ", ".join(
            f"CASE WHEN campaign.state = 'draft' THEN told.{name} ELSE campaign.{name} END"
            if name in kind.promise
            else f"told.{name}"
            for name in kind.columns_of_draft
        ),
        "columns": ", ".join([*read, *(name for name in fields if name not in kind.draft.__struct_fields__)]),
        "title": "title" if kind.document is None else f"({kind.document} ->> 'title')",
        "over": kind.over or "",
        "audience": "audience" if kind.document is None else f"({kind.document} -> 'audience')",
        "put_audience": "audience = $2"
        if kind.document is None
        else f"{kind.document} = jsonb_set({kind.document}, '{{audience}}', $2)",
    }
    return re.sub(r"\bkit\.(\w+)", lambda match: words[match[1]], statement)


def keep_promises(kind: CampaignKind[Any, Any], before: Any, draft: Any, fixed: Iterable[str], since: str) -> None:
    """Refuse an edit that changes one of the fields `fixed`; `since` says since when they are."""
    for name in fixed:
        if getattr(before, name) != getattr(draft, name):
            raise locked(kind, name, f"{name} is fixed once the {kind.noun} {since}.")


def locked(kind: CampaignKind[Any, Any], field: str, detail: str, **members: object) -> Refusal:
    """Return (to be raised) what an edit of a field ends in that can no longer be changed so."""
    assert kind.locked_field is not None
    return Refusal(kind.locked_field, detail, field=field, **members)


def keep_window(kind: CampaignKind[Any, Any], before: Any, draft: Any, now: datetime) -> None:
    """Refuse edits that would hurt shoppers who already see a campaign with `opens_at` and `closes_at`.

    Drafts and campaigns that have not opened change freely; of an open one what is changeable; an ended one is history.
    """
    if before.state == "ended" or (before.state != "draft" and now >= before.closes_at):
        raise Refusal(kind.wrong_state, f"An ended {kind.noun} cannot be changed.", state=before.state)
    if before.state == "draft":
        return
    if now >= before.opens_at:
        fixed = [name for name in kind.draft.__struct_fields__ if name not in kind.changeable_once_open | {"audience"}]
        keep_promises(kind, before, draft, fixed, "has opened")
    if draft.closes_at <= now:
        raise locked(kind, "closes_at", f"closes_at lies in the past; end the {kind.noun} instead.")


def page_state(campaign: Any, units_left: int, now: datetime) -> PageState:
    """Say what a shopper sees at `now` of a campaign with `opens_at` and `closes_at`."""
    if campaign.state == "ended" or now >= campaign.closes_at:
        return "ended"
    if campaign.state == "paused":
        return "paused"
    if campaign.state == "draft" or now < campaign.opens_at:
        return "scheduled"
    return "sold_out" if units_left <= 0 else "open"


def faults_of_window(draft: Any, longest: timedelta) -> list[FieldError]:
    """Return what is wrong with a window."""
    if draft.closes_at <= draft.opens_at:
        return [FieldError("closes_at", "Must be after opens_at")]
    if draft.closes_at - draft.opens_at > longest:
        return [FieldError("closes_at", f"A window is at most {longest.days} days")]
    return []


def window_over(draft: Any, now: datetime) -> FieldError | None:
    """Say that a window is over: what makes it too late to publish."""
    return FieldError("closes_at", "The window is over; change closes_at first.") if draft.closes_at <= now else None


def next_at(hour: int, now: datetime, zone: ZoneInfo, at_least: timedelta = timedelta(hours=1)) -> datetime:
    """Return when the merchant's clocks show a full hour next, but not sooner than that: for recipes."""
    day = now.astimezone(zone).date()
    while (found := datetime.combine(day, time(hour), zone).astimezone(UTC)) < now + at_least:
        day += timedelta(days=1)
    return found
