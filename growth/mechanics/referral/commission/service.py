"""Keeps the ledger in step with commissions; what inviters and operators ask of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from growth.mechanics.referral.commission import model
from growth.mechanics.referral.commission.model import (
    Commission,
    CommissionFilter,
    ReleaseReason,
    ShownState,
    VoidReason,
)
from growth.mechanics.referral.commission.store import caps, listing
from growth.mechanics.referral.commission.store import commissions as store
from growth.mechanics.referral.commission.telling.model import because
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency
from growth.rewards.withdrawal import service as withdrawals
from growth.vocabulary.alike import alike
from growth.vocabulary.events.commission import (
    CommissionChanged,
    CommissionEvent,
    CommissionPending,
    CommissionReleased,
    CommissionVoided,
)
from growth.vocabulary.refusals import Refusal

Change = tuple[Commission, Commission]
"""A commission before and after."""


class CommissionBalance(Struct, frozen=True, kw_only=True):
    """What an inviter has, as of one moment."""

    pending_fen: int
    """Earned by orders that are not received yet, or that can still be returned, or that are looked at."""
    available_fen: int
    """To withdraw now."""
    withdrawing_fen: int
    """Set aside for the withdrawal that is open."""
    withdrawn_fen: int
    """Paid out, fees included, ever."""
    owed_fen: int
    """Taken back after it was withdrawn: the next commissions pay this first."""
    server_time: datetime


class CommissionMovement(Struct, frozen=True, kw_only=True):
    """One change of a commission's worth, and what the ledger did."""

    revision: int
    at: datetime
    why: model.Why
    from_fen: int
    to_fen: int
    transfer_id: str | None
    """The ledger's; none where a hold was given up and nothing took its place."""
    is_hold: bool
    """Whether it was only set aside: replaced by the next change, or posted when the commission became available."""


class InReview(Struct, frozen=True):
    """What waits for a person for one reason."""

    reason: str
    commissions: int
    amount_fen: int


class CommissionExplained(Struct, frozen=True, kw_only=True):
    """Why a commission is worth what it is worth."""

    commission: Commission
    state: ShownState
    because: list[str]
    """Sentence by sentence: the terms, each line, the cap, what waits."""
    movements: list[CommissionMovement]


async def book(tx: Tx, added: Sequence[Change], changed: Sequence[Change], now: datetime) -> None:
    """Write commissions, and move the ledger, the leaderboard and the outbox with them.

    `added` are not known to Postgres yet; `changed` are locked.
    """
    if added:
        await store.add(tx, [after for _, after in added], _steps(added, now), _money(added))
    if changed:
        await store.change(tx, [after for _, after in changed], _steps(changed, now))
        await store.count_money(tx, _money(changed))
    changes = [*added, *changed]
    moves = model.moves_of([change for change in changes if _is_moved(change)])
    voided = await ledger.void(tx, moves.voids, now)
    assert len(voided) == len(moves.voids), "what is pending here is pending there"
    await ledger.transfer(tx, moves.debits, now)
    await ledger.transfer(tx, moves.credits, now)
    await emit(tx, *[_event(change, now) for change in changes if _is_moved(change) and change[1].state != "void"])


def _is_moved(change: Change) -> bool:
    return change[0].amount_fen != change[1].amount_fen


def _steps(changes: Sequence[Change], now: datetime) -> list[model.CommissionStep]:
    return [model.step_of(*change, now) for change in changes if _is_moved(change)]


def _money(changes: Sequence[Change]) -> Mapping[tuple[str, date], int]:
    money = Counter[tuple[str, date]]()
    for before, after in changes:
        money[after.inviter_id, after.month] += after.counted_fen - before.counted_fen
    return money


def _event(change: Change, now: datetime) -> CommissionEvent:
    before, after = change
    if before.revision == 0:
        return alike(CommissionPending, after, at=now)
    return alike(CommissionChanged, after, at=now, was_fen=before.amount_fen, why=model.why_changed(before, after))


async def void(tx: Tx, commissions: Sequence[Commission], reason: VoidReason, now: datetime) -> list[Commission]:
    """Take locked commissions back for good; what was paid out of them is owed."""
    changes = [(before, model.worth(replace(before, state="void", decision=reason), 0)) for before in commissions]
    await book(tx, [], changes, now)
    await emit(
        tx,
        *[
            alike(CommissionVoided, after, at=now, amount_fen=0, was_fen=before.amount_fen, reason=reason)
            for before, after in changes
        ],
    )
    return [after for _, after in changes]


class Commissions:
    """What inviters and operators ask of commissions."""

    def __init__(self, database: Database, zone: ZoneInfo) -> None:
        """`zone` is the merchant's, whose days the caps count."""
        self._database = database
        self._zone = zone

    async def money(self, user_id: str, now: datetime) -> CommissionBalance:
        """Return what an inviter has: the ledger and what was paid out, of one moment."""
        async with self._database.transaction() as tx:
            await listing.fix_moment(tx)
            balance = (await ledger.balances(tx, user_id))[Currency.COMMISSION]
            withdrawn_fen = await withdrawals.withdrawn_fen(tx, user_id)
        return CommissionBalance(
            pending_fen=balance.pending_in,
            available_fen=max(0, balance.available),
            withdrawing_fen=balance.pending_out,
            withdrawn_fen=withdrawn_fen,
            owed_fen=max(0, -balance.available),
            server_time=now,
        )

    async def page_of_inviter(
        self, inviter_id: str, state: ShownState | None, before: str | None, limit: int
    ) -> list[Commission]:
        """Return what an inviter earns and earned, newest first."""
        return await listing.page_of_inviter(self._database, inviter_id, state=state, before=before, limit=limit)

    async def page(self, which: CommissionFilter, before: str | None, limit: int) -> list[Commission]:
        """Return commissions, newest first."""
        if which.state == "review":
            return await listing.page_of_queue(self._database, which, before=before, limit=limit)
        return await listing.page(self._database, which, before=before, limit=limit)

    async def find(self, commission_id: str) -> Commission:
        """Return one commission. Raises `Refusal` 404."""
        found = await listing.find(self._database, commission_id)
        if found is None:
            raise Refusal(model.NOT_FOUND)
        return found

    async def in_review(self) -> list[InReview]:
        """Return what waits for a person, by reason."""
        return [InReview(*row) for row in await listing.in_review(self._database)]

    async def explain(self, commission_id: str) -> CommissionExplained:
        """Say why a commission is worth what it is worth. Raises `Refusal` 404."""
        async with self._database.transaction() as tx:
            await listing.fix_moment(tx)
            commission = await listing.find(tx, commission_id)
            steps = await listing.steps_of(tx, commission_id)
        if commission is None:
            raise Refusal(model.NOT_FOUND)
        return CommissionExplained(
            commission=commission,
            state=commission.shown_state,
            because=because(commission),
            movements=[
                alike(CommissionMovement, one, transfer_id=model.transfer_of(one), is_hold=one.state != "available")
                for one in steps
            ],
        )

    async def release(self, act: Act, commission_id: str, reason: ReleaseReason) -> Commission:
        """Let a commission in review go on as if nothing had been found. Raises `Refusal` 409 in another state."""
        async with self._database.transaction(everyone=True) as tx:
            before = await _lock(tx, commission_id)
            if before.state != "review":
                raise Refusal(
                    model.WRONG_STATE, f"Only one in review is released; it is {before.state}.", state=before.state
                )
            after = replace(before, state="pending", is_cleared=True, decision=reason)
            await book(tx, [], [(before, after)], act.now)
            await audit.record(tx, act, "commission.release", commission_id, before=before, after=after, reason=reason)
            await emit(tx, alike(CommissionReleased, after, at=act.now, reason=reason))
        return after

    async def void(self, act: Act, commission_id: str, reason: VoidReason) -> Commission:
        """Take a commission back for good; what was paid out of it is owed. Raises `Refusal` 409 if it is void."""
        async with self._database.transaction(everyone=True) as tx:
            before = await _lock(tx, commission_id)
            if before.state == "void":
                raise Refusal(model.WRONG_STATE, "It is void already.", state=before.state)
            day = before.paid_at.astimezone(self._zone).date()
            if before.granted_fen:
                await caps.free_room(tx, before.inviter_id, day, before.granted_fen)
            (after,) = await void(tx, [replace(before, granted_fen=before.granted_fen and 0)], reason, act.now)
            await audit.record(tx, act, "commission.void", commission_id, before=before, after=after, reason=reason)
        return after


async def _lock(tx: Tx, commission_id: str) -> Commission:
    found = await store.lock(tx, [commission_id])
    if not found:
        raise Refusal(model.NOT_FOUND)
    return found[0]
