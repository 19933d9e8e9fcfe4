"""Every statement behind the facts of risk, and the rules that operators set."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from growth.mechanics.referral.review.model import DAY, HOUR, Pace, Pair
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


async def payees(reader: Reader, user_ids: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Return the account that each shopper's money goes to; who named none is missing."""
    rows = await reader.fetch(
        """
        SELECT payee.user_id, payee.kind, payee.account
        FROM json_array_elements_text($1::json) AS asked (user_id)
        JOIN referral.payees AS payee ON payee.user_id = asked.user_id COLLATE "C"
        """,
        _encode(user_ids).decode(),
    )
    return {row["user_id"]: (row["kind"], row["account"]) for row in rows}


async def find_rules(reader: Reader, name: str) -> tuple[int, Any]:
    """Return the version of rules, and the rules."""
    row = await reader.fetchrow("SELECT version, rules FROM referral.rules WHERE name = $1", name)
    assert row is not None, "there since the migration"
    return row["version"], row["rules"]


async def change_rules(tx: Tx, name: str, version: int, rules: object) -> bool:
    """Write rules over those at `version`; False if somebody else has."""
    changed = await tx.fetchval(
        """
        UPDATE referral.rules
        SET version = version + 1, rules = $3
        WHERE name = $1
          AND version = $2::bigint
        RETURNING TRUE
        """,
        name,
        version,
        rules,
    )
    return bool(changed)
