"""Every statement that says that an id changed hands. Only in a transaction that holds the shoppers' locks alone."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from growth.plumbing.person.memory import stripe_of
from growth.plumbing.postgres.database import Tx

NUMBERING_LOCK = 1_936_748_401
PRUNED_AT_ONCE = 1_000
"""Ids deleted in one transaction."""
MAX_THINGS = 5_000
"""Remembered of one erased shopper, about 100 bytes each: rooms tell of what could be given again, which is what is on
at one time. What is told beyond is not remembered."""


async def note_merge(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Say that `old_user_id`, and every id that led to it, leads to `user_id` now."""
    await _number_in_order(tx)
    await tx.execute(
        """
        UPDATE plumbing.former_ids AS former
        SET survivor = $2,
            seq = newest.seq + moved.nth
        FROM (SELECT max(seq) AS seq FROM plumbing.former_ids) AS newest,
             (
                 SELECT id_hash, row_number() OVER (ORDER BY seq) AS nth
                 FROM plumbing.former_ids
                 WHERE survivor = $1
             ) AS moved
        WHERE former.id_hash = moved.id_hash
        """,
        old_user_id,
        user_id,
    )
    await _put(tx, old_user_id, survivor=user_id)


async def time_of_erasure(tx: Tx, now: datetime) -> datetime:
    """Return when an erasure is: not before acts that it waited for, which are of the life that it ends."""
    at: datetime = await tx.fetchval("SELECT greatest($1::timestamptz, clock_timestamp())", now)
    return at


async def note_erasure(tx: Tx, user_id: str, had: Sequence[str], now: datetime) -> None:
    """Say that `user_id`, and every id that led to it, is nobody's from now on.

    `had` is what the shopper had of what is given once; what is named more than once was had so often. It adds to what
    is remembered of lives before.
    """
    await _number_in_order(tx)
    things = dict(Counter(had).most_common(MAX_THINGS))
    await tx.execute(
        """
        WITH person AS (
            SELECT $2::bytea AS id_hash
            UNION
            SELECT id_hash
            FROM plumbing.former_ids
            WHERE survivor = $1
        ),
        before AS (
            SELECT given.what, max(given.units) AS units
            FROM person
            JOIN plumbing.given_once AS given USING (id_hash)
            GROUP BY given.what
        ),
        told AS (
            SELECT *
            FROM unnest($3::bytea[], $4::integer[]) AS told (what, units)
        )
        INSERT INTO plumbing.given_once AS given (id_hash, what, units, erased_at)
        SELECT person.id_hash, what, coalesce(before.units, 0) + coalesce(told.units, 0), $5
        FROM person
        CROSS JOIN (before FULL JOIN told USING (what))
        ON CONFLICT (id_hash, what) DO UPDATE
        SET units = excluded.units,
            erased_at = excluded.erased_at
        """,
        user_id,
        tx.people.hash_of(user_id),
        [tx.people.thing_of(what) for what in things],
        list(things.values()),
        now,
    )
    await tx.execute(
        """
        UPDATE plumbing.former_ids AS former
        SET survivor = NULL,
            erased_at = $2,
            back_at = NULL,
            seq = newest.seq + moved.nth
        FROM (SELECT max(seq) AS seq FROM plumbing.former_ids) AS newest,
             (
                 SELECT id_hash, row_number() OVER (ORDER BY seq) AS nth
                 FROM plumbing.former_ids
                 WHERE survivor = $1
             ) AS moved
        WHERE former.id_hash = moved.id_hash
        """,
        user_id,
        now,
    )
    await _put(tx, user_id, erased_at=now)


async def note_return(tx: Tx, user_id: str, now: datetime) -> None:
    """Say that an erased id was told of again: it is a new person from now on. Others are as they were."""
    await _number_in_order(tx)
    await tx.execute(
        """
        UPDATE plumbing.former_ids
        SET back_at = greatest($2, erased_at),
            seq = (SELECT max(seq) + 1 FROM plumbing.former_ids)
        WHERE id_hash = $1
          AND survivor IS NULL
          AND back_at IS NULL
        """,
        tx.people.hash_of(user_id),
        now,
    )


async def forget(tx: Tx, erased_before: datetime) -> int:
    """Forget what ids had that were erased before then, and up to `PRUNED_AT_ONCE` of the ids; return how many.

    Merges are kept, of what their ids had nothing.
    """
    await tx.execute(
        """
        DELETE FROM plumbing.given_once
        WHERE id_hash IN (
            SELECT DISTINCT id_hash
            FROM (
                SELECT id_hash
                FROM plumbing.given_once
                WHERE erased_at < $1
                ORDER BY erased_at
                LIMIT $2
            ) AS oldest
        )
        """,
        erased_before,
        PRUNED_AT_ONCE * 10,
    )
    forgotten = await tx.fetch(
        """
        DELETE FROM plumbing.former_ids
        WHERE id_hash IN (
            SELECT id_hash
            FROM plumbing.former_ids
            WHERE erased_at < $1
              AND survivor IS NULL
            ORDER BY erased_at
            LIMIT $2
        )
        RETURNING 1
        """,
        erased_before,
        PRUNED_AT_ONCE,
    )
    return len(forgotten)


async def _number_in_order(tx: Tx) -> None:
    """Number changes in the order of their commits: one at a time, until this one has ended."""
    await tx.execute("SELECT pg_advisory_xact_lock($1)", NUMBERING_LOCK)


async def _put(tx: Tx, user_id: str, *, survivor: str | None = None, erased_at: datetime | None = None) -> None:
    id_hash = tx.people.hash_of(user_id)
    await tx.execute(
        """
        INSERT INTO plumbing.former_ids AS former (id_hash, seq, stripe, survivor, erased_at)
        SELECT $1::bytea, coalesce(max(seq), 0) + 1, $2::int, $3::text, $4::timestamptz
        FROM plumbing.former_ids
        ON CONFLICT (id_hash) DO UPDATE
        SET seq = excluded.seq,
            survivor = excluded.survivor,
            erased_at = coalesce(excluded.erased_at, former.erased_at),
            back_at = CASE WHEN excluded.erased_at IS NULL THEN former.back_at END
        """,
        id_hash,
        stripe_of(id_hash),
        survivor,
        erased_at,
    )
