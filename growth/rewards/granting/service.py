"""Gives rewards, and takes them back. In the caller's transaction, each key once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.http.operators import ROLE_TOO_LOW
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.person.memory import ERASED
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.watch.audit import Act, record
from growth.rewards.coupon import service as coupons
from growth.rewards.coupon.model import Issue
from growth.rewards.granting import store
from growth.rewards.granting.model import (
    GONE,
    NOT_FOUND,
    NOT_GRANTED,
    REVOKED,
    Budget,
    Grant,
    Granted,
    GrantRecord,
    Revoked,
    Spent,
    value_of,
)
from growth.rewards.granting.store import Charge, Returned, RevokedGrant
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency, Transfer
from growth.vocabulary.actors import Role
from growth.vocabulary.events.granting import GrantingGranted, GrantingRevoked
from growth.vocabulary.ids import HOUSE, derived_id, new_id, new_ids
from growth.vocabulary.refusals import Refusal
from growth.vocabulary.rewards import (
    CommissionReward,
    CouponReward,
    FreezeCardReward,
    GrowthReward,
    MakeUpCardReward,
    PointsReward,
    Reward,
    gives_money,
)

MAX_GRANTS = 1_000
"""In one statement."""

BUDGET_SPENT = "budget_spent"
COUPON_GONE = "coupon_gone"


async def grant(tx: Tx, grants: Sequence[Grant], now: datetime) -> list[Granted]:
    """Give what was not given before; say of each, in order, what became of it. A few statements for each `MAX_GRANTS`.

    A key that is named twice is answered the second time as a second call would be.
    """
    starts = range(0, len(grants), MAX_GRANTS)
    return [told for start in starts for told in await _grant(tx, grants[start : start + MAX_GRANTS], now)]


async def _grant(tx: Tx, grants: Sequence[Grant], now: datetime) -> list[Granted]:
    asked: dict[str, tuple[str, Grant]] = {}
    is_first: list[bool] = []
    for grant_id, one in zip(new_ids(now, len(grants)), grants, strict=True):
        is_first.append(one.key not in asked)
        asked.setdefault(one.key, (grant_id, one))
    fresh = await store.add(tx, list(asked.values()), now)
    given = {key: pair for key, pair in asked.items() if key in fresh}
    refused = await _over_budget(tx, [one for _, one in given.values()], now)
    refused |= await _issue(tx, [pair for key, pair in given.items() if key not in refused], now)
    if refused:
        await store.refuse(tx, refused)
    done = [pair for key, pair in given.items() if key not in refused]
    await ledger.transfer(tx, [transfer for pair in done for transfer in _transfers(*pair, now)], now)
    await emit(
        tx,
        *[
            GrantingGranted(at=now, grant_id=grant_id, user_id=one.user_id, reward=one.reward, reason=one.reason)
            for grant_id, one in done
        ],
    )
    return [
        _told(one, asked[one.key][0], fresh, refused) if first else Granted(one.key, "already")
        for one, first in zip(grants, is_first, strict=True)
    ]


async def revoke(tx: Tx, keys: Sequence[str], reason: str, now: datetime) -> list[Revoked]:
    """Take grants back, each once: what was spent is owed, a coupon that was not used is voided.

    Points that ended unspent are with the house already, and are neither taken again nor owed.
    A coupon that an order has is told as `in_use`, also when asked again, and voided if the order gives it back. What
    is taken back returns to its budget, which counts what stands; a coupon that an order has does not.
    """
    starts = range(0, len(keys), MAX_GRANTS)
    return [told for start in starts for told in await _revoke(tx, keys[start : start + MAX_GRANTS], reason, now)]


async def _revoke(tx: Tx, keys: Sequence[str], reason: str, now: datetime) -> list[Revoked]:
    taken = await store.take_back(tx, keys, reason, now)
    done = {one.key for one in taken}
    in_coupons = {one.grant_id: one.key for one in taken if isinstance(one.reward, CouponReward)}
    if len(done) < len(keys):
        in_coupons |= await store.coupons_under(tx, [key for key in keys if key not in done])
    voided = await coupons.void(tx, list(in_coupons), now)
    kept = {one.coupon_id for one in voided if one.outcome in {"locked", "used"}}
    in_use = {in_coupons[coupon_id] for coupon_id in kept}
    await store.give_back(tx, _returned([(one, 1, value_of(one.reward)) for one in taken if one.grant_id not in kept]))
    await ledger.transfer(tx, await _taken_back(tx, taken, reason, now), now)
    await emit(
        tx,
        *[
            GrantingRevoked(at=now, grant_id=one.grant_id, user_id=one.user_id, reward=one.reward, reason=reason)
            for one in taken
        ],
    )
    return [Revoked(key, "revoked" if key in done else "already", key in in_use) for key in keys]


async def lower(tx: Tx, rewards: Mapping[str, Reward], reason: str, now: datetime) -> None:
    """Take part of grants back: under each key there is no more than the reward given here from now on.

    What is smaller already, was taken back or never given stays as it is. Of points and growth value alone.
    """
    lowered = await store.lower(tx, rewards)
    parts = [replace(one, reward=_less(one.was, one.reward)) for one in lowered]
    await store.give_back(tx, _returned([(part, 0, value_of(part.reward)) for part in parts]))
    names = {one.grant_id: derived_id(one.grant_id, "lowered", str(value_of(one.reward))) for one in lowered}
    await ledger.transfer(tx, await _taken_back(tx, parts, reason, now, names), now)
    await emit(
        tx,
        *[
            GrantingRevoked(at=now, grant_id=part.grant_id, user_id=part.user_id, reward=part.reward, reason=reason)
            for part in parts
        ],
    )


async def _taken_back(
    tx: Tx, taken: Sequence[RevokedGrant], reason: str, now: datetime, names: Mapping[str, str] | None = None
) -> list[Transfer]:
    """Return the transfers that take grants, or parts of them, back. What ended is with the house already.

    `names`: the id of a grant → that of the transfer, where it is not the one by which all of it is taken back.
    """
    points = {one.grant_id: one.user_id for one in taken if isinstance(one.reward, PointsReward)}
    ended = await ledger.ended(tx, points, now)
    found = [(one, transfer) for one in taken for transfer in _reversals(one, reason, ended.get(one.grant_id, 0))]
    return [
        replace(transfer, transfer_id=names[one.grant_id]) if names is not None else transfer for one, transfer in found
    ]


def _less(was: Reward, reward: Reward) -> Reward:
    """Return what is missing from `reward` to what it was."""
    match was, reward:
        case PointsReward(), PointsReward():
            return replace(was, points=was.points - reward.points)
        case GrowthReward(), GrowthReward():
            return replace(was, growth=was.growth - reward.growth)
    raise AssertionError("only amounts are lowered")


def _returned(given: Sequence[tuple[RevokedGrant, int, int]]) -> list[Returned]:
    """Return what goes back to budgets: of each grant how many, and what value."""
    return [
        Returned(one.budget_id, one.granted_at, grants, value)
        for one, grants, value in given
        if one.budget_id is not None
    ]


async def set_budget(tx: Tx, budget_id: str, budget: Budget, zone: str) -> None:
    """Make or change the budget of a campaign; `zone` is the merchant's, whose days it counts."""
    await store.set_budget(tx, budget_id, budget, zone)


async def spent(reader: Reader, budget_ids: Sequence[str], now: datetime) -> Mapping[str, Spent]:
    """Return what campaigns gave so far, on the day of `now` where their budget is for each day."""
    return await store.spent(reader, budget_ids, now)


def require_admin_for_money(act: Act, *campaigns: object) -> None:
    """Refuse an editor who lets a campaign give money, or changes one that does.

    Asked when a campaign is published, goes on, or is changed once it was published, of how it was and how it will be:
    also the rules by which an admin's money is given are the admin's. To draft one, to pause and to end it is free.
    Raises `Refusal` 403 `auth.role_too_low`.
    """
    if act.operator.role < Role.ADMIN and any(map(gives_money, campaigns)):
        raise Refusal(
            ROLE_TOO_LOW,
            "It gives money (commission): that takes an admin.",
            needed=Role.ADMIN.name.lower(),
            role=act.operator.role.name.lower(),
        )


class Granting:
    """What operators do by hand."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def give(self, act: Act, user_id: str, reward: Reward, key: str | None, content: bytes) -> Once[GrantRecord]:
        """Give a shopper a reward, for the reason in `act`. Raises `Refusal` 404 for one who was erased."""
        living = await self._database.people.living(self._database, user_id)
        if living is None:
            raise Refusal(ERASED)
        async with self._database.transaction(people=[living]) as tx:

            async def work() -> GrantRecord:
                name = f"operator:{new_id(act.now)}"
                made = Grant(user_id=living, reward=reward, reason="granting.operator", key=name)
                told = (await grant(tx, [made], act.now))[0]
                if told.outcome == COUPON_GONE:
                    raise Refusal(GONE)
                kept = (await store.page(tx, living, None, 1))[0]
                await _record(tx, act, "granting.give", None, kept)
                return kept

            return await once(
                tx,
                scope=f"{act.operator.name} grants",
                person=living,
                key=key,
                content=content,
                answer_type=GrantRecord,
                work=work,
                now=act.now,
            )

    async def take_back(self, act: Act, grant_id: str) -> GrantRecord:
        """Take one grant back, for the reason in `act`."""
        async with self._database.transaction(everyone=True) as tx:
            before = await store.find(tx, grant_id)
            if before is None:
                raise Refusal(NOT_FOUND)
            if before.outcome != "granted":
                raise Refusal(NOT_GRANTED)
            told = (await revoke(tx, [before.key], "granting.operator", act.now))[0]
            if told.outcome == "already":
                raise Refusal(REVOKED)
            after = await store.find(tx, grant_id)
            assert after is not None
            await _record(tx, act, "granting.revoke", before, after)
            return after

    async def page(self, user_id: str | None, before: str | None, limit: int) -> list[GrantRecord]:
        """Return grants, newest first."""
        return await store.page(self._database, user_id, before, limit)


async def _over_budget(tx: Tx, grants: Sequence[Grant], now: datetime) -> dict[str, str]:
    """Charge the budgets; return the keys of what they cannot pay."""
    by_budget = defaultdict[str, list[Grant]](list)
    for one in grants:
        if one.budget_id is not None:
            by_budget[one.budget_id].append(one)
    if not by_budget:
        return {}
    whole = [Charge(budget_id, len(of), sum(value_of(one.reward) for one in of)) for budget_id, of in by_budget.items()]
    paid = await store.charge(tx, whole, now)
    refused: dict[str, str] = {}
    for budget_id in sorted(by_budget.keys() - paid):
        # Near its end: one after the other, in the order given.
        least_refused: int | None = None
        for one in by_budget[budget_id]:
            value = value_of(one.reward)
            is_hopeless = least_refused is not None and value >= least_refused
            if is_hopeless or not await store.charge(tx, [Charge(budget_id, 1, value)], now):
                refused[one.key] = BUDGET_SPENT
                least_refused = value if least_refused is None else min(value, least_refused)
    return refused


async def _issue(tx: Tx, grants: Sequence[tuple[str, Grant]], now: datetime) -> dict[str, str]:
    """Issue the coupons among `grants`; return the keys of those that are gone."""
    issues = [
        Issue(coupon_id=grant_id, template_id=one.reward.template_id, user_id=one.user_id, reason=one.reason)
        for grant_id, one in grants
        if isinstance(one.reward, CouponReward)
    ]
    gone = {one.coupon_id for one in await coupons.issue(tx, issues, now) if one.outcome == "gone"}
    return {one.key: COUPON_GONE for grant_id, one in grants if grant_id in gone}


def _transfers(grant_id: str, one: Grant, now: datetime) -> list[Transfer]:
    reward = one.reward
    if isinstance(reward, CouponReward):
        return []
    valid_days = reward.valid_days if isinstance(reward, PointsReward) else None
    return [
        Transfer(
            transfer_id=grant_id,
            debit=_house(one.reason),
            credit=one.user_id,
            currency=_currency(reward),
            amount=value_of(reward),
            reason=one.reason,
            subject=one.subject,
            expires_at=None if valid_days is None else now + timedelta(days=valid_days),
        )
    ]


def _reversals(one: RevokedGrant, reason: str, ended: int) -> list[Transfer]:
    if isinstance(one.reward, CouponReward) or value_of(one.reward) <= ended:
        return []
    return [
        Transfer(
            transfer_id=derived_id(one.grant_id, "revoked"),
            debit=one.user_id,
            credit=_house(one.reason),
            currency=_currency(one.reward),
            amount=value_of(one.reward) - ended,
            reason=reason,
            subject=one.subject,
            may_owe=True,
            from_lot=one.grant_id,
        )
    ]


def _house(reason: str) -> str:
    """Return the house's account for a reason: that of its room."""
    return HOUSE + reason.partition(".")[0]


def _currency(reward: Reward) -> Currency:
    match reward:
        case PointsReward():
            return Currency.POINTS
        case GrowthReward():
            return Currency.GROWTH
        case CommissionReward():
            return Currency.COMMISSION
        case MakeUpCardReward():
            return Currency.MAKE_UP_CARD
        case FreezeCardReward():
            return Currency.FREEZE_CARD
        case CouponReward():
            raise AssertionError


def _told(one: Grant, grant_id: str, fresh: frozenset[str], refused: Mapping[str, str]) -> Granted:
    if one.key not in fresh:
        return Granted(one.key, "already")
    if one.key in refused:
        return Granted(one.key, "budget_spent" if refused[one.key] == BUDGET_SPENT else "coupon_gone")
    return Granted(one.key, "granted", grant_id if isinstance(one.reward, CouponReward) else None)


async def _record(tx: Tx, act: Act, action: str, before: GrantRecord | None, after: GrantRecord) -> None:
    await record(
        tx, act, action, after.user_id, before=None if before is None else _nameless(before), after=_nameless(after)
    )


def _nameless(told: GrantRecord) -> GrantRecord:
    """Leave out what may have a shopper's id within a text, where no erasure finds it: `grant_id` leads there."""
    return replace(told, key="", subject="")
