"""A database of the release before, whose rooms moved into schemas of their own: nothing is lost, and processes of that
release go on beside this one.
"""

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from growth.embedded import EmbeddedServers
from growth.plumbing.outbox import outbox
from growth.plumbing.outbox.upkeep import Log
from growth.plumbing.postgres import partitions
from growth.plumbing.postgres.database import Database, connect_postgres
from growth.plumbing.postgres.migrate import MIGRATIONS_FOLDER, migrate_up
from growth.plumbing.watch.invariants import all_invariants, violations
from growth.rewards.withdrawal.model import Payee, WithdrawalFilter, WithdrawalRules
from growth.rewards.withdrawal.store import payees, rules, withdrawals
from growth.shopper.activity.model import LOG
from growth.vocabulary.clock import now
from growth.webhook.delivery.periodic import TABLE as DELIVERIES
from tests import servers as test_servers

pytestmark = pytest.mark.anyio

BEFORE = "0031"

ROWS = """
    INSERT INTO referral.programs (program_id, draft, levels, state, created_at, published_at)
    SELECT '00000000-0000-7000-8000-000000000001', draft, 1, 'published', now(), now()
    FROM (SELECT '{"levels": 1, "withdrawal": {"min_fen": 4000, "fee_fen": 50}}'::jsonb AS draft) AS told;

    INSERT INTO referral.terms (program_id, version, draft, levels, from_at, until_at)
    SELECT program_id, 1, '{"levels": 1, "withdrawal": {"min_fen": 9, "fee_fen": 8}}', 1, now() - interval '2 h', now()
    FROM referral.programs
    UNION ALL
    SELECT program_id, 2, draft, 1, now(), NULL
    FROM referral.programs;

    UPDATE referral.rules SET version = 4, rules = '{"max_per_day": 5}' WHERE name = 'withdrawal';

    INSERT INTO referral.payees (user_id, kind, account, name, changed_at) VALUES ('ann', 'bank', '6222', 'Ann', now());

    INSERT INTO referral.withdrawals (withdrawal_id, user_id, slot, amount_fen, fee_fen, day, state, requested_at)
    VALUES ('00000000-0000-7000-8000-000000000002', 'ann', 'ann', 5000, 50, '2026-11-02', 'requested', now());

    INSERT INTO referral.withdrawal_days (user_id, day, asked, fen) VALUES ('ann', '2026-11-02', 1, 5000);

    INSERT INTO shop.webhook_endpoints (endpoint_id, url, event_types, state, created_at)
    VALUES ('00000000-0000-7000-8000-000000000003', 'https://shop.example', '{*}', 'enabled', now());

    INSERT INTO shop.webhook_secrets (endpoint_id, made_at, secret)
    SELECT endpoint_id, now(), 'whsec_AAAA'
    FROM shop.webhook_endpoints;

    INSERT INTO shop.webhook_deliveries
        (endpoint_id, event_at, event_id, delivery_id, type, body, next_try_at, queued_at)
    SELECT endpoint_id, at, gen_random_uuid(), gen_random_uuid(), 'task.completed', '{}', now(), now()
    FROM shop.webhook_endpoints
    CROSS JOIN unnest(ARRAY[now(), now() - interval '99 days']) AS at;

    INSERT INTO plumbing.cursors (subscription, log) VALUES ('task.count_activities', 'events.log');

    INSERT INTO events.log (day, position, event_id, type, subject, at, data)
    SELECT (at AT TIME ZONE 'UTC')::date, 1, 'e1', 'product.viewed', 'ann', at, '{}'
    FROM unnest(ARRAY[now(), now() - interval '99 days']) AS at;

    INSERT INTO events.departures (subject) VALUES ('bob');
"""

OF_THE_RELEASE_BEFORE = """
    INSERT INTO referral.withdrawals
        (withdrawal_id, user_id, slot, amount_fen, fee_fen, payee, day, state, requested_at)
    VALUES (gen_random_uuid(), 'ann', 'ann', 1, 0, NULL, '2026-11-02', 'requested', now())
    ON CONFLICT (slot) WHERE state IN ('requested', 'approved', 'paying') DO NOTHING;

    INSERT INTO referral.withdrawal_days AS known (user_id, day, asked, fen) SELECT 'ann', '2026-11-02', 1, 0
    ON CONFLICT (user_id, day) DO UPDATE SET asked = known.asked + 1 WHERE known.asked < 1;

    SELECT FROM referral.withdrawals WHERE state = 'approved' LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;

    INSERT INTO referral.payees AS known (user_id, kind, account, name, changed_at) SELECT * FROM referral.payees
    ON CONFLICT (user_id) DO UPDATE SET name = 'Anna';

    UPDATE referral.sandbox_payouts SET queries = queries + 1;

    LOCK TABLE shop.webhook_endpoints IN SHARE ROW EXCLUSIVE MODE;
    UPDATE shop.webhook_endpoints SET version = version + 1;

    INSERT INTO shop.webhook_deliveries AS known SELECT * FROM shop.webhook_deliveries
    ON CONFLICT (endpoint_id, event_at, event_id) DO UPDATE SET fence = known.fence + 1;

    UPDATE shop.webhook_deliveries AS delivery SET is_leased = FALSE
    FROM shop.webhook_endpoints AS endpoint
    WHERE endpoint.endpoint_id = delivery.endpoint_id;

    DELETE FROM shop.webhook_deliveries_default
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM shop.webhook_deliveries_default WHERE event_at < now() - interval '14 days' LIMIT 9));

    WITH entered AS MATERIALIZED (SELECT events.enter('{1}', 0))
    INSERT INTO events.log (day, position, event_id, type, subject, at, data)
    SELECT (now() AT TIME ZONE 'UTC')::date, 1, 'e2', 'product.viewed', 'ann', now(), '{}' FROM entered
    ON CONFLICT (subject, event_id, day) DO NOTHING RETURNING position;

    DELETE FROM events.departures;
"""
"""What its processes go on saying meanwhile."""


@pytest.fixture
async def carried_over(servers: EmbeddedServers, tmp_path: Path) -> AsyncIterator[Database]:
    """A database that was filled under the release before."""
    for file in MIGRATIONS_FOLDER.glob("*.sql"):
        if file.name < BEFORE:
            shutil.copy(file, tmp_path)
    async with test_servers.database(servers, template="template1") as dsn:
        await migrate_up(dsn, folder=tmp_path)
        connection = await asyncpg.connect(dsn)
        await connection.execute(ROWS)
        await connection.close()
        await migrate_up(dsn)
        database = await connect_postgres(dsn, max_connections=2, acquire_seconds=5, statement_seconds=10)
        yield database
        assert await violations(database, all_invariants()) == []
        await database.close()


async def test_withdrawals_go_on_by_the_rules_of_the_program_that_was_live(carried_over: Database) -> None:
    expected = WithdrawalRules(min_fen=4_000, fee_fen=50, max_per_day=5, max_fen_per_day=2_000_000)
    assert await rules.find(carried_over) == (4, expected)
    assert await payees.find(carried_over, "ann") == Payee(kind="bank", account="6222", name="Ann")
    (found,) = await withdrawals.page(carried_over, WithdrawalFilter(user_id="ann"), before=None, limit=9)
    assert (found.amount_fen, found.fee_fen, found.state) == (5_000, 50, "requested")
    assert await carried_over.fetchval("SELECT fen FROM withdrawal.days WHERE user_id = 'ann'") == 5_000


async def test_what_is_on_its_way_to_receivers_stays_so(carried_over: Database) -> None:
    assert (
        await carried_over.fetchval("SELECT count(*) FROM webhook.deliveries JOIN webhook.secrets USING (endpoint_id)")
        == 2
    )
    assert await carried_over.fetchval("SELECT count(*) FROM webhook.deliveries_default") == 1
    await days_are_made_on(carried_over, DELIVERIES)


async def test_the_log_goes_on_with_its_readers_and_its_days(carried_over: Database) -> None:
    (lag,) = await outbox.lag(carried_over, LOG)
    assert (lag.subscription, lag.events) == ("task.count_activities", 2)
    assert await carried_over.fetchval("SELECT count(*) FROM activity.departures") == 1
    await days_are_made_on(carried_over, LOG.table)


async def days_are_made_on(database: Database, table: str) -> None:
    """The days that there were are known, and more are made and dropped."""
    today = now().astimezone(UTC).date()
    assert today in await partitions.days(database, table)
    assert await partitions.make_days(database, table, now()) > 0
    assert today + timedelta(days=partitions.AHEAD_DAYS) in await partitions.days(database, table)
    async with database.transaction() as tx:
        await partitions.lock_to_drop(tx, table)
        await partitions.drop_day(tx, table, today + timedelta(days=partitions.AHEAD_DAYS))


async def test_processes_of_the_release_before_go_on_under_the_old_names(carried_over: Database) -> None:
    async with carried_over.transaction() as tx:
        await tx.execute(OF_THE_RELEASE_BEFORE)
    assert await carried_over.fetchval("SELECT array_agg(name) FROM withdrawal.payees") == ["Anna"]
    assert await carried_over.fetchval("SELECT count(*) FROM withdrawal.withdrawals") == 1
    assert await carried_over.fetchval("SELECT count(*) FROM webhook.deliveries WHERE fence = 1") == 1
    assert await carried_over.fetchval("SELECT count(*) FROM activity.log") == 3


@pytest.mark.parametrize("table", ["events.log", "shop.webhook_deliveries"])
async def test_upkeep_of_the_release_before_makes_and_drops_nothing_for_a_week(
    carried_over: Database, table: str
) -> None:
    """It is the same code as ours, with the old name."""
    for days in (0, 7):
        assert await partitions.make_days(carried_over, table, now() + timedelta(days=days)) == 0
    assert await partitions.days(carried_over, table) == []


async def test_the_release_before_never_forgets_what_readers_of_this_one_have_not_read(carried_over: Database) -> None:
    long_after = datetime(9000, 1, 1, tzinfo=UTC)
    assert await outbox.prune(carried_over, long_after, 0, Log("events.log", LOG.read)) == 0
    assert await carried_over.fetchval("SELECT count(*) FROM activity.log") == 2


async def test_rules_told_to_a_process_of_the_release_before_are_refused_and_not_lost(carried_over: Database) -> None:
    changed = "UPDATE referral.rules SET version = version + 1, rules = '{}' WHERE name = $1 RETURNING TRUE"
    assert await carried_over.fetchval(changed, "withdrawal") is None
    assert await carried_over.fetchval(changed, "review") is True
