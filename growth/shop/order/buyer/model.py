"""Whose a fact is that the shop tells: an id may have been merged or erased since the shop wrote it down.

    told of           the order is known        the order is not known
    a former id       its survivor's            its survivor's
    an erased id      under the alias it has    of before the erasure: under a fresh alias where stock or money hangs
                                                on it, else dropped; of after it: the id is back, as a new person

Whose words they are is no part of what they say: told again under another id of one person, a fact is the same.
"""

from typing import TypeVar

import msgspec
from msgspec import Struct

from growth.plumbing.person.memory import ChangedId
from growth.shop.order.hooks import Hook, OrderPaid, OrderPlaced, PointsSpent, ShopperRegistered, uses_of
from growth.shop.order.model import Answer
from growth.vocabulary.ids import is_alias, new_alias
from growth.vocabulary.orders import Outcome

OneHook = TypeVar("OneHook", bound=Hook)

ERASED = Answer(Outcome.IGNORED, "shop.erased", "The shopper was erased.")


class CameBack(Exception):
    """An erased id is told of again: it is a new person, and the hook is to be applied anew."""

    def __init__(self, user_id: str) -> None:
        super().__init__("an erased shopper is back")
        self.user_id = user_id


class Whose(Struct, frozen=True):
    """Whom a hook names, and what became of that id."""

    named: str | None = None
    standing: ChangedId | None = None

    @property
    def people(self) -> list[str]:
        """Whose locks are shared: nobody's where the id is nobody's."""
        if self.named is None or self._is_erased:
            return []
        return [self._user_id]

    @property
    def _user_id(self) -> str:
        assert self.named is not None
        return self.named if self.standing is None else self.standing.survivor or self.named

    @property
    def _is_erased(self) -> bool:
        return self.standing is not None and self.standing.is_nobodys

    def of_order(self, hook: OrderPlaced | OrderPaid, owner: str | None) -> str | None:
        """Return by whose id the fact is applied to an order known as `owner`'s; None where it is dropped."""
        at = hook.data.placed_at if isinstance(hook, OrderPlaced) else hook.data.paid_at
        if self.standing is None or self.standing.erased_at is None:
            return self._user_id
        if is_alias(owner):
            return owner
        if at <= self.standing.erased_at:
            return new_alias() if any(map(uses_of, hook.data.lines)) else None
        if self._is_erased:
            assert self.named is not None
            raise CameBack(self.named)
        return self._user_id

    def of_registration(self, hook: ShopperRegistered) -> str | None:
        """Return who registered; None for whoever was erased since."""
        if self.standing is not None and self.standing.erased_at is not None:
            if hook.data.registered_at <= self.standing.erased_at:
                return None
            if self._is_erased:
                raise CameBack(hook.data.user_id)
        return self._user_id

    def of_points(self, hook: PointsSpent) -> str | None:
        """Return who spends; None for whoever was erased since. A spending brings nobody back: it needs points."""
        assert hook.data.user_id == self.named
        return None if self._is_erased else self._user_id

    def may_be(self, owner: str | None) -> bool:
        """Say whether something that is `owner`'s may be what the hook tells of."""
        if owner is None or self.named is None:
            return True
        if is_alias(owner):
            return self.standing is not None and self.standing.erased_at is not None
        return owner == self._user_id


def named_in(hook: Hook) -> str | None:
    """Return the shopper that a hook names."""
    user_id: str | None = getattr(getattr(hook, "data", None), "user_id", None)
    return user_id


def renamed(hook: OneHook, user_id: str) -> OneHook:
    """Return the hook as if it named `user_id`."""
    if named_in(hook) == user_id:
        return hook
    data: Struct = getattr(hook, "data")  # noqa: B009 - each kind has its own
    data = msgspec.structs.replace(data, user_id=user_id)
    return msgspec.structs.replace(hook, data=data)


def told_of_erased(answer: Answer, user_id: str | None) -> Answer:
    """Say that what was applied is an erased shopper's, unless there is more to say."""
    if not is_alias(user_id) or answer.code or answer.outcome is not Outcome.APPLIED:
        return answer
    return Answer(Outcome.APPLIED, ERASED.code, "The shopper was erased: nothing is given for it.", answer.lines)
