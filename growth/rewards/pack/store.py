"""Every statement on the pack. Functions never commit; services do."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from growth.plumbing.person.owned import Owned
from growth.plumbing.postgres.database import Reader, Record, Tx
from growth.rewards.pack.model import Pack, PackDraft, Recipient

OWNED = Owned("pack.recipients")

_encode = msgspec.json.Encoder().encode


def _pack(row: Record | None) -> Pack:
    assert row is not None, "the migration put it there"
    return msgspec.convert(dict(row), Pack)


async def find(reader: Reader) -> Pack:
    """Return the pack."""
    return _pack(
        await reader.fetchrow(
            """
            SELECT enabled, rewards, registered_within_days, budget, version, changed_at
            FROM pack.packs
            WHERE pack_id = 1
            """
        )
    )


async def change(tx: Tx, version: int, draft: PackDraft, now: datetime) -> Pack | None:
    """Write an operator's edit if nobody edited since `version`; None if somebody did."""
    row = await tx.fetchrow(
        """
        UPDATE pack.packs
        SET enabled = $2, rewards = $3, registered_within_days = $4, budget = $5, version = version + 1,
            changed_at = $6
        WHERE pack_id = 1
          AND version = $1::bigint
        RETURNING enabled, rewards, registered_within_days, budget, version, changed_at
        """,
        version,
        draft.enabled,
        draft.rewards,
        draft.registered_within_days,
        draft.budget,
        now,
    )
    return None if row is None else _pack(row)


async def add_recipients(tx: Tx, user_ids: Sequence[str], rewards: int, now: datetime) -> list[str]:
    """Note who has the pack; return those that did not have it before, whose it is now."""
    rows = await tx.fetch(
        """
        INSERT INTO pack.recipients (user_id, at, outcome, rewards, given)
        SELECT user_id, $2, 'given', $3, 0
        FROM json_array_elements_text($1::json) AS asked (user_id)
        ORDER BY user_id
        ON CONFLICT (user_id) DO NOTHING
        RETURNING user_id
        """,
        _encode(sorted(set(user_ids))).decode(),
        now,
        rewards,
    )
    return [row["user_id"] for row in rows]


async def note_given(tx: Tx, given: Mapping[str, int]) -> None:
    """Note how many rewards recipients of this transaction were given."""
    await tx.execute(
        """
        UPDATE pack.recipients AS recipient
        SET given = told.given
        FROM json_to_recordset($1::json) AS told (user_id text, given int)
        WHERE recipient.user_id = told.user_id
        """,
        _encode([{"user_id": user_id, "given": count} for user_id, count in sorted(given.items())]).decode(),
    )


async def counts(reader: Reader) -> tuple[int, int, int]:
    """Return how many shoppers had the pack, how many rewards they were given, and how many they missed."""
    row = await reader.fetchrow(
        """
        SELECT count(*) AS shoppers, coalesce(sum(given), 0)::bigint AS given,
            coalesce(sum(rewards - given), 0)::bigint AS missed
        FROM pack.recipients
        WHERE outcome = 'given'
        """
    )
    assert row is not None
    return row["shoppers"], row["given"], row["missed"]


async def find_recipient(reader: Reader, user_id: str) -> Recipient | None:
    """Return what is known of one shopper."""
    row = await reader.fetchrow(
        """
        SELECT user_id, at, outcome, rewards, given
        FROM pack.recipients
        WHERE user_id = $1
        """,
        user_id,
    )
    return None if row is None else Recipient(**row)


async def merge(tx: Tx, old_user_id: str, user_id: str, alias: str) -> None:
    """Let two ids have one pack. If both had one, that of the old one stays counted, under `alias`."""
    await tx.execute(
        """
        UPDATE pack.recipients AS recipient
        SET user_id = CASE
                          WHEN EXISTS (SELECT FROM pack.recipients AS other WHERE other.user_id = $2) THEN $3
                          ELSE $2
                      END
        WHERE recipient.user_id = $1
        """,
        old_user_id,
        user_id,
        alias,
    )
