"""Every statement on programs and their terms. Functions never commit; services do."""

from datetime import datetime

import msgspec

from growth.mechanics.referral.model import Terms
from growth.plumbing.postgres import Reader, Record


def _terms(row: Record) -> Terms:
    return msgspec.convert(dict(row), Terms)


async def terms_at(reader: Reader, at: datetime) -> Terms | None:
    """Return what the program that was live at `at` promised then."""
    row = await reader.fetchrow(
        """
        SELECT program_id, version, from_at, until_at, draft
        FROM referral.terms
        WHERE from_at <= $1
          AND (until_at IS NULL OR until_at > $1)
          AND (closes_at IS NULL OR closes_at > $1)
        ORDER BY from_at DESC, version DESC
        LIMIT 1
        """,
        at,
    )
    return None if row is None else _terms(row)


async def find_terms(reader: Reader, program_id: str, version: int) -> Terms | None:
    """Return one version of a program's promises."""
    row = await reader.fetchrow(
        """
        SELECT program_id, version, from_at, until_at, draft
        FROM referral.terms
        WHERE program_id = $1
          AND version = $2
        """,
        program_id,
        version,
    )
    return None if row is None else _terms(row)
