"""The room of group buys on a database of its own; whatever a test does, every invariant holds after it."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import Struct

from growth.kit.campaign import store as campaigns
from growth.kit.campaign.audience import Audiences
from growth.mechanics.group_buy.model import GROUP_BUYS, GroupBuy, GroupBuyDraft
from growth.mechanics.group_buy.nudge.periodic import nudge
from growth.mechanics.group_buy.service import GroupBuys
from growth.mechanics.group_buy.team.board import GroupBuyBoard
from growth.mechanics.group_buy.team.model import Seat, Team
from growth.mechanics.group_buy.team.payment.settlement import SeatSettlement
from growth.mechanics.group_buy.team.periodic import TeamKeeper
from growth.mechanics.group_buy.team.service import Seated, Teams
from growth.mechanics.group_buy.team.store import teams as store
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.periodic import Turn
from growth.shop.order.service import Result, ShopService
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from tests.kit.invariants import violations
from tests.kit.turn import turn_at
from tests.shop.order import telling

PRICE_FEN = 5000


class Room(Struct):
    """What one process has of the room."""

    database: Database
    shop: ShopService
    board: GroupBuyBoard
    group_buys: GroupBuys
    teams: Teams
    keeper: TeamKeeper

    async def campaign(self, *, state: str = "published", **changes: Any) -> GroupBuy:
        """A campaign in Postgres, past the rules for operators: three people, half the price, open since a minute."""
        moment = now()
        async with self.database.transaction() as tx:
            made = await campaigns.add(tx, GROUP_BUYS, new_id(moment), a_draft(**changes), moment)
            if state != "draft":
                moved = await campaigns.move(tx, GROUP_BUYS, made.group_buy_id, ["draft"], state, moment)
                assert moved is not None
                made = moved
        return made

    async def opens(self, campaign: GroupBuy, user_id: str, key: str | None = None, name: str = "张三") -> Seated:
        return await self.teams.open(campaign.group_buy_id, user_id, name, key)

    async def joins(self, team: str | Seated, user_id: str, key: str | None = None, name: str = "李四") -> Seated:
        team_id = team if isinstance(team, str) else team.team.team_id
        return await self.teams.join(team_id, user_id, name, key)

    async def leaves(self, seated: Seated) -> Seat:
        return await self.teams.give_back(seated.seat.seat_id, seated.seat.user_id, now())

    async def pays(self, seated: Seated, order_id: str | None = None, **changes: Any) -> Result:
        """The shop tells that the seat's shopper paid for it."""
        (result,) = await self.tells(paid(seated.seat, order_id, **changes))
        return result

    async def refunds(self, seated: Seated, order_id: str | None = None) -> Result:
        (result,) = await self.tells(refunded(seated.seat, order_id))
        return result

    async def tells(self, *events: telling.JSON) -> list[Result]:
        return await telling.tell(self.shop, *events, now=now())

    def turn(self, moment: datetime | None = None) -> Turn:
        return turn_at(self.database, moment or now())

    async def expire(self, *teams: Seated, moment: datetime | None = None) -> int:
        """Bring the end of `teams` (of all, if none are named) to now, and let the clock strike."""
        ids = [one.team.team_id for one in teams]
        await self.database.fetchval(
            """
            UPDATE group_buy.teams
            SET expires_at = clock_timestamp() - interval '1 second'
            WHERE state = 'forming'
              AND (cardinality($1::uuid[]) = 0 OR team_id = ANY ($1))
            """,
            ids,
        )
        return await self.keeper.end_due_teams(self.turn(moment or now() + timedelta(seconds=1)))

    async def lapse(self, *seats: Seated) -> int:
        """Let the holds of `seats` be over, and the clock strike."""
        await self.database.fetchval(
            "UPDATE group_buy.seats SET held_until = clock_timestamp() - interval '1 minute' WHERE seat_id = ANY ($1)",
            [one.seat.seat_id for one in seats],
        )
        return await self.keeper.end_lapsed_holds(self.turn())

    async def nudges(self) -> int:
        return await nudge(self.turn())

    async def team(self, of: Seated | str) -> Team:
        team_id = of if isinstance(of, str) else of.team.team_id
        return (await store.find_teams(self.database, [team_id]))[team_id]

    async def seat(self, of: Seated | str) -> Seat:
        seat_id = of if isinstance(of, str) else of.seat.seat_id
        return (await store.find_seats(self.database, [seat_id]))[seat_id]

    async def states(self, *seated: Seated) -> list[str]:
        return [(await self.seat(one)).state for one in seated]

    async def taken(self, campaign: GroupBuy) -> int:
        return (await campaigns.find(self.database, GROUP_BUYS, [campaign.group_buy_id]))[campaign.group_buy_id].taken

    async def owed(self) -> dict[str, tuple[str, int]]:
        """What must be paid back, by order: why and how much."""
        rows = await self.database.fetch("SELECT order_id, reason, amount_fen FROM group_buy.refunds_required")
        return {row["order_id"]: (row["reason"], row["amount_fen"]) for row in rows}

    async def events(self, type_: str) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "SELECT data::text FROM plumbing.outbox WHERE type = $1 ORDER BY position", f"group_buy.{type_}"
        )
        return [json.loads(row["data"]) for row in rows]


def a_draft(**changes: Any) -> GroupBuyDraft:
    opens_at = changes.pop("opens_at", now() - timedelta(minutes=1))
    plain: dict[str, Any] = {
        "title": "Tea for three",
        "sku": "tea",
        "list_price_fen": 2 * PRICE_FEN,
        "price_fen": PRICE_FEN,
        "team_size": 3,
        "units_total": 1000,
        "opens_at": opens_at,
        "closes_at": opens_at + timedelta(days=7),
    }
    return GroupBuyDraft(**plain | changes)


def order_of(seat: Seat) -> str:
    """The order that pays for a seat, unless a test says otherwise."""
    return f"o-{seat.seat_id}"


def line(seat: Seat, **changes: Any) -> telling.JSON:
    told = {"line_id": "1", "sku": seat.sku, "units": 1, "amount_fen": seat.price_fen, "seat_id": seat.seat_id}
    return told | changes


def placed(seat: Seat, order_id: str | None = None, **changes: Any) -> telling.JSON:
    return telling.placed(order_id or order_of(seat), line(seat, **changes), user_id=seat.user_id)


def paid(seat: Seat, order_id: str | None = None, *, user_id: str | None = None, **changes: Any) -> telling.JSON:
    told = line(seat, **changes)
    return telling.paid(order_id or order_of(seat), told, user_id=user_id or seat.user_id, paid_fen=told["amount_fen"])


def refunded(seat: Seat, order_id: str | None = None) -> telling.JSON:
    return telling.refunded(order_id or order_of(seat), "r1", telling.of(1, seat.price_fen))


def closed(seat: Seat, order_id: str | None = None) -> telling.JSON:
    return telling.closed(order_id or order_of(seat))


def received(seat: Seat, order_id: str | None = None) -> telling.JSON:
    return telling.received(order_id or order_of(seat))


def an_act(reason: str = "") -> Act:
    return Act(Operator("olga", Role.EDITOR), now(), "request", reason)


def assemble(database: Database) -> Room:
    """One more process on the same stores."""
    board = GroupBuyBoard(database, now)
    return Room(
        database=database,
        shop=ShopService(database, [SeatSettlement()], [telling.SECRET]),
        board=board,
        group_buys=GroupBuys(database, board, Audiences()),
        teams=Teams(database, Audiences()),
        keeper=TeamKeeper(),
    )


@pytest.fixture
async def room(postgres_dsn: str) -> AsyncIterator[Room]:
    """A process of its own, with an empty database."""
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    room = assemble(database)
    yield room
    await room.teams.drain()
    broken = await violations(database)
    await database.close()
    assert not broken
