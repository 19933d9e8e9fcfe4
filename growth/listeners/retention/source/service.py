"""Gives sources their numbers."""

from collections.abc import Sequence
from datetime import tzinfo

from growth.listeners.retention import model
from growth.listeners.retention import store as facts_store
from growth.listeners.retention.model import Counts
from growth.listeners.retention.source import store
from growth.plumbing.postgres.database import Tx


async def numbered(tx: Tx, names: set[str], zone: tzinfo) -> dict[str, int]:
    """Return the numbers of sources. A new one takes a free number, or that of a small one, which joins the others."""
    if not names:
        return {}
    known = await store.sources(tx, names)
    fresh = sorted(names - known.keys())
    if fresh:
        numbers = await store.free_sources(tx, len(fresh))
        small = await store.small_sources(tx, [*known.values(), *numbers], len(fresh) - len(numbers))
        await _fold(tx, small, zone)
        named = dict(zip(fresh, numbers + small, strict=False))
        await store.name_sources(tx, named)
        known |= named
    return {name: known.get(name, model.OTHER_SOURCE) for name in names}


async def _fold(tx: Tx, sources: Sequence[int], zone: tzinfo) -> None:
    """Count the shoppers of small sources with those of the others."""
    if not sources:
        return
    found = await facts_store.find(tx, await store.shoppers_of(tx, sources))
    before = await facts_store.facts_of(tx, [shopper for _, shopper in found.values() if shopper])
    counts = Counts()
    after = {number: model.of_other_source(facts) for number, facts in before.items()}
    for number, facts in before.items():
        counts.add(facts, -1, zone)
        counts.add(after[number], 1, zone)
    await facts_store.put_shoppers(tx, [facts.shopper for facts in after.values()])
    await facts_store.put_counts(tx, counts)
