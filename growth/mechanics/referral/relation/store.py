"""Every statement on relations and codes. Functions never commit; services do."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from growth.mechanics.referral.model import ProgramTerms
from growth.mechanics.referral.relation.model import CLOCKS_APART, MAX_LINE, BindingState, BindWish, Relation, Tie
from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows

TERMS = Rows(row=ProgramTerms)


async def lock(tx: Tx) -> datetime:
    """Wait until nobody else writes relations, until `tx` ends; return Postgres' time then.

    One lock for all: a ring is made by relations that know nothing of each other. Whoever asks at the same time is
    bound in one transaction, so it is taken a few hundred times a second at most.
    """
    row = await tx.fetchrow(
        """
        SELECT pg_advisory_xact_lock(hashtextextended('referral.relations', 0)) AS locked,
            clock_timestamp() AS now
        """
    )
    assert row is not None
    now: datetime = row["now"]
    return now


async def open_terms(reader: Reader, now: datetime) -> ProgramTerms | None:
    """Return the terms under which shoppers are bound at `now`; None while no program is published."""
    return await TERMS.fetch_one(
        reader,
        """
        SELECT terms.program_id, terms.version, terms.from_at, terms.until_at,
            terms.draft || jsonb_build_object('audience', coalesce(program.draft -> 'audience', '[]')) AS draft
        FROM referral.programs AS program
        JOIN referral.terms AS terms USING (program_id)
        WHERE program.state = 'published'
          AND terms.until_at IS NULL
          AND (terms.closes_at IS NULL OR terms.closes_at > $1)
        """,
        now,
    )


async def standings(reader: Reader, wishes: Sequence[BindWish]) -> Mapping[str, BindingState]:
    """Return what is known of each wish, by its relation_id."""
    rows = await reader.fetch(
        """
        SELECT wish.relation_id,
            code.user_id AS inviter_id,
            mine.relation_id AS current_id,
            mine.inviter_id AS current_inviter_id,
            mine.bound_at AS current_bound_at,
            mine.ends_at AS current_ends_at,
            below.is_there IS NOT NULL AS has_invitees
        FROM json_to_recordset($1::json) AS wish (relation_id uuid, invitee_id text, code text)
        -- LATERAL … LIMIT keeps the planner from reading whole tables, which it takes for small.
        LEFT JOIN LATERAL (
            SELECT user_id
            FROM referral.codes
            WHERE codes.code = wish.code
            LIMIT 1) AS code ON TRUE
        LEFT JOIN LATERAL (
            SELECT relation_id, inviter_id, bound_at, ends_at
            FROM referral.relations
            WHERE relations.invitee_id = wish.invitee_id
              AND is_current
            LIMIT 1) AS mine ON TRUE
        LEFT JOIN LATERAL (
            SELECT TRUE AS is_there
            FROM referral.relations
            WHERE relations.inviter_id = wish.invitee_id
              AND is_current
            LIMIT 1) AS below ON TRUE
        """,
        msgspec.json.encode(wishes).decode(),
    )
    return {
        row["relation_id"]: BindingState(**{name: row[name] for name in BindingState.__struct_fields__}) for row in rows
    }


async def is_above(reader: Reader, invitee_id: str, inviter_id: str) -> bool:
    """Say whether `invitee_id` stands above `inviter_id`, or the line is too long to tell.

    The answer holds for as long as the caller has the lock.
    """
    row = await reader.fetchrow(
        """
        WITH RECURSIVE line AS (
            SELECT $2::text COLLATE "C" AS user_id
            UNION
            SELECT relation.inviter_id
            FROM line
            JOIN referral.relations AS relation ON relation.invitee_id = line.user_id AND relation.is_current
        )
        SELECT count(*) AS length, coalesce(bool_or(user_id = $1), FALSE) AS is_above
        FROM (SELECT user_id FROM line LIMIT $3) AS seen
        """,
        invitee_id,
        inviter_id,
        MAX_LINE,
    )
    assert row is not None, "an aggregate always has a row"
    return bool(row["is_above"]) or row["length"] >= MAX_LINE


async def shared_devices(tx: Tx, ties: Sequence[Tie]) -> frozenset[str]:
    """Return the ids of those `ties` whose device another invitee of the same inviter was bound with."""
    asked = [tie for tie in ties if tie.device is not None]
    if not asked:
        return frozenset()
    rows = await tx.fetch(
        """
        SELECT tie.relation_id
        FROM json_to_recordset($1::json)
             AS tie (relation_id uuid, invitee_id text, inviter_id text, device text)
        WHERE EXISTS (
            SELECT
            FROM referral.relations AS other
            WHERE other.inviter_id = tie.inviter_id
              AND other.device = tie.device
              AND other.invitee_id <> tie.invitee_id)
        """,
        msgspec.json.encode(asked).decode(),
    )
    return frozenset(row["relation_id"] for row in rows)


async def retire(tx: Tx, relation_ids: Sequence[str], now: datetime) -> None:
    """Make those of `relation_ids` that are over past ones, so that their invitees can be bound again."""
    if not relation_ids:
        return
    await tx.execute(
        """
        UPDATE referral.relations
        SET is_current = FALSE
        WHERE relation_id = ANY ($1::uuid[])
          AND is_current
          AND ends_at <= $2
        """,
        list(relation_ids),
        now,
    )


async def tie(tx: Tx, ties: Sequence[Tie]) -> None:
    """Write relations, and count them for their inviters. Who has a current one already breaks the whole."""
    if not ties:
        return
    await tx.execute(
        """
        WITH tied AS (
            INSERT INTO referral.relations (relation_id, invitee_id, inviter_id, program_id, source, nickname, is_new,
                bound_at, ends_at, device, signs)
            SELECT relation_id, invitee_id, inviter_id, program_id, source, nickname, is_new, bound_at, ends_at, device,
                signs
            FROM json_to_recordset($1::json) AS tie (relation_id uuid, invitee_id text, inviter_id text,
                program_id uuid, source text, nickname text, is_new boolean, bound_at timestamptz, ends_at timestamptz,
                device text, signs jsonb)
            RETURNING inviter_id
        )
        INSERT INTO referral.inviters AS inviter (user_id, invited)
        SELECT inviter_id, count(*)
        FROM tied
        GROUP BY inviter_id
        ORDER BY inviter_id
        ON CONFLICT (user_id) DO UPDATE
        SET invited = inviter.invited + excluded.invited
        """,
        msgspec.json.encode(ties).decode(),
    )


async def code_of(tx: Tx, user_id: str, fresh: str, now: datetime) -> str:
    """Return a shopper's code; `fresh` becomes it if there is none yet. Raises on a code that somebody else has."""
    code: str = await tx.fetchval(
        """
        WITH made AS (
            INSERT INTO referral.codes (code, user_id, made_at)
            VALUES ($2, $1, $3)
            ON CONFLICT (user_id) WHERE is_main DO UPDATE
            -- Nothing; but so the code that is there comes back, also one committed a moment ago.
            SET user_id = excluded.user_id
            RETURNING code
        )
        SELECT code
        FROM made
        """,
        user_id,
        fresh,
        now,
    )
    return code


async def known_code(reader: Reader, user_id: str) -> str | None:
    """Return a shopper's code, if it was ever asked for."""
    code: str | None = await reader.fetchval(
        """
        SELECT code
        FROM referral.codes
        WHERE user_id = $1
          AND is_main
        """,
        user_id,
    )
    return code


async def relations_in_force(reader: Reader, invitee_ids: Sequence[str], at: datetime) -> Mapping[str, Relation]:
    """Return who had brought each invitee at `at`, with the terms of the program that was live then.

    Who was brought by nobody is missing. For an order: `at` is its `paid_at`. A later binding or edit changes nothing
    about an earlier moment; an operator's end of a relation counts from that end on. Of a current and a past relation,
    the later one counts.
    """
    rows = await reader.fetch(
        """
        SELECT DISTINCT ON (relation.invitee_id)
            relation.relation_id,
            relation.invitee_id,
            relation.inviter_id,
            above.inviter_id AS grand_inviter_id,
            relation.bound_at,
            relation.ends_at,
            relation.first_order_id,
            terms.promised AS terms
        FROM referral.relations AS relation
        LEFT JOIN referral.relations AS above
               ON above.invitee_id = relation.inviter_id
              AND above.bound_at <= $2::timestamptz + $3::interval
              AND (above.ends_at IS NULL OR above.ends_at > $2)
        LEFT JOIN (
            SELECT jsonb_build_object(
                'program_id', program_id,
                'version', version,
                'from_at', from_at,
                'until_at', until_at,
                'draft', draft
            ) AS promised
            FROM referral.terms
            WHERE from_at <= $2
              AND (until_at IS NULL OR until_at > $2)
              AND (closes_at IS NULL OR closes_at > $2)
            ORDER BY from_at DESC, version DESC
            LIMIT 1
        ) AS terms ON TRUE
        WHERE relation.invitee_id = ANY ($1::text[])
          AND relation.bound_at <= $2::timestamptz + $3::interval
          AND (relation.ends_at IS NULL OR relation.ends_at > $2)
        ORDER BY relation.invitee_id, relation.bound_at DESC, above.bound_at DESC
        """,
        list(invitee_ids),
        at,
        CLOCKS_APART,
    )
    return {row["invitee_id"]: msgspec.convert(dict(row), Relation) for row in rows}
