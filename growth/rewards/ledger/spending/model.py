"""How points come back: decisions without I/O."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

from msgspec import Struct

RETURNED_FOR = timedelta(days=7)
"""Points that come back after their end, or just before it, last so long; once."""

NEVER = datetime.max.replace(tzinfo=UTC)


class SpentFromLot(Struct, frozen=True, kw_only=True):
    """What one spending took from one lot."""

    lot_id: str
    origin: str | None
    """Where the points of the lot were first, if they came back before."""
    amount: int
    expires_at: datetime | None


class Part(Struct, frozen=True, kw_only=True):
    """Points that come back with one end, from one origin."""

    origin: str
    amount: int
    expires_at: datetime | None


def end_of(taken: SpentFromLot, spent_at: datetime, now: datetime) -> datetime | None:
    """Return when points end that come back now.

    Their own end, if it is far enough. Else a week from now; or, of points that came back before, what was left of
    their time when they were spent: else two orders a week, cancelled, would make them last for ever.
    """
    if taken.expires_at is None:
        return None
    grace = RETURNED_FOR
    if taken.origin is not None:
        grace = min(grace, max(taken.expires_at - spent_at, timedelta()))
    return max(taken.expires_at, now + grace)


def coming_back(
    taken: Sequence[SpentFromLot], before: int, points: int, spent_at: datetime, now: datetime
) -> list[Part]:
    """Return what the next `points` of a spending come back as, of which `before` came back already; soonest end first.

    `taken` in the order in which it was spent: what ends first comes back first.
    """
    found: list[Part] = []
    left = points
    for one in taken:
        mine = min(max(one.amount - before, 0), left)
        before, left = max(before - one.amount, 0), left - mine
        if mine:
            found.append(Part(origin=one.origin or one.lot_id, amount=mine, expires_at=end_of(one, spent_at, now)))
    assert not left, "what was spent was taken from lots, to the point"

    def end(part: Part) -> tuple[datetime, str]:
        return part.expires_at or NEVER, part.origin

    found.sort(key=end)
    return [
        Part(origin=origin, amount=sum(part.amount for part in same), expires_at=None if until == NEVER else until)
        for (until, origin), same in ((key, list(group)) for key, group in groupby(found, key=end))
    ]
