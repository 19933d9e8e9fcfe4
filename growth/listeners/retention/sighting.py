"""What counts as a shopper being active: by which event or activity, by whose doing, at which time.

Only what the shopper did. What was done to him (a hold that lapsed, a reminder, a refund, a coupon that was granted) is
no visit, though it names him. The facts of an event say so.
"""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from growth.listeners.retention.model import KINDS
from growth.plumbing.outbox.outbox import events_below
from growth.shopper.activity.model import Activity
from growth.vocabulary.activities import CLIENTS
from growth.vocabulary.events import Event
from growth.vocabulary.events.referral import ReferralBound
from growth.vocabulary.events.shop import ShopRegistrationCorrected, ShopShopperRegistered
from growth.vocabulary.facts import FunnelStage
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


def visits() -> frozenset[str]:
    """Return the types of the events that can be a visit."""
    return frozenset(type_ for type_, event in events_below(Event) if event.facts and event.facts.visit)


def sighting_of(activity: Activity) -> Sighting:
    """Return what the log of activities tells. What the shop made up itself is activity too."""
    facts = CLIENTS.get(activity.type)
    kind, step = ("shop", None) if facts is None or facts.visit is None else (facts.visit, facts.step)
    if kind == "app" and str(activity.data.get("scene", "")).startswith(INVITATION):
        step = FunnelStage.INVITED
    return Sighting(user_id=activity.user_id, at=activity.at, kind=KINDS.index(kind), step=step)


def sightings_in(event: Event) -> Iterable[Sighting]:
    """Yield what an event tells of a shopper's activity."""
    facts = event.facts
    if facts is None or facts.visit is None:
        return
    if facts.only is not None and facts.only not in {getattr(event, "reason", None), getattr(event, "source", None)}:
        return
    user_id = getattr(event, facts.by)
    source = inviter = None
    if isinstance(event, ShopShopperRegistered | ShopRegistrationCorrected):
        source = (event.source or "")[:MAX_SOURCE_CHARACTERS]
    if isinstance(event, ReferralBound):
        if is_alias(user_id):
            return
        inviter = None if is_alias(event.inviter_id) else event.inviter_id
    yield Sighting(
        user_id=user_id,
        # Not after it was heard of, as in every room.
        at=min(getattr(event, facts.occurred_at), event.at),
        kind=KINDS.index(facts.visit),
        source=source,
        inviter=inviter,
        step=facts.step if facts.step_if is None or getattr(event, facts.step_if) else None,
    )
