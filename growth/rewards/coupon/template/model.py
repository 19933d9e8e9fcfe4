"""What a template is, and what is wrong with one: decisions without I/O."""

from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from growth.kit.campaign.findings import Finding
from growth.kit.campaign.model import CampaignKind, Recipe, State, keep_promises, locked
from growth.plumbing.field_errors import FieldError
from growth.plumbing.strict_json import Instant
from growth.rewards.compliance import Offer, check
from growth.vocabulary.audience import NOT_IN_AUDIENCE, Audience, AudienceType, Newcomers
from growth.vocabulary.events.coupon import (
    CouponTemplateEnded,
    CouponTemplatePaused,
    CouponTemplatePublished,
    CouponTemplateResumed,
)
from growth.vocabulary.facts import Deed
from growth.vocabulary.ids import Sku, Uuid
from growth.vocabulary.money import MAX_FEN, Fen
from growth.vocabulary.refusals import Kind
from growth.vocabulary.text import Description, Title

MAX_UNITS = 100_000_000
MAX_PER_SHOPPER = 10_000
MAX_SKUS = 1_000
MAX_VALID_DAYS = 3_660
MAX_EXPIRING_DAYS = 90

NOT_FOUND = Kind("coupon.template_not_found", "There is no such coupon template.", 404)
NOT_OPEN = Kind("coupon.not_open", "These coupons cannot be taken yet.")
SOLD_OUT = Kind("coupon.sold_out", "All coupons are taken.")
SOLD_OUT_TODAY = Kind("coupon.sold_out_today", "All coupons of today are taken.")
ENDED = Kind("coupon.ended", "These coupons can no longer be taken.")
PAUSED = Kind("coupon.paused", "These coupons cannot be taken for the moment.")
NOT_CLAIMABLE = Kind("coupon.not_claimable", "These coupons are given, and cannot be taken.")
LIMIT_REACHED = Kind("coupon.limit_reached", "This shopper took as many as are allowed.")
LIMIT_REACHED_TODAY = Kind("coupon.limit_reached_today", "This shopper took as many as are allowed today.")
WRONG_STATE = Kind("coupon.wrong_state", "The template's state does not allow this.")
LOCKED_FIELD = Kind("coupon.locked_field", "The field can no longer be changed.")
VERSION_MISMATCH = Kind("coupon.version_mismatch", "Somebody else changed the template.", 412)
NOT_COMPLIANT = Kind("coupon.not_compliant", "Rules of platforms or law speak against the template.")

PageState = Literal["scheduled", "open", "sold_out", "paused", "ended"]
OffFen = Annotated[int, Meta(ge=1, le=MAX_FEN, description="Whole fen (1/100 yuan), at least one.")]


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of what comes in kinds."""


class FixedOff(_Part, frozen=True, kw_only=True, tag="fixed"):
    """So much off, but never more than what is bought costs."""

    off_fen: OffFen


class PercentOff(_Part, frozen=True, kw_only=True, tag="percent"):
    """A share off, rounded down to whole fen."""

    percent_off: Annotated[int, Meta(ge=1, le=100, description="15 is 15 % off (八五折); 100 is for free.")]
    max_off_fen: OffFen | None = None
    """Never more than this; no bound, if left out."""


class ValidOnDates(_Part, frozen=True, kw_only=True, tag="dates"):
    """The same days for every coupon."""

    valid_from: Instant
    valid_until: Instant
    """Not including this instant."""


class ValidForDays(_Part, frozen=True, kw_only=True, tag="days"):
    """Days of 24 hours since each coupon was issued."""

    days: Annotated[int, Meta(ge=1, le=MAX_VALID_DAYS)]
    starts_in_days: Annotated[int, Meta(ge=0, le=MAX_VALID_DAYS)] = 0
    """So long after it was issued it cannot be used yet; `days` begin then."""


Discount = FixedOff | PercentOff
Validity = ValidOnDates | ValidForDays


class CouponDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator decides about coupons of one kind."""

    title: Title
    description: Description | None = None
    """What shoppers read about it."""
    discount: Discount
    threshold_fen: Fen = 0
    """What the lines in its scope must cost together, before the discount."""
    skus: Annotated[list[Sku], Meta(max_length=MAX_SKUS)] = []
    """Its scope: only lines of these; all, if empty."""
    validity: Validity
    after_refund: Literal["return", "stay_used"] = "return"
    """When all lines that it was used on were paid back: the shopper has it again, or it is gone."""
    units_total: Annotated[int, Meta(ge=1, le=MAX_UNITS)]
    """Coupons in all, given by whatever way."""
    units_per_day: Annotated[int, Meta(ge=1, le=MAX_UNITS)] | None = None
    """What all shoppers together may take in a day (of the merchant's zone); no bound, if left out."""
    max_per_shopper: Annotated[int, Meta(ge=1, le=MAX_PER_SHOPPER)] = 1
    """What one shopper may take, by hand and by code; what campaigns grant is not counted."""
    max_per_shopper_per_day: Annotated[int, Meta(ge=1, le=MAX_PER_SHOPPER)] | None = None
    claimable: bool = False
    """Whether shoppers may take one by hand; if not, it is for campaigns and printed codes."""
    opens_at: Instant | None = None
    """The window in which it can be taken, by hand and by code; without bounds where left out."""
    closes_at: Instant | None = None
    expiring_days: Annotated[int, Meta(ge=0, le=MAX_EXPIRING_DAYS)] = 3
    """`coupon.expiring` is told so many days before the end of each coupon issued from now on; never, if 0, and not of
    coupons that are issued later than that."""
    audience: Audience = []
    """Who may take one, by hand and by code: all of these must hold then; everybody, if empty. What campaigns grant is
    not asked about."""


PROMISE = ("discount", "threshold_fen", "skus", "validity", "after_refund")
"""Fields that are fixed once published."""


class CouponTemplate(CouponDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A template as Postgres knows it."""

    template_id: Uuid
    state: State
    version: int
    issued: int
    """Coupons there ever were."""
    codes_left: int
    """Units kept for printed codes that nobody has redeemed yet."""
    taken_day: date | None
    """The last day on which shoppers took some, and how many then."""
    taken_on_day: int
    created_at: datetime
    published_at: datetime | None
    ended_at: datetime | None

    @property
    def units_left(self) -> int:
        """Units that neither a coupon nor a printed code has."""
        return self.units_total - self.issued - self.codes_left

    def taken_on(self, day: date) -> int:
        """Say how many shoppers took on `day`, which is today."""
        return self.taken_on_day if self.taken_day == day else 0


class Term(Struct, frozen=True):
    """When a coupon counts, and when to tell that it ends soon."""

    valid_from: datetime
    valid_until: datetime
    expiring_at: datetime | None


def term_of(template: CouponDraft, now: datetime) -> Term | None:
    """Return the term of a coupon issued at `now`; None if it would be over already."""
    validity = template.validity
    if isinstance(validity, ValidOnDates):
        start, end = validity.valid_from, validity.valid_until
    else:
        try:
            start = now + timedelta(days=validity.starts_in_days)
            end = start + timedelta(days=validity.days)
        except OverflowError:
            # A dry run at the end of the calendar.
            return None
    if end <= now:
        return None
    expiring_at = end - timedelta(days=template.expiring_days)
    return Term(start, end, expiring_at if template.expiring_days and expiring_at > now else None)


def page_state(template: CouponTemplate, now: datetime) -> PageState:
    """Say what a shopper who wants one sees at `now`; the day's quota aside."""
    if template.state == "ended" or (template.closes_at is not None and now >= template.closes_at):
        return "ended"
    if term_of(template, now) is None:
        return "ended"
    if template.state == "paused":
        return "paused"
    if template.state == "draft" or (template.opens_at is not None and now < template.opens_at):
        return "scheduled"
    return "sold_out" if template.units_left <= 0 else "open"


class TakenSoFar(Struct, frozen=True):
    """What one shopper took of one template."""

    taken: int = 0
    taken_today: int = 0
    missed: AudienceType | None = None
    """What of the template's audience the shopper does not meet."""


def refused_by_template(template: CouponTemplate, now: datetime, *, by_code: bool = False) -> Kind | None:
    """Say why nobody gets a coupon of this template at `now`, the day's quota aside. Codes have their units kept."""
    state = page_state(template, now)
    no = {"ended": ENDED, "paused": PAUSED, "scheduled": NOT_OPEN}.get(state)
    if no is not None or by_code:
        return no
    if not template.claimable:
        return NOT_CLAIMABLE
    return SOLD_OUT if state == "sold_out" else None


def refused_by_limit(template: CouponTemplate, standing: TakenSoFar) -> Kind | None:
    """Say whether the shopper is outside of the audience, or took as many as are allowed."""
    if standing.missed is not None:
        return NOT_IN_AUDIENCE
    if standing.taken >= template.max_per_shopper:
        return LIMIT_REACHED
    per_day = template.max_per_shopper_per_day
    return LIMIT_REACHED_TODAY if per_day is not None and standing.taken_today >= per_day else None


def refusal_of(template: CouponTemplate, standing: TakenSoFar, now: datetime, day: date) -> Kind | None:
    """Say what one wish is refused as, or None if it gets a coupon. `day` is that of `now` at the merchant's.

    The shopper's own limit comes before the quota: who has one wants to hear that, not that others were quicker.
    """
    no = refused_by_template(template, now)
    if no is not None and no is not SOLD_OUT:
        return no
    limited = refused_by_limit(template, standing)
    if limited is not None or no is not None:
        return limited or no
    per_day = template.units_per_day
    return SOLD_OUT_TODAY if per_day is not None and template.taken_on(day) >= per_day else None


def faults(draft: CouponDraft) -> list[FieldError]:
    """Return what does not fit together in a draft, by field."""
    found = []
    if isinstance(draft.validity, ValidOnDates) and draft.validity.valid_until <= draft.validity.valid_from:
        found.append(FieldError("validity.valid_until", "Must be after valid_from"))
    if len(set(draft.skus)) != len(draft.skus):
        found.append(FieldError("skus", "Has the same SKU twice"))
    if draft.units_per_day is not None and draft.units_per_day > draft.units_total:
        found.append(FieldError("units_per_day", "Cannot exceed units_total"))
    if draft.max_per_shopper_per_day is not None and draft.max_per_shopper_per_day > draft.max_per_shopper:
        found.append(FieldError("max_per_shopper_per_day", "Cannot exceed max_per_shopper"))
    if draft.opens_at is not None and draft.closes_at is not None and draft.closes_at <= draft.opens_at:
        found.append(FieldError("closes_at", "Must be after opens_at"))
    return found


def findings(draft: CouponDraft) -> list[Finding]:
    """Return what rules of platforms and law say about a template."""
    return check(Offer(deed=Deed.OTHER, texts=(draft.title, draft.description or "")))


def recipes(_now: datetime, _zone: ZoneInfo) -> list[Recipe[CouponDraft]]:
    """Return ready drafts."""
    week = ValidForDays(days=7)

    def coupon(title: str, discount: Discount, threshold_fen: int, **more: Any) -> CouponDraft:
        known: dict[str, Any] = {"validity": week, "units_total": 1000, "claimable": True}
        return CouponDraft(title=title, discount=discount, threshold_fen=threshold_fen, **(known | more))

    return [
        Recipe(
            "off_100", "20 off from 100 yuan", "满 100 减 20", coupon("满 100 减 20", FixedOff(off_fen=2000), 10_000)
        ),
        Recipe(
            "newcomers",
            "Newcomers: 10 off without a threshold",
            "新人无门槛券",
            coupon("新人立减 10 元", FixedOff(off_fen=1000), 0, audience=[Newcomers()]),
        ),
        Recipe(
            "fifteen_percent",
            "15 % off from 100 yuan",
            "满 100 享八五折",
            coupon("满 100 享八五折", PercentOff(percent_off=15), 10_000),
        ),
        Recipe(
            "for_campaigns",
            "To be given by check-ins, tasks and invitations",
            "活动赠券",
            coupon("活动赠券 5 元", FixedOff(off_fen=500), 3000, claimable=False),
        ),
    ]


TEMPLATES = CampaignKind(
    noun="coupon template",
    nouns="coupon templates",
    path="coupon-templates",
    audited_as="coupon_template",
    table="coupon.templates",
    id_field="template_id",
    draft=CouponDraft,
    campaign=CouponTemplate,
    promise=PROMISE,
    over="(validity ->> 'valid_until')::timestamptz",
    faults=faults,
    findings=findings,
    told={
        "publish": CouponTemplatePublished,
        "pause": CouponTemplatePaused,
        "resume": CouponTemplateResumed,
        "end": CouponTemplateEnded,
    },
    not_found=NOT_FOUND,
    wrong_state=WRONG_STATE,
    version_mismatch=VERSION_MISMATCH,
    not_compliant=NOT_COMPLIANT,
    locked_field=LOCKED_FIELD,
    recipes=recipes,
)


def check_edit(template: CouponTemplate, draft: CouponDraft) -> None:
    """Refuse edits that would change what was promised, or drop the quota below what is given; drafts change freely."""
    if template.state != "draft":
        keep_promises(TEMPLATES, template, draft, PROMISE, "is published")
    spoken_for = template.issued + template.codes_left
    if draft.units_total < spoken_for:
        told = f"{spoken_for} units are given or kept for codes."
        raise locked(TEMPLATES, "units_total", told, units_taken=spoken_for)
