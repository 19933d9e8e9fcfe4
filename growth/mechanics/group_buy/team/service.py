"""Seats: who asks at the same time is decided in one transaction, each team under its lock; and who leaves."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache

import msgspec
from msgspec import Struct
from prometheus_client import Counter

from growth.kit.campaign.audience import Audiences, Candidate
from growth.mechanics.group_buy import model as campaigns
from growth.mechanics.group_buy.model import GroupBuy
from growth.mechanics.group_buy.store import campaigns as campaigns_store
from growth.mechanics.group_buy.team.ending import store as ending
from growth.mechanics.group_buy.team.ending.service import after_ending, after_leaving
from growth.mechanics.group_buy.team.model import (
    NOBODY_PAID,
    NOT_FORMING,
    SEAT_NOT_FOUND,
    SEAT_NOT_HELD,
    TEAM_NOT_FOUND,
    Seat,
    SeatAsk,
    ShopperInCampaign,
    Team,
    TeamCard,
    open_team,
    refusal_of,
)
from growth.mechanics.group_buy.team.store import listing
from growth.mechanics.group_buy.team.store import teams as store
from growth.mechanics.group_buy.team.store.teams import NewSeats
from growth.plumbing.http.idempotency import OTHER_CONTENT, is_kept, later_names
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.decide import Decisions, NotWhole
from growth.shop.order.service import has_bought
from growth.vocabulary.audience import NOT_IN_AUDIENCE
from growth.vocabulary.clock import milliseconds_until
from growth.vocabulary.events import Event
from growth.vocabulary.events.group_buy import GroupBuySeatHeld, GroupBuyTeamOpened
from growth.vocabulary.ids import child_id, derived_id
from growth.vocabulary.names import masked
from growth.vocabulary.refusals import Kind, Refusal

MAX_BATCH_ASKS = 128
MAX_QUEUE_ASKS = 4_096
"""What a process seats in well under a second. More waiting would only be late."""

SEATED = Counter("growth_group_buy_seated_total", "Seats given to shoppers")
REFUSED = Counter("growth_group_buy_refused", "Seats refused, by reason", ["reason"])


class Seated(Struct, frozen=True):
    """A seat that Postgres has, and what is known of its team."""

    seat: Seat
    team: Team
    at: datetime
    replayed: bool
    """It had been given before, under the same Idempotency-Key."""


class SeatBatch(Struct, frozen=True):
    """What a transaction sees of all that a batch of asks is about, its teams locked."""

    now: datetime
    """Postgres' time."""
    teams: Mapping[str, Team]
    seats: Mapping[str, Seat]
    """Of asks that were answered before."""
    campaigns: Mapping[str, GroupBuy]
    standings: Mapping[tuple[str, str], ShopperInCampaign]


class Teams:
    """Everything shoppers and operators do with teams and seats."""

    def __init__(self, database: Database, audiences: Audiences) -> None:
        self._database = database
        self._audiences = audiences
        self._seats: Decisions[SeatAsk, Seated] = Decisions(
            "group_buy.seats",
            self._seat,
            person_of=lambda ask: ask.user_id,
            id_of=lambda ask: ask.seat_id,
            replayed=lambda seated: msgspec.structs.replace(seated, replayed=True),
            turned_away=self._turn_away,
            max_batch=MAX_BATCH_ASKS,
            max_queue=MAX_QUEUE_ASKS,
        )

    async def drain(self) -> None:
        """Wait until everyone who asked has an answer."""
        await self._seats.calls.drain()

    async def open(
        self, group_buy_id: str, user_id: str, nickname: str | None, key: str | None, token_id: str | None = None
    ) -> Seated:
        """Open a team and hold its leader's seat; when this returns, it is committed.

        The same `key` (Idempotency-Key) names the same team and seat for a day, under the id that the shopper's token
        names (`token_id`), also when that has been merged into `user_id` since. Raises `Refusal` with the reason, and
        `Unavailable` when Postgres does not answer: asking again with the same key is safe.
        """
        asked_as = await self._database.people.life(self._database, token_id or user_id) if key else ""

        def ask(name: str | None) -> SeatAsk:
            team_id = derived_id(group_buy_id, "team", asked_as, name) if name else child_id(group_buy_id)
            seat_id = derived_id(group_buy_id, asked_as, name) if name else child_id(group_buy_id)
            return SeatAsk(seat_id, team_id, user_id, masked(nickname), group_buy_id)

        return await self._keyed(ask, key)

    async def join(
        self, team_id: str, user_id: str, nickname: str | None, key: str | None, token_id: str | None = None
    ) -> Seated:
        """Hold a seat in a team; as `open` otherwise."""
        asked_as = await self._database.people.life(self._database, token_id or user_id) if key else ""

        def ask(name: str | None) -> SeatAsk:
            seat_id = derived_id(team_id, asked_as, name) if name else child_id(team_id)
            return SeatAsk(seat_id, team_id, user_id, masked(nickname))

        return await self._keyed(ask, key)

    async def seat_id_of(self, team_id: str, token_id: str, key: str) -> str:
        """Return the id of the seat that a shopper asked for in a team under an Idempotency-Key."""
        return derived_id(team_id, await self._database.people.life(self._database, token_id), key)

    async def _keyed(self, ask_as: Callable[[str | None], SeatAsk], key: str | None) -> Seated:
        ask = ask_as(key)
        try:
            seated = await self._seats.calls(ask)
            if key and (names := later_names(key, seated.seat.held_at, seated.at)):
                ask, before = ask_as(names[1]), ask_as(names[0])
                known = (await store.find_seats(self._database, [before.seat_id])).get(before.seat_id)
                if known is not None and is_kept(known.held_at, seated.at):
                    ask = before
                seated = await self._seats.calls(ask)
        except Refusal as refusal:
            count_refusal(refusal.kind)
            raise
        if seated.seat.nickname != ask.nickname:
            raise Refusal(OTHER_CONTENT)
        SEATED.inc()
        return seated

    # --- a batch of asks ----------------------------------------------------------------------------------------------

    async def _seat(self, asks: Sequence[SeatAsk]) -> Sequence[Seated | BaseException]:
        """Seat a batch. Raises `NotWhole` if the guards do not let in all whom the look at it let pass."""
        async with self._database.transaction(people={ask.user_id for ask in asks}) as tx:
            seen = await _look(tx, asks, self._audiences)
            answers, taken = judge(asks, seen)
            if taken.seats:
                if not await store.take(tx, taken, seen.now):
                    raise NotWhole
                asked_by = {ask.seat_id: self._seats.calls.request_id_of(ask) for ask in asks}
                events = _told(taken, seen.now)
                await emit(
                    tx, *[event for event, _ in events], request_ids=[asked_by[seat_id] for _, seat_id in events]
                )
        return [answers[ask.seat_id] for ask in asks]

    async def _turn_away(self, ask: SeatAsk) -> Seated | BaseException:
        """Answer who was refused by a guard that did not show when looked at: a second look tells who was quicker."""
        try:
            return (await self._seat([ask]))[0]
        except NotWhole:
            return Refusal(campaigns.SOLD_OUT)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def find(self, seat_id: str, user_id: str) -> Seat:
        """Return a shopper's seat. Raises `Refusal` (404), alike for what is not there and not theirs."""
        seat = (await store.find_seats(self._database, [seat_id])).get(seat_id)
        if seat is None or seat.user_id != user_id:
            raise Refusal(SEAT_NOT_FOUND)
        return seat

    async def joinable(self, group_buy_id: str, after: tuple[int, datetime, str] | None, limit: int) -> list[TeamCard]:
        """Return teams with a free seat: fewest missing first, then soonest to expire."""
        return await listing.joinable_teams(self._database, group_buy_id, after, limit)

    async def page(self, after: str | None, limit: int, **only: str | None) -> list[Team]:
        """Return operators' teams in the order of their ids: `only` of this group_buy_id or state."""
        return await listing.page_of_teams(self._database, **only, after=after, limit=limit)

    async def page_of_seats(self, after: str | None, limit: int, **only: str | None) -> list[Seat]:
        """Return operators' seats in the order of their ids: `only` of this team_id, user_id …."""
        return await listing.page_of_seats(self._database, **only, after=after, limit=limit)

    # --- leaving ------------------------------------------------------------------------------------------------------

    async def give_back(self, seat_id: str, user_id: str, now: datetime) -> Seat:
        """Release a shopper's held seat; one already released stays so. Raises `Refusal` for a paid one."""
        async with self._database.transaction(people=[user_id], everyone=True) as tx:
            await store.lock_teams_of_seats(tx, [seat_id])
            released = await ending.release(tx, [seat_id], "shopper", now, user_id)
            await after_leaving(tx, now, held=released)
        if released:
            return released[0]
        seat = await self.find(seat_id, user_id)
        if seat.state != "released":
            raise Refusal(SEAT_NOT_HELD, f"This seat is {seat.state}.", state=seat.state)
        return seat

    async def complete(self, act: Act, team_id: str) -> Team:
        """Complete a forming team with those who paid. Raises `Refusal` 404, and 409 if nobody has."""
        async with self._database.transaction(everyone=True) as tx:
            before = await _lock_forming(tx, team_id)
            if before.seats_paid == 0:
                raise Refusal(NOBODY_PAID)
            (after,) = await ending.end_teams(tx, [team_id], "complete", "operator", act.now)
            await self._ended(tx, act, "complete_team", before, after)
        return after

    async def fail(self, act: Act, team_id: str) -> Team:
        """Fail a forming team; who paid is owed a refund. Raises `Refusal` 404 and 409."""
        async with self._database.transaction(everyone=True) as tx:
            before = await _lock_forming(tx, team_id)
            (after,) = await ending.end_teams(tx, [team_id], "failed", "operator", act.now)
            await self._ended(tx, act, "fail_team", before, after)
        return after

    async def _ended(self, tx: Tx, act: Act, action: str, before: Team, after: Team) -> None:
        await audit.record(tx, act, f"group_buy.{action}", before.team_id, before=before, after=after)
        await after_ending(tx, [after], act.now)


@cache
def _refused_as(code: str) -> Counter:
    return REFUSED.labels(code)


def count_refusal(kind: Kind) -> None:
    """Count a wish that was not granted."""
    _refused_as(kind.code).inc()


async def _lock_forming(tx: Tx, team_id: str) -> Team:
    team = (await store.lock_teams(tx, [team_id])).get(team_id)
    if team is None:
        raise Refusal(TEAM_NOT_FOUND)
    if team.state != "forming":
        raise Refusal(NOT_FORMING, f"The team is {team.state}.", state=team.state)
    return team


async def _look(tx: Tx, asks: Sequence[SeatAsk], audiences: Audiences) -> SeatBatch:
    """Lock the teams of a batch, and read what there is to know, as it is under the locks."""
    teams = await store.lock_teams(tx, [ask.team_id for ask in asks])
    now = await store.time(tx)
    pairs = [(group_buy_id, ask.user_id) for ask in asks if (group_buy_id := _campaign_of(ask, teams)) is not None]
    found = await campaigns_store.find_campaigns(tx, sorted({group_buy_id for group_buy_id, _ in pairs}))
    held = await standings(tx, pairs, found, audiences)
    # Last: a seat that another process commits meanwhile is known by its id, never only as one that the shopper has.
    seats = await store.find_seats(tx, [ask.seat_id for ask in asks])
    if opened := [ask.team_id for ask in asks if ask.seat_id in seats and ask.team_id not in teams]:
        teams |= await store.find_teams(tx, opened)
    return SeatBatch(now=now, teams=teams, seats=seats, campaigns=found, standings=held)


async def standings(
    reader: Reader, pairs: Sequence[tuple[str, str]], found: Mapping[str, GroupBuy], audiences: Audiences
) -> dict[tuple[str, str], ShopperInCampaign]:
    """Return what pairs of campaign and shopper have; whether they ever bought, or are admitted, where it matters."""
    known = await store.standings(reader, pairs)
    choosy = {group_buy_id for group_buy_id, campaign in found.items() if campaign.newcomers_at_least}
    asked = sorted({user_id for group_buy_id, user_id in pairs if group_buy_id in choosy})
    buyers = await has_bought(reader, asked) if asked else frozenset()
    audience = {group_buy_id: campaign.audience for group_buy_id, campaign in found.items() if campaign.audience}
    missed = await audiences.outside(
        reader, {pair: Candidate(audience[pair[0]], pair[1]) for pair in pairs if audience and pair[0] in audience}
    )
    return {
        pair: msgspec.structs.replace(standing, is_newcomer=pair[1] not in buyers, missed=missed.get(pair))
        for pair, standing in known.items()
    }


def _campaign_of(ask: SeatAsk, teams: Mapping[str, Team]) -> str | None:
    team = teams.get(ask.team_id)
    return team.group_buy_id if ask.group_buy_id is None and team is not None else ask.group_buy_id


def judge(asks: Sequence[SeatAsk], seen: SeatBatch) -> tuple[dict[str, Seated | BaseException], NewSeats]:
    """Say what each ask gets, one after the other, and what is to be written for those that get a seat.

    What is seen of teams is locked and therefore true; the rest may have changed, and `store.take` guards it.
    """
    answers: dict[str, Seated | BaseException] = {}
    teams, standings = dict(seen.teams), dict(seen.standings)
    found = dict(seen.campaigns)
    seats: list[Seat] = []
    opened: list[Team] = []
    for ask in asks:
        known = seen.seats.get(ask.seat_id)
        if known is not None:
            # Its own row: what the key named may have moved on.
            answers[ask.seat_id] = (
                Seated(known, seen.teams[ask.team_id], seen.now, replayed=True)
                if known.user_id == ask.user_id
                # An erased shopper's, whose id this one has now.
                else Refusal(OTHER_CONTENT)
            )
            continue
        group_buy_id = _campaign_of(ask, teams)
        campaign = None if group_buy_id is None else found.get(group_buy_id)
        if campaign is None or campaign.state == "draft":
            answers[ask.seat_id] = Refusal(TEAM_NOT_FOUND if ask.group_buy_id is None else campaigns.NOT_FOUND)
            continue
        pair = (campaign.group_buy_id, ask.user_id)
        standing = standings[pair]
        team = teams[ask.team_id] if ask.group_buy_id is None else None
        kind = refusal_of(campaign, team, standing, seen.now)
        if kind is not None:
            answers[ask.seat_id] = refused(kind, campaign, standing, seen.now)
            continue
        if team is None:
            team = open_team(campaign, ask, standing, seen.now)
            opened.append(team)
        else:
            team = msgspec.structs.replace(
                team,
                seats_taken=team.seats_taken + 1,
                veterans_taken=team.veterans_taken + (not standing.is_newcomer),
            )
        teams[team.team_id] = team
        standings[pair] = msgspec.structs.replace(standing, seats=standing.seats + 1, is_live=True)
        found[campaign.group_buy_id] = msgspec.structs.replace(campaign, taken=campaign.taken + 1)
        seat = _held(campaign, team, ask, standing, seen.now)
        seats.append(seat)
        answers[ask.seat_id] = Seated(seat, team, seen.now, replayed=False)
    nudges = [found[team.group_buy_id].nudge_at(seen.now) for team in opened]
    return answers, NewSeats(seats, opened, nudges)


def _held(campaign: GroupBuy, team: Team, ask: SeatAsk, standing: ShopperInCampaign, now: datetime) -> Seat:
    return Seat(
        seat_id=ask.seat_id,
        team_id=team.team_id,
        group_buy_id=campaign.group_buy_id,
        user_id=ask.user_id,
        nickname=ask.nickname,
        sku=campaign.sku,
        price_fen=campaign.leader_pays_fen if ask.group_buy_id is not None else campaign.price_fen,
        is_newcomer=standing.is_newcomer,
        state="held",
        held_at=now,
        held_until=min(now + timedelta(seconds=campaign.hold_seconds), team.expires_at),
    )


def refused(kind: Kind, campaign: GroupBuy, standing: ShopperInCampaign, now: datetime) -> Refusal:
    """Return (to be raised or told) a refusal with what helps to understand it."""
    refusal = Refusal(kind, server_time=now)
    if kind is campaigns.NOT_OPEN:
        refusal.members |= {
            "opens_at": campaign.opens_at,
            "opens_in_ms": milliseconds_until(campaign.opens_at, now),
        }
    elif kind is campaigns.LIMIT_REACHED:
        refusal.members["max_per_shopper"] = campaign.max_per_shopper
    elif standing.missed is not None and kind is NOT_IN_AUDIENCE:
        refusal.members["condition"] = standing.missed
    return refusal


def _told(taken: NewSeats, now: datetime) -> list[tuple[Event, str]]:
    """Return what happened, each with the seat that was asked for."""
    leaders = {team.leader_seat_id: team for team in taken.new_teams}
    events: list[tuple[Event, str]] = []
    for seat in taken.seats:
        team = leaders.get(seat.seat_id)
        if team is not None:
            opened = GroupBuyTeamOpened(
                at=now,
                group_buy_id=seat.group_buy_id,
                team_id=seat.team_id,
                user_id=seat.user_id,
                team_size=team.team_size,
                expires_at=team.expires_at,
            )
            events.append((opened, seat.seat_id))
        held = GroupBuySeatHeld(
            at=now,
            group_buy_id=seat.group_buy_id,
            team_id=seat.team_id,
            seat_id=seat.seat_id,
            user_id=seat.user_id,
            held_until=seat.held_until,
            is_leader=team is not None,
        )
        events.append((held, seat.seat_id))
    return events
