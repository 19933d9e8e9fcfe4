"""Every statement on programs and their terms. Functions never commit; services do."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from growth.mechanics.referral.model import ProgramTerms, ReferralDraft, ReferralProgram
from growth.plumbing.postgres.database import Reader, Record, Tx


class ProgramCount(Struct, frozen=True):
    """Invitees bound under one program."""

    state: str
    invitees: int


def _program(row: Record) -> ReferralProgram:
    known: dict[str, Any] = dict(row)
    return msgspec.convert(known.pop("draft") | known, ReferralProgram)


def _terms(row: Record) -> ProgramTerms:
    return msgspec.convert(dict(row), ProgramTerms)


async def lock(tx: Tx) -> None:
    """Wait until nobody else changes programs, until `tx` ends: a step of one looks at the others."""
    await tx.execute(
        """
        SELECT pg_advisory_xact_lock(hashtextextended('referral.programs', 0))
        """
    )


async def add_program(tx: Tx, program_id: str, draft: ReferralDraft, now: datetime) -> ReferralProgram:
    """Insert a draft."""
    row = await tx.fetchrow(
        """
        INSERT INTO referral.programs (program_id, draft, levels, closes_at, created_at)
        VALUES ($1, $2, $3, $4, $5)
        RETURNING program_id, draft, state, version, created_at, published_at, ended_at
        """,
        program_id,
        draft,
        draft.levels,
        draft.closes_at,
        now,
    )
    assert row is not None
    return _program(row)


async def find_program(reader: Reader, program_id: str) -> ReferralProgram | None:
    """Return one program."""
    row = await reader.fetchrow(
        """
        SELECT program_id, draft, state, version, created_at, published_at, ended_at
        FROM referral.programs
        WHERE program_id = $1
        """,
        program_id,
    )
    return None if row is None else _program(row)


async def live_program(reader: Reader) -> ReferralProgram | None:
    """Return the program that is published or paused."""
    row = await reader.fetchrow(
        """
        SELECT program_id, draft, state, version, created_at, published_at, ended_at
        FROM referral.programs
        WHERE state IN ('published', 'paused')
        """
    )
    return None if row is None else _program(row)


async def page_of_programs(
    reader: Reader, *, state: str | None, before: str | None, limit: int
) -> list[ReferralProgram]:
    """Return programs, newest first, those made before the id `before`."""
    rows = await reader.fetch(
        """
        SELECT program_id, draft, state, version, created_at, published_at, ended_at
        FROM referral.programs
        WHERE ($1::text IS NULL OR state = $1)
          AND ($2::uuid IS NULL OR program_id < $2)
        ORDER BY program_id DESC
        LIMIT $3
        """,
        state,
        before,
        limit,
    )
    return [_program(row) for row in rows]


async def change_program(tx: Tx, program_id: str, version: int, draft: ReferralDraft) -> ReferralProgram | None:
    """Write an operator's edit if nobody edited since `version`; None if somebody did, or the program has ended."""
    row = await tx.fetchrow(
        """
        UPDATE referral.programs
        SET draft = $3, levels = $4, closes_at = $5, version = version + 1
        WHERE program_id = $1
          AND version = $2
          AND state <> 'ended'
        RETURNING program_id, draft, state, version, created_at, published_at, ended_at
        """,
        program_id,
        version,
        draft,
        draft.levels,
        draft.closes_at,
    )
    return None if row is None else _program(row)


async def move_program(
    tx: Tx, program_id: str, from_states: Sequence[str], to_state: str, now: datetime
) -> ReferralProgram | None:
    """Take one step of the state machine; None if the program is in none of `from_states`."""
    row = await tx.fetchrow(
        """
        UPDATE referral.programs
        SET state = $3,
            version = version + 1,
            published_at = CASE WHEN $3 = 'published' THEN coalesce(published_at, $4) ELSE published_at END,
            ended_at = CASE WHEN $3 = 'ended' THEN $4 ELSE ended_at END
        WHERE program_id = $1
          AND state = ANY ($2)
        RETURNING program_id, draft, state, version, created_at, published_at, ended_at
        """,
        program_id,
        list(from_states),
        to_state,
        now,
    )
    return None if row is None else _program(row)


async def closed_programs(tx: Tx, closed_before: datetime) -> list[ReferralProgram]:
    """Return live programs whose time is over."""
    rows = await tx.fetch(
        """
        SELECT program_id, draft, state, version, created_at, published_at, ended_at
        FROM referral.programs
        WHERE state IN ('published', 'paused')
          AND closes_at <= $1
        """,
        closed_before,
    )
    return [_program(row) for row in rows]


async def open_version(tx: Tx, program_id: str, version: int, draft: ReferralDraft, now: datetime) -> None:
    """Begin a version of a live program's promises; it is in force until `close_version`."""
    await tx.execute(
        """
        INSERT INTO referral.terms (program_id, version, draft, levels, closes_at, from_at)
        SELECT $1, $2, $3, $4, $5, greatest($6::timestamptz, (SELECT max(until_at) FROM referral.terms))
        """,
        program_id,
        version,
        draft,
        draft.levels,
        draft.closes_at,
        now,
    )


async def close_version(tx: Tx, program_id: str, now: datetime) -> None:
    """End the version of a program's promises that is in force."""
    await tx.execute(
        """
        UPDATE referral.terms
        SET until_at = greatest($2, from_at)
        WHERE program_id = $1
          AND until_at IS NULL
        """,
        program_id,
        now,
    )


async def terms_at(reader: Reader, at: datetime) -> ProgramTerms | None:
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


async def live_terms(reader: Reader, now: datetime) -> tuple[ProgramTerms, bool] | None:
    """Return the terms in force at `now`, which is now, and whether their program is published rather than paused."""
    row = await reader.fetchrow(
        """
        SELECT terms.program_id, terms.version, terms.from_at, terms.until_at, terms.draft,
            program.state = 'published' AS is_open
        FROM referral.programs AS program
        JOIN referral.terms AS terms USING (program_id)
        WHERE program.state IN ('published', 'paused')
          AND terms.until_at IS NULL
          AND (terms.closes_at IS NULL OR terms.closes_at > $1)
        """,
        now,
    )
    if row is None:
        return None
    known = dict(row)
    is_open = known.pop("is_open")
    return msgspec.convert(known, ProgramTerms), is_open


async def find_terms(reader: Reader, program_id: str, version: int) -> ProgramTerms | None:
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


async def count_invitees(reader: Reader, program_id: str) -> list[ProgramCount]:
    """Return how many invitees were bound under a program, by state."""
    rows = await reader.fetch(
        """
        SELECT state, count(*) AS invitees
        FROM referral.relations
        WHERE program_id = $1
        GROUP BY state
        """,
        program_id,
    )
    return [ProgramCount(row["state"], row["invitees"]) for row in rows]


async def count_inviters(reader: Reader, program_id: str) -> tuple[int, int, int]:
    """Return a program's inviters with valid invitees, the invitees rewards were given for, and milestones held."""
    row = await reader.fetchrow(
        """
        SELECT count(*) FILTER (WHERE valid > 0) AS inviters,
            coalesce(sum(rewarded), 0)::bigint AS rewarded,
            (SELECT count(*) FROM referral.milestones WHERE program_id = $1 AND is_held) AS milestones
        FROM referral.progress
        WHERE program_id = $1
        """,
        program_id,
    )
    assert row is not None, "an aggregate always has a row"
    return row["inviters"], row["rewarded"], row["milestones"]
