"""What a campaign is, and what is wrong with one: decisions without I/O."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

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
from growth.vocabulary.audience import Audience, AudienceType, is_chosen, types_of
from growth.vocabulary.clock import milliseconds_until
from growth.vocabulary.events.group_buy import GroupBuyEnded, GroupBuyPaused, GroupBuyPublished, GroupBuyResumed
from growth.vocabulary.facts import Deed
from growth.vocabulary.ids import GroupBuyId, Sku
from growth.vocabulary.money import Fen
from growth.vocabulary.refusals import Kind
from growth.vocabulary.text import Title

MAX_UNITS = 1_000_000
MAX_TEAM_SIZE = 100
MAX_SEATS_PER_SHOPPER = 100
MAX_TEAM_HOURS = 168
MAX_TIERS = 10
MAX_WINDOW = timedelta(days=92)

NOT_FOUND = Kind("group_buy.not_found", "There is no such group buy.", 404)
NOT_OPEN = Kind("group_buy.not_open", "The group buy has not opened yet.")
SOLD_OUT = Kind("group_buy.sold_out", "All units are taken.")
ENDED = Kind("group_buy.ended", "The group buy has ended.")
PAUSED = Kind("group_buy.paused", "The group buy is paused.")
LIMIT_REACHED = Kind("group_buy.limit_reached", "This shopper has as many seats as the group buy allows.")
WRONG_STATE = Kind("group_buy.wrong_state", "The group buy's state does not allow this.")
LOCKED_FIELD = Kind("group_buy.locked_field", "The field can no longer be changed.")
VERSION_MISMATCH = Kind("group_buy.version_mismatch", "Somebody else changed the group buy.", 412)
NOT_COMPLIANT = Kind("group_buy.not_compliant", "Rules of platforms or law speak against the group buy.")

TeamSize = Annotated[int, Meta(ge=2, le=MAX_TEAM_SIZE)]


class Tier(Struct, frozen=True, forbid_unknown_fields=True):
    """A price that a team reaches with so many paid members."""

    size: Annotated[int, Meta(ge=1, le=MAX_TEAM_SIZE)]
    price_fen: Fen


class GroupBuyDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator decides about a group buy. A seat is one unit of the SKU."""

    title: Title
    sku: Sku
    list_price_fen: Fen
    """The price of buying alone, shown struck through; at least `price_fen`."""
    price_fen: Fen
    """What a seat costs. With tiers, what is paid first: the price of the smallest size."""
    leader_price_fen: Fen | None = None
    """What the seat of whoever opens a team costs; the same, if left out."""
    team_size: TeamSize = 3
    tiers: Annotated[list[Tier], Meta(max_length=MAX_TIERS)] = []
    """Sizes that rise and prices that fall; the largest size is `team_size`. What the size reached at the team's end
    makes cheaper than what was paid is owed back to each member."""
    team_hours: Annotated[int, Meta(ge=1, le=MAX_TEAM_HOURS)] = 24
    """How long a team may form; it never outlives `closes_at`."""
    hold_seconds: Annotated[int, Meta(ge=60, le=3600)] = 900
    """How long a seat waits for its payment."""
    units_total: Annotated[int, Meta(ge=1, le=MAX_UNITS)]
    max_per_shopper: Annotated[int, Meta(ge=1, le=MAX_SEATS_PER_SHOPPER)] = 1
    """Seats over the whole campaign; at any time in one forming team only."""
    opens_at: Instant
    closes_at: Instant
    complete_at_least: Annotated[int, Meta(ge=1, le=MAX_TEAM_SIZE)] | None = None
    """When a team's time is over: complete with so many paid members. If left out, `team_size`; with tiers, the
    smallest size. Members are never invented."""
    newcomers_at_least: Annotated[int, Meta(ge=0, le=MAX_TEAM_SIZE)] = 0
    """So many members must never have bought; judged when they pay."""
    late_payment: Literal["refund", "open_new_team"] = "refund"
    """A payment for a seat that was given away meanwhile: pay back, or let the payer lead a new team."""
    nudge_lead_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 7200
    """How long before a team's end `group_buy.expiring_soon` is told, but never in the first half of its time."""
    audience: Audience = []
    """Who may open and join teams: all of these must hold when a seat is asked for; everybody, if empty."""

    @property
    def threshold(self) -> int:
        """Paid members that complete a team when its time is over."""
        if self.complete_at_least is not None:
            return self.complete_at_least
        return self.tiers[0].size if self.tiers else self.team_size

    @property
    def leader_pays_fen(self) -> int:
        """The price of the leader's seat."""
        return self.price_fen if self.leader_price_fen is None else self.leader_price_fen


class GroupBuy(GroupBuyDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group buy as Postgres knows it."""

    group_buy_id: GroupBuyId
    state: State
    version: int
    taken: int
    created_at: datetime
    published_at: datetime | None
    ended_at: datetime | None

    @property
    def units_taken(self) -> int:
        """Units that somebody has a seat for."""
        return self.taken

    @property
    def units_left(self) -> int:
        """Units nobody has a seat for."""
        return self.units_total - self.taken

    def expires_at(self, opened_at: datetime) -> datetime:
        """Say when a team opened then is over."""
        return min(opened_at + timedelta(hours=self.team_hours), self.closes_at)

    def nudge_at(self, opened_at: datetime) -> datetime:
        """Say when members of a team opened then are told that it expires soon."""
        expires_at = self.expires_at(opened_at)
        return max(expires_at - timedelta(seconds=self.nudge_lead_seconds), opened_at + (expires_at - opened_at) / 2)


class GroupBuyPage(Struct, frozen=True, kw_only=True):
    """A group buy as shoppers see it."""

    group_buy_id: GroupBuyId
    title: str
    sku: str
    list_price_fen: int
    price_fen: int
    leader_price_fen: int
    team_size: int
    tiers: list[Tier]
    complete_at_least: int
    newcomers_at_least: int
    team_hours: int
    units_total: int
    units_left: int
    max_per_shopper: int
    audience: list[AudienceType]
    """What shoppers must be to get a seat; everybody may, if empty."""
    state: PageState
    opens_at: datetime
    closes_at: datetime
    server_time: datetime
    opens_in_ms: int
    closes_in_ms: int


def page(campaign: GroupBuy, now: datetime) -> GroupBuyPage:
    """Show `campaign` at `now`."""
    return alike(
        GroupBuyPage,
        campaign,
        leader_price_fen=campaign.leader_pays_fen,
        complete_at_least=campaign.threshold,
        units_left=max(0, campaign.units_left),
        audience=types_of(campaign.audience),
        state=page_state(campaign, campaign.units_left, now),
        server_time=now,
        opens_in_ms=milliseconds_until(campaign.opens_at, now),
        closes_in_ms=milliseconds_until(campaign.closes_at, now),
    )


def refused_by_campaign(campaign: GroupBuy, now: datetime) -> Kind | None:
    """Say why nobody gets a seat of this campaign at `now`; None if seats are to be had."""
    state = page_state(campaign, campaign.units_left, now)
    return {"ended": ENDED, "paused": PAUSED, "scheduled": NOT_OPEN, "sold_out": SOLD_OUT}.get(state)


def tier_price(campaign: GroupBuyDraft, seats_paid: int) -> int:
    """Return the price of a seat in a complete team of so many paid members."""
    reached = [tier.price_fen for tier in campaign.tiers if tier.size <= seats_paid]
    return min(reached, default=campaign.price_fen)


def overpaid_fen(campaign: GroupBuyDraft, seats_paid: int, price_fen: int, paid_fen: int) -> int:
    """Return what a member who paid `paid_fen` for a seat of `price_fen` is owed when the team is complete."""
    return min(paid_fen, max(0, price_fen - tier_price(campaign, seats_paid)))


def faults(draft: GroupBuyDraft) -> list[FieldError]:
    """Return what does not fit together in a draft, by field."""
    found = []
    if draft.list_price_fen < draft.price_fen:
        found.append(FieldError("list_price_fen", "Must be at least price_fen"))
    if draft.leader_price_fen is not None and draft.leader_price_fen > draft.price_fen:
        found.append(FieldError("leader_price_fen", "Cannot exceed price_fen"))
    if draft.units_total < draft.team_size:
        found.append(FieldError("units_total", "Must be enough for one team"))
    if draft.complete_at_least is not None and draft.complete_at_least > draft.team_size:
        found.append(FieldError("complete_at_least", "Cannot exceed team_size"))
    if draft.newcomers_at_least > draft.team_size:
        found.append(FieldError("newcomers_at_least", "Cannot exceed team_size"))
    return found + faults_of_window(draft, MAX_WINDOW) + _faults_of_tiers(draft)


def _faults_of_tiers(draft: GroupBuyDraft) -> list[FieldError]:
    if not draft.tiers:
        return []
    found = []
    for index, (tier, after) in enumerate(zip(draft.tiers, draft.tiers[1:], strict=False), start=1):
        if after.size <= tier.size:
            found.append(FieldError(f"tiers[{index}].size", "Sizes must rise"))
        if after.price_fen >= tier.price_fen:
            found.append(FieldError(f"tiers[{index}].price_fen", "Prices must fall"))
    if draft.tiers[0].price_fen != draft.price_fen:
        found.append(FieldError("tiers[0].price_fen", "The smallest size has price_fen: seats are sold for it"))
    if draft.tiers[-1].size != draft.team_size:
        found.append(FieldError("tiers", "The largest size must be team_size"))
    return found


def findings(draft: GroupBuyDraft) -> list[Finding]:
    """Return what rules of platforms and law say about a group buy: it rewards nothing but buying."""
    return check(Offer(deed=Deed.PURCHASE, price_by_list=is_chosen(draft.audience), texts=(draft.title,)))


def recipes(now: datetime, zone: ZoneInfo) -> list[Recipe[GroupBuyDraft]]:
    """Return ready drafts."""
    opens_at = next_at(10, now, zone)

    def team(title: str, price_fen: int, size: int, **more: Any) -> GroupBuyDraft:
        times: dict[str, Any] = {"opens_at": opens_at, "closes_at": opens_at + timedelta(days=7)}
        priced: dict[str, Any] = {"price_fen": price_fen, "list_price_fen": 9800}
        return GroupBuyDraft(title=title, sku="SKU", team_size=size, units_total=600, **priced, **times, **more)

    tiers = [Tier(2, 7900), Tier(5, 5900), Tier(10, 4900)]
    return [
        Recipe("half_price_for_three", "Three at half the price", "三人半价团", team("三人半价团", 4900, 3)),
        Recipe(
            "bring_newcomers",
            "Bring two newcomers",
            "老带新团",
            team("老带新三人团", 4900, 3, newcomers_at_least=2),
        ),
        Recipe("tiers", "The more, the cheaper", "阶梯团", team("人越多越便宜", 7900, 10, tiers=tiers)),
    ]


GROUP_BUYS = CampaignKind(
    noun="group buy",
    nouns="group buys",
    path="group-buys",
    audited_as="group_buy",
    table="group_buy.campaigns",
    id_field="group_buy_id",
    draft=GroupBuyDraft,
    campaign=GroupBuy,
    faults=faults,
    findings=findings,
    told={"publish": GroupBuyPublished, "pause": GroupBuyPaused, "resume": GroupBuyResumed, "end": GroupBuyEnded},
    not_found=NOT_FOUND,
    wrong_state=WRONG_STATE,
    version_mismatch=VERSION_MISMATCH,
    not_compliant=NOT_COMPLIANT,
    locked_field=LOCKED_FIELD,
    recipes=recipes,
    changeable_once_open=frozenset(
        {"title", "units_total", "max_per_shopper", "closes_at", "hold_seconds", "late_payment", "nudge_lead_seconds"}
    ),
)


def check_edit(campaign: GroupBuy, draft: GroupBuyDraft, now: datetime) -> None:
    """Refuse edits that would hurt shoppers who already see the campaign, or that drop it below what is taken."""
    keep_window(GROUP_BUYS, campaign, draft, now)
    if campaign.state != "draft" and draft.units_total < campaign.taken:
        told = f"{campaign.taken} units are taken already."
        raise locked(GROUP_BUYS, "units_total", told, units_taken=campaign.taken)
