"""A shop with years behind it, made by the million: the books of points, grants, coupons, check-ins and tasks.

What is made holds the invariants. A shopper's entries go round in fives: four times 10 points come, then 20 are spent
from the two oldest lots. Half of the lots are spent so; of those that are left, the first ends tonight for some.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from time import monotonic

from msgspec import Struct

from growth.plumbing.postgres.database import Database, Tx

CHUNK = 1_000_000
"""Entries written by one statement."""
POINTS = 10
ROUND = 5
"""Entries, the last of which spends two lots."""
COUPONS, DAYS, TASKS = 3, 5, 3
"""Of each shopper: coupons, days checked in up to yesterday, tasks begun."""
GROWING = ("ledger.transfers", "ledger.lots", "granting.grants", "ledger.spends")
TABLES = (
    *GROWING,
    *("ledger.takings", "ledger.accounts", "ledger.house", "coupon.coupons", "checkin.states", "checkin.days"),
    "task.progress",
)

# Numbers → the entry: whose, which of this shopper's, its id (led by its time, as real ones are).
FACTS = """
    CREATE SCHEMA load_bench;
    CREATE FUNCTION load_bench.id(name text, number bigint, at timestamptz) RETURNS uuid LANGUAGE sql STABLE AS $$
        SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(name || number), 1, 3) || '8' || substr(md5(name || number), 4, 15))::uuid
    $$;
    CREATE FUNCTION load_bench.facts(
        name text, first bigint, shoppers bigint, each bigint, spends boolean, until timestamptz, low bigint,
        high bigint
    ) RETURNS TABLE (number bigint, user_id text, place bigint, is_spend boolean, at timestamptz, id uuid)
    LANGUAGE sql STABLE AS $$
        SELECT number, name || first + number % shoppers, number / shoppers,
               spends AND number / shoppers % 5 = 4, moment.at, load_bench.id(name, first * each + number, moment.at)
        FROM generate_series(low, high) AS number
        CROSS JOIN LATERAL (SELECT until - interval '300 days' + number * (interval '299 days' / (shoppers * each)))
            AS moment (at)
    $$;
"""


class RewardCrowd(Struct, frozen=True, kw_only=True):
    """Shoppers who are alike, `name` with the numbers from `first` on."""

    name: str
    first: int
    shoppers: int
    each: int
    """Entries of each."""
    spends: bool = True
    ending: int = 0
    """How many have a lot that ends tonight."""

    @property
    def entries(self) -> int:
        """Of all of them."""
        return self.shoppers * self.each


class Campaigns(Struct, frozen=True, kw_only=True):
    """What operators have published."""

    template_id: str
    program_id: str
    task_ids: list[str]


async def make_books(database: Database, crowd: RewardCrowd, now: datetime, say: Callable[[str], None]) -> None:
    """Write the entries of a crowd, with the lots, balances, grants and spendings that belong to them."""
    for low in range(0, crowd.entries, CHUNK):
        high = min(low + CHUNK, crowd.entries) - 1
        async with database.transaction() as tx:
            await tx.execute("SET LOCAL synchronous_commit = off")
            begin = monotonic()
            for table, sql in STATEMENTS.items():
                facts = (crowd.name, crowd.first, crowd.shoppers, crowd.each, crowd.spends, now, low, high)
                more = (crowd.ending,) if table == "ledger.lots" else ()
                await tx.execute(sql, *facts, *more)
        say(f"{high + 1:,} of {crowd.entries:,} entries of {crowd.name}s, {monotonic() - begin:.0f} s")
    async with database.transaction() as tx:
        await _balances(tx, crowd)


# Of the credited of a shopper the first `2 * rounds` are spent: the lots of the spending number n are 2n and 2n + 1.
STATEMENTS = {
    "ledger.transfers": """
        INSERT INTO ledger.transfers
            (transfer_id, debit, credit, currency, amount, phase, reason, subject, at, may_owe)
        SELECT id, CASE WHEN is_spend THEN user_id ELSE 'house/checkin' END,
               CASE WHEN is_spend THEN 'house/shop' ELSE user_id END, 'points',
               CASE WHEN is_spend THEN 20 ELSE 10 END, 'posted',
               CASE WHEN is_spend THEN 'points.spent' ELSE 'checkin.day' END,
               $1 || '-' || $2 || '-' || number, at, FALSE
        FROM load_bench.facts($1, $2, $3, $4, $5, $6, $7, $8)
    """,
    "ledger.lots": """
        INSERT INTO ledger.lots (lot_id, owner, currency, amount, remaining, expires_at)
        SELECT id, user_id, 'points', 10, CASE WHEN credit < spent THEN 0 ELSE 10 END,
               CASE WHEN credit = spent AND number % $3 < $9 THEN $6 + interval '1 hour'
                    ELSE $6 + interval '100 days' + credit * interval '1 day'
               END
        FROM load_bench.facts($1, $2, $3, $4, $5, $6, $7, $8)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN $5 THEN place - place / 5 ELSE place END,
                   CASE WHEN $5 THEN 2 * ($4 / 5) ELSE 0 END
        ) AS lot (credit, spent)
        WHERE NOT is_spend
    """,
    "ledger.takings": """
        INSERT INTO ledger.takings (transfer_id, lot_id, amount)
        SELECT fact.id, load_bench.id($1, $2 * $4 + lot.number,
                   $6 - interval '300 days' + lot.number * (interval '299 days' / ($3 * $4))), 10
        FROM load_bench.facts($1, $2, $3, $4, $5, $6, $7, $8) AS fact
        CROSS JOIN generate_series(2 * (fact.place / 5), 2 * (fact.place / 5) + 1) AS credit
        CROSS JOIN LATERAL (SELECT (credit + credit / 4) * $3 + fact.number % $3) AS lot (number)
        WHERE fact.is_spend
    """,
    "ledger.spends": """
        INSERT INTO ledger.spends (spend_id, user_id, points, transfer_id, spent_at)
        SELECT $1 || '-' || $2 || '-' || number, user_id, 20, id, at
        FROM load_bench.facts($1, $2, $3, $4, $5, $6, $7, $8)
        WHERE is_spend
    """,
    "granting.grants": """
        INSERT INTO granting.grants (key, grant_id, user_id, reward, reason, subject, granted_at)
        SELECT 'checkin:' || id, id, user_id, '{"type": "points", "points": 10}', 'checkin.day',
               $1 || '-' || $2 || '-' || number, at
        FROM load_bench.facts($1, $2, $3, $4, $5, $6, $7, $8)
        WHERE NOT is_spend
    """,
}


async def _balances(tx: Tx, crowd: RewardCrowd) -> None:
    spends = crowd.each // ROUND if crowd.spends else 0
    credited = crowd.each - spends
    await tx.execute(
        """
        INSERT INTO ledger.accounts (owner, currency, posted, pending_in, pending_out)
        SELECT $1 || number, 'points', $4, 0, 0
        FROM generate_series($2::bigint, $2 + $3::bigint - 1) AS number
        """,
        crowd.name,
        crowd.first,
        crowd.shoppers,
        POINTS * (credited - 2 * spends),
    )
    await tx.execute(
        """
        INSERT INTO ledger.house_moves (owner, currency, posted, pending_in, pending_out)
        VALUES ('house/checkin', 'points', $1, 0, 0), ('house/shop', 'points', $2, 0, 0)
        """,
        -POINTS * credited * crowd.shoppers,
        2 * POINTS * spends * crowd.shoppers,
    )


async def make_pages(database: Database, crowd: RewardCrowd, campaigns: Campaigns, today: date, now: datetime) -> None:
    """Write what a crowd sees on its other pages: coupons, the days of a streak, tasks begun."""
    shoppers = (crowd.name, crowd.first, crowd.shoppers)
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL synchronous_commit = off")
        await tx.execute(
            """
            INSERT INTO coupon.coupons
                (coupon_id, template_id, user_id, state, source, reason, issued_at, valid_from, valid_until)
            SELECT load_bench.id($1 || 'coupon', number * $6::int + which, $5), $4, $1 || number, 'issued', 'granted',
                   'bench', $5::timestamptz - which * interval '1 day', $5, $5 + interval '30 days'
            FROM generate_series($2::bigint, $2 + $3::bigint - 1) AS number
            CROSS JOIN generate_series(0, $6 - 1) AS which
            """,
            *(*shoppers, campaigns.template_id, now, COUPONS),
        )
        await tx.execute(
            "UPDATE coupon.templates SET issued = issued + $2 WHERE template_id = $1",
            campaigns.template_id,
            COUPONS * crowd.shoppers,
        )
        await tx.execute(
            """
            INSERT INTO checkin.states (user_id, last_day, last_counted, program_id, streak, run, position, longest,
                best, total)
            SELECT $1 || number, $4::date - 1, $4 - 1, $5, $6::int, $6, $6, $6, $6, $6
            FROM generate_series($2::bigint, $2 + $3::bigint - 1) AS number
            """,
            *(*shoppers, today, campaigns.program_id, DAYS),
        )
        await tx.execute(
            """
            INSERT INTO checkin.days (user_id, day, terms_id, streak, position, paid, kind)
            SELECT $1 || number, $4::date - ago, program.terms_id, $6::int + 1 - ago, $6 + 1 - ago, $6 + 1 - ago, 1
            FROM generate_series($2::bigint, $2 + $3::bigint - 1) AS number
            CROSS JOIN generate_series(1, $6) AS ago
            CROSS JOIN (SELECT terms_id FROM checkin.programs WHERE program_id = $5) AS program
            """,
            *(*shoppers, today, campaigns.program_id, DAYS),
        )
        await tx.execute(
            """
            INSERT INTO task.progress (user_id, period_on, task_id, done, grant_id, changed_at)
            SELECT $1 || number, '1970-01-01', task.task_id, 1, load_bench.id(task.task_id::text, number, $5), $5
            FROM generate_series($2::bigint, $2 + $3::bigint - 1) AS number
            CROSS JOIN unnest($4::uuid[]) AS task (task_id)
            """,
            *(*shoppers, campaigns.task_ids, now),
        )


async def drop_indexes(database: Database, tables: Sequence[str] = GROWING) -> list[str]:
    """Drop the indexes that guard nothing; return the statements that make them again: that is faster for many rows."""
    rows = await database.fetch(
        """
        SELECT index.indexrelid::regclass::text AS name, pg_get_indexdef(index.indexrelid) AS made_by
        FROM pg_index AS index
        WHERE index.indrelid = ANY (SELECT name::regclass FROM unnest($1::text[]) AS name)
          AND NOT index.indisunique
        """,
        list(tables),
    )
    async with database.transaction() as tx:
        for row in rows:
            await tx.execute(f"DROP INDEX {row['name']}")
    return [row["made_by"] for row in rows]


async def settle(database: Database, indexes: Sequence[str]) -> None:
    """Make indexes again, and do what autovacuum would come to do."""
    async with database.pool.acquire() as connection:
        await connection.execute("SET maintenance_work_mem = '512MB'")
        for statement in indexes:
            await connection.execute(statement)
        await connection.execute(f"VACUUM (ANALYZE) {', '.join(TABLES)}")
        await connection.execute("CHECKPOINT")
