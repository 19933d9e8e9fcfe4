"""What this process remembers of programs: read again as soon as any of them has changed.

Nothing is ever decided by an older one: whoever asks has looked, in the same transaction, at what the newest is.
"""

from growth.mechanics.checkin import store
from growth.mechanics.checkin.streak import store as streaks
from growth.mechanics.checkin.streak.model import Almanac, Zone
from growth.mechanics.checkin.streak.store import Glance
from growth.plumbing.postgres import Reader


class Almanacs:
    """The newest almanac."""

    def __init__(self, zone: str) -> None:
        self.zone = Zone(zone)
        self._newest: Almanac | None = None

    async def look(self, reader: Reader) -> tuple[Glance, Almanac]:
        """Return Postgres' time and how far the night's walk is, and the almanac that goes with it."""
        glance = await streaks.glance(reader)
        newest = self._newest
        if newest is None or newest.revision != glance.revision:
            # Read after its revision: it may be newer than that says, and is then read once more. Never older.
            newest = Almanac(self.zone, await store.published_programs(reader), glance.revision)
            self._newest = newest
        return glance, newest
