"""What counts as a shopper being active: which events, by which of their fields, at which time.

Only what the shopper did. What was done to him (a hold that lapsed, a reminder, a refund, a coupon that was granted) is
no visit, though it names him. Every event of the catalogue is in one of the two tables; a test asks for it.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from growth.listeners.retention.model import KINDS, FunnelStage
from growth.shopper.activity.model import Activity
from growth.vocabulary.events import Event
from growth.vocabulary.ids import is_alias

MAX_SOURCE_CHARACTERS = 64
"""Of a source's name; what is longer is cut."""
INVITATION = "i="
"""How the `scene` begins with which a mini-program is opened from an invitation, see the room of referrals."""


class Sighting(Struct, frozen=True, kw_only=True):
    """A shopper did something."""

    user_id: str
    at: datetime
    kind: int
    """The bit of `model.KINDS`."""
    source: str | None = None
    """Of a registration: where the shopper came from, nothing if that was not told. None for all else."""
    inviter: str | None = None
    """Of a binding."""
    step: FunnelStage | None = None
    """Which step of a funnel it is."""


Extract = Callable[[Any], Iterable[Sighting]]


def _by(
    kind: str, at: str = "at", user: str = "user_id", step: FunnelStage | None = None, reason: str | None = None
) -> Extract:
    """Return what reads one sighting off an event; with `reason`, only off those that have it (or that `source`)."""
    bit = KINDS.index(kind)

    def extract(event: Any) -> Iterable[Sighting]:
        if reason is None or reason in {getattr(event, "reason", None), getattr(event, "source", None)}:
            # Not after it was heard of, as in every room.
            when = min(getattr(event, at), event.at)
            yield Sighting(user_id=getattr(event, user), at=when, kind=bit, step=step)

    return extract


def _registered(event: Any) -> Iterable[Sighting]:
    source = (event.source or "")[:MAX_SOURCE_CHARACTERS]
    at = min(event.registered_at, event.at)
    yield Sighting(user_id=event.user_id, at=at, kind=KINDS.index("registration"), source=source)


def _bound(event: Any) -> Iterable[Sighting]:
    # By hand of an operator it is no visit of the invitee, nor would anybody have been invited before.
    if event.source == "shopper" and not is_alias(event.invitee_id):
        inviter = None if is_alias(event.inviter_id) else event.inviter_id
        yield Sighting(user_id=event.invitee_id, at=event.at, kind=KINDS.index("referral"), inviter=inviter)


def _paid(event: Any) -> Iterable[Sighting]:
    # Who pays nothing was here, and has not bought.
    step = FunnelStage.BOUGHT if event.is_purchase else None
    yield Sighting(user_id=event.user_id, at=event.paid_at, kind=KINDS.index("order"), step=step)


ACTIVITY: Mapping[str, Extract] = {
    "flash_sale.claim_held": _by("flash_sale", step=FunnelStage.CLAIMED),
    "flash_sale.claim_paid": _by("flash_sale", step=FunnelStage.PAID),
    "flash_sale.claim_released": _by("flash_sale", reason="shopper"),
    "group_buy.team_opened": _by("group_buy"),
    "group_buy.seat_held": _by("group_buy", step=FunnelStage.CLAIMED),
    "group_buy.seat_paid": _by("group_buy", step=FunnelStage.PAID),
    "group_buy.seat_released": _by("group_buy", reason="shopper"),
    "referral.bound": _bound,
    "checkin.checked_in": _by("checkin"),
    "checkin.made_up": _by("checkin"),
    "task.completed": _by("task"),
    "coupon.issued": _by("coupon", reason="taken"),
    "coupon.used": _by("coupon"),
    "shop.order_placed": _by("order", at="placed_at"),
    "shop.order_paid": _paid,
    "shop.order_corrected": _paid,
    "shop.shopper_registered": _registered,
    "shop.registration_corrected": _registered,
    "withdrawal.requested": _by("referral"),
    "withdrawal.cancelled": _by("referral"),
}

NO_ACTIVITY: frozenset[str] = frozenset(
    {
        # What operators do.
        "flash_sale.published",
        "flash_sale.paused",
        "flash_sale.resumed",
        "flash_sale.ended",
        "flash_sale.drawn",
        "group_buy.published",
        "group_buy.paused",
        "group_buy.resumed",
        "group_buy.ended",
        "referral.program_published",
        "referral.program_paused",
        "referral.program_resumed",
        "referral.program_ended",
        "referral.relation_ended",
        "checkin.program_published",
        "checkin.program_paused",
        "checkin.program_resumed",
        "checkin.program_ended",
        "task.published",
        "task.paused",
        "task.resumed",
        "task.ended",
        "coupon.template_published",
        "coupon.template_paused",
        "coupon.template_resumed",
        "coupon.template_ended",
        "commission.released",
        "commission.voided",
        "withdrawal.approved",
        "withdrawal.paid",
        "withdrawal.failed",
        "withdrawal.rejected",
        "webhook.endpoint_disabled",
        "webhook.test",
        # What follows by itself, from the clock or from what others do.
        "flash_sale.sold_out",
        "flash_sale.reminder_due",
        "flash_sale.claim_refunded",
        "flash_sale.refund_required",
        "group_buy.team_complete",
        "group_buy.team_failed",
        "group_buy.leader_changed",
        "group_buy.one_seat_left",
        "group_buy.expiring_soon",
        "group_buy.seat_refunded",
        "group_buy.refund_required",
        "referral.suspected",
        "referral.invitee_bought",
        "referral.invitee_valid",
        "referral.invitee_lost",
        "referral.milestone_reached",
        "referral.milestone_lost",
        "checkin.frozen",
        "checkin.streak_at_risk",
        "checkin.streak_broken",
        "task.undone",
        "coupon.returned",
        "coupon.expiring",
        "coupon.expired",
        "coupon.voided",
        "coupon.refund_required",
        "commission.pending",
        "commission.changed",
        "commission.available",
        "commission.under_review",
        "granting.granted",
        "granting.revoked",
        # A receipt is often confirmed by the carrier, a refund or a closed order by the shop.
        "shop.order_received",
        "shop.order_refunded",
        "shop.refund_required",
        "shop.order_lines_added",
        "shop.order_closed",
    }
)


_OF_CLIENTS: Mapping[str, tuple[str, FunnelStage | None]] = {
    "app.opened": ("app", None),
    "page.viewed": ("app", None),
    "product.viewed": ("product", FunnelStage.VIEWED),
    "content.shared": ("share", None),
}


def sighting_of(activity: Activity) -> Sighting:
    """Return what the log of activities tells. What the shop made up itself is activity too."""
    kind, step = _OF_CLIENTS.get(activity.type, ("shop", None))
    if kind == "app" and str(activity.data.get("scene", "")).startswith(INVITATION):
        step = FunnelStage.INVITED
    return Sighting(user_id=activity.user_id, at=activity.at, kind=KINDS.index(kind), step=step)


def sightings_in(event: Event) -> Iterable[Sighting]:
    """Return what an event tells of shoppers' activity."""
    extract = ACTIVITY.get(str(event.__struct_config__.tag))
    return () if extract is None else extract(event)
