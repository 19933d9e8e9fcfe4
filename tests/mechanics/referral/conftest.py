"""The room of referrals on a database of its own; whatever a test does, every invariant holds after it."""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct

from growth.kit.campaign.audience import Audiences
from growth.mechanics.referral.correction.service import Corrections
from growth.mechanics.referral.inviter.service import Standings
from growth.mechanics.referral.model import InviteMilestone, ReferralDraft, ReferralProgram
from growth.mechanics.referral.relation.service import Bound, Relations
from growth.mechanics.referral.service import ReferralPrograms
from growth.mechanics.referral.settlement import InviteeSettlement
from growth.plumbing.http.limits import Limiter
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.watch.audit import Act
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency
from growth.shop.order.service import Result, ShopService
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from growth.vocabulary.rewards import PointsReward
from tests.kit.invariants import violations
from tests.shop.order import telling

ZONE = "Asia/Shanghai"
PRICE_FEN = 10_000


class Room(Struct):
    """What one process has of the room."""

    database: Database
    shop: ShopService
    programs: ReferralPrograms
    relations: Relations
    standings: Standings
    corrections: Corrections

    async def program(self, *, state: str = "published", **changes: Any) -> ReferralProgram:
        """A program, through the operators' own service: ten points for each side, unless the test says otherwise."""
        made = (await self.programs.create(an_act(), a_draft(**changes), None, b"")).answer
        if state != "draft":
            made = await self.programs.publish(an_act(), made.program_id, accept_warnings=True)
        return made

    async def code(self, user_id: str) -> str:
        return await self.relations.code(user_id, now())

    async def binds(self, invitee_id: str, inviter_id: str, nickname: str | None = "张三") -> Bound:
        return await self.relations.bind(invitee_id, await self.code(inviter_id), nickname, now())

    async def tries(self, invitee_id: str, inviter_id: str) -> str:
        """What a binding comes to: `bound`, `again`, or the reason of a refusal."""
        return await self.tries_code(invitee_id, await self.code(inviter_id))

    async def tries_code(self, invitee_id: str, code: str) -> str:
        try:
            bound = await self.relations.bind(invitee_id, code, None, now())
        except Refusal as refusal:
            return refusal.kind.code.partition(".")[2]
        return "again" if bound.replayed else "bound"

    async def tells(self, *events: telling.JSON) -> list[Result]:
        return await telling.tell(self.shop, *events, now=max(now(), *map(telling.happened_at, events)))

    async def pays(self, user_id: str, order_id: str, **changes: Any) -> Result:
        (result,) = await self.tells(paid(user_id, order_id, **changes))
        return result

    async def receives(self, order_id: str) -> Result:
        (result,) = await self.tells(received(order_id))
        return result

    async def refunds(self, order_id: str, amount_fen: int = PRICE_FEN, units: int = 1, number: int = 1) -> Result:
        (result,) = await self.tells(refunded(order_id, amount_fen, units, number))
        return result

    async def buys(self, user_id: str, order_id: str | None = None, **changes: Any) -> str:
        """Pays, and receives."""
        name = order_id or f"o-{user_id}"
        await self.pays(user_id, name, **changes)
        await self.receives(name)
        return name

    async def points(self, user_id: str) -> int:
        found = await ledger.balances(self.database, user_id)
        return found[Currency.POINTS].posted if Currency.POINTS in found else 0

    async def totals(self, user_id: str) -> tuple[int, int, int]:
        """How many invitees are bound, have bought, are valid."""
        shown = (await self.standings.page(user_id, now())).totals
        return shown.bound, shown.bought, shown.valid

    async def inviter_of(self, user_id: str) -> str | None:
        found: str | None = await self.database.fetchval(
            "SELECT inviter_id FROM referral.relations WHERE invitee_id = $1 AND is_current", user_id
        )
        return found

    async def events(self, type_: str) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "SELECT data::text FROM plumbing.outbox WHERE type = $1 ORDER BY position", f"referral.{type_}"
        )
        return [json.loads(row["data"]) for row in rows]

    async def later(self, days: float) -> None:
        """Let the world be so many days older."""
        by = timedelta(days=days)
        async with self.database.transaction() as tx:
            await tx.execute(
                "UPDATE referral.relations SET bound_at = bound_at - $1::interval, ends_at = ends_at - $1", by
            )
            await tx.execute(
                "UPDATE referral.terms SET from_at = from_at - $1::interval, until_at = until_at - $1::interval,"
                " closes_at = closes_at - $1::interval",
                by,
            )


def a_draft(**changes: Any) -> ReferralDraft:
    plain: dict[str, Any] = {
        "title": "Bring a friend",
        "description": "Ten points for both.",
        "invitee_rewards": [PointsReward(points=10)],
        "inviter_rewards": [PointsReward(points=10)],
    }
    return ReferralDraft(**plain | changes)


def milestones(**points: int) -> list[InviteMilestone]:
    """`milestones(at_3=100)`."""
    return [
        InviteMilestone(invitees=int(name.removeprefix("at_")), rewards=[PointsReward(points=value)])
        for name, value in points.items()
    ]


def paid(
    user_id: str,
    order_id: str,
    *,
    at: datetime | None = None,
    sku: str = "tea",
    amount_fen: int = PRICE_FEN,
    lines: list[telling.JSON] | None = None,
) -> telling.JSON:
    told = lines or [{"line_id": "1", "sku": sku, "units": 1, "amount_fen": amount_fen}]
    data = {
        "order_id": order_id,
        "user_id": user_id,
        "paid_at": (at or now()).isoformat(),
        "paid_fen": sum(line["amount_fen"] for line in told),
        "lines": told,
    }
    return telling.event("order.paid", data, id_=f"paid:{order_id}", time=now().isoformat())


def received(order_id: str, at: datetime | None = None) -> telling.JSON:
    time = (at or now()).isoformat()
    return telling.event("order.received", {"order_id": order_id}, id_=f"received:{order_id}", time=time)


def refunded(order_id: str, amount_fen: int = PRICE_FEN, units: int = 1, number: int = 1) -> telling.JSON:
    return telling.refunded(
        order_id, f"r{number}", telling.of(units, amount_fen), id_=f"refund:{order_id}:{number}", time=now().isoformat()
    )


def an_act(reason: str = "") -> Act:
    return Act(Operator("olga", Role.ADMIN), now(), "request", reason)


def assemble(database: Database) -> Room:
    """One more process on the same stores."""
    relations = Relations(database, Limiter(None, "codes", per_second=0, burst=1), Audiences())  # type: ignore[arg-type]
    return Room(
        database=database,
        shop=ShopService(database, [InviteeSettlement(ZoneInfo(ZONE))], [telling.SECRET]),
        programs=ReferralPrograms(database, ZONE, Audiences()),
        relations=relations,
        standings=Standings(database, relations, ZONE, Audiences()),
        corrections=Corrections(database),
    )


@pytest.fixture
async def room(postgres_dsn: str) -> AsyncIterator[Room]:
    """A process of its own, with an empty database."""
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    room = assemble(database)
    yield room
    await room.relations.drain()
    broken = await violations(database)
    await database.close()
    assert not broken
