"""The rooms of money on a database of their own: relations past the rules for binding, orders told by the shop."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from growth.mechanics.referral.commission.model import Commission
from growth.mechanics.referral.commission.periodic import CommissionKeeper
from growth.mechanics.referral.commission.service import CommissionBalance, Commissions
from growth.mechanics.referral.commission.store.commissions import find_of_order
from growth.mechanics.referral.model import FixedRule, PercentRule, ReferralDraft
from growth.mechanics.referral.reward import store as reward_store
from growth.mechanics.referral.settlement import InviteeSettlement
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.periodic import Turn
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency
from growth.rewards.withdrawal.approval.service import Approvals
from growth.rewards.withdrawal.payout.model import SandboxScript, script_of
from growth.rewards.withdrawal.payout.service import Sandbox
from growth.rewards.withdrawal.periodic import WithdrawalKeeper
from growth.rewards.withdrawal.service import Withdrawals
from growth.shop.order.service import Result, ShopService
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import new_id
from growth.vocabulary.orders import LineOutcome, Order
from tests.kit.invariants import violations
from tests.kit.turn import turn_at
from tests.shop.order import telling
from tests.shop.order.telling import JSON, NOON

ZONE = ZoneInfo("Asia/Shanghai")
LONG_AGO = NOON - timedelta(days=30)
RECEIVED = datetime.fromisoformat(telling.at(4))
AVAILABLE = RECEIVED + timedelta(days=7)
"""When an order received as `telling.received` says becomes available."""


class Clockwork:
    """The time as the sandbox sees it; and what it does about each number, when a test says so."""

    def __init__(self) -> None:
        self.now = NOON
        self.script: SandboxScript | None = None

    def __call__(self) -> datetime:
        return self.now

    def script_of(self, amount_fen: int) -> SandboxScript:
        return script_of(amount_fen) if self.script is None else self.script


class Till(Struct):
    """What one process has of commissions."""

    database: Database
    shop: ShopService
    commissions: Commissions
    keeper: CommissionKeeper
    withdrawals: Withdrawals
    clock: Clockwork
    payout: Sandbox
    desk: Approvals
    cashier: WithdrawalKeeper

    async def program(
        self,
        *,
        level_1: PercentRule | FixedRule | None = PercentRule(basis_points=1000),  # noqa: B008 - immutable
        level_2: PercentRule | FixedRule | None = None,
        from_at: datetime = LONG_AGO,
        **changes: Any,
    ) -> str:
        """A program that is live since long ago: ten percent, unless the test says otherwise."""
        draft = ReferralDraft(
            title="Invite", level_1=level_1, level_2=level_2, levels=1 if level_2 is None else 2, **changes
        )
        program_id = new_id(from_at)
        told = msgspec.to_builtins(draft)
        async with self.database.transaction() as tx:
            await tx.execute(
                """
                INSERT INTO referral.programs (program_id, draft, levels, state, created_at, published_at)
                VALUES ($1, $2, $3, 'published', $4, $4)
                """,
                program_id,
                told,
                draft.levels,
                from_at,
            )
            await tx.execute(
                "INSERT INTO referral.terms (program_id, version, draft, levels, from_at) VALUES ($1, 1, $2, $3, $4)",
                program_id,
                told,
                draft.levels,
                from_at,
            )
        return program_id

    async def bind(
        self,
        invitee_id: str,
        inviter_id: str,
        *,
        at: datetime = LONG_AGO,
        is_new: bool = True,
        program_id: str | None = None,
    ) -> str:
        """Say that one shopper brought another, past the rules for it."""
        relation_id = new_id(at)
        async with self.database.transaction() as tx:
            await tx.execute(
                """
                INSERT INTO referral.relations
                    (relation_id, invitee_id, inviter_id, program_id, source, nickname, is_new, bound_at)
                VALUES ($1, $2, $3, $4, 'shopper', '张*', $5, $6)
                """,
                relation_id,
                invitee_id,
                inviter_id,
                program_id or new_id(at),
                is_new,
                at,
            )
            await tx.execute(
                """
                INSERT INTO referral.inviters AS known (user_id, invited) VALUES ($1, 1)
                ON CONFLICT (user_id) DO UPDATE SET invited = known.invited + 1
                """,
                inviter_id,
            )
        return relation_id

    async def tells(self, *events: JSON, now: datetime | None = None) -> list[Result]:
        """The shop tells, at noon or when the last of it has happened; every event is taken."""
        results = await telling.tell(self.shop, *events, now=now or max(map(telling.happened_at, events)))
        assert all(result.outcome in {"applied", "duplicate", "ignored"} for result in results), results
        return results

    async def settle(self, moment: datetime = AVAILABLE) -> int:
        """Let the clock strike, until nothing is due."""
        done = 0
        while batch := await self.keeper.settle_due(self.turn(moment)):
            done += batch
        return done

    async def judge(self, moment: datetime = NOON) -> int:
        return await self.keeper.judge(self.turn(moment))

    def turn(self, moment: datetime) -> Turn:
        return turn_at(self.database, moment)

    async def money(self, user_id: str = "ann") -> CommissionBalance:
        return await self.commissions.money(user_id, NOON)

    async def fen(self, user_id: str = "ann") -> tuple[int, int, int, int, int]:
        """Pending, available, withdrawing, withdrawn, owed."""
        money = await self.money(user_id)
        return (
            money.pending_fen,
            money.available_fen,
            money.withdrawing_fen,
            money.withdrawn_fen,
            money.owed_fen,
        )

    async def of_order(self, order_id: str = "o1") -> list[Commission]:
        return await find_of_order(self.database, order_id)

    async def only(self, order_id: str = "o1") -> Commission:
        (found,) = await self.of_order(order_id)
        return found

    async def earned(self, fen: int, user_id: str = "ann", order_id: str = "o1") -> None:
        """Let somebody have so much to withdraw, by an order of ten times as much."""
        if await self.database.fetchval("SELECT NOT EXISTS (SELECT FROM referral.terms)"):
            await self.program()
        invitee = f"invitee-{order_id}"
        await self.bind(invitee, user_id)
        await self.tells(paid(order_id, line(amount_fen=10 * fen), user_id=invitee), received(order_id))
        await self.settle()

    async def asks(self, fen: int = 1000, user_id: str = "ann", now: datetime = NOON, key: str | None = None) -> str:
        """Ask for money; the withdrawal's id."""
        return (await self.withdrawals.request(user_id, fen, key, now)).answer.withdrawal_id

    async def approved(self, fen: int = 1000, user_id: str = "ann") -> str:
        withdrawal_id = await self.asks(fen, user_id)
        await self.desk.approve(an_act(), withdrawal_id)
        return withdrawal_id

    async def sends(self, moment: datetime = NOON) -> int:
        self.clock.now = moment
        return await self.cashier.send_approved(self.turn(moment))

    async def looks(self, moment: datetime) -> int:
        self.clock.now = moment
        return await self.cashier.look_at_paying(self.turn(moment))

    async def state(self, withdrawal_id: str) -> str:
        return (await self.desk.find(withdrawal_id)).state

    async def payouts(self) -> dict[str, tuple[int, str, int]]:
        """What the sandbox was asked to pay, by number: amount, outcome, and how often it was sent."""
        rows = await self.database.fetch("SELECT number, amount_fen, outcome, sends FROM withdrawal.sandbox_payouts")
        return {row["number"]: (row["amount_fen"], row["outcome"], row["sends"]) for row in rows}

    async def month(self, inviter_id: str = "ann", month: date = date(2026, 11, 1)) -> int:
        fen: int | None = await self.database.fetchval(
            "SELECT money_fen FROM referral.inviter_months WHERE inviter_id = $1 AND month = $2", inviter_id, month
        )
        return fen or 0

    async def entries(self, user_id: str = "ann") -> list[tuple[str, int]]:
        """What the ledger says, oldest first: state and amount."""
        found = await ledger.entries(self.database, user_id, Currency.COMMISSION, None, 1000)
        return [(entry.state, entry.amount) for entry in reversed(found)]

    async def events(self, prefix: str = "commission.") -> list[tuple[str, int]]:
        rows = await self.database.fetch(
            "SELECT type, data::text FROM plumbing.outbox WHERE starts_with(type, $1) ORDER BY position", prefix
        )
        return [(row["type"], json.loads(row["data"])["amount_fen"]) for row in rows]


LAWS = """
    WITH earned AS (
        SELECT inviter_id AS owner,
            coalesce(sum(amount_fen) FILTER (WHERE state IN ('pending', 'review')), 0) AS pending,
            coalesce(sum(amount_fen) FILTER (WHERE state = 'available'), 0) AS available
        FROM referral.commissions
        GROUP BY inviter_id
    ),
    withdrawn AS (
        SELECT user_id AS owner,
            coalesce(sum(amount_fen) FILTER (WHERE state IN ('requested', 'approved', 'paying')), 0) AS open,
            coalesce(sum(amount_fen) FILTER (WHERE state = 'paid'), 0) AS paid
        FROM withdrawal.withdrawals
        GROUP BY user_id
    ),
    held AS (
        SELECT owner, posted, pending_in, pending_out
        FROM ledger.accounts
        WHERE currency = 'commission'
    )
    SELECT owner, held.*, earned.*, withdrawn.*
    FROM held
    FULL JOIN earned USING (owner)
    FULL JOIN withdrawn USING (owner)
    WHERE coalesce(held.pending_in, 0) <> coalesce(earned.pending, 0)
       OR coalesce(held.pending_out, 0) <> coalesce(withdrawn.open, 0)
       OR coalesce(held.posted, 0) <> coalesce(earned.available, 0) - coalesce(withdrawn.paid, 0)
"""
"""Across rooms, whose invariants know their own tables only: the ledger holds what commissions and withdrawals say."""


async def broken_laws(database: Database) -> list[str]:
    """What does not hold: the rooms' invariants, and that the ledger agrees with them, shopper by shopper."""
    broken = [violation.name for violation in await violations(database)]
    return broken + [f"the ledger and {row['owner']} differ: {dict(row)}" for row in await database.fetch(LAWS)]


class MoneyAlone(InviteeSettlement):
    """Settles commissions, and leaves relations as they are."""

    async def settle(self, tx: Tx, orders: Sequence[Order], now: datetime) -> Mapping[str, Sequence[LineOutcome]]:
        await reward_store.take_inviters_turns(tx, [one.user_id for one in orders if one.user_id is not None])
        await self._commissions.settle_orders(tx, orders, now)
        return {}


def assemble(database: Database, clock: Clockwork | None = None) -> Till:
    """One more process on the same store."""
    clock = clock or Clockwork()
    payout = Sandbox(database, clock, clock.script_of)
    return Till(
        database=database,
        shop=ShopService(database, [MoneyAlone(ZONE)], [telling.SECRET]),
        commissions=Commissions(database, ZONE),
        keeper=CommissionKeeper(),
        withdrawals=Withdrawals(database, ZONE),
        clock=clock,
        payout=payout,
        desk=Approvals(database, payout),
        cashier=WithdrawalKeeper(database, payout),
    )


def an_act(role: Role = Role.ADMIN) -> Act:
    return Act(Operator("olga", role), NOON, "request", "")


def line(line_id: str = "1", amount_fen: int = 10_000, units: int = 4, sku: str = "tea") -> JSON:
    return telling.line(line_id, amount_fen=amount_fen, units=units, sku=sku)


def paid(order_id: str = "o1", *lines: JSON, user_id: str = "bob", minutes: int = 2) -> JSON:
    """An order paid so many minutes after eleven; one line of 10,000 fen and 4 units, unless told otherwise."""
    told = list(lines) or [line()]
    data = {
        "order_id": order_id,
        "user_id": user_id,
        "paid_at": telling.at(minutes),
        "paid_fen": sum(one["amount_fen"] for one in told),
        "lines": told,
    }
    return telling.event("order.paid", data)


def refunded(order_id: str = "o1", refund_id: str = "r1", *lines: JSON) -> JSON:
    return telling.refunded(order_id, refund_id, *lines)


def received(order_id: str = "o1", minutes: int = 4) -> JSON:
    return telling.received(order_id, time=telling.at(minutes))


def whole(lines: Sequence[JSON], line_ids: Sequence[str] | None = None) -> list[JSON]:
    """The refund of whole lines."""
    return [
        telling.of(one["units"], one["amount_fen"], one["line_id"])
        for one in lines
        if line_ids is None or one["line_id"] in line_ids
    ]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]
