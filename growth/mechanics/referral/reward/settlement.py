"""What the shop's facts make of invitees: they have bought, are valid, or are lost again; with all that follows."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from growth.mechanics.referral.model import ProgramTerms
from growth.mechanics.referral.relation.model import CLOCKS_APART
from growth.mechanics.referral.relation.service import INVITED
from growth.mechanics.referral.reward import model, store
from growth.mechanics.referral.reward.model import (
    First,
    HeldRelation,
    counts,
    is_newcomer,
    keys_of,
    milestone_keys,
    rewards_of,
    why_lost,
)
from growth.mechanics.referral.service import program_at, terms_of
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Tx
from growth.rewards.granting.model import Grant
from growth.rewards.granting.service import grant, lower, revoke
from growth.shop.order.model import BOUGHT
from growth.shop.order.service import bought_since, kept_orders, registration
from growth.vocabulary.alike import alike
from growth.vocabulary.events.referral import (
    ReferralInviteeBought,
    ReferralInviteeLost,
    ReferralInviteeValid,
    ReferralMilestoneLost,
    ReferralMilestoneReached,
)
from growth.vocabulary.ids import is_alias, new_id


class ReferralSettlement:
    """Brings the relations of an invitee to what all facts known of the invitee say.

    An invitee *was new* if, by what is known now, no order was kept that was paid before the binding, and the first
    visit was soon before it. The *first order* of one who was new is the first by time of payment that was paid while
    the relation was in force and of which enough lines in scope were kept; it is `relations.first_order_id`. Both are
    looked up whenever something is told, so no order of arrival decides them. Of an erased invitee no other order
    becomes the first.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        """`zone` is the merchant's, whose days and months count."""
        self._zone = zone

    async def settle_invitee(self, tx: Tx, invitee_id: str, now: datetime) -> None:
        """Bring the relations of an invitee, and all that hangs on them, to what the facts say."""
        known = await store.lock_relations(tx, invitee_id)
        if not known:
            return
        new = await _who_is_new(tx, invitee_id, known)
        relations = {one.relation_id: replace(one, is_new=new[one.relation_id]) for one in known}
        held = next((one for one in relations.values() if one.first_order_id is not None), None)
        first = await _first(tx, invitee_id, list(relations.values()), held)
        is_lost = held is not None and (first is None or first.order_id != held.first_order_id)
        left = None
        if held is not None and is_lost:
            left = await _take(tx, held, why_lost(held, first, is_new=held.is_new), now)
        if changed := [one.relation_id for one in known if one.is_new != new[one.relation_id]]:
            await store.change_is_new(tx, changed)
        counted = None
        if first is not None:
            relation = relations[first.relation_id]
            if held is None or is_lost:
                relation = await _claim(tx, relation, first, now)
            await self._bring(tx, relation, first, now)
            counted = (first.program_id, relation.inviter_id) if first.order.received_at is not None else None
        if held is not None and left is not None and counted != (held.first_program_id, held.inviter_id):
            # Only now: an invitee who is valid by another order is not missed in between.
            await _drop_milestones(tx, held, left, model.REFUNDED, now)

    async def _bring(self, tx: Tx, relation: HeldRelation, first: First, now: datetime) -> None:
        """Bring what is counted and given for the first order of a relation to the facts of that order."""
        received_at = first.order.received_at
        if received_at is None:
            return
        if relation.is_valid and relation.first_received_at != received_at:
            relation = await self._redate(tx, relation, first, received_at, now)
        if relation.is_valid:
            await _follow(tx, relation, first, now)
        else:
            await self._validate(tx, relation, first, received_at, now)

    async def _validate(
        self, tx: Tx, relation: HeldRelation, first: First, received_at: datetime, now: datetime
    ) -> None:
        day = self._day(received_at)
        valid = await store.validate(tx, relation, first.order_id, received_at, day.replace(day=1))
        assert valid is not None, "the relation is locked, and was not valid"
        is_rewarded = await _take_caps(tx, relation, first.terms, day)
        await _give(tx, relation, first, now, is_rewarded=is_rewarded)
        await emit(tx, alike(ReferralInviteeValid, first, relation, at=now, is_rewarded=is_rewarded))
        await reach_milestones(tx, first.terms, relation.inviter_id, valid, now)

    async def _redate(
        self, tx: Tx, relation: HeldRelation, first: First, received_at: datetime, now: datetime
    ) -> HeldRelation:
        """Count a valid invitee in the month and on the day of a time of receipt that was corrected.

        Where the caps of that day say otherwise than those of the day before, so do the inviter's rewards.
        """
        day = self._day(received_at)
        await store.redate(tx, relation, received_at, day.replace(day=1), day)
        moved = replace(relation, first_received_at=received_at)
        if relation.rewarded_day == day:
            return moved
        is_rewarded = await _take_caps(tx, relation, first.terms, day)
        if is_rewarded and not relation.is_rewarded:
            await _give(tx, relation, first, now, is_rewarded=True)
        if relation.is_rewarded and not is_rewarded:
            # Found anew, so that what the invitee keeps is given under keys that were not used.
            await _take(tx, moved, model.CORRECTED, now)
            return await _claim(tx, relation, first, now)
        return replace(moved, rewarded_day=day if is_rewarded else None)

    def _day(self, at: datetime) -> date:
        return at.astimezone(self._zone).date()


async def _who_is_new(tx: Tx, invitee_id: str, relations: Sequence[HeldRelation]) -> Mapping[str, bool]:
    """Return which relations were made with a newcomer, by what is known now."""
    since = (await bought_since(tx, [invitee_id])).get(invitee_id)
    told = (await registration(tx, [invitee_id])).get(invitee_id)
    had = await tx.people.had(tx, [invitee_id], BOUGHT) | await tx.people.had(tx, [invitee_id], INVITED)
    new: dict[str, bool] = {}
    for one in relations:
        terms = await program_at(tx, one.bound_at) if one.is_by_code and told is not None else None
        new[one.relation_id] = is_newcomer(
            one,
            bought_since=since,
            registered_at=None if told is None else told.registered_at,
            attribution_days=None if terms is None else terms.draft.attribution_days,
            is_remembered=bool(had),
        )
    return new


async def _first(tx: Tx, invitee_id: str, relations: Sequence[HeldRelation], held: HeldRelation | None) -> First | None:
    """Return the first order of an invitee. The one that is `held` as it keeps its relation and its terms."""
    new = [one for one in relations if one.is_new]
    if not new:
        return None
    terms: ProgramTerms | None = None
    async for order in kept_orders(tx, invitee_id, min(one.bound_at for one in new) - CLOCKS_APART):
        assert order.paid_at is not None
        is_held = held is not None and order.order_id == held.first_order_id
        # Of a current and a past relation, the later one counts.
        relation = held if is_held else next((one for one in relations if one.was_in_force(order.paid_at)), None)
        if relation is None or not relation.is_new or (is_alias(invitee_id) and not is_held):
            continue
        if is_held:
            assert relation.first_program_id is not None
            assert relation.first_version is not None
            terms = await terms_of(tx, relation.first_program_id, relation.first_version)
        elif terms is None or not terms.are_in_force(order.paid_at):
            terms = await program_at(tx, order.paid_at)
        if terms is not None and counts(terms.draft, order):
            return First(relation_id=relation.relation_id, order=order, terms=terms)
    return None


async def _claim(tx: Tx, relation: HeldRelation, first: First, now: datetime) -> HeldRelation:
    """Make an order the invitee's first, and tell of it. There is none."""
    times = await store.claim(tx, relation, first.order, first.terms)
    assert times is not None, "the relation is locked, its invitee was new and has no first order"
    await emit(tx, alike(ReferralInviteeBought, first, relation, at=now))
    return replace(
        relation,
        first_order_id=first.order_id,
        first_paid_at=first.paid_at,
        first_program_id=first.program_id,
        first_version=first.terms.version,
        first_received_at=None,
        rewarded_day=None,
        first_times=times,
    )


async def _take_caps(tx: Tx, relation: HeldRelation, terms: ProgramTerms, day: date) -> bool:
    draft = terms.draft
    return bool(draft.inviter_rewards) and await store.take_caps(tx, relation, draft.caps, day)


async def _give(tx: Tx, relation: HeldRelation, first: First, now: datetime, *, is_rewarded: bool) -> None:
    """Give what the share of the order that was kept is worth to both, or to the invitee alone; each once."""
    draft = first.terms.draft
    kept, paid = model.kept_and_paid_fen(draft, first.order)
    given = rewards_of(draft, relation, first.order_id, kept, paid, is_rewarded=is_rewarded)
    await grant(tx, [one for one in given if not is_alias(one.user_id)], now)


async def _follow(tx: Tx, relation: HeldRelation, first: First, now: datetime) -> None:
    """Bring what was given to the share of the order that was kept."""
    draft = first.terms.draft
    kept, paid = model.kept_and_paid_fen(draft, first.order)
    if kept == paid:
        return
    named = (draft, relation, first.order_id)
    left = {one.key: one.reward for one in rewards_of(*named, kept, paid, is_rewarded=relation.is_rewarded)}
    gone = [key for key in keys_of(*named, is_rewarded=relation.is_rewarded) if key not in left]
    await revoke(tx, gone, model.REFUNDED, now)
    await lower(tx, left, model.REFUNDED, now)


async def lose(tx: Tx, relation: HeldRelation, reason: str, now: datetime) -> None:
    """Take an invitee's first order away, and back what was given for it. `relation` is locked, and has it."""
    left = await _take(tx, relation, reason, now)
    if left is not None:
        await _drop_milestones(tx, relation, left, reason, now)


async def _take(tx: Tx, relation: HeldRelation, reason: str, now: datetime) -> int | None:
    """Do so, milestones aside; return how many valid invitees are left to the inviter, None if this one was none."""
    assert relation.first_order_id is not None
    assert relation.first_program_id is not None
    assert relation.first_version is not None
    left = await store.lose(tx, relation, relation.first_order_id)
    if relation.is_valid:
        draft = (await terms_of(tx, relation.first_program_id, relation.first_version)).draft
        keys = keys_of(draft, relation, relation.first_order_id, is_rewarded=relation.is_rewarded)
        await revoke(tx, keys, reason, now)
    lost = {"order_id": relation.first_order_id, "program_id": relation.first_program_id}
    await emit(tx, alike(ReferralInviteeLost, relation, at=now, **lost))
    return left


async def reach_milestones(tx: Tx, terms: ProgramTerms, inviter_id: str, valid: int, now: datetime) -> None:
    """Give what an inviter with so many valid invitees should hold by `terms`, and does not. Progress is locked."""
    if not terms.draft.milestones:
        return
    held = await store.held_milestones(tx, terms.program_id, inviter_id)
    grants: list[Grant] = []
    for milestone in model.reached(terms.draft.milestones, held, valid):
        made = await store.reach(tx, new_id(now), terms.program_id, inviter_id, milestone, now)
        assert made is not None, "progress is locked, and the milestone was not held"
        for key, reward in zip(milestone_keys(*made, milestone.rewards), milestone.rewards, strict=True):
            grants.append(
                Grant(
                    user_id=inviter_id,
                    reward=reward,
                    reason=model.MILESTONE,
                    key=key,
                    subject=terms.program_id,
                    budget_id=terms.program_id if terms.draft.budget is not None else None,
                )
            )
        await emit(
            tx,
            ReferralMilestoneReached(
                at=now, program_id=terms.program_id, inviter_id=inviter_id, invitees=milestone.invitees
            ),
        )
    await grant(tx, grants, now)


async def _drop_milestones(tx: Tx, relation: HeldRelation, valid: int, reason: str, now: datetime) -> None:
    """Take back what the inviter of a relation that lost its first order holds, and has too few valid invitees for."""
    program_id, inviter_id = relation.first_program_id, relation.inviter_id
    assert program_id is not None
    gone = model.lost(await store.held_milestones(tx, program_id, inviter_id), valid)
    if not gone:
        return
    dropped = await store.drop(tx, [one.milestone_id for one in gone], now)
    gone = [one for one in gone if one.milestone_id in dropped]
    keys = [key for one in gone for key in milestone_keys(one.milestone_id, one.times, one.rewards)]
    await revoke(tx, keys, reason, now)
    await emit(
        tx,
        *[
            ReferralMilestoneLost(at=now, program_id=program_id, inviter_id=inviter_id, invitees=one.invitees)
            for one in gone
        ],
    )
