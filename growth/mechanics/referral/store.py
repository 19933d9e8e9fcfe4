"""Every statement on programs and their terms. Functions never commit; services do."""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from growth.mechanics.referral.model import PROGRAMS, ProgramTerms, ReferralDraft, ReferralProgram
from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows


class ProgramCount(Struct, frozen=True):
    """Invitees bound under one program."""

    state: str
    invitees: int


TERMS = Rows(row=ProgramTerms)


async def lock(tx: Tx) -> None:
    """Wait until nobody else changes programs, until `tx` ends: a step of one looks at the others."""
    await tx.execute(
        """
        SELECT pg_advisory_xact_lock(hashtextextended('referral.programs', 0))
        """
    )


async def live_program(reader: Reader) -> ReferralProgram | None:
    """Return the program that is published or paused."""
    return await PROGRAMS.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM referral.programs
        WHERE state IN ('published', 'paused')
        """,
    )


async def open_version(tx: Tx, program_id: str, version: int, draft: ReferralDraft, now: datetime) -> None:
    """Begin a version of a live program's promises; it is in force until `close_version`.

    Whom the program is for stays with the program, where lists follow ids that change hands.
    """
    await tx.execute(
        """
        INSERT INTO referral.terms (program_id, version, draft, levels, closes_at, from_at)
        SELECT $1, $2, $3, $4, $5, greatest($6::timestamptz, (SELECT max(until_at) FROM referral.terms))
        """,
        program_id,
        version,
        replace(draft, audience=[]),
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
    return await TERMS.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM referral.terms
        WHERE from_at <= $1
          AND (until_at IS NULL OR until_at > $1)
          AND (closes_at IS NULL OR closes_at > $1)
        ORDER BY from_at DESC, version DESC
        LIMIT 1
        """,
        at,
    )


async def live_terms(reader: Reader, now: datetime) -> tuple[ProgramTerms, bool] | None:
    """Return the terms in force at `now`, which is now, and whether their program is published rather than paused."""
    row = await reader.fetchrow(
        """
        SELECT terms.program_id, terms.version, terms.from_at, terms.until_at,
            terms.draft || jsonb_build_object('audience', coalesce(program.draft -> 'audience', '[]')) AS draft,
            program.state = 'published' AS is_open
        FROM referral.programs AS program
        JOIN referral.terms AS terms USING (program_id)
        WHERE program.state IN ('published', 'paused')
          AND terms.until_at IS NULL
          AND (terms.closes_at IS NULL OR terms.closes_at > $1)
        """,
        now,
    )
    return None if row is None else (TERMS.read(row), row["is_open"])


async def find_terms(reader: Reader, program_id: str, version: int) -> ProgramTerms | None:
    """Return one version of a program's promises."""
    return await TERMS.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM referral.terms
        WHERE program_id = $1
          AND version = $2
        """,
        program_id,
        version,
    )


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
