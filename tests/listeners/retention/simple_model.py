"""Retention as anyone would count it: keep all that was seen, and count it anew at every question."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from growth.listeners.retention.model import KINDS, MECHANICS
from growth.listeners.retention.sighting import Sighting
from growth.vocabulary.facts import FunnelStage

Matrix = Mapping[tuple[date, str | None], tuple[int, dict[int, int | None]]]


class Person:
    """All that was seen of one shopper."""

    def __init__(self, seen: list[Sighting], zone: ZoneInfo) -> None:
        self.zone = zone
        registered = [(one.at, one.source) for one in seen if one.source is not None]
        # Told several times, a shopper registered once: the earliest time is true, the others were no visits.
        self.days = {self.day(one.at) for one in seen if one.source is None or one.at == min(registered)[0]}
        self.first = min(self.days)
        self.source = (min(registered)[1] if registered else "") or "unknown"
        bound = [(one.at, one.inviter) for one in seen if one.inviter is not None]
        self.inviter = min(bound)[1] if bound else None
        self.met = [(one.at, KINDS[one.kind]) for one in seen if KINDS[one.kind] in MECHANICS]
        self.mechanic = min(self.met, key=lambda pair: (pair[0], MECHANICS.index(pair[1])))[1] if self.met else "none"

        def at(step: FunnelStage) -> list[datetime]:
            return [one.at for one in seen if one.step is step]

        self.purchase = self._chain(at(FunnelStage.VIEWED), at(FunnelStage.CLAIMED), at(FunnelStage.PAID))
        bound_at = [when for when, _ in bound]
        self.invitation = self._chain(at(FunnelStage.INVITED) + bound_at, bound_at, at(FunnelStage.BOUGHT))

    def day(self, at: datetime) -> date:
        return at.astimezone(self.zone).date()

    def _chain(self, *steps: list[datetime]) -> list[date]:
        """Each step as early as it can be, not before the one before it."""
        found: list[datetime] = []
        for times in steps:
            later = [at for at in times if not found or at >= found[-1]]
            if not later:
                break
            found.append(min(later))
        return [self.day(at) for at in found]

    def is_active(self, n: int, metric: str) -> bool:
        if metric == "on":
            return self.first + timedelta(days=n) in self.days
        return max(self.days) >= self.first + timedelta(days=n)

    def met_within(self, mechanic: str, days: int) -> bool:
        return any(name == mechanic and (self.day(at) - self.first).days < days for at, name in self.met)

    def group(self, split: str | None) -> str | None:
        if split == "inviter":
            return "not invited" if self.inviter is None else "invited"
        return {"source": self.source, "mechanic": self.mechanic}.get(split or "")


class SimpleModel:
    """The same questions as `Reports`, answered slowly."""

    def __init__(self, zone: str) -> None:
        self.zone = ZoneInfo(zone)
        self.seen: list[Sighting] = []
        self.now_called: dict[str, str] = {}

    # --- what happens ---

    def _called(self, user_id: str) -> str:
        return self.now_called.get(user_id, user_id)

    def see(self, seen: Iterable[Sighting]) -> None:
        self.seen += [_as(one, self._called(one.user_id), one.inviter and self._called(one.inviter)) for one in seen]

    def _rename(self, old: str, new: str) -> None:
        def name(user_id: str) -> str:
            return new if user_id == old else user_id

        self.seen = [_as(one, name(one.user_id), one.inviter and name(one.inviter)) for one in self.seen]

    def merge(self, old: str, new: str) -> None:
        old, new = self._called(old), self._called(new)
        if old != new:
            self._rename(old, new)
            self.now_called = {user: new if now == old else now for user, now in self.now_called.items()} | {old: new}

    def erase(self, user_id: str, alias: str) -> None:
        user_id = self._called(user_id)
        self._rename(user_id, alias)
        self.now_called = {user: now for user, now in self.now_called.items() if user_id not in {user, now}}

    # --- what is asked ---

    def people(self) -> list[Person]:
        by_user: dict[str, list[Sighting]] = {}
        for one in self.seen:
            by_user.setdefault(one.user_id, []).append(one)
        return [Person(seen, self.zone) for seen in by_user.values()]

    def matrix(
        self,
        today: date,
        *,
        cohort: str,
        metric: str,
        days: int,
        split: str | None = None,
        source: str | None = None,
        mechanic: str | None = None,
        inviter: str | None = None,
    ) -> Matrix:
        rows: dict[tuple[date, str | None], list[Person]] = {}
        for person in self.people():
            is_invited = person.inviter is not None
            if (
                source in {None, person.source}
                and mechanic in {None, person.mechanic}
                and (
                    inviter is None
                    or {"any": is_invited, "none": not is_invited}.get(inviter, person.inviter == inviter)
                )
            ):
                rows.setdefault((start_of(person.first, cohort), person.group(split)), []).append(person)
        return {
            key: (
                len(members),
                {
                    n: sum(one.is_active(n, metric) for one in members)
                    if last_of(key[0], cohort) + timedelta(days=n) < today
                    else None
                    for n in range(days + 1)
                },
            )
            for key, members in rows.items()
        }

    def effects(self, today: date, *, metric: str, day: int, within: int) -> dict[str, tuple[int, int, int, int]]:
        ripe = [one for one in self.people() if one.first + timedelta(days=day) < today]
        found = {}
        for mechanic in MECHANICS[1:]:
            took_part = [one for one in ripe if one.met_within(mechanic, within)]
            others = [one for one in ripe if one not in took_part]
            found[mechanic] = (
                len(took_part),
                sum(one.is_active(day, metric) for one in took_part),
                len(others),
                sum(one.is_active(day, metric) for one in others),
            )
        return found

    def funnel(self, today: date, *, name: str, cohort: str, within: int) -> dict[date, list[int | None]]:
        found: dict[date, list[int | None]] = {}
        for person in self.people():
            days = person.purchase if name == "purchase" else person.invitation
            if days:
                start = start_of(days[0], cohort)
                is_ripe = last_of(start, cohort) + timedelta(days=within) < today
                counts = found.setdefault(start, [0, 0, 0] if is_ripe else [0, None, None])
                for step, day in enumerate(days):
                    count = counts[step]
                    if count is not None and (day - days[0]).days <= within:
                        counts[step] = count + 1
        return found

    def actives(self, day: date) -> tuple[int, int, int, int]:
        def within(days: int) -> int:
            window = {day - timedelta(days=back) for back in range(days)}
            return sum(not window.isdisjoint(person.days) for person in people)

        people = self.people()
        return within(1), within(7), within(30), sum(person.first == day for person in people)


def _as(one: Sighting, user_id: str, inviter: str | None) -> Sighting:
    return Sighting(
        user_id=user_id, at=one.at, kind=one.kind, source=one.source, inviter=inviter or None, step=one.step
    )


def start_of(day: date, cohort: str) -> date:
    return {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}[cohort]


def last_of(start: date, cohort: str) -> date:
    day = start
    while start_of(day + timedelta(days=1), cohort) == start:
        day += timedelta(days=1)
    return day
