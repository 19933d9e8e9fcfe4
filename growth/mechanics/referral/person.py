"""What referrals know of one shopper: told, erased, merged."""

from datetime import datetime

from msgspec import Struct

from growth.mechanics.referral.correction import store
from growth.mechanics.referral.correction.model import MAX_TOLD, ReferralRelation, RelationFilter
from growth.mechanics.referral.correction.service import told_ended
from growth.mechanics.referral.relation import store as relations
from growth.mechanics.referral.relation.service import INVITED
from growth.mechanics.referral.reward import store as rewards
from growth.mechanics.referral.reward.model import MERGED, milestone_keys
from growth.mechanics.referral.reward.settlement import lose, reach_milestones
from growth.mechanics.referral.service import program_at
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.person.owned import rename
from growth.plumbing.postgres.database import Reader, Tx
from growth.rewards.granting.service import revoke


class ToldReferral(Struct, frozen=True, kw_only=True):
    """What this room knows of one shopper; at most 100 relations of each kind."""

    codes: list[str]
    as_invitee: list[ReferralRelation]
    as_inviter: list[ReferralRelation]


async def export(reader: Reader, user_id: str) -> ToldReferral:
    """Return codes and relations, both ways."""
    return ToldReferral(
        codes=await store.codes_of(reader, user_id),
        as_invitee=await store.page(reader, RelationFilter(invitee_id=user_id), None, MAX_TOLD),
        as_inviter=await store.page(reader, RelationFilter(inviter_id=user_id), None, MAX_TOLD),
    )


async def had(reader: Reader, user_id: str) -> list[str]:
    """Return what the shopper had of what happens once: an inviter."""
    return [INVITED] if await store.page(reader, RelationFilter(invitee_id=user_id), None, 1) else []


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Put `alias` in the place of a shopper: counts and books stay, name, device and codes go."""
    await relations.lock(tx)
    await store.blur(tx, user_id)
    await rename(tx, store.INVITEES, user_id, alias)
    await _move_inviter(tx, user_id, alias)
    await rename(tx, store.PROGRESS, user_id, alias)
    await rename(tx, store.MILESTONES, user_id, alias)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:
    """Make two ids one person's: no relation to oneself, no ring, one inviter, one first order, each milestone once.

    Who was new, and which order is the first, is judged again once all rooms know the person, see `settlement.py`.
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
            await emit(tx, told_ended(one, "merged", now))
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
    await rename(tx, store.INVITEES, old_user_id, user_id)
    await _move_inviter(tx, old_user_id, user_id)
    if current and await relations.is_above(tx, user_id, current[0].inviter_id):
        # The later one of the two, had it stayed, may not close a ring; but the first touch is what counts.
        await _merge_away(tx, current[0], now)
    await _unite_milestones(tx, old_user_id, user_id, now)


async def _move_inviter(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Let an id's invitees, codes and counts be another id's. Progress and milestones are moved apart."""
    await rename(tx, store.INVITERS, old_user_id, user_id)
    await store.move_codes(tx, old_user_id, user_id)
    for counted in (store.COUNTS, store.MONTHS, store.DAYS):
        await rename(tx, counted, old_user_id, user_id)


async def _merge_away(tx: Tx, one: ReferralRelation, now: datetime) -> None:
    await store.end(tx, one.relation_id, "merged", now)
    await emit(tx, told_ended(one, "merged", now))


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
    moved = await rename(tx, store.PROGRESS, old_user_id, user_id)
    valid = {row["program_id"]: row["valid"] for row in moved}
    await rename(tx, store.MILESTONES, old_user_id, user_id)
    terms = await program_at(tx, now)
    if terms is not None and terms.program_id in valid:
        await reach_milestones(tx, terms, user_id, valid[terms.program_id], now)
