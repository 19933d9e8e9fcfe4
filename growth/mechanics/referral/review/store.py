"""Every statement behind the facts of reviews, and the rules that operators set."""

from collections.abc import Mapping, Sequence

import msgspec

from growth.mechanics.referral.review.model import DAY, HOUR, Pace, Pair, ReviewRules
from growth.plumbing.postgres.database import Reader, Tx

_encode = msgspec.json.Encoder().encode


async def paces(reader: Reader, pairs: Sequence[Pair], *, count_to: int, siblings: int) -> Mapping[str, Pace]:
    """Return how fast invitees of the same inviter came around each, counted up to `count_to`, and the nearest."""
    rows = await reader.fetch(
        """
        SELECT asked.commission_id,
            (
                SELECT count(*)
                FROM (
                    SELECT
                    FROM referral.relations AS near
                    WHERE near.inviter_id = asked.inviter_id
                      AND near.bound_at BETWEEN relation.bound_at - $2::interval AND relation.bound_at + $2::interval
                    LIMIT $4
                ) AS hour
            ) AS in_hour,
            (
                SELECT count(*)
                FROM (
                    SELECT
                    FROM referral.relations AS near
                    WHERE near.inviter_id = asked.inviter_id
                      AND near.bound_at BETWEEN relation.bound_at - $3::interval AND relation.bound_at + $3::interval
                    LIMIT $4
                ) AS day
            ) AS in_day,
            ARRAY(
                SELECT near.invitee_id
                FROM referral.relations AS near
                WHERE near.inviter_id = asked.inviter_id
                  AND near.bound_at <= relation.bound_at
                ORDER BY near.bound_at DESC
                LIMIT $5
            ) AS before,
            ARRAY(
                SELECT near.invitee_id
                FROM referral.relations AS near
                WHERE near.inviter_id = asked.inviter_id
                  AND near.bound_at > relation.bound_at
                ORDER BY near.bound_at
                LIMIT $5
            ) AS after
        FROM json_to_recordset($1::json) AS asked (commission_id uuid, inviter_id text, relation_id uuid)
        JOIN referral.relations AS relation USING (relation_id)
        """,
        _encode(pairs).decode(),
        HOUR,
        DAY,
        count_to,
        siblings,
    )
    return {row["commission_id"]: Pace(row["in_hour"], row["in_day"], (*row["before"], *row["after"])) for row in rows}


async def find_rules(reader: Reader) -> tuple[int, ReviewRules]:
    """Return the version of the rules, and the rules."""
    row = await reader.fetchrow("SELECT version, rules FROM referral.rules WHERE name = 'review'")
    assert row is not None, "there since the migration"
    return row["version"], msgspec.convert(row["rules"], ReviewRules)


async def change_rules(tx: Tx, version: int, rules: ReviewRules) -> bool:
    """Write rules over those at `version`; False if somebody else has."""
    changed = await tx.fetchval(
        """
        UPDATE referral.rules
        SET version = version + 1, rules = $2
        WHERE name = 'review'
          AND version = $1::bigint
        RETURNING TRUE
        """,
        version,
        msgspec.to_builtins(rules),
    )
    return bool(changed)
