"""What the shop's orders make of invitees: they have bought, are valid, or are lost again; with all that follows."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from growth.mechanics.referral.model import Terms
from growth.mechanics.referral.relation.model import CLOCKS_APART
from growth.mechanics.referral.reward import model, store
from growth.mechanics.referral.reward.model import HeldRelation, counts, keys_of, milestone_keys, rewards_of
from growth.mechanics.referral.service import program_at, terms_of
from growth.plumbing.outbox import emit
from growth.plumbing.postgres import Tx
from growth.rewards.granting.model import Grant
from growth.rewards.granting.service import grant, lower, revoke
from growth.vocabulary.events.referral import (
    ReferralInviteeBought,
    ReferralInviteeLost,
    ReferralInviteeValid,
    ReferralMilestoneLost,
    ReferralMilestoneReached,
)
from growth.vocabulary.ids import is_alias, new_id
from growth.vocabulary.orders import LineOutcome, Order


class Settlement:
    """Takes part in orders: brings relations to what the facts of an invitee's order say.

    The *first order* of an invitee is the first one heard of as paid while the relation was in force that has enough
    paid lines in scope; it is `relations.first_order_id`, for money too. Paid back whole it is no longer, and the next
    one that something is heard of takes its place.
    """

    def __init__(self, zone: str) -> None:
        """`zone` is the merchant's, whose days and months count."""
        self._zone = ZoneInfo(zone)

    async def settle(self, tx: Tx, order: Order, now: datetime) -> Sequence[LineOutcome]:
        """Settle the first order of an invitee; no line is ever refused for it."""
        if order.paid_at is None or order.user_id is None:
            return []
        relations = await store.lock_relations(tx, order.user_id)
        if not relations:
            return []
        relation = next((one for one in relations if one.first_order_id == order.order_id), None)
        if relation is None:
            relation = await self._claim(tx, relations, order, order.paid_at, now)
        if relation is None:
            return []
        assert relation.first_program_id is not None
        assert relation.first_version is not None
        terms = await terms_of(tx, relation.first_program_id, relation.first_version)
        if not counts(terms.draft, order):
            await lose(tx, relation, order.order_id, model.REFUNDED, now)
        elif relation.is_valid:
            await self._follow(tx, relation, terms, order, now)
        elif order.received_at is not None:
            await self._validate(tx, relation, terms, order, order.received_at, now)
        return []

    async def _follow(self, tx: Tx, relation: HeldRelation, terms: Terms, order: Order, now: datetime) -> None:
        """Bring what was given to the share of the order that was kept."""
        kept, paid = model.kept_and_paid_fen(terms.draft, order)
        if kept == paid:
            return
        assert relation.first_order_id is not None
        named = (terms.draft, relation, relation.first_order_id)
        left = {one.key: one.reward for one in rewards_of(*named, kept, paid, is_rewarded=relation.is_rewarded)}
        gone = [key for key in keys_of(*named, is_rewarded=relation.is_rewarded) if key not in left]
        await revoke(tx, gone, model.REFUNDED, now)
        await lower(tx, left, model.REFUNDED, now)

    async def _claim(
        self, tx: Tx, relations: Sequence[HeldRelation], order: Order, paid_at: datetime, now: datetime
    ) -> HeldRelation | None:
        """Make the order the invitee's first, if it can be."""
        if is_alias(order.user_id) or any(one.first_order_id is not None for one in relations):
            return None
        later = [one.relation_id for one in relations if one.is_new and one.bound_at > paid_at + CLOCKS_APART]
        if later and order.is_bought:
            await store.not_new(tx, later)
        relation = next((one for one in relations if _was_in_force(one, paid_at)), None)
        if relation is None or not relation.is_new:
            return None
        terms = await program_at(tx, paid_at)
        if terms is None or not counts(terms.draft, order) or not await store.claim(tx, relation, order, terms):
            return None
        await emit(
            tx,
            ReferralInviteeBought(
                at=now,
                relation_id=relation.relation_id,
                inviter_id=relation.inviter_id,
                invitee_id=relation.invitee_id,
                order_id=order.order_id,
                program_id=terms.program_id,
            ),
        )
        return msgspec.structs.replace(
            relation,
            first_order_id=order.order_id,
            first_program_id=terms.program_id,
            first_version=terms.version,
        )

    async def _validate(
        self, tx: Tx, relation: HeldRelation, terms: Terms, order: Order, received_at: datetime, now: datetime
    ) -> None:
        day = received_at.astimezone(self._zone).date()
        valid = await store.validate(tx, relation, order.order_id, received_at, day.replace(day=1))
        assert valid is not None, "the relation is locked, and was not valid"
        draft = terms.draft
        is_rewarded = bool(draft.inviter_rewards) and await store.take_caps(tx, relation, draft.caps, day)
        kept, paid = model.kept_and_paid_fen(draft, order)
        given = rewards_of(draft, relation, order.order_id, kept, paid, is_rewarded=is_rewarded)
        await grant(tx, [one for one in given if not is_alias(one.user_id)], now)
        await emit(
            tx,
            ReferralInviteeValid(
                at=now,
                relation_id=relation.relation_id,
                inviter_id=relation.inviter_id,
                invitee_id=relation.invitee_id,
                order_id=order.order_id,
                program_id=terms.program_id,
                is_rewarded=is_rewarded,
            ),
        )
        await reach_milestones(tx, terms, relation.inviter_id, valid, now)


async def lose(tx: Tx, relation: HeldRelation, order_id: str, reason: str, now: datetime) -> None:
    """Take an invitee's first order away, and back what was given for it. `relation` is locked, and has it."""
    assert relation.first_program_id is not None
    assert relation.first_version is not None
    valid = await store.lose(tx, relation, order_id)
    if relation.is_valid:
        draft = (await terms_of(tx, relation.first_program_id, relation.first_version)).draft
        await revoke(tx, keys_of(draft, relation, order_id, is_rewarded=relation.is_rewarded), reason, now)
    await emit(
        tx,
        ReferralInviteeLost(
            at=now,
            relation_id=relation.relation_id,
            inviter_id=relation.inviter_id,
            invitee_id=relation.invitee_id,
            order_id=order_id,
            program_id=relation.first_program_id,
        ),
    )
    if valid is not None:
        await _drop_milestones(tx, relation.first_program_id, relation.inviter_id, valid, reason, now)


async def reach_milestones(tx: Tx, terms: Terms, inviter_id: str, valid: int, now: datetime) -> None:
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


async def _drop_milestones(tx: Tx, program_id: str, inviter_id: str, valid: int, reason: str, now: datetime) -> None:
    """Take back what an inviter holds, and has too few valid invitees for."""
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


def _was_in_force(relation: HeldRelation, at: datetime) -> bool:
    return relation.bound_at <= at + CLOCKS_APART and (relation.ends_at is None or at < relation.ends_at)
