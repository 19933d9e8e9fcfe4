"""What a lucky bag is. No I/O."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from growth.kit.campaign.findings import Finding
from growth.kit.campaign.model import CampaignKind, State
from growth.plumbing.strict_json import Instant
from growth.rewards.compliance import Offer, check
from growth.vocabulary.facts import Deed
from growth.vocabulary.ids import Uuid
from growth.vocabulary.refusals import Kind
from growth.vocabulary.text import Title
from tests.house.lucky_bag.events import LuckyBagEnded, LuckyBagPublished

NOT_FOUND = Kind("lucky_bag.not_found", "There is no such lucky bag.", 404)
WRONG_STATE = Kind("lucky_bag.wrong_state", "The lucky bag's state does not allow this.")
VERSION_MISMATCH = Kind("lucky_bag.version_mismatch", "Somebody else changed the lucky bag.", 412)
NOT_COMPLIANT = Kind("lucky_bag.not_compliant", "Rules of platforms or law speak against the lucky bag.")
NOT_LIVE = Kind("lucky_bag.not_live", "Bags of this campaign cannot be opened now.")
SOLD_OUT = Kind("lucky_bag.sold_out", "All bags are opened.")


class LuckyBagDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator fills in."""

    title: Title
    units_total: Annotated[int, Meta(ge=1, le=1_000_000)]
    points: Annotated[int, Meta(ge=1, le=10_000)]
    closes_at: Instant


class LuckyBag(LuckyBagDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A campaign as Postgres knows it."""

    lucky_bag_id: Uuid
    taken: int
    state: State
    version: int
    created_at: datetime
    published_at: datetime | None
    ended_at: datetime | None


class LuckyBagPage(Struct, frozen=True, kw_only=True):
    """What a shopper sees."""

    lucky_bag_id: Uuid
    title: str
    points: int
    units_left: int
    opened: bool


def findings(draft: LuckyBagDraft) -> list[Finding]:
    """Return what rules of platforms and law say about a lucky bag."""
    return check(Offer(deed=Deed.OTHER, texts=(draft.title,)))


LUCKY_BAGS = CampaignKind(
    noun="lucky bag",
    nouns="lucky bags",
    path="lucky-bags",
    audited_as="lucky_bag",
    table="lucky_bag.campaigns",
    id_field="lucky_bag_id",
    draft=LuckyBagDraft,
    campaign=LuckyBag,
    findings=findings,
    told={"publish": LuckyBagPublished, "end": LuckyBagEnded},
    not_found=NOT_FOUND,
    wrong_state=WRONG_STATE,
    version_mismatch=VERSION_MISMATCH,
    not_compliant=NOT_COMPLIANT,
)
