"""The board: what this process remembers of campaigns and teams, never older than `MAX_AGE_SECONDS`.

It shows pages, and says no to the crowd at a full or ended team; it never says yes. Nothing is read ahead: who asks for
what is too old waits for one read, shared with all who ask for anything in that moment.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import blake2b

import msgspec
from msgspec import Struct

from growth.mechanics.group_buy.model import GroupBuyPage, page
from growth.mechanics.group_buy.store import campaigns as store
from growth.mechanics.group_buy.team.model import TEAM_ENDED, TEAM_FULL, Team, TeamPage, show_team
from growth.mechanics.group_buy.team.store import teams as teams_store
from growth.plumbing.http.short_cut import No
from growth.plumbing.postgres.database import Database
from growth.plumbing.strict_json import json_bytes
from growth.plumbing.work.coalesce import Coalescer
from growth.vocabulary.clock import Clock
from growth.vocabulary.refusals import Kind

MAX_AGE_SECONDS = 0.3
"""Nothing older is shown or used to say no."""
ENDED_SHOWN = timedelta(days=1)
MAX_TEAMS = 10_000
"""Teams remembered; of more, those first looked at are forgotten first."""
MAX_SEATS_KNOWN = 500
"""Seats there ever were in a team, above which retries are always asked about in Postgres."""
MAX_TEAMS_AT_ONCE = 128
MAX_TEAMS_WAITING = 4_096
"""For one read of teams."""
MAX_PAGES_AT_ONCE = 4_096
MAX_PAGES_WAITING = 8_192
"""For the one read of all campaigns."""
NO_TO_ALL = (TEAM_FULL, TEAM_ENDED)
"""Refusals that everybody new gets."""


class TeamEntry(Struct, frozen=True):
    """One team on the board."""

    page: TeamPage
    body: bytes
    etag: bytes
    """Changes with what is shown, the time aside."""
    seen_at: float
    """On this process' monotonic clock, before it was read."""
    no: No | None
    """What everybody new is told who wants a seat."""
    seat_ids: frozenset[str] | None
    """Where `no` is told: seats there ever were, whose owners must not hear it; None if they are too many."""

    @property
    def is_fresh(self) -> bool:
        """Say whether it may be shown, and used to say no."""
        return time.monotonic() - self.seen_at <= MAX_AGE_SECONDS


class GroupBuyBoard:
    """Pages of campaigns and teams, and ready-made refusals."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.teams: dict[str, TeamEntry] = {}
        self._pages: dict[str, GroupBuyPage] = {}
        self._pages_at = float("-inf")
        self._read_teams: Coalescer[str, TeamEntry | None] = Coalescer(
            "group_buy.teams", self._look_at_teams, max_batch=MAX_TEAMS_AT_ONCE, max_queue=MAX_TEAMS_WAITING
        )
        self._read_pages: Coalescer[None, None] = Coalescer(
            "group_buy.campaigns", self._look_at_campaigns, max_batch=MAX_PAGES_AT_ONCE, max_queue=MAX_PAGES_WAITING
        )

    async def visible(self) -> Sequence[GroupBuyPage]:
        """Return the pages of all visible campaigns, soonest first."""
        if time.monotonic() - self._pages_at > MAX_AGE_SECONDS:
            await self._read_pages(None)
        return list(self._pages.values())

    async def campaign(self, group_buy_id: str) -> GroupBuyPage | None:
        """Return the page of one campaign; None for a draft, and for one that ended more than a day ago."""
        await self.visible()
        return self._pages.get(group_buy_id)

    async def forget(self) -> None:
        """Read campaigns anew when they are next asked for: after an operator's change on this process."""
        self._pages_at = float("-inf")

    def forget_team(self, team_id: str) -> None:
        """Read a team anew when it is next asked for: who just took a seat on this process sees it."""
        self.teams.pop(team_id, None)

    async def team(self, team_id: str) -> TeamEntry | None:
        """Return a team as it is, at most `MAX_AGE_SECONDS` old; None if there is none. Raises `Unavailable`."""
        entry = self.teams.get(team_id)
        return entry if entry is not None and entry.is_fresh else await self._read_teams(team_id)

    async def _look_at_campaigns(self, asked: list[None]) -> Sequence[None]:
        started = time.monotonic()
        if started - self._pages_at > MAX_AGE_SECONDS:
            found = await store.visible_campaigns(self._database, self._clock() - ENDED_SHOWN)
            now = await teams_store.time(self._database)
            self._pages = {campaign.group_buy_id: page(campaign, now) for campaign in found}
            self._pages_at = started
        return asked

    async def _look_at_teams(self, team_ids: list[str]) -> Sequence[TeamEntry | None]:
        started = time.monotonic()
        unique = list(set(team_ids))
        async with self._database.transaction() as tx:
            await teams_store.see_one_moment(tx)
            teams = await teams_store.find_teams(tx, unique)
            seats = await teams_store.seats_of_teams(tx, list(teams))
            now = await teams_store.time(tx)
            nos = {team_id: no for team_id, team in teams.items() if (no := _no_of(team, now)) is not None}
            known = await teams_store.seat_ids_of_teams(tx, list(nos), MAX_SEATS_KNOWN + 1) if nos else {}
        for team_id, team in teams.items():
            shown = show_team(team, seats[team_id], now)
            seat_ids = known.get(team_id, ())
            entry = TeamEntry(
                page=shown,
                body=json_bytes(shown),
                etag=_etag(shown, now),
                seen_at=started,
                no=None if team_id not in nos else No(nos[team_id], {"server_time": now, "team_state": team.state}),
                seat_ids=None if len(seat_ids) > MAX_SEATS_KNOWN else frozenset(seat_ids),
            )
            if len(self.teams) >= MAX_TEAMS and team_id not in self.teams:
                del self.teams[next(iter(self.teams))]
            self.teams[team_id] = entry
        return [self.teams[team_id] if team_id in teams else None for team_id in team_ids]


def _no_of(team: Team, now: datetime) -> Kind | None:
    if team.state != "forming" or now >= team.expires_at:
        return TEAM_ENDED
    return TEAM_FULL if team.seats_taken >= team.team_size else None


def _etag(shown: TeamPage, now: datetime) -> bytes:
    timeless = msgspec.structs.replace(shown, server_time=shown.expires_at, expires_in_ms=int(now < shown.expires_at))
    return b'W/"' + blake2b(msgspec.json.encode(timeless), digest_size=9).hexdigest().encode() + b'"'
