"""Every statement that writes what was seen. All run under the room's lock, so that what was read still stands."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from growth.listeners.retention.model import Counts, ShopperFacts, ShopperRow
from growth.plumbing.postgres.database import Reader, Record, Tx

_encode = msgspec.json.Encoder().encode


def _json(rows: object) -> str:
    return _encode(rows).decode()


async def lock(tx: Tx) -> None:
    """Let nobody else write in this room until the transaction ends."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('retention', 0))")


async def commit_lazily(tx: Tx) -> None:
    """Do not wait at COMMIT until it is on disk.

    Should Postgres die before, counts are lost together with the cursor that says how far was read: all comes again.
    """
    await tx.execute("SET LOCAL synchronous_commit = off")


async def known_zone(reader: Reader) -> str | None:
    """Return the zone whose days are counted here; None before anything was."""
    name: str | None = await reader.fetchval("SELECT name FROM retention.zone")
    return name


async def put_zone(tx: Tx, name: str) -> None:
    """Note the zone whose days are counted from now on."""
    await tx.execute("INSERT INTO retention.zone (name) VALUES ($1)", name)


async def find(reader: Reader, user_ids: Iterable[str]) -> dict[str, tuple[str, ShopperRow | None]]:
    """Return, by id, who that is now, and what is known of them."""
    rows = await reader.fetch(
        """
        SELECT asked.user_id AS asked_id,
               coalesce(former.now_user_id, asked.user_id) AS now_id,
               shopper.shopper_id, shopper.user_id, shopper.first_day - DATE '1970-01-01' AS first_day,
               shopper.last_day - DATE '1970-01-01' AS last_day, shopper.last_kinds, shopper.source, shopper.source_at,
               shopper.mechanic, shopper.mechanic_at, shopper.inviter, shopper.bound_at, shopper.viewed_at,
               shopper.claimed_at, shopper.paid_at, shopper.invited_at, shopper.bought_at, shopper.segments
        FROM json_array_elements_text($1::json) AS asked (user_id)
        LEFT JOIN retention.former_ids AS former
               ON former.user_id = asked.user_id
        LEFT JOIN retention.shoppers AS shopper
               ON shopper.user_id = coalesce(former.now_user_id, asked.user_id)
        """,
        _json(list(user_ids)),
    )
    return {row["asked_id"]: (row["now_id"], _shopper_of(row)) for row in rows}


def _shopper_of(row: Record) -> ShopperRow | None:
    values = tuple(row)[2:]
    return None if values[0] is None else ShopperRow(**dict(zip(ShopperRow.__struct_fields__, values, strict=True)))


async def facts_of(reader: Reader, shoppers: Sequence[ShopperRow]) -> dict[int, ShopperFacts]:
    """Return all facts of shoppers, by `shopper_id`."""
    if not shoppers:
        return {}
    found = {shopper.shopper_id: ShopperFacts(shopper, {}, set()) for shopper in shoppers}
    ids = _json(list(found))
    # Shopper by shopper, by a limit that is never reached: whatever Postgres believes of the tables, by their keys.
    for row in await reader.fetch(
        """
        SELECT known.shopper_id, active.day - DATE '1970-01-01' AS day, active.kinds
        FROM (SELECT value::bigint AS shopper_id FROM json_array_elements_text($1::json)) AS known
        CROSS JOIN LATERAL (
            SELECT day, kinds
            FROM retention.active_days
            WHERE shopper_id = known.shopper_id
            LIMIT 1000000
        ) AS active
        """,
        ids,
    ):
        found[row["shopper_id"]].days[row["day"]] = row["kinds"]
    for row in await reader.fetch(
        """
        SELECT known.shopper_id, taken.step, taken.at
        FROM (SELECT value::bigint AS shopper_id FROM json_array_elements_text($1::json)) AS known
        CROSS JOIN LATERAL (
            SELECT step, at
            FROM retention.steps
            WHERE shopper_id = known.shopper_id
            LIMIT 1000000
        ) AS taken
        """,
        ids,
    ):
        found[row["shopper_id"]].steps.add((row["step"], row["at"]))
    return found


async def new_shopper_ids(tx: Tx, count: int) -> list[int]:
    """Return numbers for shoppers not known so far."""
    if not count:
        return []
    rows = await tx.fetch(
        """
        SELECT nextval('retention.shoppers_shopper_id_seq'::regclass) AS shopper_id
        FROM generate_series(1, $1)
        """,
        count,
    )
    return [row["shopper_id"] for row in rows]


async def put_last_days(tx: Tx, seen: Sequence[tuple[int, int, int]]) -> None:
    """Note the last day, and its kinds, of shoppers of whom nothing else changes."""
    if not seen:
        return
    await tx.execute(
        """
        UPDATE retention.shoppers AS shopper
        SET last_day = DATE '1970-01-01' + seen.d,
            last_kinds = seen.k
        FROM json_to_recordset($1::json) AS seen (s bigint, d integer, k integer)
        WHERE shopper.shopper_id = seen.s
        """,
        _json([{"s": shopper_id, "d": day, "k": kinds} for shopper_id, day, kinds in seen]),
    )


async def put_shoppers(tx: Tx, shoppers: Sequence[ShopperRow]) -> None:
    """Write whole rows, new or known."""
    if not shoppers:
        return
    await tx.execute(
        """
        INSERT INTO retention.shoppers (
            shopper_id, user_id, first_day, last_day, last_kinds, source, source_at, mechanic, mechanic_at, inviter,
            bound_at, viewed_at, claimed_at, paid_at, invited_at, bought_at, segments)
        SELECT shopper_id, user_id, DATE '1970-01-01' + first_day, DATE '1970-01-01' + last_day, last_kinds, source,
               source_at, mechanic, mechanic_at, inviter, bound_at, viewed_at, claimed_at, paid_at, invited_at,
               bought_at, segments
        FROM json_to_recordset($1::json) AS shopper (
            shopper_id bigint, user_id text, first_day integer, last_day integer, last_kinds integer, source smallint,
            source_at timestamptz, mechanic smallint, mechanic_at timestamptz, inviter text, bound_at timestamptz,
            viewed_at timestamptz, claimed_at timestamptz, paid_at timestamptz, invited_at timestamptz,
            bought_at timestamptz, segments integer[])
        ON CONFLICT (shopper_id) DO UPDATE
        SET first_day = excluded.first_day, last_day = excluded.last_day, last_kinds = excluded.last_kinds,
            source = excluded.source, source_at = excluded.source_at, mechanic = excluded.mechanic,
            mechanic_at = excluded.mechanic_at, inviter = excluded.inviter, bound_at = excluded.bound_at,
            viewed_at = excluded.viewed_at, claimed_at = excluded.claimed_at, paid_at = excluded.paid_at,
            invited_at = excluded.invited_at, bought_at = excluded.bought_at, segments = excluded.segments
        """,
        _json(shoppers),
    )


async def put_days(tx: Tx, days: Sequence[tuple[int, int, int]]) -> None:
    """Note days on which shoppers were active, each with all its kinds, whether or not it was noted."""
    if not days:
        return
    await tx.execute(
        """
        INSERT INTO retention.active_days (shopper_id, day, kinds)
        SELECT seen.s, DATE '1970-01-01' + seen.d, seen.k
        FROM json_to_recordset($1::json) AS seen (s bigint, d integer, k integer)
        ON CONFLICT (shopper_id, day) DO UPDATE
        SET kinds = excluded.kinds
        """,
        _json([{"s": shopper_id, "d": day, "k": kinds} for shopper_id, day, kinds in days]),
    )


async def drop_days(tx: Tx, days: Sequence[tuple[int, int]]) -> None:
    """Forget days on which shoppers were not active after all."""
    if not days:
        return
    await tx.execute(
        """
        DELETE FROM retention.active_days AS active
        USING json_to_recordset($1::json) AS gone (s bigint, d integer)
        WHERE active.shopper_id = gone.s
          AND active.day = DATE '1970-01-01' + gone.d
        """,
        _json([{"s": shopper_id, "d": day} for shopper_id, day in days]),
    )


async def put_steps(tx: Tx, steps: Sequence[tuple[int, int, datetime]]) -> None:
    """Note what may become a step of a funnel."""
    if not steps:
        return
    await tx.execute(
        """
        INSERT INTO retention.steps (shopper_id, step, at)
        SELECT taken.s, taken.n, taken.at
        FROM json_to_recordset($1::json) AS taken (s bigint, n smallint, at timestamptz)
        ON CONFLICT (shopper_id, step, at) DO NOTHING
        """,
        _json([{"s": shopper_id, "n": step, "at": at} for shopper_id, step, at in steps]),
    )


async def put_counts(tx: Tx, counts: Counts) -> None:
    """Add to every counter."""
    await _put_cells(tx, counts.active, counts.returned)
    await _put_returns(tx, counts.returns)
    await _put_funnel_steps(tx, counts.funnel_steps)
    await _put_sources(tx, counts.sources)


async def _put_cells(tx: Tx, active: Counter[tuple[int, int, int]], returned: Counter[tuple[int, int, int]]) -> None:
    added: list[dict[str, int]] = []
    lowered: list[dict[str, int]] = []
    # In the order of the index: neighbours share pages.
    for key in sorted(active.keys() | returned.keys()):
        plus, again = active[key], returned[key]
        if plus or again:
            row = {"s": key[0], "n": key[1], "d": key[2], "a": plus, "r": again}
            # What falls is there already. (A CHECK looks at the row to be inserted before at the one it meets.)
            (lowered if plus < 0 or again < 0 else added).append(row)
    if added:
        await tx.execute(
            """
            INSERT INTO retention.cells AS cell (segment, n, cohort_day, active, returned)
            SELECT changed.s, changed.n, DATE '1970-01-01' + changed.d, changed.a, changed.r
            FROM json_to_recordset($1::json) AS changed (s integer, n smallint, d integer, a integer, r integer)
            ON CONFLICT (segment, n, cohort_day) DO UPDATE
            SET active = cell.active + excluded.active,
                returned = cell.returned + excluded.returned
            """,
            _json(added),
        )
    if lowered:
        await tx.execute(
            """
            UPDATE retention.cells AS cell
            SET active = cell.active + changed.a,
                returned = cell.returned + changed.r
            FROM json_to_recordset($1::json) AS changed (s integer, n smallint, d integer, a integer, r integer)
            WHERE cell.segment = changed.s
              AND cell.n = changed.n
              AND cell.cohort_day = DATE '1970-01-01' + changed.d
            """,
            _json(lowered),
        )


async def _put_returns(tx: Tx, returns: Counter[tuple[int, int]]) -> None:
    rows = [{"d": day, "g": gap, "a": plus} for (day, gap), plus in returns.items() if plus]
    if not rows:
        return
    await tx.execute(
        """
        UPDATE retention.returns AS known
        SET shoppers = known.shoppers + changed.a
        FROM json_to_recordset($1::json) AS changed (d integer, g smallint, a integer)
        WHERE known.day = DATE '1970-01-01' + changed.d
          AND known.gap = changed.g
          AND changed.a < 0
        """,
        _json(rows),
    )
    await tx.execute(
        """
        INSERT INTO retention.returns AS known (day, gap, shoppers)
        SELECT DATE '1970-01-01' + changed.d, changed.g, changed.a
        FROM json_to_recordset($1::json) AS changed (d integer, g smallint, a integer)
        WHERE changed.a > 0
        ON CONFLICT (day, gap) DO UPDATE
        SET shoppers = known.shoppers + excluded.shoppers
        """,
        _json(rows),
    )


async def _put_funnel_steps(tx: Tx, steps: Counter[tuple[int, int, int, int]]) -> None:
    rows = [
        {"f": funnel, "n": step, "d": start, "w": after, "a": plus}
        for (funnel, step, start, after), plus in steps.items()
        if plus
    ]
    if not rows:
        return
    await tx.execute(
        """
        UPDATE retention.funnel_steps AS known
        SET shoppers = known.shoppers + changed.a
        FROM json_to_recordset($1::json) AS changed (f smallint, n smallint, d integer, w smallint, a integer)
        WHERE known.funnel = changed.f
          AND known.step = changed.n
          AND known.start_day = DATE '1970-01-01' + changed.d
          AND known.after_days = changed.w
          AND changed.a < 0
        """,
        _json(rows),
    )
    await tx.execute(
        """
        INSERT INTO retention.funnel_steps AS known (funnel, step, start_day, after_days, shoppers)
        SELECT changed.f, changed.n, DATE '1970-01-01' + changed.d, changed.w, changed.a
        FROM json_to_recordset($1::json) AS changed (f smallint, n smallint, d integer, w smallint, a integer)
        WHERE changed.a > 0
        ON CONFLICT (funnel, step, start_day, after_days) DO UPDATE
        SET shoppers = known.shoppers + excluded.shoppers
        """,
        _json(rows),
    )


async def _put_sources(tx: Tx, sources: Counter[int]) -> None:
    rows = [{"s": source, "a": plus} for source, plus in sources.items() if plus]
    if rows:
        await tx.execute(
            """
            UPDATE retention.sources AS known
            SET shoppers = known.shoppers + changed.a
            FROM json_to_recordset($1::json) AS changed (s smallint, a integer)
            WHERE known.source = changed.s
            """,
            _json(rows),
        )


async def remove(tx: Tx, shopper_id: int) -> None:
    """Take a shopper's facts away, all of which another has by now."""
    await tx.execute("DELETE FROM retention.active_days WHERE shopper_id = $1", shopper_id)
    await tx.execute("DELETE FROM retention.steps WHERE shopper_id = $1", shopper_id)
    await tx.execute("DELETE FROM retention.shoppers WHERE shopper_id = $1", shopper_id)


async def rename(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Give a shopper another id, here and where it is another's inviter."""
    await tx.execute("UPDATE retention.shoppers SET user_id = $2 WHERE user_id = $1", old_user_id, user_id)
    await tx.execute("UPDATE retention.shoppers SET inviter = $2 WHERE inviter = $1", old_user_id, user_id)


async def forward(tx: Tx, old_user_id: str, user_id: str) -> None:
    """Let what comes under an old id, and under those it had before, be the new one's; the inviter's too."""
    await tx.execute("UPDATE retention.former_ids SET now_user_id = $2 WHERE now_user_id = $1", old_user_id, user_id)
    await tx.execute("INSERT INTO retention.former_ids (user_id, now_user_id) VALUES ($1, $2)", old_user_id, user_id)
    await tx.execute("UPDATE retention.shoppers SET inviter = $2 WHERE inviter = $1", old_user_id, user_id)


async def forget_former_ids(tx: Tx, user_id: str) -> None:
    """Forget which ids became this one, and which this one became."""
    await tx.execute("DELETE FROM retention.former_ids WHERE $1 IN (user_id, now_user_id)", user_id)
