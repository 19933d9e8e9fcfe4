"""Events of group buys."""

from datetime import datetime

from growth.vocabulary.events.base import Event
from growth.vocabulary.facts import Facts, FunnelStage


class GroupBuyEvent(Event, frozen=True, kw_only=True):
    """Base of what happens around one group-buy campaign."""

    group_buy_id: str

    @property
    def subject(self) -> str:
        """The campaign."""
        return self.group_buy_id


class GroupBuyPublished(GroupBuyEvent, frozen=True, kw_only=True, tag="group_buy.published"):
    """A campaign became visible to shoppers."""

    sku: str
    opens_at: datetime
    closes_at: datetime


class GroupBuyPaused(GroupBuyEvent, frozen=True, kw_only=True, tag="group_buy.paused"):
    """An operator stopped new seats for now."""


class GroupBuyResumed(GroupBuyEvent, frozen=True, kw_only=True, tag="group_buy.resumed"):
    """An operator let seats be taken again."""


class GroupBuyEnded(GroupBuyEvent, frozen=True, kw_only=True, tag="group_buy.ended"):
    """The window closed, or an operator ended the campaign early. Its teams end at their own time."""

    units_total: int
    units_taken: int


class GroupBuyTeamEvent(GroupBuyEvent, frozen=True, kw_only=True):
    """Base of what happens to one team."""

    team_id: str

    @property
    def subject(self) -> str:
        """The team."""
        return self.team_id


class GroupBuyTeamOpened(GroupBuyTeamEvent, frozen=True, kw_only=True, tag="group_buy.team_opened"):
    """A shopper leads a new team."""

    facts = Facts(visit="group_buy")

    user_id: str
    team_size: int
    expires_at: datetime


class GroupBuyTeamComplete(GroupBuyTeamEvent, frozen=True, kw_only=True, tag="group_buy.team_complete"):
    """The team has what it needs; those who paid have bought."""

    facts = Facts(counts_for="user_ids")

    reason: str
    """`full`; `threshold` when its time was over and enough had paid; `operator`."""
    user_ids: list[str]
    """Those who paid."""


class GroupBuyTeamFailed(GroupBuyTeamEvent, frozen=True, kw_only=True, tag="group_buy.team_failed"):
    """The team ended without what it needs; each who paid is owed a refund, told by an event of its own."""

    facts = Facts(counts_for="user_ids")

    reason: str
    """`expired`, `leader_left` (before anyone paid) or `operator`."""
    user_ids: list[str]
    """Those who had a seat, paid or held."""


class GroupBuyLeaderChanged(GroupBuyTeamEvent, frozen=True, kw_only=True, tag="group_buy.leader_changed"):
    """The leader left; who paid first of those still there leads now."""

    facts = Facts()

    user_id: str


class GroupBuyOneSeatLeft(GroupBuyTeamEvent, frozen=True, kw_only=True, tag="group_buy.one_seat_left"):
    """One seat of a team is free, and somebody has paid. Once for each team."""

    facts = Facts(counts_for="user_ids")

    user_ids: list[str]
    """The members, held or paid."""
    expires_at: datetime


class GroupBuyExpiringSoon(GroupBuyTeamEvent, frozen=True, kw_only=True, tag="group_buy.expiring_soon"):
    """A team that somebody has paid in will soon be over. Once for each team."""

    facts = Facts(counts_for="user_ids")

    user_ids: list[str]
    """The members, held or paid."""
    seats_missing: int
    """Payments it still takes."""
    expires_at: datetime


class GroupBuySeatEvent(GroupBuyTeamEvent, frozen=True, kw_only=True):
    """Base of what happens to one seat."""

    facts = Facts()

    seat_id: str
    user_id: str


class GroupBuySeatHeld(GroupBuySeatEvent, frozen=True, kw_only=True, tag="group_buy.seat_held"):
    """A seat is held for a shopper until `held_until`."""

    facts = Facts(visit="group_buy", step=FunnelStage.CLAIMED)

    held_until: datetime
    is_leader: bool


class GroupBuySeatPaid(GroupBuySeatEvent, frozen=True, kw_only=True, tag="group_buy.seat_paid"):
    """An order paid for the seat."""

    facts = Facts(visit="group_buy", step=FunnelStage.PAID, undone_by="group_buy.seat_refunded", key="seat_id")

    order_id: str
    late: bool
    """The hold was over, and a seat was taken again: in this team, or in a new one."""


class GroupBuySeatReleased(GroupBuySeatEvent, frozen=True, kw_only=True, tag="group_buy.seat_released"):
    """A hold ended without payment."""

    facts = Facts(visit="group_buy", only="shopper")

    reason: str
    """`shopper`, `lapsed`, `order_closed`, `team_complete`, `team_failed` or `newcomers_only`."""


class GroupBuySeatRefunded(GroupBuySeatEvent, frozen=True, kw_only=True, tag="group_buy.seat_refunded"):
    """The order line that paid for the seat was paid back whole."""

    order_id: str


class GroupBuyRefundRequired(GroupBuySeatEvent, frozen=True, kw_only=True, tag="group_buy.refund_required"):
    """Deprecated: listen to `shop.refund_required`, which tells what is owed of a line once, for all reasons together.

    The shop must pay `amount_fen` of this order line back. Once for each line. Ends with the next release.
    """

    order_id: str
    line_id: str
    amount_fen: int
    reason: str
    """A code: `group_buy.team_failed`, `.overpaid` (a lower tier was reached), `.paid_late`, `.newcomers_only` …"""
