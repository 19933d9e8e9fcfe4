"""Programs: what is promised, and what operators do with it."""

from datetime import datetime

from growth.mechanics.referral import store
from growth.mechanics.referral.model import Terms
from growth.plumbing.postgres import Reader


async def program_at(reader: Reader, at: datetime) -> Terms | None:
    """Return the terms in force at `at`; None if no program was live.

    Whoever acts on terms writes their program_id and version down, and asks `terms_of` from then on.
    """
    return await store.terms_at(reader, at)


async def terms_of(reader: Reader, program_id: str, version: int) -> Terms:
    """Return one version of a program's promises, which was seen before."""
    terms = await store.find_terms(reader, program_id, version)
    assert terms is not None, "terms are never deleted"
    return terms
