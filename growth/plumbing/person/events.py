"""Whose events are: what a reader is handed names shoppers as they are now, not as they were when it was written.

A former id stands for its survivor. An erased shopper's events are nobody's: most readers are not told of them; those
who only count, or pass on what happened, get the alias. Called in a transaction that shares the lock of everyone, so
nobody changes hands before the reader has written what follows.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import msgspec

from growth.plumbing.person.memory import ChangedId
from growth.plumbing.postgres.database import Reader, Tx
from growth.vocabulary.events.base import PERSON_LISTS, PERSON_MEMBERS
from growth.vocabulary.ids import is_alias

OWNER = "user_id"
"""The member that says whose doing an event is."""
HEARD = "heard_at"
"""The member that activities alone have."""
NOBODY = "erased:" + "0" * 24
"""In place of an alias that is forgotten."""


async def current(tx: Tx, told: Sequence[Any], *, of_erased: bool) -> list[Any]:
    """Return what `told` says of shoppers as they are now.

    Its items are `Envelope`s, or Structs that name shoppers themselves. With `of_erased`, what erased shoppers did
    stays, under their aliases; without, it is left out. Of several whom one binds, an erased one is an alias.
    """
    facts = [_fact(one) for one in told]
    named = {user_id for fact in facts for user_id in _named(fact)}
    await tx.people.refresh(tx)
    found = await tx.people.standings(tx, named) if named and tx.people.has_changes else {}
    if not found:
        return (
            list(told) if of_erased else [one for one, fact in zip(told, facts, strict=True) if not _is_nobodys(fact)]
        )
    gone = [user_id for user_id, standing in found.items() if standing.erased_at is not None]
    aliases = await _aliases(tx, gone) if gone else {}
    kept: list[Any] = []
    for one, fact in zip(told, facts, strict=True):
        # An erasure deletes what the shopper did from the log of activities: what stands there under an id that is back
        # is of the new life, or came with an id that was merged into it since.
        at = None if hasattr(fact, HEARD) else fact.at
        names = {user_id: _now(user_id, at, found.get(user_id), aliases) for user_id in _named(fact)}
        fact_now = _renamed(fact, names) if any(name != now for name, now in names.items()) else fact
        if of_erased or not _is_nobodys(fact_now):
            kept.append(one if fact_now is fact else _with(one, fact_now))
    return kept


def _fact(one: Any) -> Any:
    return getattr(one, "event", one)


def _with(one: Any, fact: Any) -> Any:
    return msgspec.structs.replace(one, event=fact) if hasattr(one, "event") else fact


@cache
def _members(kind: type[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    fields = set(kind.__struct_fields__)
    return (
        tuple(name for name in PERSON_MEMBERS if name in fields),
        tuple(name for name in PERSON_LISTS if name in fields),
    )


def _named(fact: Any) -> Iterator[str]:
    members, lists = _members(fact.__class__)
    for name in members:
        user_id = getattr(fact, name)
        if user_id is not None:
            yield user_id
    for name in lists:
        yield from getattr(fact, name)


def _is_nobodys(fact: Any) -> bool:
    """Say whether it is an erased shopper's doing, or names nobody else."""
    if is_alias(getattr(fact, OWNER, None)):
        return True
    named = list(_named(fact))
    return bool(named) and all(map(is_alias, named))


def _renamed(fact: Any, names: Mapping[str, str]) -> Any:
    members, lists = _members(fact.__class__)
    changes: dict[str, Any] = {name: names.get(getattr(fact, name)) for name in members}
    changes |= {name: [names[user_id] for user_id in getattr(fact, name)] for name in lists}
    return msgspec.structs.replace(fact, **changes)


def _now(user_id: str, at: datetime | None, standing: ChangedId | None, aliases: Mapping[str, str]) -> str:
    if standing is None:
        return user_id
    if standing.is_nobodys or (at is not None and standing.is_over(at)):
        return aliases.get(user_id, NOBODY)
    return standing.survivor or user_id


async def _aliases(reader: Reader, user_ids: Sequence[str]) -> dict[str, str]:
    """Return the aliases of erased shoppers who are still to be swept out of what passes by."""
    rows = await reader.fetch(
        """
        SELECT DISTINCT ON (user_id) user_id, alias
        FROM plumbing.erasures
        WHERE user_id = ANY ($1::text[])
        ORDER BY user_id, erasure_id DESC
        """,
        user_ids,
    )
    return {row["user_id"]: row["alias"] for row in rows}
