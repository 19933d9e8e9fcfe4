"""Corrects relations by hand; makes two ids one; forgets a person."""

from datetime import datetime

from msgspec import Struct

from growth.mechanics.referral.correction import store
from growth.mechanics.referral.correction.model import MAX_TOLD, ReferralRelation, RelationFilter
from growth.mechanics.referral.model import WRONG_STATE
from growth.mechanics.referral.relation import store as relations
from growth.mechanics.referral.relation.model import (
    LOOP,
    NO_PROGRAM,
    OWN_CODE,
    RELATION_NOT_FOUND,
    RELATION_OVER,
    EndReason,
    Tie,
    device_digest,
    ends_at_of,
    signs_between,
)
from growth.mechanics.referral.relation.service import histories, write
from growth.mechanics.referral.reward import store as rewards
from growth.mechanics.referral.reward.model import MERGED, milestone_keys
from growth.mechanics.referral.reward.settlement import lose, reach_milestones
from growth.mechanics.referral.service import program_at
from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.person.memory import ERASED
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.granting.service import require_admin_for_money, revoke
from growth.vocabulary.events.referral import ReferralRelationEnded
from growth.vocabulary.ids import new_id
from growth.vocabulary.names import HIDDEN
from growth.vocabulary.refusals import Refusal


class ToldReferral(Struct, frozen=True, kw_only=True):
    """What this room knows of one shopper; at most 100 relations of each kind."""

    codes: list[str]
    as_invitee: list[ReferralRelation]
    as_inviter: list[ReferralRelation]


class Corrections:
    """What operators do with relations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, only: RelationFilter, before: str | None, limit: int) -> list[ReferralRelation]:
        """Return relations, newest first."""
        return await store.page(self._database, only, before, limit)

    async def end(self, act: Act, relation_id: str, reason: EndReason) -> ReferralRelation:
        """End a relation. Raises `Refusal`: 404, and 409 if it has been ended or replaced."""
        async with self._database.transaction(everyone=True) as tx:
            await relations.lock(tx)
            before = await store.find(tx, relation_id)
            if before is None:
                raise Refusal(RELATION_NOT_FOUND)
            return await _end(tx, act, before, reason)

    async def rebind(
        self, act: Act, invitee_id: str, inviter_id: str, reason: EndReason, key: str | None, content: bytes
    ) -> Once[ReferralRelation]:
        """Bind a shopper to an inviter by hand; a relation that is there ends.

        Raises `Refusal` 409: oneself, a ring, no program running. A shopper who has bought is bound as no newcomer:
        there is no first order to earn from.
        """
        people = self._database.people
        invitee, inviter = [await people.living(self._database, one) for one in (invitee_id, inviter_id)]
        if invitee is None or inviter is None:
            raise Refusal(ERASED)
        async with self._database.transaction(people=[invitee, inviter], everyone=True) as tx:

            async def work() -> ReferralRelation:
                return await _rebind(tx, act, invitee, inviter, reason)

            scope = f"{act.operator.name} POST referral-relations"
            return await once(
                tx,
                scope=scope,
                key=key,
                content=content,
                answer_type=ReferralRelation,
                work=work,
                now=act.now,
                person=invitee,
                others=[inviter],
            )


async def _end(tx: Tx, act: Act, before: ReferralRelation, reason: EndReason) -> ReferralRelation:
    if not await store.end(tx, before.relation_id, reason, act.now):
        raise Refusal(RELATION_OVER)
    after = await store.find(tx, before.relation_id)
    assert after is not None
    await _audit(tx, act, "end_relation", before, after)
    await emit(tx, _ended(before, reason, act.now))
    return after


async def _rebind(tx: Tx, act: Act, invitee_id: str, inviter_id: str, reason: EndReason) -> ReferralRelation:
    if invitee_id == inviter_id:
        raise Refusal(OWN_CODE, "Nobody brings themselves.")
    now = await relations.lock(tx)
    terms = await relations.open_terms(tx, now)
    if terms is None:
        raise Refusal(NO_PROGRAM)
    # Whoever says who brought a shopper says who earns by their orders.
    require_admin_for_money(act, terms.draft)
    before = await store.current(tx, invitee_id)
    if before is not None and before.inviter_id == inviter_id and (before.ends_at is None or now < before.ends_at):
        raise Refusal(WRONG_STATE, "The shopper is bound to this inviter already.")
    if await relations.is_above(tx, invitee_id, inviter_id):
        raise Refusal(LOOP, "The shopper brought this inviter, or somebody who did.")
    if before is not None:
        await _end(tx, act, before, reason)
    known = await histories(tx, {invitee_id, inviter_id})
    tie = Tie(
        relation_id=new_id(now),
        invitee_id=invitee_id,
        inviter_id=inviter_id,
        program_id=terms.program_id,
        source="operator",
        nickname=HIDDEN,
        is_new=not known[invitee_id].has_bought,
        bound_at=now,
        ends_at=ends_at_of(terms.draft, now),
        device=device_digest(known[invitee_id].device_id),
        signs=signs_between(known[invitee_id], known[inviter_id]),
    )
    await write(tx, [tie], over=[], now=now)
    after = await store.find(tx, tie.relation_id)
    assert after is not None
    await _audit(tx, act, "rebind", None, after)
    return after


# --- one person ---------------------------------------------------------------------------------------------------


async def tell(reader: Reader, user_id: str) -> ToldReferral:
    """Return what is known of one shopper."""
    return ToldReferral(
        codes=await store.codes_of(reader, user_id),
        as_invitee=await store.page(reader, RelationFilter(invitee_id=user_id), None, MAX_TOLD),
        as_inviter=await store.page(reader, RelationFilter(inviter_id=user_id), None, MAX_TOLD),
    )


async def forget(tx: Tx, user_id: str, alias: str) -> None:
    """Put `alias` in the place of a shopper: counts and books stay, name, device and codes go."""
    await relations.lock(tx)
    await store.blur(tx, user_id)
    await store.move_invitee(tx, user_id, alias)
    await store.move_inviter(tx, user_id, alias)
    await store.move_progress(tx, user_id, alias)
    await store.move_milestones(tx, user_id, alias)


async def unite(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:
    """Make two ids one person's: no relation to oneself, no ring, one inviter, one first order, each milestone once.

    Who was new, and which order is the first, is judged again once all rooms know the person, see `again.py`.
    """
    if old_user_id == user_id:
        return
    await relations.lock(tx)
    both = {old_user_id, user_id}
    mine = await store.between(tx, sorted(both))
    for one in mine:
        if one.inviter_id in both:
            await _lose(tx, one, now)
            await store.forget_relation(tx, one.relation_id)
            await emit(tx, _ended(one, "merged", now))
    mine = [one for one in mine if one.inviter_id not in both]
    firsts = sorted(
        (one for one in mine if one.first_paid_at is not None), key=lambda one: (one.first_paid_at, one.relation_id)
    )
    for one in firsts[1:]:
        await _lose(tx, one, now)
    # Before ids change hands: then there is one row an id at most.
    current = [one for one in mine if one.is_current]
    # What is over by itself gives way, though it was first.
    current.sort(key=lambda one: one.ends_at is not None and one.ends_at <= now)
    for one in current[1:]:
        await _merge_away(tx, one, now)
    await store.move_invitee(tx, old_user_id, user_id)
    await store.move_inviter(tx, old_user_id, user_id)
    if current and await relations.is_above(tx, user_id, current[0].inviter_id):
        # The later one of the two, had it stayed, may not close a ring; but the first touch is what counts.
        await _merge_away(tx, current[0], now)
    await _unite_milestones(tx, old_user_id, user_id, now)


async def _merge_away(tx: Tx, one: ReferralRelation, now: datetime) -> None:
    await store.end(tx, one.relation_id, "merged", now)
    await emit(tx, _ended(one, "merged", now))


async def _lose(tx: Tx, one: ReferralRelation, now: datetime) -> None:
    if one.first_order_id is None:
        return
    held = [row for row in await rewards.lock_relations(tx, one.invitee_id) if row.relation_id == one.relation_id]
    for relation in held:
        await lose(tx, relation, MERGED, now)


async def _unite_milestones(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:
    seen = set[tuple[str, int]]()
    gone: list[str] = []
    keys: list[str] = []
    # Held ones first: what is held stands for what was lost.
    for one in await store.milestones_of(tx, [old_user_id, user_id]):
        if (one.program_id, one.invitees) not in seen:
            seen.add((one.program_id, one.invitees))
            continue
        gone.append(one.milestone_id)
        if one.is_held:
            keys += milestone_keys(one.milestone_id, one.times, one.rewards)
    await store.forget_milestones(tx, gone)
    await revoke(tx, keys, MERGED, now)
    valid = await store.move_progress(tx, old_user_id, user_id)
    await store.move_milestones(tx, old_user_id, user_id)
    terms = await program_at(tx, now)
    if terms is not None and terms.program_id in valid:
        await reach_milestones(tx, terms, user_id, valid[terms.program_id], now)


def _ended(one: ReferralRelation, reason: EndReason, now: datetime) -> ReferralRelationEnded:
    return ReferralRelationEnded(
        at=now, relation_id=one.relation_id, inviter_id=one.inviter_id, invitee_id=one.invitee_id, reason=reason
    )


async def _audit(tx: Tx, act: Act, action: str, before: ReferralRelation | None, after: ReferralRelation) -> None:
    await audit.record(
        tx,
        act,
        f"referral.{action}",
        after.relation_id,
        before=before,
        after=after,
    )
