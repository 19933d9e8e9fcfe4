"""What this process remembers of programs: read again as soon as any of them has changed.

Nothing is ever decided by an older one: whoever asks has looked, in the same transaction, at what the newest is.
"""

from collections.abc import Iterable
from datetime import date

from growth.kit.campaign.model import LIVE
from growth.mechanics.checkin import store
from growth.mechanics.checkin.streak import store as streaks
from growth.mechanics.checkin.streak.model import Almanac, CheckinTerms, Zone
from growth.mechanics.checkin.streak.store import TapGlance
from growth.plumbing.postgres.database import Reader
from growth.vocabulary.audience import Audience

MAX_TERMS = 1_000
"""Versions of programs that are remembered."""


def audience_on(almanac: Almanac, day: date) -> Audience:
    """Return whom the program is for that is live on a day."""
    return next((one.audience for one in almanac.programs if one.has(day) and one.state in LIVE), [])


class Almanacs:
    """The newest almanac."""

    def __init__(self, zone: str) -> None:
        self.zone = Zone(zone)
        self._newest: Almanac | None = None
        self._terms: dict[int, CheckinTerms] = {}

    async def look(self, reader: Reader) -> tuple[TapGlance, Almanac]:
        """Return Postgres' time and how far the night's walk is, and the almanac that goes with it."""
        glance = await streaks.glance(reader)
        newest = self._newest
        if newest is None or newest.revision != glance.revision:
            # Read after its revision: it may be newer than that says, and is then read once more. Never older.
            newest = Almanac(self.zone, await store.published_programs(reader), glance.revision)
            self._newest = newest
        return glance, newest

    async def terms(self, reader: Reader, terms_ids: Iterable[int]) -> dict[int, CheckinTerms]:
        """Return what versions of programs promised: they never change, so the newest of them are remembered."""
        asked = set(terms_ids)
        lacking = asked - self._terms.keys()
        if lacking:
            self._terms |= await streaks.find_terms(reader, lacking)
        found = {terms_id: self._terms[terms_id] for terms_id in asked}
        while len(self._terms) > MAX_TERMS:
            del self._terms[next(iter(self._terms))]
        return found
