"""Every statement that says that an id changed hands. Only in a transaction that holds the shoppers' locks alone."""

from collections.abc import Collection
from datetime import datetime

from growth.plumbing.person.memory import stripe_of
from growth.plumbing.postgres import Tx

NUMBERING_LOCK = 1_936_748_401
PRUNED_AT_ONCE = 1_000
"""Rows deleted in one transaction."""


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


async def note_erasure(tx: Tx, user_id: str, had: Collection[str], now: datetime) -> None:
    """Say that `user_id`, and every id that led to it, is nobody's from now on."""
    await _number_in_order(tx)
    await tx.execute(
        """
        UPDATE plumbing.former_ids AS former
        SET survivor = NULL,
            erased_at = $2,
            back_at = NULL,
            had = former.had || $3::text[],
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
        sorted(had),
    )
    await _put(tx, user_id, erased_at=now, had=had)


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
    """Forget up to `PRUNED_AT_ONCE` ids that were erased before then; return how many. Merges are kept."""
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


async def _put(
    tx: Tx, user_id: str, *, survivor: str | None = None, erased_at: datetime | None = None, had: Collection[str] = ()
) -> None:
    id_hash = tx.people.hash_of(user_id)
    await tx.execute(
        """
        INSERT INTO plumbing.former_ids AS former (id_hash, seq, stripe, survivor, erased_at, had)
        SELECT $1::bytea, coalesce(max(seq), 0) + 1, $2::int, $3::text, $4::timestamptz, $5::text[]
        FROM plumbing.former_ids
        ON CONFLICT (id_hash) DO UPDATE
        SET seq = excluded.seq,
            survivor = excluded.survivor,
            erased_at = coalesce(excluded.erased_at, former.erased_at),
            back_at = CASE WHEN excluded.erased_at IS NULL THEN former.back_at END,
            had = former.had || excluded.had
        """,
        id_hash,
        stripe_of(id_hash),
        survivor,
        erased_at,
        sorted(had),
    )
