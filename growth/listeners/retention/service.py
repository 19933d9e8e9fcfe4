"""From sightings to counters: one batch, one transaction, under the room's one lock."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

import structlog

from growth.listeners.retention import model, store
from growth.listeners.retention.model import Counts, News, ShopperFacts, ShopperRow
from growth.listeners.retention.sighting import Sighting, sighting_of, sightings_in, visits
from growth.listeners.retention.source.service import numbered
from growth.plumbing.outbox.outbox import Envelope
from growth.plumbing.postgres.database import Tx
from growth.shopper.activity.model import Activity
from growth.vocabulary.facts import FunnelStage

log = structlog.get_logger("retention")

MAX_ACTIVITIES_AT_ONCE = 2_000
"""Of one cohort many are there on the same day: the more at once, the fewer counters move for each."""


class RetentionProjection:
    """Keeps facts and counters up."""

    listens_to = visits()

    def __init__(self, zone: str) -> None:
        self._zone_name = zone
        self._zone: tzinfo | None = None

    async def hear(self, tx: Tx, envelopes: Sequence[Envelope]) -> None:
        """Take note of events."""
        await self.see(tx, (sighting for envelope in envelopes for sighting in sightings_in(envelope.event)))

    async def follow(self, tx: Tx, activities: Sequence[Activity]) -> None:
        """Take note of what clients and the shop told."""
        await self.see(tx, map(sighting_of, activities))

    async def see(self, tx: Tx, sightings: Iterable[Sighting]) -> None:
        """Take note of sightings: in any order, however late, however often."""
        by_user: dict[str, list[Sighting]] = {}
        for sighting in sightings:
            by_user.setdefault(sighting.user_id, []).append(sighting)
        if not by_user:
            return
        zone = await self._lock(tx)
        names = {one.source for seen in by_user.values() for one in seen if one.source is not None}
        sources = await numbered(tx, names, zone)
        inviters = {one.inviter for seen in by_user.values() for one in seen if one.inviter is not None}
        found = await store.find(tx, by_user.keys() | inviters)
        # Two ids of one batch may be one person by now.
        seen_of: dict[str, list[Sighting]] = {}
        known: dict[str, ShopperRow | None] = {}
        for asked_id, seen in by_user.items():
            user_id, known[user_id] = found[asked_id]
            seen_of.setdefault(user_id, []).extend(seen)
        called = {inviter: found[inviter][0] for inviter in inviters}
        news = {user_id: (known[user_id], _news(seen, sources, called, zone)) for user_id, seen in seen_of.items()}
        await _write(tx, news, zone)

    async def _lock(self, tx: Tx) -> tzinfo:
        """Let nobody else write; return the zone, which stays what it was when the first day was counted."""
        await store.lock(tx)
        await store.commit_lazily(tx)
        if self._zone is None:
            name = await store.known_zone(tx)
            if name is None:
                name = self._zone_name
                await store.put_zone(tx, name)
            if name != self._zone_name:
                log.warning("retention.zone_kept", counted_in=name, set_to=self._zone_name)
            # Not before the commit: it may be that nothing was written.
            zone = ZoneInfo(name)
            tx.after_commit(lambda: self._remember(zone))
            return zone
        return self._zone

    async def _remember(self, zone: tzinfo) -> None:
        self._zone = zone


async def merge(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Make two shoppers one: what was seen under either id, or will be, is `user_id`'s."""
    await store.lock(tx)
    found = await store.find(tx, [old_user_id, user_id])
    (old_id, old), (now_id, now) = found[old_user_id], found[user_id]
    if old_id == now_id:
        return
    if old and now:
        zone = await store.known_zone(tx)
        assert zone, "shoppers were counted"
        facts = await store.facts_of(tx, [old, now])
        one, other = facts[now.shopper_id], facts[old.shopper_id]
        await _replace(tx, [one, other], model.united(one, other, ZoneInfo(zone)), ZoneInfo(zone))
        await store.remove(tx, old.shopper_id)
    elif old:
        await store.rename(tx, old_id, now_id)
    await store.forward(tx, old_id, now_id)


def _news(seen: Sequence[Sighting], sources: Mapping[str, int], called: Mapping[str, str], zone: tzinfo) -> News:
    """Sum up. `called`: the inviters' ids as they are now."""
    days: dict[int, int] = {}
    registered = met = bound = None
    viewed_at: datetime | None = None
    invited_at: datetime | None = None
    steps: set[tuple[int, datetime]] = set()
    for one in seen:
        at, kind, step = one.at, one.kind, one.step
        day = model.day_of(at, zone)
        days[day] = days.get(day, 0) | 1 << kind
        if mechanic := model.mechanic_of(kind):
            met = min(met or (at, mechanic), (at, mechanic))
        if one.source is not None:
            told = (at, sources[one.source])
            registered = told if registered is None or at <= registered[0] else registered
        if one.inviter is not None:
            by = (at, called[one.inviter])
            bound = min(bound or by, by)
        if step is FunnelStage.VIEWED:
            viewed_at = min(viewed_at or at, at)
        elif step is FunnelStage.INVITED:
            invited_at = min(invited_at or at, at)
        elif step is not None:
            steps.add((step, at))
    return News(days, registered, met, bound, viewed_at, invited_at, steps)


async def _write(tx: Tx, told: dict[str, tuple[ShopperRow | None, News]], zone: tzinfo) -> None:
    counts = Counts()
    last_days: list[tuple[int, int, int]] = []
    days: list[tuple[int, int, int]] = []
    others: list[tuple[str, ShopperRow | None, News]] = []
    for user_id, (shopper, news) in told.items():
        fresh = model.new_day_of(shopper, news) if shopper and model.is_known(shopper, news) else None
        if shopper is None or fresh is None:
            others.append((user_id, shopper, news))
            continue
        day, kinds = fresh
        if day > shopper.last_day:
            counts.append(shopper, day)
        elif kinds | shopper.last_kinds == shopper.last_kinds:
            continue
        else:
            kinds |= shopper.last_kinds
        last_days.append((shopper.shopper_id, day, kinds))
        days.append((shopper.shopper_id, day, kinds))
    await store.put_last_days(tx, last_days)
    await _recount(tx, others, counts, days, zone)
    await store.put_days(tx, days)
    await store.put_counts(tx, counts)


async def _recount(
    tx: Tx,
    told: Sequence[tuple[str, ShopperRow | None, News]],
    counts: Counts,
    days: list[tuple[int, int, int]],
    zone: tzinfo,
) -> None:
    """Take what shoppers contributed away, and add what they do now; write the rest of their facts."""
    facts = await store.facts_of(tx, [shopper for _, shopper, _ in told if shopper])
    fresh = await store.new_shopper_ids(tx, sum(shopper is None for _, shopper, _ in told))
    changed: list[ShopperRow] = []
    gone: list[tuple[int, int]] = []
    steps: list[tuple[int, int, datetime]] = []
    for user_id, shopper, news in told:
        before = facts[shopper.shopper_id] if shopper else None
        after = model.told(before, news, shopper.shopper_id if shopper else fresh.pop(), user_id, zone)
        number = after.shopper.shopper_id
        if before is None or after.shopper != before.shopper or after.days != before.days:
            if before:
                counts.add(before, -1, zone)
            counts.add(after, 1, zone)
            changed.append(after.shopper)
        days_before = before.days if before else {}
        days.extend((number, day, kinds) for day, kinds in after.days.items() if days_before.get(day) != kinds)
        gone.extend((number, day) for day in days_before.keys() - after.days.keys())
        steps.extend((number, step, at) for step, at in after.steps - (before.steps if before else set()))
    await store.put_shoppers(tx, changed)
    await store.drop_days(tx, gone)
    await store.put_steps(tx, steps)


async def _replace(tx: Tx, before: Sequence[ShopperFacts], after: ShopperFacts, zone: tzinfo) -> None:
    counts = Counts()
    for facts in before:
        counts.add(facts, -1, zone)
    counts.add(after, 1, zone)
    number = after.shopper.shopper_id
    await store.put_shoppers(tx, [after.shopper])
    kept = next(facts.days for facts in before if facts.shopper.shopper_id == number)
    await store.drop_days(tx, [(number, day) for day in kept.keys() - after.days.keys()])
    await store.put_days(tx, [(number, day, kinds) for day, kinds in after.days.items()])
    await store.put_steps(tx, [(number, step, at) for step, at in after.steps])
    await store.put_counts(tx, counts)
