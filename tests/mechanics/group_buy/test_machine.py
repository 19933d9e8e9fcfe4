"""One campaign under any sequence of what can happen to it, beside a small model of who sits where.

The model is the whole truth: after each step Postgres says the same. Where two things happen at the same instant, it
says what one of the two orders makes of them.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from copy import deepcopy
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import Struct

from growth.embedded import EmbeddedServers
from growth.mechanics.group_buy.model import GroupBuy
from growth.mechanics.group_buy.team.service import Seated
from growth.plumbing.postgres.database import connect_postgres
from growth.plumbing.watch.invariants import all_invariants
from growth.vocabulary.clock import now
from growth.vocabulary.ids import derived_id
from growth.vocabulary.refusals import Refusal
from tests import servers as test_servers
from tests.kit.examples import examples
from tests.kit.invariants import violations
from tests.mechanics.group_buy.conftest import Room, an_act, assemble, closed, order_of, paid, placed, refunded

T = TypeVar("T")

STEPS = 30
USERS = ("ann", "bob", "cat", "dan", "eve")
RULES = tuple(rule for rule in all_invariants() if rule.room == "group_buy")
WHICH = st.integers(0, 99)
"""Ids differ from run to run, and how many there are may: what is drawn must not."""
PAID_FOR = {"paid", "confirmed", "refund_due", "refunded"}


class ASeat(Struct):
    """A seat and the facts about the order that pays for it, in the model."""

    user: str
    team: str
    newcomer: bool
    state: str = "held"
    confirmed: bool = False
    paid_as: int = 0
    """The how-manieth payment it was."""
    was_paid: bool = False
    was_refunded: bool = False
    was_closed: bool = False
    left_by_close: bool = False
    """The shop split the order in time, say: whoever pays for the seat is not late."""
    owed: bool = False

    @property
    def occupies(self) -> bool:
        return self.confirmed or self.state in {"held", "paid"}


class ATeam(Struct):
    leader: str
    state: str = "forming"


class Model:
    """Who sits where."""

    def __init__(self, campaign: GroupBuy) -> None:
        self.it = campaign
        self.prefix = campaign.group_buy_id[:8]
        self.seats: dict[str, ASeat] = {}
        self.teams: dict[str, ATeam] = {}
        self.payments = 0

    def of(self, team_id: str, *states: str) -> list[ASeat]:
        return [s for s in self.seats.values() if s.team == team_id and (s.state in states if states else s.occupies)]

    def has_bought(self, user: str, but: ASeat | None = None) -> bool:
        return any(s.was_paid and not s.was_refunded for s in self.seats.values() if s.user == user and s is not but)

    def is_live(self, user: str) -> bool:
        return any(s.user == user and s.state in {"held", "paid"} for s in self.seats.values())

    def may_sit(self, team_id: str | None, user: str, *, newcomer: bool) -> str | None:  # noqa: PLR0911
        """Say why not, if not."""
        members = [] if team_id is None else self.of(team_id)
        if team_id is not None:
            if self.teams[team_id].state != "forming":
                return "team_ended"
            if self.is_live(user):
                return "already_in_team"
            if len(members) >= self.it.team_size:
                return "team_full"
        if sum(s.occupies for s in self.seats.values()) >= self.it.units_total:
            return "sold_out"
        if self.is_live(user):
            return "already_in_team"
        if sum(s.occupies for s in self.seats.values() if s.user == user) >= self.it.max_per_shopper:
            return "limit_reached"
        veterans = sum(not s.newcomer for s in members)
        if self.it.newcomers_at_least and not newcomer and veterans >= self.it.team_size - self.it.newcomers_at_least:
            return "newcomers_only"
        return None

    def settle(self, seat_id: str) -> None:
        seat = self.seats[seat_id]
        if not seat.was_paid:
            if seat.was_closed and seat.state == "held":
                seat.left_by_close = True
                self.leave(seat_id, "released")
            return
        if seat.state not in PAID_FOR and (seat.owed or not self.sell(seat_id)):
            # Also where the money is back by now: what comes free later is not taken for it.
            seat.owed = True
            return
        if seat.was_refunded:
            if seat.state == "paid":
                self.leave(seat_id, "refunded")
            seat.state = "refunded"
        if self.teams[seat.team].state == "forming" and len(self.of(seat.team, "paid")) == self.it.team_size:
            self.end(seat.team, "complete")

    def sell(self, seat_id: str) -> bool:
        seat = self.seats[seat_id]
        newcomer = not self.has_bought(seat.user, seat)
        choosy = self.it.newcomers_at_least
        others = sum(not s.newcomer for s in self.of(seat.team) if s is not seat)
        if seat.state == "held":
            was_veteran = not seat.newcomer
            if choosy and not newcomer and not was_veteran and others >= self.it.team_size - choosy:
                self.leave(seat_id, "released")
                return False
        elif self.may_sit(seat.team, seat.user, newcomer=newcomer) is not None:
            if seat.was_refunded or (self.it.late_payment == "refund" and not seat.left_by_close):
                return False
            if self.may_sit(None, seat.user, newcomer=newcomer) is not None:
                return False
            seat.team = derived_id(seat.team, "late", seat_id, f"o-{seat_id}")
            self.teams[seat.team] = ATeam(seat_id)
        self.payments += 1
        seat.state, seat.newcomer, seat.paid_as = "paid", newcomer, self.payments
        return True

    def leave(self, seat_id: str, state: str) -> None:
        seat = self.seats[seat_id]
        seat.state = state
        team = self.teams[seat.team]
        if team.leader != seat_id:
            return
        paid_ones = [(s.paid_as, sid) for sid, s in self.seats.items() if s.team == seat.team and s.state == "paid"]
        if paid_ones:
            team.leader = min(paid_ones)[1]
        else:
            self.end(seat.team, "failed")

    def end(self, team_id: str, state: str) -> None:
        self.teams[team_id].state = state
        for seat in self.of(team_id, "held"):
            seat.state = "released"
        for seat in self.of(team_id, "paid"):
            seat.state = "confirmed" if state == "complete" else "refund_due"
            seat.confirmed = state == "complete"
            seat.owed = state == "failed"

    def expire(self, team_id: str) -> None:
        if self.teams[team_id].state != "forming":
            return
        members = self.of(team_id, "paid")
        enough = len(members) >= self.it.threshold and sum(s.newcomer for s in members) >= self.it.newcomers_at_least
        self.end(team_id, "complete" if enough else "failed")

    def pay(self, seat_id: str) -> None:
        self.seats[seat_id].was_paid = True
        self.settle(seat_id)

    def seen(self) -> tuple[Any, ...]:
        return (
            {
                team_id: (team.state, team.leader if team.state == "forming" else "", len(self.of(team_id)))
                for team_id, team in self.teams.items()
            },
            {seat_id: (seat.state, seat.team) for seat_id, seat in self.seats.items()},
            {f"o-{seat_id}" for seat_id, seat in self.seats.items() if seat.owed},
        )


class TeamMachine(RuleBasedStateMachine):
    """Shoppers, the shop, operators and the clock."""

    runner: ClassVar[asyncio.Runner]
    room: ClassVar[Room]

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(
        size=st.integers(2, 4),
        threshold=st.integers(1, 3),
        newcomers=st.sampled_from([0, 0, 1, 2]),
        late=st.sampled_from(["refund", "open_new_team"]),
        limit=st.integers(1, 2),
        units=st.sampled_from([4, 100]),
    )
    def begin(self, size: int, threshold: int, newcomers: int, late: str, limit: int, units: int) -> None:
        # Who bought is known across campaigns: every example is a database of its own as far as shoppers go.
        self.do(_forget(self.room))
        campaign = self.do(
            self.room.campaign(
                team_size=size,
                complete_at_least=min(threshold, size),
                newcomers_at_least=min(newcomers, size),
                late_payment=late,
                max_per_shopper=limit,
                units_total=units,
            )
        )
        self.model = Model(campaign)
        self.told = 0

    def ask(self, work: Callable[[], Coroutine[Any, Any, Seated]], team_id: str | None, user: str) -> None:
        newcomer = not (self.model.it.newcomers_at_least and self.model.has_bought(user))
        expected = self.model.may_sit(team_id, user, newcomer=newcomer)
        try:
            seated = self.do(work())
        except Refusal as refusal:
            assert refusal.kind.code == f"group_buy.{expected}"  # noqa: PT017 - the model knows whether
            return
        assert expected is None
        seat = seated.seat
        self.model.seats[seat.seat_id] = ASeat(user, seat.team_id, newcomer)
        if team_id is None:
            self.model.teams[seat.team_id] = ATeam(seat.seat_id)

    @rule(user=st.sampled_from(USERS))
    def open(self, user: str) -> None:
        self.ask(lambda: self.room.opens(self.model.it, user), None, user)

    @precondition(lambda self: self.model.teams)
    @rule(user=st.sampled_from(USERS), which=WHICH)
    def join(self, user: str, which: int) -> None:
        team_id = self._team(which)
        self.ask(lambda: self.room.joins(team_id, user), team_id, user)

    @precondition(lambda self: self.model.seats)
    @rule(which=WHICH)
    def leave(self, which: int) -> None:
        seat_id = self._seat(which)
        was = self.model.seats[seat_id].state
        try:
            self.do(self.room.teams.give_back(seat_id, self.model.seats[seat_id].user, now()))
        except Refusal as refusal:
            assert (was not in {"held", "released"}, refusal.kind.code) == (True, "group_buy.seat_not_held")  # noqa: PT017
            return
        if was == "held":
            self.model.leave(seat_id, "released")

    @precondition(lambda self: self.model.seats)
    @rule(which=WHICH)
    def pay(self, which: int) -> None:
        seat_id = self._seat(which)
        self._tell(paid, seat_id)
        self.model.pay(seat_id)

    @precondition(lambda self: self.model.seats)
    @rule(which=WHICH)
    def refund(self, which: int) -> None:
        seat_id = self._seat(which)
        self._tell(refunded, seat_id)
        self.model.seats[seat_id].was_refunded = True
        if self.model.seats[seat_id].was_paid:
            self.model.settle(seat_id)

    @precondition(lambda self: self.model.seats)
    @rule(which=WHICH)
    def close(self, which: int) -> None:
        seat_id = self._seat(which)
        self._tell(placed, seat_id)
        self._tell(closed, seat_id)
        self.model.seats[seat_id].was_closed = True
        self.model.settle(seat_id)

    @precondition(lambda self: self.model.seats)
    @rule(which=WHICH)
    def lapse(self, which: int) -> None:
        seat_id = self._seat(which)
        self.do(self.room.lapse(self._seated(seat_id)))
        if self.model.seats[seat_id].state == "held":
            self.model.leave(seat_id, "released")

    @precondition(lambda self: self.model.teams)
    @rule(which=WHICH)
    def expire(self, which: int) -> None:
        team_id = self._team(which)
        self.do(_expire(self.room, team_id))
        self.model.expire(team_id)

    @precondition(lambda self: self.model.seats)
    @rule(which=WHICH)
    def pay_and_expire_at_the_same_instant(self, which: int) -> None:
        seat_id = self._seat(which)
        team_id = self.model.seats[seat_id].team
        seat = self.do(self.room.seat(seat_id))
        first, second = deepcopy(self.model), deepcopy(self.model)
        self.do(_at_once(self.room.tells(self._numbered(paid(seat))), _expire(self.room, team_id)))
        first.pay(seat_id)
        first.expire(team_id)
        second.expire(team_id)
        second.pay(seat_id)
        seen = self.do(_seen(self.room, self.model.it))
        assert seen in (first.seen(), second.seen())
        self.model = first if seen == first.seen() else second

    @precondition(lambda self: self.model.teams)
    @rule(which=WHICH, state=st.sampled_from(["complete", "failed"]))
    def force(self, which: int, state: str) -> None:
        team_id = self._team(which)
        team = self.model.teams[team_id]
        may = team.state == "forming" and (state == "failed" or self.model.of(team_id, "paid"))
        end = self.room.teams.complete if state == "complete" else self.room.teams.fail
        try:
            self.do(end(an_act("because"), team_id))
        except Refusal:
            assert not may
            return
        assert may
        self.model.end(team_id, state)

    @invariant()
    def both_say_the_same(self) -> None:
        if hasattr(self, "model"):
            assert self.do(_seen(self.room, self.model.it)) == self.model.seen()
            assert not self.do(violations(self.room.database, RULES))

    def _team(self, which: int) -> str:
        return list(self.model.teams)[which % len(self.model.teams)]

    def _seat(self, which: int) -> str:
        return list(self.model.seats)[which % len(self.model.seats)]

    def _seated(self, seat_id: str) -> Seated:
        seat = self.do(self.room.seat(seat_id))
        team = self.do(self.room.team(seat.team_id))
        return Seated(seat, team, now(), replayed=False)

    def _numbered(self, event: Any) -> Any:
        self.told += 1
        return event | {"id": f"{self.model.it.group_buy_id}-{self.told}"}

    def _tell(self, tell: Callable[[Any], Any], seat_id: str) -> None:
        event = self._numbered(tell(self.do(self.room.seat(seat_id))))
        self.do(self.room.tells(event))
        (again,) = self.do(self.room.tells(event))
        assert again.outcome == "duplicate"


async def _at_once(*work: Coroutine[Any, Any, Any]) -> None:
    await asyncio.gather(*work)


async def _expire(room: Room, team_id: str) -> None:
    await room.database.fetchval(
        "UPDATE group_buy.teams SET expires_at = clock_timestamp() - interval '1 second' WHERE team_id = $1", team_id
    )
    while await room.keeper.end_due_teams(room.turn()):
        pass
    # A team that a payment has locked is left to the next turn.
    await room.teams.drain()
    async with room.database.transaction() as tx:
        await tx.execute("SELECT FROM group_buy.teams WHERE team_id = $1 FOR NO KEY UPDATE", team_id)
    await room.keeper.end_due_teams(room.turn())


async def _forget(room: Room) -> None:
    async with room.database.transaction() as tx:
        await tx.execute(
            """
            TRUNCATE group_buy.campaigns, group_buy.teams, group_buy.seats, group_buy.holdings,
                group_buy.refunds_required, shop.orders, shop.order_lines, shop.line_uses, shop.refunds,
                shop.refund_lines, shop.events
            """
        )


async def _seen(room: Room, campaign: GroupBuy) -> tuple[Any, ...]:
    teams = await room.database.fetch(
        "SELECT team_id, state, leader_seat_id, seats_taken FROM group_buy.teams WHERE group_buy_id = $1",
        campaign.group_buy_id,
    )
    seats = await room.database.fetch("SELECT seat_id, state, team_id FROM group_buy.seats")
    return (
        {
            row["team_id"]: (
                row["state"],
                row["leader_seat_id"] if row["state"] == "forming" else "",
                row["seats_taken"],
            )
            for row in teams
        },
        {row["seat_id"]: (row["state"], row["team_id"]) for row in seats},
        set(await room.owed()),
    )


def test_whatever_happens_everybody_sits_where_the_model_says(servers: EmbeddedServers) -> None:
    servers.ensure_running()
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        try:
            TeamMachine.runner = runner
            TeamMachine.room = runner.run(_process(opened, servers))
            run_state_machine_as_test(
                TeamMachine,
                settings=examples(60, stateful_step_count=STEPS),
            )
        finally:
            runner.run(opened.aclose())


async def _process(opened: AsyncExitStack, servers: EmbeddedServers) -> Room:
    dsn = await opened.enter_async_context(test_servers.database(servers))
    database = await connect_postgres(dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    opened.push_async_callback(database.close)
    return assemble(database)


def test_the_order_of_a_seat_is_named_after_it() -> None:
    class Named:
        seat_id = "s"

    assert order_of(Named()) == "o-s"  # type: ignore[arg-type]
