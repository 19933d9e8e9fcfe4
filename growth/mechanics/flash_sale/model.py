"""What a sale is and who gets units: decisions without I/O."""

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct, field

from growth.kit.campaign.findings import Finding
from growth.kit.campaign.model import (
    CampaignKind,
    PageState,
    Recipe,
    State,
    faults_of_window,
    keep_window,
    locked,
    next_at,
    page_state,
)
from growth.plumbing.field_errors import FieldError
from growth.plumbing.strict_json import Instant
from growth.rewards.compliance import Offer, check
from growth.vocabulary.alike import alike
from growth.vocabulary.audience import NOT_IN_AUDIENCE, Audience, AudienceType, Newcomers, is_chosen, types_of
from growth.vocabulary.clock import milliseconds_until, rfc3339
from growth.vocabulary.events.flash_sale import FlashSaleEnded, FlashSalePaused, FlashSalePublished, FlashSaleResumed
from growth.vocabulary.facts import Deed
from growth.vocabulary.ids import SaleId, SeriesId, Sku
from growth.vocabulary.money import Fen
from growth.vocabulary.refusals import Kind
from growth.vocabulary.text import Title

MAX_UNITS = 1_000_000
MAX_UNITS_PER_SHOPPER = 100
MAX_WINDOW = timedelta(days=31)
TIME_TO_DRAW = timedelta(seconds=60)
"""From the end of entries to the close: the draw waits for clocks, and for another worker if the first has died."""
MAX_COOL_DOWN_DOUBLINGS = 6
FAR_FUTURE = datetime(9999, 1, 1, tzinfo=UTC)
COOL_DOWN_FORGIVEN_AFTER = timedelta(days=30)

NOT_FOUND = Kind("flash_sale.not_found", "There is no such sale.", 404)
NOT_OPEN = Kind("flash_sale.not_open", "The sale has not opened yet.")
SOLD_OUT = Kind("flash_sale.sold_out", "All units are taken.")
ENDED = Kind("flash_sale.ended", "The sale has ended.")
PAUSED = Kind("flash_sale.paused", "The sale is paused.")
LIMIT_REACHED = Kind("flash_sale.limit_reached", "This shopper holds as many units as the sale allows.")
TOO_MANY = Kind("flash_sale.too_many_attempts", "Too many attempts in a short time.", 429)
COOLING_DOWN = Kind("flash_sale.cooling_down", "Holds of this shopper lapsed; claims are closed for a while.")
NOT_INVITED = Kind("flash_sale.not_invited", "The sale is for invited shoppers.")
ACCOUNT_TOO_NEW = Kind("flash_sale.account_too_new", "The account is too new for this sale.")
DRAWING = Kind("flash_sale.drawing", "The draw is under way.")
SKU_ON_SALE = Kind("flash_sale.sku_on_sale", "Another live sale of this SKU overlaps the window.")
WRONG_STATE = Kind("flash_sale.wrong_state", "The sale's state does not allow this.")
LOCKED_FIELD = Kind("flash_sale.locked_field", "The field can no longer be changed.")
VERSION_MISMATCH = Kind("flash_sale.version_mismatch", "Somebody else changed the sale.", 412)
NOT_COMPLIANT = Kind("flash_sale.not_compliant", "Rules of platforms or law speak against the sale.")


class Protection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Switches against scalpers; all off unless set."""

    claims_per_minute_per_shopper: Annotated[int, Meta(ge=1, le=600)] | None = None
    claims_per_minute_per_address: Annotated[int, Meta(ge=1, le=60_000)] | None = None
    cool_down_seconds: Annotated[int, Meta(ge=1, le=86_400)] | None = None
    """Wait after a first lapsed hold; doubles with each further one, up to 64-fold. Paying clears it."""
    minimum_account_age_seconds: Annotated[int, Meta(ge=1, le=31_536_000)] | None = None
    allow_list_only: bool = False
    """Only shoppers on the sale's allow-list may claim."""
    draw_seconds: Annotated[int, Meta(ge=1, le=3600)] | None = None
    """Claims in the first seconds enter a draw; the rest of the units is then open to all."""


class Item(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sold, in one sale for each item; in each round, if it is a series'."""

    title: Title
    sku: Sku
    price_fen: Fen
    list_price_fen: Fen
    """The usual price, shown struck through; at least `price_fen`."""
    units_total: Annotated[int, Meta(ge=1, le=MAX_UNITS)]
    max_per_shopper: Annotated[int, Meta(ge=1, le=MAX_UNITS_PER_SHOPPER)] = 1


class SaleDraft(Item, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator decides about a sale."""

    opens_at: Instant
    closes_at: Instant
    hold_seconds: Annotated[int, Meta(ge=30, le=3600)] = 300
    """How long a claim waits for its payment."""
    late_payment: Literal["retake", "refund"] = "retake"
    """A payment after the hold lapsed: take units again if any are left, or always refund."""
    refund_returns_units: bool = False
    """Refunded units go back on sale."""
    reminder_lead_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 300
    """How long before opening those who asked are reminded."""
    protection: Protection = field(default_factory=Protection)
    audience: Audience = []
    """Who may claim: all of these must hold when the claim arrives; everybody, if empty."""

    @property
    def draw_at(self) -> datetime | None:
        """When entries to the draw close, or None without a draw."""
        seconds = self.protection.draw_seconds
        return None if seconds is None else self.opens_at + timedelta(seconds=seconds)


class Sale(SaleDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sale as Postgres knows it."""

    sale_id: SaleId
    series_id: SeriesId | None
    state: State
    version: int
    taken: int
    created_at: datetime
    published_at: datetime | None
    ended_at: datetime | None
    sold_out_at: datetime | None
    drawn_at: datetime | None
    draw_seed: str | None

    @property
    def units_taken(self) -> int:
        """Units that somebody holds."""
        return self.taken

    @property
    def units_left(self) -> int:
        """Units nobody holds."""
        return self.units_total - self.taken


class SalePage(Struct, frozen=True, kw_only=True):
    """A sale as shoppers see it."""

    sale_id: SaleId
    series_id: SeriesId | None
    title: str
    sku: str
    price_fen: int
    list_price_fen: int
    units_total: int
    units_left: int
    sold_share: float
    """Taken units as a share of all, 0 to 1, three digits."""
    max_per_shopper: int
    audience: list[AudienceType]
    """What shoppers must be to claim; everybody may, if empty."""
    state: PageState
    opens_at: datetime
    closes_at: datetime
    draw_at: datetime | None
    """End of the draw's entry time, for sales with a draw."""
    server_time: datetime
    opens_in_ms: int
    """Milliseconds from `server_time` to opening, 0 once open."""
    closes_in_ms: int


def page(sale: Sale, units_left: int, now: datetime) -> SalePage:
    """Show `sale` at `now`."""
    return alike(
        SalePage,
        sale,
        units_left=max(0, units_left),
        sold_share=round(1 - max(0, units_left) / sale.units_total, 3),
        audience=types_of(sale.audience),
        state=page_state(sale, units_left, now),
        server_time=now,
        opens_in_ms=milliseconds_until(sale.opens_at, now),
        closes_in_ms=milliseconds_until(sale.closes_at, now),
    )


class Admission(IntEnum):
    """What `claim.lua` answers to one claim; the same words as the model below."""

    WON = 1
    REPLAY = 2
    SOLD_OUT = 3
    LIMIT_REACHED = 4
    NOT_OPEN = 5
    ENDED = 6
    PAUSED = 7
    TOO_MANY = 8
    COOLING_DOWN = 9
    NOT_INVITED = 10
    DRAWING = 11
    NOT_LOADED = 12
    ACCOUNT_TOO_NEW = 13
    NOT_IN_AUDIENCE = 14


REFUSED_AS: dict[Admission, Kind] = {
    Admission.SOLD_OUT: SOLD_OUT,
    Admission.LIMIT_REACHED: LIMIT_REACHED,
    Admission.NOT_OPEN: NOT_OPEN,
    Admission.ENDED: ENDED,
    Admission.PAUSED: PAUSED,
    Admission.TOO_MANY: TOO_MANY,
    Admission.COOLING_DOWN: COOLING_DOWN,
    Admission.NOT_INVITED: NOT_INVITED,
    Admission.DRAWING: DRAWING,
    Admission.ACCOUNT_TOO_NEW: ACCOUNT_TOO_NEW,
    Admission.NOT_IN_AUDIENCE: NOT_IN_AUDIENCE,
}


class ShopperInSale(Struct, frozen=True, kw_only=True):
    """What is known of one shopper in one sale."""

    units: int = 0
    """Units the shopper occupies."""
    cooling_until: datetime | None = None
    invited: bool = True
    registered_at: datetime | None = None
    is_new: bool = False
    """The account is younger than the sale asks for."""
    missed: AudienceType | None = None
    """What of the sale's audience the shopper does not meet."""


def admit(sale: Sale, standing: ShopperInSale, units: int, now: datetime) -> Admission:  # noqa: PLR0911 - one for each no
    """Decide one claim, in the order in which `claim.lua` decides it (a test holds the two together).

    The sale comes first, then the shopper: what everybody hears who holds nothing, the turnstile says without asking.
    Attempts a minute are left out: they depend on the attempts before.
    """
    no = _no_of_sale(sale, standing.units, now)
    if no is not None:
        return no
    if standing.is_new:
        return Admission.ACCOUNT_TOO_NEW
    if standing.missed is not None:
        return Admission.NOT_IN_AUDIENCE
    if sale.protection.allow_list_only and not standing.invited:
        return Admission.NOT_INVITED
    if standing.cooling_until is not None and now < standing.cooling_until:
        return Admission.COOLING_DOWN
    if sale.draw_at is not None and sale.drawn_at is None:
        return Admission.DRAWING
    if standing.units + units > sale.max_per_shopper:
        return Admission.LIMIT_REACHED
    if sale.taken + units > sale.units_total:
        return Admission.SOLD_OUT
    return Admission.WON


def _no_of_sale(sale: Sale, held_units: int, now: datetime) -> Admission | None:
    if sale.state == "ended" or now >= sale.closes_at:
        return Admission.ENDED
    if sale.state == "paused":
        return Admission.PAUSED
    if sale.state == "draft" or now < sale.opens_at:
        return Admission.NOT_OPEN
    return Admission.SOLD_OUT if held_units == 0 and sale.taken >= sale.units_total else None


def refusal_of(sale: Sale, standing: ShopperInSale, units: int, now: datetime) -> Kind | None:
    """Return what one claim would be refused as, or None if it would win."""
    return REFUSED_AS.get(admit(sale, standing, units, now))


def because(sale: Sale, standing: ShopperInSale, kind: Kind | None, now: datetime) -> str:
    """Say to an operator why a claim would get what it gets."""
    if kind is None:
        return f"{sale.units_left} of {sale.units_total} units are left and the shopper holds {standing.units}."
    facts = {
        NOT_OPEN.code: "It is still a draft."
        if sale.state == "draft"
        else f"It opens at {rfc3339(sale.opens_at)}, in {milliseconds_until(sale.opens_at, now) / 1000:.0f} s.",
        ENDED.code: f"It closed at {rfc3339(sale.ended_at or sale.closes_at)}.",
        LIMIT_REACHED.code: f"The shopper holds {standing.units} of {sale.max_per_shopper} allowed units.",
        SOLD_OUT.code: f"{sale.units_left} of {sale.units_total} units are left.",
        COOLING_DOWN.code: f"Until {rfc3339(standing.cooling_until)}." if standing.cooling_until else "",
        DRAWING.code: f"Entries are drawn at {rfc3339(sale.draw_at)}." if sale.draw_at else "",
        NOT_IN_AUDIENCE.code: f"The shopper does not meet {standing.missed}.",
        NOT_INVITED.code: "The shopper is not on the allow-list.",
        ACCOUNT_TOO_NEW.code: "The shop never told when this account was registered."
        if standing.registered_at is None
        else f"The account was registered at {rfc3339(standing.registered_at)}.",
    }
    return f"{kind.title} {facts.get(kind.code, '')}".strip()


def account_too_new(sale: Sale, registered_at: datetime | None, now: datetime) -> bool:
    """Say whether the sale's minimum age turns the account away; one the shop never told of counts as new."""
    seconds = sale.protection.minimum_account_age_seconds
    if seconds is None:
        return False
    return registered_at is None or now - registered_at < timedelta(seconds=seconds)


def longest_wait(cool_down_seconds: int) -> timedelta:
    """Say how long after a lapse a sale may still keep somebody out."""
    return min(timedelta(seconds=cool_down_seconds * 2**MAX_COOL_DOWN_DOUBLINGS), COOL_DOWN_FORGIVEN_AFTER)


def cooling_until(cool_down_seconds: int, lapses: int, last_lapsed_at: datetime) -> datetime:
    """Say when a shopper with `lapses` lapsed holds may claim again: the wait doubles with each, until forgiven."""
    wait = timedelta(seconds=cool_down_seconds * 2 ** min(lapses - 1, MAX_COOL_DOWN_DOUBLINGS))
    return last_lapsed_at + min(wait, COOL_DOWN_FORGIVEN_AFTER)


def faults(draft: SaleDraft) -> list[FieldError]:
    """Return what does not fit together in a draft, by field."""
    found = []
    if draft.list_price_fen < draft.price_fen:
        found.append(FieldError("list_price_fen", "Must be at least price_fen"))
    if draft.max_per_shopper > draft.units_total:
        found.append(FieldError("max_per_shopper", "Cannot exceed units_total"))
    if window := faults_of_window(draft, MAX_WINDOW):
        found += window
    elif draft.draw_at is not None and draft.closes_at - draft.draw_at < TIME_TO_DRAW:
        seconds = TIME_TO_DRAW // timedelta(seconds=1)
        found.append(FieldError("protection.draw_seconds", f"Must end {seconds} s before the sale, or nobody draws"))
    return found


def findings(draft: SaleDraft) -> list[Finding]:
    """Return what rules of platforms and law say about a sale: it rewards nothing but buying."""
    return check(Offer(deed=Deed.PURCHASE, price_by_list=is_chosen(draft.audience), texts=(draft.title,)))


def recipes(now: datetime, zone: ZoneInfo) -> list[Recipe[SaleDraft]]:
    """Return ready drafts."""
    opens_at = next_at(20, now, zone)

    def sale(title: str, price_fen: int, list_price_fen: int, units: int, **more: Any) -> SaleDraft:
        times: dict[str, Any] = {"opens_at": opens_at, "closes_at": opens_at + timedelta(hours=2)}
        priced: dict[str, Any] = {"price_fen": price_fen, "list_price_fen": list_price_fen}
        return SaleDraft(title=title, sku="SKU", units_total=units, **priced, **times, **more)

    return [
        Recipe("one_yuan", "Flash sale at 1 yuan", "1 元秒杀", sale("1 元秒杀", 100, 4900, 100)),
        Recipe("half_price", "Tonight at half the price", "今晚半价", sale("今晚八点半价", 4900, 9800, 500)),
        Recipe(
            "newcomers",
            "Newcomers only",
            "新人专享价",
            sale("新人专享价", 990, 4900, 1000, audience=[Newcomers()]),
        ),
    ]


SALES = CampaignKind(
    noun="flash sale",
    nouns="flash sales",
    path="flash-sales",
    audited_as="flash_sale",
    table="flash_sale.sales",
    id_field="sale_id",
    draft=SaleDraft,
    campaign=Sale,
    faults=faults,
    findings=findings,
    told={"publish": FlashSalePublished, "pause": FlashSalePaused, "resume": FlashSaleResumed, "end": FlashSaleEnded},
    not_found=NOT_FOUND,
    wrong_state=WRONG_STATE,
    version_mismatch=VERSION_MISMATCH,
    not_compliant=NOT_COMPLIANT,
    locked_field=LOCKED_FIELD,
    recipes=recipes,
    changeable_once_open=frozenset(
        {"title", "units_total", "max_per_shopper", "closes_at", "hold_seconds", "protection"}
    ),
)


def check_edit(sale: Sale, draft: SaleDraft, now: datetime) -> None:
    """Refuse edits that would hurt shoppers who already see the sale, or that drop it below what is taken."""
    keep_window(SALES, sale, draft, now)
    if sale.state == "draft":
        return
    if now >= sale.opens_at and sale.protection.draw_seconds != draft.protection.draw_seconds:
        raise locked(SALES, "protection.draw_seconds", "The draw is fixed once the sale has opened.")
    if draft.units_total < sale.taken:
        raise locked(SALES, "units_total", f"{sale.taken} units are taken already.", units_taken=sale.taken)
