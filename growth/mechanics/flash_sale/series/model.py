"""What a series is, what its rounds sell, and what does not fit together."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct, field, structs

from growth.kit.campaign.findings import Finding
from growth.kit.campaign.model import CampaignKind, Recipe, State
from growth.mechanics.flash_sale import model as sales
from growth.mechanics.flash_sale.model import Item, Protection, SaleDraft
from growth.mechanics.flash_sale.series.timetable import (
    DAYS,
    FIRST_DAY,
    LAST_DAY,
    Day,
    RoundWindow,
    Timetable,
    is_zone,
    next_rounds,
    shortest_gap,
)
from growth.plumbing.field_errors import FieldError
from growth.rewards.compliance import Offer, check
from growth.vocabulary.alike import alike
from growth.vocabulary.audience import Audience, is_chosen
from growth.vocabulary.facts import Deed
from growth.vocabulary.ids import SaleId, SeriesId, Sku
from growth.vocabulary.refusals import Kind
from growth.vocabulary.text import Title

MAX_ITEMS = 20
MAX_DAYS_AHEAD = 31
MAX_PREVIEWED = 10
"""Rounds that a dry run shows."""

NOT_FOUND = Kind("flash_sale.series_not_found", "There is no such series.", 404)
WRONG_STATE = Kind("flash_sale.series_wrong_state", "The series' state does not allow this.")
VERSION_MISMATCH = Kind("flash_sale.series_version_mismatch", "Somebody else changed the series.", 412)
NOT_COMPLIANT = Kind("flash_sale.series_not_compliant", "Rules of platforms or law speak against the series.")
NO_ROUNDS_LEFT = Kind("flash_sale.no_rounds_left", "The series has no rounds to come.")

Would = Literal["planned", "plan", "skip"]


class SeriesDraft(Timetable, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator decides about a series. Rounds that are planned already keep what they were planned with."""

    title: Title
    items: Annotated[list[Item], Meta(min_length=1, max_length=MAX_ITEMS)]
    hold_seconds: Annotated[int, Meta(ge=30, le=3600)] = 300
    """How long a claim waits for its payment."""
    late_payment: Literal["retake", "refund"] = "retake"
    """A payment after the hold lapsed: take units again if any are left, or always refund."""
    refund_returns_units: bool = False
    """Refunded units go back on sale."""
    reminder_lead_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 300
    """How long before opening those who asked are reminded."""
    protection: Protection = field(default_factory=Protection)
    audience: Audience = field(default_factory=list)
    """Who may claim: all of these must hold when the claim arrives; everybody, if empty."""
    plan_ahead_days: Annotated[int, Meta(ge=1, le=MAX_DAYS_AHEAD)] = 7
    """How long before it opens a round becomes sales that shoppers see."""


class Series(SeriesDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A series as Postgres knows it."""

    series_id: SeriesId
    state: State
    version: int
    planned_until: datetime | None
    """Rounds that open until then were planned; an edit is about those after it."""
    created_at: datetime
    published_at: datetime | None
    ended_at: datetime | None


class Skipped(Struct, frozen=True, kw_only=True):
    """A sale of a round that could not be planned, because another live sale has its SKU."""

    opens_at: datetime
    sku: Sku
    sale_id: SaleId
    """The sale that was in the way. Once it is gone, the round is planned after all, until it would open."""
    skipped_at: datetime


class SeriesPage(Series, frozen=True, kw_only=True):
    """A series with what became of its rounds."""

    skipped: list[Skipped]
    """Those to come, and of the last days."""


class PreviewedSale(Struct, frozen=True, kw_only=True):
    """One sale of a round to come."""

    sku: Sku
    would: Would
    """`planned` it is already; `plan` it will be; `skip` it would not be."""
    sale_id: SaleId | None
    """The planned sale, or the one in the way."""
    because: str | None


class PreviewedRound(Struct, frozen=True, kw_only=True):
    """A round to come, as the timetable has it."""

    opens_at: datetime
    closes_at: datetime
    opens_local: str
    """On the wall in the series' zone: `wed 2026-11-25 20:00 +08:00`."""
    closes_local: str
    sales: list[PreviewedSale]


class SeriesDryRun(Struct, frozen=True, kw_only=True):
    """What a series would make, without making it."""

    rounds: list[PreviewedRound]
    at: datetime


class SoldSale(Struct, frozen=True, kw_only=True):
    """One sale of a round in numbers."""

    sale_id: SaleId
    sku: Sku
    state: State
    units_total: int
    taken: int
    sold_out_after_ms: int | None


class RoundStats(Struct, frozen=True, kw_only=True):
    """One round in numbers."""

    opens_at: datetime
    closes_at: datetime
    units_total: int
    taken: int
    sold_out_after_ms: int | None
    """From opening until the last unit of all its sales was taken; None while any are left, or if they never went."""
    sales: list[SoldSale]


class SeriesStats(Struct, frozen=True, kw_only=True):
    """A series in numbers: its rounds, the latest first."""

    series_id: SeriesId
    state: State
    items: list[RoundStats]
    next_cursor: str | None
    server_time: datetime


def draft_of(plan: SeriesDraft, item: Item, window: RoundWindow) -> SaleDraft:
    """Return the sale that sells `item` in `window`."""
    return alike(SaleDraft, plan, **structs.asdict(item), **structs.asdict(window))


def faults(plan: SeriesDraft, now: datetime) -> list[FieldError]:
    """Return what does not fit together in a plan, by field."""
    found = _faults_of_days(plan)
    if found:
        return found
    first = next_rounds(plan, datetime.combine(plan.from_day, time(), UTC) - timedelta(days=2), 1)
    if not first:
        return [FieldError("until_day", "No round opens between from_day and until_day")]
    gap = shortest_gap(plan, max(now, first[0].opens_at - timedelta(microseconds=1)))
    if gap is not None and gap[0] < timedelta(minutes=plan.duration_minutes):
        minutes, early, late = gap[0] // timedelta(minutes=1), gap[1].opens_at, gap[2].opens_at
        told = f"At most {minutes}: the round of {early:%Y-%m-%d} would be open when that of {late:%Y-%m-%d} opens"
        found.append(FieldError("duration_minutes", told))
    skus = [item.sku for item in plan.items]
    for index, item in enumerate(plan.items):
        if item.sku in skus[:index]:
            found.append(FieldError(f"items[{index}].sku", "Sold by an item before it"))
        for fault in sales.faults(draft_of(plan, item, first[0])):
            own = fault.field in Item.__struct_fields__
            found.append(FieldError(f"items[{index}].{fault.field}", fault.detail) if own else fault)
    return list(dict.fromkeys(found))


def _faults_of_days(plan: SeriesDraft) -> list[FieldError]:
    found = []
    if not is_zone(plan.zone):
        found.append(FieldError("zone", "Not a time zone of the IANA database"))
    if len(set(plan.days_of_week)) < len(plan.days_of_week):
        found.append(FieldError("days_of_week", "Has a day twice"))
    days: list[tuple[str, date | None]] = [("from_day", plan.from_day), ("until_day", plan.until_day)]
    for name, day in days:
        if day is not None and not FIRST_DAY <= day <= LAST_DAY:
            found.append(FieldError(name, f"Between {FIRST_DAY} and {LAST_DAY}"))
    if plan.until_day is not None and plan.until_day < plan.from_day:
        found.append(FieldError("until_day", "Must not be before from_day"))
    return found


def findings(plan: SeriesDraft) -> list[Finding]:
    """Return what rules of platforms and law say about a series: it rewards nothing but buying."""
    texts = (plan.title, *(item.title for item in plan.items))
    return check(Offer(deed=Deed.PURCHASE, price_by_list=is_chosen(plan.audience), texts=texts))


def recipes(now: datetime, zone: ZoneInfo) -> list[Recipe[SeriesDraft]]:
    """Return ready drafts: the first round is tomorrow's at the earliest."""
    first = now.astimezone(zone).date() + timedelta(days=1)
    item = Item(title="今日秒杀", sku="SKU", price_fen=4900, list_price_fen=9800, units_total=100)

    def series(title: str, days: list[Day], at: str, minutes: int) -> SeriesDraft:
        times: dict[str, Any] = {"zone": zone.key, "days_of_week": days, "start_time": at, "duration_minutes": minutes}
        return SeriesDraft(title=title, items=[item], from_day=first, **times)

    return [
        Recipe(
            "every_evening", "Every evening at eight", "每晚八点场", series("每晚八点秒杀", list(DAYS), "20:00", 60)
        ),
        Recipe("weekend", "Weekends at ten", "周末专场", series("周末秒杀", ["sat", "sun"], "10:00", 720)),
    ]


SERIES = CampaignKind(
    noun="flash-sale series",
    nouns="flash-sale series",
    path="flash-sale-series",
    audited_as="flash_sale_series",
    table="flash_sale.series",
    id_field="series_id",
    draft=SeriesDraft,
    campaign=Series,
    document="plan",
    over=None,
    findings=findings,
    told={},
    not_found=NOT_FOUND,
    wrong_state=WRONG_STATE,
    version_mismatch=VERSION_MISMATCH,
    not_compliant=NOT_COMPLIANT,
    recipes=recipes,
)


def local(instant: datetime, zone: str) -> str:
    """Return `wed 2026-11-25 20:00 +08:00`: an instant on the wall in `zone`, for people."""
    wall = instant.astimezone(ZoneInfo(zone))
    return f"{DAYS[wall.weekday()]} {wall:%Y-%m-%d %H:%M} {wall.isoformat()[-6:]}"
