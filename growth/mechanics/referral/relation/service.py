"""Relations: who is bound to whom, and until when."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from growth.mechanics.referral.relation import store
from growth.mechanics.referral.relation.model import Relation
from growth.plumbing.postgres import Reader


async def relations_of(reader: Reader, invitee_ids: Sequence[str], at: datetime) -> Mapping[str, Relation]:
    """Return who had brought each of `invitee_ids` at `at`, and the terms then; who was brought by nobody is missing.

    For an order: `at` is its `paid_at`. A later binding or edit changes nothing about an earlier moment; an operator's
    end of a relation counts from that end on.
    """
    return await store.relations_in_force(reader, invitee_ids, at)
