"""Idempotency: the same Idempotency-Key gives the same answer, written in the transaction of the work itself.

The UNIQUE key decides. The advisory lock (of the transaction, so it is safe behind a pooler) only spares the second
caller the work: it is told at once that the first is still running.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from growth.plumbing.postgres.database import Database, Tx
from growth.vocabulary.refusals import Kind, Refusal

KEPT_HOURS = 24
PRUNED_AT_ONCE = 1000
"""Rows deleted in one transaction."""

OTHER_CONTENT = Kind("idempotency.other_content", "This Idempotency-Key was used with other content.", 422)
IN_PROGRESS = Kind("idempotency.in_progress", "The first call with this Idempotency-Key is still running.", 409)

Answer = TypeVar("Answer")


class Once(Struct, Generic[Answer], frozen=True):
    """An answer, and whether it is the first one told again."""

    answer: Answer
    replayed: bool


def fingerprint(*parts: bytes | str) -> bytes:
    """Return what tells one content from another (32 bytes); parts are told apart from their concatenation."""
    digest = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()


def is_kept(made_at: datetime, now: datetime) -> bool:
    """Say whether the key under which something was made is still kept."""
    return now - made_at < timedelta(hours=KEPT_HOURS)


def later_names(key: str, made_at: datetime, now: datetime) -> tuple[str, str] | None:
    """Return what a key names once it is no longer kept: of the day before, and of this day, counted from `made_at`.

    For ids that are derived from a key, whose record lives on: what was made first under it, at `made_at`, has the bare
    key's. Who asks anew gets the id of this day, unless what has that of the day before is younger than a day. None
    while the bare key is kept. No client's key has a blank.
    """
    days = (now - made_at) // timedelta(hours=KEPT_HOURS)
    return (f"{key} {days - 1}", f"{key} {days}") if days > 0 else None


async def once(
    tx: Tx,
    *,
    scope: str,
    key: str | None,
    content: bytes,
    answer_type: type[Answer],
    work: Callable[[], Awaitable[Answer]],
    now: datetime,
    person: str = "",
    others: Collection[str] = (),
) -> Once[Answer]:
    """Do `work` once for `key` within `scope` (path, and operator), in `tx`; ask again and get the first answer.

    `person` is the shopper who asks, or whom it is about: keys of one are none of another's, and a merge takes them
    along. `others` are shoppers whom the answer names too: it is forgotten when one of them is erased.

    `content` is the `fingerprint` of what was asked; `answer_type` is what msgspec decodes the stored answer to.
    Without a key it is just the work. A `Refusal` of the work is not kept: nothing was changed, so it may be tried.
    Raises `Refusal`: 422 for a key used with other content, 409 while the first call is still running.
    """
    if key is None:
        return Once(await work(), replayed=False)
    expired_at = now - timedelta(hours=KEPT_HOURS)
    scope = f"{person} {scope}" if person else scope
    row = await tx.fetchrow(
        """
        SELECT pg_try_advisory_xact_lock(hashtextextended($1 || chr(31) || $2, 0)) AS free,
               stored.fingerprint,
               stored.answer
        FROM (SELECT) AS always
        LEFT JOIN plumbing.idempotency AS stored
               ON stored.scope = $1
              AND stored.key = $2
              AND stored.created_at > $3
        """,
        scope,
        key,
        expired_at,
    )
    assert row is not None, "the left side always has a row"
    if row["fingerprint"] is not None:
        if row["fingerprint"] != content:
            raise Refusal(OTHER_CONTENT)
        return Once(msgspec.json.decode(row["answer"], type=answer_type), replayed=True)
    if not row["free"]:
        raise Refusal(IN_PROGRESS)
    answer = await work()
    kept = await _keep(tx, (scope, person, key), content, answer, now, sorted(others))
    if kept is None:
        # The first call committed between our look and our lock. Refusing rolls our work back.
        raise Refusal(IN_PROGRESS)
    return Once(answer, replayed=False)


async def _keep(
    tx: Tx, asked: tuple[str, str, str], content: bytes, answer: object, now: datetime, others: list[str]
) -> bool | None:
    """Keep a first answer; None if another is kept and still good."""
    kept: bool | None = await tx.fetchval(
        """
        INSERT INTO plumbing.idempotency AS stored (scope, person, key, fingerprint, answer, created_at, others)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (scope, key) DO UPDATE
        SET fingerprint = excluded.fingerprint,
            answer = excluded.answer,
            created_at = excluded.created_at,
            others = excluded.others
        WHERE stored.created_at <= $8
        RETURNING TRUE
        """,
        *asked,
        content,
        msgspec.json.encode(answer),
        now,
        others,
        now - timedelta(hours=KEPT_HOURS),
    )
    return kept


async def forget_person(tx: Tx, user_id: str) -> None:
    """Forget first answers to a shopper, and those that name one."""
    await tx.execute(
        """
        DELETE FROM plumbing.idempotency
        WHERE (person = $1 AND person <> '')
           OR (others @> ARRAY[$1::text] AND others <> '{}')
        """,
        user_id,
    )


async def rename_person(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Make first answers another's; of two under one key, the other's own stays."""
    await tx.execute(
        """
        WITH twice AS (
            SELECT old.scope, old.key
            FROM plumbing.idempotency AS old
            JOIN plumbing.idempotency AS own
              ON own.scope = $2 || substr(old.scope, length($1) + 1)
             AND own.person = $2
             AND own.key = old.key
            WHERE old.person = $1
              AND old.person <> ''
        )
        DELETE FROM plumbing.idempotency AS old
        USING twice
        WHERE old.scope = twice.scope
          AND old.person = $1
          AND old.key = twice.key
        """,
        old_user_id,
        user_id,
    )
    await tx.execute(
        """
        UPDATE plumbing.idempotency
        SET person = CASE person WHEN $1 THEN $2 ELSE person END,
            scope = CASE person WHEN $1 THEN $2 || substr(scope, length($1) + 1) ELSE scope END,
            others = array_replace(others, $1, $2)
        WHERE (person = $1 AND person <> '')
           OR (others @> ARRAY[$1::text] AND others <> '{}')
        """,
        old_user_id,
        user_id,
    )


async def prune(database: Database, now: datetime) -> int:
    """Forget up to `PRUNED_AT_ONCE` answers older than `KEPT_HOURS`; return how many."""
    async with database.transaction() as tx:
        count = await tx.fetchval(
            """
            WITH old AS MATERIALIZED (
                SELECT scope, key
                FROM plumbing.idempotency
                WHERE created_at <= $1
                ORDER BY created_at
                LIMIT $2
                FOR UPDATE SKIP LOCKED
            ),
            forgotten AS (
                DELETE FROM plumbing.idempotency AS stored
                USING old
                WHERE stored.scope = old.scope
                  AND stored.key = old.key
                RETURNING 1
            )
            SELECT count(*) FROM forgotten
            """,
            now - timedelta(hours=KEPT_HOURS),
            PRUNED_AT_ONCE,
        )
    return int(count)
