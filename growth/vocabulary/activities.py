"""Activities: what a shopper did outside of our own mechanics, as somebody other than the shopper's client tells it."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from growth.vocabulary.facts import Deed, Facts, FunnelStage
from growth.vocabulary.orders import Outcome

CLIENTS: Mapping[str, Facts] = {
    "app.opened": Facts(visit="app", does=Deed.OPEN),
    "page.viewed": Facts(visit="app", does=Deed.OPEN),
    "product.viewed": Facts(visit="product", step=FunnelStage.VIEWED, does=Deed.OPEN),
    "content.shared": Facts(visit="share", does=Deed.SHARE),
}
"""What the activities are that shoppers' clients tell; those of the shop's own are its own affair."""


class ActivityTold(Struct, frozen=True, kw_only=True):
    """One activity as it was told; nothing of it has been looked at but the form of its envelope."""

    source: str
    id: str
    """Unique within `source`."""
    type: str
    at: datetime
    data: object
    """An object with `user_id`, and whatever else the type has, flat."""


class ActivityHeard(Struct, frozen=True):
    """What became of it."""

    outcome: Outcome
    """`applied`, `duplicate`, `ignored` (a type that is none) or `rejected`."""
    code: str = ""
    detail: str = ""
