"""Old and new side by side: the version before this one serves and works on the schema that this one migrated to."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from growth.plumbing.http.identity import Identity
from growth.plumbing.postgres.database import connect_postgres
from growth.vocabulary.clock import now
from tests.app import ENVIRONMENT
from tests.k8s.running import Running, running
from tests.kit.invariants import violations
from tests.world import put_sale

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
BEFORE = "e5cf75150db4ad21c8f0ad2ca3b014398f756114"
"""The last commit of 0.1.0, the release before this one."""
GIT_SECONDS = 60
SHOPPERS = 60


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the release before."""
    folder = tmp_path_factory.mktemp("old")
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("NOT PROVEN: there is no history here to take the release before from")
    archive = subprocess.run(
        [git, "archive", BEFORE, "growth"], cwd=ROOT, capture_output=True, timeout=GIT_SECONDS, check=False
    )
    if archive.returncode:
        pytest.skip(f"NOT PROVEN: this clone has no history back to {BEFORE[:7]}")
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, timeout=GIT_SECONDS, check=True)
    return folder


async def claims(one: Running, sale_id: str, shoppers: range) -> list[int]:
    """Let shoppers claim over one process."""
    identity = Identity(algorithms=("HS256",), secret=ENVIRONMENT["GROWTH_JWT_SECRET"])

    async def claim(session: aiohttp.ClientSession, number: int) -> int:
        token = identity.sign(f"shopper-{number}", now=now(), lifetime_seconds=600)
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "once"}
        url = f"{one.address}/v1/flash-sales/{sale_id}/claims"
        async with session.post(url, json={"units": 1}, headers=headers) as answer:
            return answer.status

    async with aiohttp.ClientSession() as session:
        return await asyncio.gather(*[claim(session, number) for number in shoppers])


async def test_both_versions_sell_one_stock_side_by_side(
    old: Path, postgres_dsn: str, redis_url: str, tmp_path: Path
) -> None:
    stores = {"GROWTH_POSTGRES_DSN": postgres_dsn, "GROWTH_REDIS_URL": redis_url}
    command = [sys.executable, "-m", "growth"]
    before: dict[str, Any] = {"cwd": old, "environment": stores | {"PYTHONPATH": str(old)}}
    after: dict[str, Any] = {"cwd": ROOT, "environment": stores | {"PYTHONPATH": str(ROOT)}}
    database = await connect_postgres(postgres_dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)
    sale = await put_sale(database, units_total=SHOPPERS)
    with (
        running([*command, "serve"], tmp_path, **before) as old_api,
        running([*command, "worker"], tmp_path, **before) as old_worker,
        running([*command, "serve"], tmp_path, **after) as new_api,
        running([*command, "worker"], tmp_path, **after) as new_worker,
    ):
        for api in (old_api, new_api):
            await api.answers(f"{api.address}/readyz")
        halves = await asyncio.gather(
            claims(old_api, sale.sale_id, range(SHOPPERS)),
            claims(new_api, sale.sale_id, range(SHOPPERS // 2, SHOPPERS + SHOPPERS // 2)),
        )
        assert set(halves[0] + halves[1]) <= {201, 409}
        taken = await database.fetchval("SELECT taken FROM flash_sale.sales WHERE sale_id = $1", sale.sale_id)
        assert taken == SHOPPERS
        # What one version acknowledged the other knows.
        crossed = await asyncio.gather(
            claims(new_api, sale.sale_id, range(SHOPPERS)), claims(old_api, sale.sale_id, range(SHOPPERS))
        )
        assert crossed[0] == crossed[1]
        for worker in (old_worker, new_worker):
            await worker.answers(f"{worker.metrics}/livez")
        # The old version leaves as it does when it is rolled out of the way.
        assert [old_api.stop(), old_worker.stop()] == [0, 0]
        assert "Traceback" not in old_api.log() + old_worker.log() + new_api.log() + new_worker.log()
        assert await violations(database) == []
        assert [new_api.stop(), new_worker.stop()] == [0, 0]
    await database.close()
