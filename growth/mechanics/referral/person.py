"""What referrals know of one shopper."""

from datetime import datetime

from growth.mechanics.referral.correction import store
from growth.mechanics.referral.correction.model import RelationFilter
from growth.mechanics.referral.correction.service import ToldReferral, forget, tell, unite
from growth.mechanics.referral.relation.service import INVITED
from growth.plumbing.postgres.database import Reader, Tx


async def export(reader: Reader, user_id: str) -> ToldReferral:
    """Return codes and relations, both ways."""
    return await tell(reader, user_id)


async def had(reader: Reader, user_id: str) -> list[str]:
    """Return what the shopper had of what happens once: an inviter."""
    return [INVITED] if await store.page(reader, RelationFilter(invitee_id=user_id), None, 1) else []


async def erase(tx: Tx, user_id: str, alias: str) -> None:
    """Leave relations and counts under `alias`."""
    await forget(tx, user_id, alias)


async def merge(tx: Tx, old_user_id: str, user_id: str, now: datetime) -> None:
    """Make relations and counts of two ids one person's."""
    await unite(tx, old_user_id, user_id, now)
