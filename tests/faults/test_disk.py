"""No room left on Postgres' disk."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from growth.embedded import EmbeddedPostgres, EmbeddedServers, EmbeddedValkey
from tests import servers as test_servers
from tests.faults import houses
from tests.faults.crowd import Crowd
from tests.faults.houses import faults, until
from tests.faults.story import withstands

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

DISK_MEGABYTES = 256
LITTLE_LOG = {"max_wal_size": "48MB", "min_wal_size": "32MB"}
REFUSED = 20
"""Claims answered with 503 before there is room again."""


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, which only root may make."""
    with TemporaryDirectory(prefix="growth-disk-", dir=test_servers.scratch(), ignore_cleanup_errors=True) as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("NOT TESTED: a full disk. Mounting a small one takes root and the right to mount.")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def servers_on_it(small_disk: Path) -> Iterator[EmbeddedServers]:
    with (
        test_servers.started() as roomy,
        EmbeddedPostgres.start(small_disk / "postgres", settings=LITTLE_LOG, fast=True) as postgres,
    ):
        assert isinstance(roomy.valkey, EmbeddedValkey)
        servers = EmbeddedServers(postgres, roomy.valkey)
        asyncio.run(test_servers.make_template(servers))
        yield servers


async def test_a_full_disk_under_postgres_mid_sale_oversells_and_loses_nothing(
    small_disk: Path, servers_on_it: EmbeddedServers
) -> None:
    ballast = small_disk / "ballast"

    async def full(crowd: Crowd) -> None:
        _fill(ballast)

        async def is_noticed() -> bool:
            return crowd.answers["claim 503"] >= REFUSED

        await until("claims are refused", is_noticed)
        ballast.unlink()
        # It may have ended itself: without room for its log it cannot go on.
        await asyncio.to_thread(servers_on_it.ensure_running)

    async with houses.house(servers_on_it, apis=[faults()] * 2, workers=[faults()]) as house:
        await withstands(house, "Postgres' disk full", full)


def _fill(ballast: Path) -> None:
    """Leave no block free."""
    for size in (1 << 20, 4096):
        with ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
