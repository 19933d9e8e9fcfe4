"""Every statement of granting."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from growth.plumbing.person.owned import Owned
from growth.plumbing.postgres.database import Reader, Tx
from growth.plumbing.postgres.rows import Rows
from growth.rewards.granting.model import Budget, Grant, GrantRecord, Spent, value_of
from growth.vocabulary.rewards import Reward

_encode = msgspec.json.Encoder().encode


class Charge(Struct, frozen=True):
    """What a budget is asked for."""

    budget_id: str
    grants: int
    value: int


class RevokedGrant(Struct, frozen=True):
    """A grant that was just taken back."""

    key: str
    grant_id: str
    user_id: str
    reward: Reward
    reason: str
    subject: str
    budget_id: str | None
    granted_at: datetime


class Returned(Struct, frozen=True):
    """What goes back to a budget, of grants of one moment."""

    budget_id: str
    at: datetime
    grants: int
    value: int


class Lowered(RevokedGrant, frozen=True):
    """A grant that was just made smaller. `reward` is what it is now."""

    was: Reward


OWNED = Owned("granting.grants")
GRANTS = Rows(row=GrantRecord)
REVOKED = Rows(row=RevokedGrant)
LOWERED = Rows(row=Lowered, expressions={"was": "mine.was"})


async def add(tx: Tx, grants: Sequence[tuple[str, Grant]], now: datetime) -> frozenset[str]:
    """Add grants, each with the id it gets if its key is new; return the keys that were."""
    rows = await tx.fetch(
        """
        INSERT INTO granting.grants (key, grant_id, user_id, reward, reason, subject, budget_id, granted_at)
        SELECT key, grant_id, user_id, reward, reason, subject, budget_id, $2
        FROM json_to_recordset($1::json) AS asked (
            key text, grant_id uuid, user_id text, reward jsonb, reason text, subject text, budget_id uuid
        )
        ORDER BY key
        ON CONFLICT (key) DO NOTHING
        RETURNING key
        """,
        _encode([_row(grant_id, grant) for grant_id, grant in grants]).decode(),
        now,
    )
    return frozenset(row["key"] for row in rows)


async def charge(tx: Tx, charges: Sequence[Charge], now: datetime) -> frozenset[str]:
    """Take from budgets what is asked; return the budgets that had it. From the others nothing is taken."""
    rows = await tx.fetch(
        """
        INSERT INTO granting.spendings AS spent (budget_id, day, grants, value)
        SELECT budget_id,
               CASE budget.per WHEN 'day' THEN ($2::timestamptz AT TIME ZONE budget.zone)::date ELSE '-infinity' END,
               asked.grants,
               asked.value
        FROM json_to_recordset($1::json) AS asked (budget_id uuid, grants bigint, value bigint)
        JOIN granting.budgets AS budget USING (budget_id)
        WHERE asked.grants <= coalesce(budget.max_grants, asked.grants)
          AND asked.value <= coalesce(budget.max_value, asked.value)
        ORDER BY budget_id
        ON CONFLICT (budget_id, day) DO UPDATE
        SET grants = spent.grants + excluded.grants,
            value = spent.value + excluded.value
        WHERE EXISTS (
            SELECT
            FROM granting.budgets AS budget
            WHERE budget.budget_id = excluded.budget_id
              AND spent.grants + excluded.grants <= coalesce(budget.max_grants, spent.grants + excluded.grants)
              AND spent.value + excluded.value <= coalesce(budget.max_value, spent.value + excluded.value)
        )
        RETURNING budget_id
        """,
        _encode(charges).decode(),
        now,
    )
    return frozenset(row["budget_id"] for row in rows)


async def refuse(tx: Tx, outcomes: Mapping[str, str]) -> None:
    """Say of grants added in `tx` why nothing is given, for good."""
    await tx.execute(
        """
        UPDATE granting.grants AS told
        SET outcome = refused.outcome
        FROM json_to_recordset($1::json) AS refused (key text, outcome text)
        WHERE told.key = refused.key
        """,
        _encode([{"key": key, "outcome": outcome} for key, outcome in outcomes.items()]).decode(),
    )


async def take_back(tx: Tx, keys: Sequence[str], reason: str, now: datetime) -> list[RevokedGrant]:
    """Mark grants as taken back; return those that were not before."""
    return await REVOKED.fetch_all(
        tx,
        """
        WITH mine AS MATERIALIZED (
            SELECT key
            FROM granting.grants
            WHERE key = ANY ($1::text[])
              AND outcome = 'granted'
              AND revoked_at IS NULL
            ORDER BY key
            FOR NO KEY UPDATE
        )
        UPDATE granting.grants AS told
        SET revoked_at = $3,
            revoked_for = $2
        FROM mine
        WHERE told.key = mine.key
          AND told.revoked_at IS NULL
        RETURNING told.kit.columns
        """,
        keys,
        reason,
        now,
    )


async def coupons_under(reader: Reader, keys: Sequence[str]) -> Mapping[str, str]:
    """Return the keys, of these, under which a coupon was given, by the coupon's id."""
    rows = await reader.fetch(
        """
        SELECT grant_id, key
        FROM granting.grants
        WHERE key = ANY ($1::text[])
          AND outcome = 'granted'
          AND reward ->> 'type' = 'coupon'
        """,
        keys,
    )
    return {row["grant_id"]: row["key"] for row in rows}


async def lower(tx: Tx, rewards: Mapping[str, Reward]) -> list[Lowered]:
    """Put smaller rewards in place of what was given under their keys; return those that were larger."""
    await tx.execute(
        "SELECT FROM granting.grants WHERE key = ANY ($1::text[]) ORDER BY key FOR NO KEY UPDATE", list(rewards)
    )
    # A statement of its own: one that had waited for the rows would see them as they were before it waited.
    asked = [{"key": key, "reward": reward, "value": value_of(reward)} for key, reward in rewards.items()]
    return await LOWERED.fetch_all(
        tx,
        """
        UPDATE granting.grants AS told
        SET reward = mine.reward
        FROM (
            SELECT known.key, known.reward AS was, asked.reward
            FROM granting.grants AS known
            JOIN json_to_recordset($1::json) AS asked (key text, reward jsonb, value bigint) USING (key)
            WHERE known.outcome = 'granted'
              AND known.revoked_at IS NULL
              AND known.reward ->> 'type' = asked.reward ->> 'type'
              AND coalesce(known.reward ->> 'points', known.reward ->> 'growth')::bigint > asked.value
        ) AS mine
        WHERE told.key = mine.key
        RETURNING told.kit.columns
        """,
        _encode(asked).decode(),
    )


async def give_back(tx: Tx, returned: Sequence[Returned]) -> None:
    """Let budgets count less: on the day of the grant where they are for each day."""
    if not returned:
        return
    await tx.execute(
        """
        WITH back AS (
            SELECT budget_id,
                CASE budget.per WHEN 'day' THEN (asked.at AT TIME ZONE budget.zone)::date ELSE '-infinity' END AS day,
                sum(asked.grants) AS grants,
                sum(asked.value) AS value
            FROM json_to_recordset($1::json) AS asked (budget_id uuid, at timestamptz, grants bigint, value bigint)
            JOIN granting.budgets AS budget USING (budget_id)
            GROUP BY 1, 2
        ),
        locked AS MATERIALIZED (
            SELECT spent.budget_id, spent.day
            FROM granting.spendings AS spent
            JOIN back USING (budget_id, day)
            ORDER BY spent.budget_id, spent.day
            FOR NO KEY UPDATE OF spent
        )
        UPDATE granting.spendings AS spent
        SET grants = greatest(0, spent.grants - back.grants),
            value = greatest(0, spent.value - back.value)
        FROM back
        JOIN locked USING (budget_id, day)
        WHERE spent.budget_id = back.budget_id
          AND spent.day = back.day
        """,
        _encode(returned).decode(),
    )


async def leave(tx: Tx, keys: Sequence[str]) -> None:
    """Undo `take_back` of what turned out to be used."""
    await tx.execute(
        """
        UPDATE granting.grants
        SET revoked_at = NULL,
            revoked_for = NULL
        WHERE key = ANY ($1::text[])
        """,
        keys,
    )


async def set_budget(tx: Tx, budget_id: str, budget: Budget, zone: str) -> None:
    """Make or change the budget of a campaign. What was given stays given."""
    await tx.execute(
        """
        INSERT INTO granting.budgets AS known (budget_id, max_grants, max_value, per, zone, most_grants, most_value)
        VALUES ($1, $2, $3, $4, $5, $2, $3)
        ON CONFLICT (budget_id) DO UPDATE
        SET max_grants = excluded.max_grants,
            max_value = excluded.max_value,
            per = excluded.per,
            zone = excluded.zone,
            most_grants = CASE WHEN num_nulls(excluded.max_grants, known.most_grants) > 0 THEN NULL
                               ELSE greatest(excluded.max_grants, known.most_grants)
                          END,
            most_value = CASE WHEN num_nulls(excluded.max_value, known.most_value) > 0 THEN NULL
                              ELSE greatest(excluded.max_value, known.most_value)
                         END
        """,
        budget_id,
        budget.max_grants,
        budget.max_value,
        budget.per,
        zone,
    )


async def spent(reader: Reader, budget_ids: Sequence[str], now: datetime) -> Mapping[str, Spent]:
    """Return what campaigns gave: on the day of `now` where the budget is for each day, else in all."""
    rows = await reader.fetch(
        """
        SELECT budget.budget_id, coalesce(spent.grants, 0) AS grants, coalesce(spent.value, 0) AS value
        FROM granting.budgets AS budget
        LEFT JOIN granting.spendings AS spent
               ON spent.budget_id = budget.budget_id
              AND spent.day = CASE budget.per
                                  WHEN 'day' THEN ($2::timestamptz AT TIME ZONE budget.zone)::date
                                  ELSE '-infinity'
                              END
        WHERE budget.budget_id = ANY ($1::uuid[])
        """,
        budget_ids,
        now,
    )
    return {row["budget_id"]: Spent(row["grants"], row["value"]) for row in rows}


async def find(reader: Reader, grant_id: str) -> GrantRecord | None:
    """Return one grant."""
    return await GRANTS.fetch_one(
        reader,
        """
        SELECT kit.columns
        FROM granting.grants
        WHERE grant_id = $1
        """,
        grant_id,
    )


async def page(reader: Reader, user_id: str | None, before: str | None, limit: int) -> list[GrantRecord]:
    """Return grants, newest first."""
    return await GRANTS.fetch_all(
        reader,
        """
        SELECT kit.columns
        FROM granting.grants
        WHERE ($1::text IS NULL OR user_id = $1)
          AND ($2::uuid IS NULL OR grant_id < $2)
        ORDER BY grant_id DESC
        LIMIT $3
        """,
        user_id,
        before,
        limit,
    )


async def forget_names(tx: Tx, user_id: str, alias: str) -> None:
    """Put an alias in place of a shopper, everywhere in the shopper's grants."""
    await tx.execute(
        """
        UPDATE granting.grants
        SET user_id = $2,
            key = grant_id::text,
            subject = ''
        WHERE user_id = $1
        """,
        user_id,
        alias,
    )


def _row(grant_id: str, grant: Grant) -> dict[str, object]:
    # Field by field: each check-in writes one.
    return {
        "key": grant.key,
        "grant_id": grant_id,
        "user_id": grant.user_id,
        "reward": grant.reward,
        "reason": grant.reason,
        "subject": grant.subject,
        "budget_id": grant.budget_id,
    }
