"""Who is admitted to campaigns: the rooms that keep the facts answer, a question for a whole batch.

What is decided stands as of the look at the facts: in the transaction that admits, or for a flash sale when the claim
arrives. Lists name shoppers as they are today: a merge and an erasure rewrite them, and a draft is written so.
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from growth.kit.campaign import store
from growth.kit.campaign.model import CampaignKind
from growth.plumbing.postgres.database import Reader, Tx
from growth.vocabulary.audience import NOT_IN_AUDIENCE, AudienceType, Condition, Listed
from growth.vocabulary.refusals import Refusal

K = TypeVar("K", bound=Hashable)
D = TypeVar("D", bound=Struct)


class Candidate(Struct, frozen=True, eq=False):
    """A shopper who wants to be admitted."""

    audience: Sequence[Condition]
    user_id: str
    at: datetime | None = None
    """As of when; now, if None."""


class Asked(Struct, frozen=True):
    """Whether a shopper meets one condition."""

    condition: Any
    user_id: str
    at: datetime | None


class AudienceKeeper(Struct, frozen=True):
    """What a room declares that keeps the facts of one condition."""

    condition: type[Struct]
    meets: Callable[[Reader, Sequence[Asked]], Awaitable[Sequence[bool]]]
    """Answers a batch, in its order."""


async def _listed(_reader: Reader, asked: Sequence[Asked]) -> list[bool]:
    return [one.user_id in one.condition.user_ids for one in asked]


class Audiences:
    """Says who is outside of an audience."""

    def __init__(self, keepers: Sequence[AudienceKeeper] = ()) -> None:
        self.join(keepers)

    def join(self, keepers: Sequence[AudienceKeeper]) -> None:
        """Learn who keeps the facts of which condition."""
        self._keepers = {one.condition: one.meets for one in (AudienceKeeper(Listed, _listed), *keepers)}

    async def outside(self, reader: Reader, asked: Mapping[K, Candidate]) -> dict[K, AudienceType]:
        """Return those of `asked` who are not admitted, each with a condition that is not met. Lists cost no query."""
        by_type: dict[type, list[tuple[K, Asked]]] = {}
        for key, one in asked.items():
            for condition in one.audience:
                by_type.setdefault(type(condition), []).append((key, Asked(condition, one.user_id, one.at)))
        found: dict[K, AudienceType] = {}
        for type_, group in by_type.items():
            met = await self._keepers[type_](reader, [question for _, question in group])
            tag: Any = type_.__struct_config__.tag  # type: ignore[attr-defined]
            found |= {key: tag for (key, _), is_met in zip(group, met, strict=True) if not is_met}
        return found

    async def missed(self, reader: Reader, audience: Sequence[Condition], user_id: str) -> AudienceType | None:
        """Return a condition that one shopper does not meet; None for who is admitted."""
        return (await self.outside(reader, {user_id: Candidate(audience, user_id)})).get(user_id) if audience else None

    async def admit(self, reader: Reader, audience: Sequence[Condition], user_id: str) -> None:
        """Raise `Refusal` if a shopper is not admitted."""
        if (condition := await self.missed(reader, audience, user_id)) is not None:
            raise not_admitted(condition)


def not_admitted(condition: AudienceType) -> Refusal:
    """Return (to be raised or told) the refusal of who does not meet a condition."""
    return Refusal(NOT_IN_AUDIENCE, condition=condition)


# --- lists, and ids that change hands ---------------------------------------------------------------------------------


def listed(draft: Any) -> frozenset[str]:
    """Return the shoppers whom a draft names."""
    conditions = getattr(draft, "audience", ())
    return frozenset(user_id for one in conditions if isinstance(one, Listed) for user_id in one.user_ids)


async def as_of_today(tx: Tx, draft: D) -> D:
    """Return a draft that names shoppers as they are today, each once, the erased left out; `tx` keeps them so."""
    if not listed(draft):
        return draft
    conditions = [
        replace(one, user_ids=await tx.people.all_today(tx, one.user_ids)) if isinstance(one, Listed) else one
        for one in getattr(draft, "audience", ())
    ]
    return replace(draft, audience=conditions)


async def lists_of(reader: Reader, kinds: Sequence[CampaignKind[Any, Any]], user_id: str) -> list[str]:
    """Return the ids of campaigns that name a shopper in a list."""
    return [campaign_id for kind in kinds for campaign_id in await store.listing(reader, kind, user_id)]


async def rename(tx: Tx, kinds: Sequence[CampaignKind[Any, Any]], user_id: str, survivor: str | None) -> None:
    """Put the survivor, or nobody, in place of an id in all lists."""
    for kind in kinds:
        named = await store.listing(tx, kind, user_id)
        for campaign_id, audience in (await store.lock_audiences(tx, kind, named)).items() if named else ():
            renamed = [one | _renamed(one, user_id, survivor) for one in audience]
            await store.set_audience(tx, kind, campaign_id, renamed)


def _renamed(condition: dict[str, Any], user_id: str, survivor: str | None) -> dict[str, list[str]]:
    ids = condition.get("user_ids")
    if ids is None:
        return {}
    named = dict.fromkeys(survivor if one == user_id else one for one in ids)
    return {"user_ids": [one for one in named if one is not None]}
