"""Negative controls: each guard is taken away once, and something breaks that held with it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from growth.kit.campaign.audience import Audiences
from growth.mechanics.group_buy.team.ending import store as ending
from growth.mechanics.group_buy.team.ending.service import after_ending
from growth.mechanics.group_buy.team.ending.store import SeatOwed
from growth.mechanics.group_buy.team.model import SeatAsk, Team
from growth.mechanics.group_buy.team.payment import store as payment
from growth.mechanics.group_buy.team.payment.store import Payment
from growth.mechanics.group_buy.team.service import _look, judge
from growth.mechanics.group_buy.team.store import teams as store
from growth.plumbing.postgres.database import Database, Tx
from growth.vocabulary.clock import now
from growth.vocabulary.ids import child_id
from growth.vocabulary.names import masked
from tests.kit.invariants import violations
from tests.mechanics.group_buy.conftest import Room, an_act, paid

pytestmark = pytest.mark.anyio


class Without:
    """A transaction whose statements have lost one guard."""

    def __init__(self, tx: Tx, guard: str, instead: str = "TRUE") -> None:
        self._tx = tx
        self._guard = guard
        self._instead = instead
        self.found = False
        self.savepoint = tx.savepoint
        self.people = tx.people

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._tx, name)

        def run(query: str, *args: object) -> Awaitable[Any]:
            self.found = self.found or self._guard in query
            return call(query.replace(self._guard, self._instead), *args)  # type: ignore[no-any-return]

        return run


class Undone(Exception):
    """What the test wrote is not kept."""


async def seat_anyway(
    room: Room, ask: SeatAsk, guard: str, *, pretend: Callable[[Any], Any] | None = None
) -> list[str]:
    """Take a seat that was judged to be free by somebody who looked too early; return which invariants break.

    `guard` is gone from the statement. With "" nothing is gone, and the answer is whether the guards said no.
    """
    broken: list[str] = []
    try:
        async with room.database.transaction() as tx:
            seen = await _look(tx, [ask], Audiences())
            if pretend is not None:
                seen = pretend(seen)
            _, taken = judge([ask], seen)
            assert taken.seats, "the look itself said no"
            without = Without(tx, guard or "no such text")
            complete = await store.take(without, taken, seen.now)  # type: ignore[arg-type]
            assert without.found or not guard, "the guard is no longer written like this"
            broken = [violation.name for violation in await violations(tx)] if complete else ["refused"]
            raise Undone  # noqa: TRY301
    except Undone:
        return broken


def ask_to_join(team: Team, user_id: str) -> SeatAsk:
    return SeatAsk(child_id(team.team_id), team.team_id, user_id, masked(user_id))


def blind(**changes: Any) -> Callable[[Any], Any]:
    """Pretend that teams, campaigns and standings look like this."""

    def pretend(seen: Any) -> Any:
        def changed(things: Any) -> Any:
            return {
                key: msgspec.structs.replace(
                    thing, **{name: value for name, value in changes.items() if name in thing.__struct_fields__}
                )
                for key, thing in things.items()
            }

        return msgspec.structs.replace(
            seen,
            teams=changed(seen.teams),
            campaigns=changed(seen.campaigns),
            standings=changed(seen.standings),
        )

    return pretend


async def test_without_the_guard_on_the_size_only_the_check_of_the_table_is_left(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    await room.joins(ann, "bob")
    team, pretend = await room.team(ann), blind(seats_taken=1)
    assert await seat_anyway(room, ask_to_join(team, "cat"), "", pretend=pretend) == ["refused"]
    with pytest.raises(asyncpg.CheckViolationError):
        await seat_anyway(
            room, ask_to_join(team, "cat"), "team.seats_taken + more.seats <= team.team_size", pretend=pretend
        )


async def test_without_the_guard_on_the_state_an_ended_team_gets_another_member(room: Room) -> None:
    campaign = await room.campaign(team_size=3, complete_at_least=1)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    await room.expire()
    await room.database.fetchval("UPDATE group_buy.teams SET expires_at = clock_timestamp() + interval '1 hour'")
    team, pretend = await room.team(ann), blind(state="forming")
    pretend_open = blind(state="forming")

    def forming(seen: Any) -> Any:
        return msgspec.structs.replace(pretend_open(seen), campaigns=seen.campaigns)

    assert pretend is not None
    assert await seat_anyway(room, ask_to_join(team, "bob"), "", pretend=forming) == ["refused"]
    broken = await seat_anyway(room, ask_to_join(team, "bob"), "team.state = 'forming'", pretend=forming)
    assert "No seat is held or paid in a team that has ended" in broken


async def test_without_the_guard_on_the_time_a_seat_is_held_in_a_team_that_is_over(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    await room.database.fetchval("UPDATE group_buy.teams SET expires_at = clock_timestamp() - interval '1 second'")
    team, later = await room.team(ann), blind(expires_at=now() + timedelta(hours=1))
    assert await seat_anyway(room, ask_to_join(team, "bob"), "", pretend=later) == ["refused"]
    assert await seat_anyway(room, ask_to_join(team, "bob"), "team.expires_at > $10", pretend=later) == []


async def test_without_the_guard_on_units_only_the_check_of_the_table_is_left(room: Room) -> None:
    campaign = await room.campaign(team_size=2, units_total=2)
    ann, bob = await room.opens(campaign, "ann"), await room.opens(campaign, "bob")
    team, pretend = await room.team(ann), blind(taken=0)
    assert bob.seat.state == "held"
    assert await seat_anyway(room, ask_to_join(team, "cat"), "", pretend=pretend) == ["refused"]
    with pytest.raises(asyncpg.CheckViolationError):
        await seat_anyway(
            room,
            ask_to_join(team, "cat"),
            "campaign.taken + wanted.units <= campaign.units_total",
            pretend=pretend,
        )


async def test_without_the_guard_on_the_campaign_a_paused_one_gives_seats(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    await room.database.fetchval("UPDATE group_buy.campaigns SET state = 'paused'")
    team = await room.team(ann)

    def open_again(seen: Any) -> Any:
        return msgspec.structs.replace(seen, campaigns=blind(state="published")(seen).campaigns)

    assert await seat_anyway(room, ask_to_join(team, "bob"), "", pretend=open_again) == ["refused"]
    guard = "campaign.state = 'published'"
    assert await seat_anyway(room, ask_to_join(team, "bob"), guard, pretend=open_again) == []


async def test_without_the_guard_on_the_limit_a_shopper_gets_more(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    await room.pays(await room.joins(ann, "bob"))
    other = await room.team(await room.opens(campaign, "cat"))
    pretend = blind(seats=0)
    assert await seat_anyway(room, ask_to_join(other, "ann"), "", pretend=pretend) == ["refused"]
    guard = """holding.seats + 1 <= (
                SELECT max_per_shopper FROM group_buy.campaigns AS c WHERE c.group_buy_id = holding.group_buy_id)"""
    assert await seat_anyway(room, ask_to_join(other, "ann"), guard, pretend=pretend) == []


async def test_without_the_guard_for_newcomers_a_team_has_too_few(room: Room) -> None:
    campaign = await room.campaign(team_size=2, newcomers_at_least=2)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    team = await room.team(ann)
    pretend = blind(newcomers_at_least=0, is_newcomer=False)
    assert await seat_anyway(room, ask_to_join(team, "bob"), "", pretend=pretend) == ["refused"]
    guard = "team.veterans_taken + more.veterans <= team.team_size - team.newcomers_at_least"
    assert await seat_anyway(room, ask_to_join(team, "bob"), guard, pretend=pretend) == []


async def test_without_the_unique_index_a_shopper_is_in_two_teams(room: Room) -> None:
    campaign = await room.campaign(max_per_shopper=2)
    ann, bob = await room.opens(campaign, "ann"), await room.opens(campaign, "bob")
    assert bob.team.team_id != ann.team.team_id
    team, pretend = await room.team(bob), blind(is_live=False)
    assert await seat_anyway(room, ask_to_join(team, "ann"), "", pretend=pretend) == ["refused"]
    await room.database.fetchval("DROP INDEX group_buy.seats_one_live")
    broken = await seat_anyway(room, ask_to_join(team, "ann"), "", pretend=pretend)
    assert broken == ["A shopper has one live seat in a campaign"]


async def end_again(database: Database, team_id: str, guard: str) -> list[str]:
    """Let a team that has ended be over once more, with a guard gone; return what breaks."""
    broken: list[str] = []
    try:
        async with database.transaction() as tx:
            without = Without(tx, guard or "no such text")
            ended = await ending.end_due_teams(without, [team_id], now())  # type: ignore[arg-type]
            await after_ending(tx, ended, now())
            broken = [violation.name for violation in await violations(tx)]
            raise Undone  # noqa: TRY301
    except Undone:
        return broken


async def test_without_the_guard_on_forming_a_complete_team_fails_after_all(room: Room) -> None:
    campaign = await room.campaign(team_size=2)
    ann = await room.opens(campaign, "ann")
    await room.pays(ann)
    team = await room.teams.complete(an_act(), ann.team.team_id)
    assert await end_again(room.database, team.team_id, "") == []
    broken = await end_again(room.database, team.team_id, "team.state = 'forming'")
    assert "A seat is confirmed in complete teams, and owed in failed ones alone" in broken


async def test_what_was_seen_before_a_payment_does_not_decide_the_end_of_its_team(room: Room) -> None:
    campaign = await room.campaign(team_size=2, complete_at_least=1)
    ann = await room.opens(campaign, "ann")
    async with room.database.transaction() as tx:
        # What one statement would see that both locks and judges: the team as it was when the statement began.
        await tx.execute("DECLARE seen CURSOR FOR SELECT seats_paid >= complete_at_least FROM group_buy.teams")
        await room.pays(ann)
        assert await tx.fetchval("FETCH seen") is False
        locked = await ending.lock_due_teams(tx, now() + timedelta(days=2), 10, 10)
        (ended,) = await ending.end_due_teams(tx, locked, now())
        await after_ending(tx, [ended], now())
    assert ended.state == "complete"


async def test_without_the_guard_on_held_a_seat_is_paid_twice(room: Room) -> None:
    campaign = await room.campaign(team_size=3)
    ann = await room.opens(campaign, "ann")
    await room.joins(ann, "bob")
    await room.pays(ann)
    with pytest.raises(AssertionError, match="still held"):
        async with room.database.transaction() as tx:
            await payment.pay(tx, ann.seat, Payment("o2", "1", 1, is_newcomer=True), now())
    broken: list[str] = []
    try:
        async with room.database.transaction() as tx:
            without = Without(tx, "AND state = 'held'", "")
            await payment.pay(without, ann.seat, Payment("o2", "1", 1, is_newcomer=True), now())  # type: ignore[arg-type]
            broken = [violation.name for violation in await violations(tx)]
            raise Undone  # noqa: TRY301
    except Undone:
        assert broken == ["A team has no more seats than its size, and counts those it has"]


async def test_without_the_key_a_line_is_owed_twice(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    owed = [SeatOwed("o", "1", ann.seat.seat_id, "group_buy.paid_late", 1)]
    async with room.database.transaction() as tx:
        assert len(await ending.require_refunds(tx, owed, now())) == 1
        assert not await ending.require_refunds(tx, owed, now())
    broken: list[str] = []
    try:
        async with room.database.transaction() as tx:
            await tx.execute("ALTER TABLE group_buy.refunds_required DROP CONSTRAINT refunds_required_pkey")
            without = Without(tx, "ON CONFLICT (order_id, line_id) DO NOTHING", "")
            await ending.require_refunds(without, owed, now())  # type: ignore[arg-type]
            broken = [violation.name for violation in await violations(tx)]
            raise Undone  # noqa: TRY301
    except Undone:
        assert broken == ["Nobody is told twice to pay back one order line"]


async def test_the_controls_change_nothing_when_all_guards_are_there(room: Room) -> None:
    campaign = await room.campaign()
    ann = await room.opens(campaign, "ann")
    assert await seat_anyway(room, ask_to_join(await room.team(ann), "bob"), "") == []
    (again,) = await room.tells(paid(ann.seat))
    assert again.outcome == "applied"
