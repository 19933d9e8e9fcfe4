"""Corrects relations by hand."""

from datetime import datetime
from functools import partial

from growth.mechanics.referral.correction import store
from growth.mechanics.referral.correction.model import ReferralRelation, RelationFilter
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
from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.person.memory import ERASED
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.granting.service import require_admin_for_money
from growth.vocabulary.alike import alike
from growth.vocabulary.events.referral import ReferralRelationEnded
from growth.vocabulary.ids import new_id
from growth.vocabulary.names import HIDDEN
from growth.vocabulary.refusals import Refusal


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
            scope = f"{act.operator.name} POST referral-relations"
            return await once(
                tx,
                scope=scope,
                key=key,
                content=content,
                answer_type=ReferralRelation,
                work=partial(_rebind, tx, act, invitee, inviter, reason),
                now=act.now,
                person=invitee,
                others=[inviter],
            )


async def _end(tx: Tx, act: Act, before: ReferralRelation, reason: EndReason) -> ReferralRelation:
    if not await store.end(tx, before.relation_id, reason, act.now):
        raise Refusal(RELATION_OVER)
    after = await store.find(tx, before.relation_id)
    assert after is not None
    await audit.record(tx, act, "referral.end_relation", after.relation_id, before=before, after=after)
    await emit(tx, told_ended(before, reason, act.now))
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
    await audit.record(tx, act, "referral.rebind", after.relation_id, after=after)
    return after


def told_ended(one: ReferralRelation, reason: EndReason, now: datetime) -> ReferralRelationEnded:
    """Tell that a relation ended."""
    return alike(ReferralRelationEnded, one, at=now, reason=reason)
