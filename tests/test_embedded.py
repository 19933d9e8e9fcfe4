"""The embedded servers: what a laptop and every other test stand on."""

import asyncio
import contextlib
import os
import pwd
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import TimeoutError as RedisTimeoutError

from growth.embedded import EmbeddedPostgres, EmbeddedServerError, EmbeddedServers, EmbeddedValkey
from growth.embedded.folder import free_port
from growth.embedded.processes import start_process
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.servers import scratch

REPOSITORY = Path(__file__).parent.parent

OWNER = """
import sys, time
from pathlib import Path
from growth.embedded import EmbeddedServers
servers = EmbeddedServers.start(Path(sys.argv[1]), fast=True)
print(servers.postgres.pid, servers.valkey.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    # Short, unlike pytest's own, so that a socket's path fits.
    with TemporaryDirectory(prefix="growth-", dir=scratch()) as path:
        yield Path(path)


@pytest.fixture(scope="module")
def used() -> Iterator[Path]:
    """A folder that had servers before: making a database takes much longer than starting one."""
    with TemporaryDirectory(prefix="growth-", dir=scratch()) as path:
        EmbeddedServers.start(Path(path), fast=True).stop()
        yield Path(path)


@pytest.fixture
def postgres(used: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres.start(used / "postgres", fast=True) as server:
        yield server


@pytest.fixture
def valkey(folder: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey.start(folder / "valkey", fast=True) as server:
        yield server


@contextlib.contextmanager
def owner(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Another process that owns both servers; yields it and the servers' pids."""
    command = [sys.executable, "-c", OWNER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        try:
            assert process.stdout is not None
            yield process, [int(pid) for pid in process.stdout.readline().split()]
        finally:
            process.kill()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # one that waits to be buried does no harm
    except psutil.NoSuchProcess:
        return False


def await_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(alive(pid) for pid in pids), f"the end of {pids}")


async def execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=PATIENCE_SECONDS)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def fetchval(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn, timeout=PATIENCE_SECONDS)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def answers(servers: EmbeddedServers) -> bool:
    async with Redis.from_url(servers.valkey.url) as client:
        return await fetchval(servers.postgres.dsn, "SELECT 1") == 1 and await client.set("k", "v") is True


async def test_postgres_is_18_sorts_by_code_point_and_runs_in_utc(postgres: EmbeddedPostgres) -> None:
    assert str(await fetchval(postgres.dsn, "SHOW server_version")).startswith("18")
    assert await fetchval(postgres.dsn, "SHOW timezone") == "UTC"
    assert await fetchval(postgres.dsn, "SELECT string_agg(c, '' ORDER BY c) FROM unnest('{b,A,a,B,é}'::text[]) c") == (
        "ABabé"
    )


async def test_valkey_refuses_to_evict(valkey: EmbeddedValkey) -> None:
    async with Redis.from_url(valkey.url) as client:
        assert await client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


async def test_what_was_committed_is_there_after_a_stop_and_a_start(folder: Path) -> None:
    with EmbeddedServers.start(folder) as servers:
        await execute(servers.postgres.dsn, "CREATE TABLE kept (id int)")
        async with Redis.from_url(servers.valkey.url) as client:
            await client.set("kept", "1")
        addresses = servers.postgres.dsn, servers.valkey.url
    with EmbeddedServers.start(folder) as servers:
        assert (servers.postgres.dsn, servers.valkey.url) == addresses
        await execute(servers.postgres.dsn, "TABLE kept")
        async with Redis.from_url(servers.valkey.url) as client:
            assert await client.get("kept") == b"1"


async def test_what_was_committed_is_there_after_a_kill(folder: Path) -> None:
    with EmbeddedPostgres.start(folder) as server:
        await execute(server.dsn, "CREATE TABLE kept (id int)")
        server.kill()
        with pytest.raises(OSError, match=r"No such file|refused"):
            await fetchval(server.dsn, "SELECT 1")
        server.restart()
        await execute(server.dsn, "TABLE kept")


async def test_a_killed_fast_valkey_comes_back_empty_at_the_same_address(valkey: EmbeddedValkey) -> None:
    url = valkey.url
    async with Redis.from_url(url) as client:
        await client.set("lost", "1")
    valkey.kill()
    assert not valkey.running
    valkey.restart()
    assert valkey.url == url
    async with Redis.from_url(url) as client:
        assert await client.dbsize() == 0


def test_kill_leaves_no_process_of_the_server(postgres: EmbeddedPostgres) -> None:
    family = [postgres.pid, *(child.pid for child in psutil.Process(postgres.pid).children(recursive=True))]
    assert len(family) > 3
    postgres.kill()
    await_gone(family)
    with pytest.raises(EmbeddedServerError, match="not running"):
        _ = postgres.pid


async def test_a_frozen_postgres_keeps_its_connections_and_answers_when_thawed(postgres: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(postgres.dsn)
    postgres.freeze()
    try:
        question = asyncio.create_task(connection.fetchval("SELECT 1"))
        assert not (await asyncio.wait([question], timeout=0.3))[0]
    finally:
        postgres.thaw()
    assert await asyncio.wait_for(question, timeout=PATIENCE_SECONDS) == 1
    await connection.close()


async def test_a_frozen_valkey_answers_when_thawed(valkey: EmbeddedValkey) -> None:
    async with Redis.from_url(valkey.url, socket_timeout=0.3, retry=None) as client:
        await client.set("k", "v")
        valkey.freeze()
        try:
            with pytest.raises(RedisTimeoutError):
                await client.get("k")
        finally:
            valkey.thaw()
        assert await client.get("k") == b"v"


def test_a_frozen_server_can_be_stopped(used: Path) -> None:
    servers = EmbeddedServers.start(used, fast=True)
    pids = [servers.postgres.pid, servers.valkey.pid]
    servers.postgres.freeze()
    servers.valkey.freeze()
    servers.stop()
    await_gone(pids)
    servers.stop()


async def test_two_folders_run_side_by_side_and_know_nothing_of_each_other(used: Path, folder: Path) -> None:
    with EmbeddedServers.start(used, fast=True) as a, EmbeddedServers.start(folder, fast=True) as b:
        await execute(a.postgres.dsn, "CREATE TABLE theirs (id int)")
        assert await fetchval(b.postgres.dsn, "SELECT to_regclass('theirs')") is None
        a.postgres.kill()
        a.valkey.kill()
        assert await answers(b)
        assert a.ensure_running() == ["Postgres", "Valkey"]
        assert await answers(a)


def test_a_folder_in_use_is_refused_by_name(used: Path) -> None:
    with owner(used) as (process, _), pytest.raises(EmbeddedServerError, match=f"used by another .*{process.pid}"):
        EmbeddedServers.start(used)


def test_a_folder_is_not_used_twice_by_one_process(valkey: EmbeddedValkey) -> None:
    with pytest.raises(EmbeddedServerError, match="already used by this process"):
        EmbeddedValkey.start(valkey.data_dir)
    assert valkey.running


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_servers_end_when_their_owner_is_killed(used: Path) -> None:
    with owner(used) as (process, pids):
        process.kill()
        process.wait()
        await_gone(pids)


async def test_a_killed_run_leaves_locks_that_the_next_start_survives(used: Path) -> None:
    with owner(used) as (process, pids):
        # Frozen, the servers cannot end with their owner: they stay behind as after the worst of crashes.
        for pid in pids:
            for server in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
                server.suspend()
        process.kill()
        process.wait()
        assert (used / "postgres/data/postmaster.pid").exists()
        with EmbeddedServers.start(used, fast=True) as servers:
            assert await answers(servers)
            assert not set(pids) & {servers.postgres.pid, servers.valkey.pid}


async def test_a_postmaster_killed_alone_leaves_children_that_the_next_start_survives(used: Path) -> None:
    with EmbeddedPostgres.start(used / "postgres", fast=True) as server:
        for child in psutil.Process(server.pid).children():
            child.suspend()  # or they would notice and leave
        os.kill(server.pid, signal.SIGKILL)
        await_dead(server)
        assert server.ensure_running()
        assert await fetchval(server.dsn, "SELECT 1") == 1


def await_dead(server: EmbeddedPostgres | EmbeddedValkey) -> None:
    wait_until(lambda: not server.running, f"the end of {server.name}")


async def test_a_lock_file_that_names_a_living_stranger_does_not_stop_the_start(used: Path) -> None:
    folder = used / "postgres"
    pid_file = folder / "data/postmaster.pid"
    pid_file.write_text(
        f"{os.getppid()}\n{folder / 'data'}\n{int(time.time())}\n5432\n{folder / 'run'}\n\n0 0\nready\n"
    )
    with EmbeddedPostgres.start(folder, fast=True) as server:
        assert await fetchval(server.dsn, "SELECT 1") == 1


async def test_a_half_made_database_is_made_again(folder: Path) -> None:
    (folder / "data.new").mkdir()
    (folder / "data.new/PG_VERSION").write_text("18\n")
    with EmbeddedPostgres.start(folder, fast=True) as server:
        assert await fetchval(server.dsn, "SELECT 1") == 1


async def test_a_path_too_long_for_a_socket_gets_a_port_and_a_password(folder: Path) -> None:
    with EmbeddedPostgres.start(folder / ("long" * 25), fast=True) as server:
        assert "@127.0.0.1:" in server.dsn
        assert await fetchval(server.dsn, "SELECT 1") == 1
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn, password="guessed")


async def test_a_given_port_is_listened_on(used: Path) -> None:
    port = free_port()
    with EmbeddedPostgres.start(used / "postgres", port, {"max_connections": "17"}, fast=True) as server:
        assert f"@127.0.0.1:{port}/" in server.dsn
        assert await fetchval(server.dsn, "SHOW max_connections") == "17"


def test_a_given_port_that_is_taken_fails_with_the_servers_own_words(folder: Path, valkey: EmbeddedValkey) -> None:
    with pytest.raises(EmbeddedServerError, match="Address already in use"):
        EmbeddedPostgres.start(folder / "other", valkey.port, fast=True)
    with pytest.raises(EmbeddedServerError, match="Address already in use"):
        EmbeddedValkey.start(folder / "another", valkey.port, fast=True)


async def test_a_remembered_port_that_was_taken_meanwhile_is_replaced(folder: Path, valkey: EmbeddedValkey) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "port").write_text(str(valkey.port))
    with EmbeddedValkey.start(other, fast=True) as server:
        assert server.port != valkey.port
        async with Redis.from_url(server.url) as client:
            assert await client.ping()


async def test_nobody_without_the_password_gets_in(used: Path) -> None:
    with EmbeddedServers.start(used, fast=True) as servers:
        async with Redis.from_url(f"redis://127.0.0.1:{servers.valkey.port}/0") as client:
            with pytest.raises(AuthenticationError):
                await client.ping()
        for private in ("postgres/run", "postgres/data", "postgres/password", "valkey/data", "valkey/valkey.conf"):
            assert stat.S_IMODE((used / private).stat().st_mode) & 0o077 == 0, private


async def test_supervision_brings_a_dead_server_back(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("growth.embedded.servers.SUPERVISE_SECONDS", 0.01)
    with EmbeddedServers.start(used, fast=True) as servers:
        restarted: asyncio.Queue[str] = asyncio.Queue()
        supervision = asyncio.create_task(servers.supervise(restarted.put_nowait))
        servers.valkey.kill()
        assert await asyncio.wait_for(restarted.get(), timeout=PATIENCE_SECONDS) == "Valkey"
        os.kill(servers.postgres.pid, signal.SIGKILL)
        assert await asyncio.wait_for(restarted.get(), timeout=PATIENCE_SECONDS) == "Postgres"
        assert await answers(servers)
        supervision.cancel()
        with pytest.raises(asyncio.CancelledError):
            await supervision


async def test_a_server_started_from_a_thread_outlives_the_thread(folder: Path) -> None:
    started: list[EmbeddedValkey] = []
    thread = threading.Thread(target=lambda: started.append(EmbeddedValkey.start(folder, fast=True)), daemon=True)
    thread.start()
    thread.join()
    with started[0] as server:
        await asyncio.sleep(0.2)
        assert server.running


def test_a_stopped_server_is_not_brought_back(folder: Path) -> None:
    server = EmbeddedValkey.start(folder, fast=True)
    server.stop()
    assert not server.ensure_running()
    with pytest.raises(EmbeddedServerError, match="call start"):
        server.restart()


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        EmbeddedPostgres.start(folder / "p", settings={"no_such_setting": "1"}, fast=True)
    with pytest.raises(EmbeddedServerError, match="no-such-option"):
        EmbeddedValkey.start(folder / "v", options={"no-such-option": "1"}, fast=True)
    with EmbeddedValkey.start(folder / "v", fast=True) as server:
        assert server.running


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_an_ordinary_user_starts_them_too(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    command = [sys.executable, "-c", OWNER.replace("time.sleep(600)", "servers.stop()"), str(folder / "data")]
    with (folder / "output").open("w+b") as output:
        # The interpreter may lie in a private home; this way of starting lends a way in.
        process = start_process(
            command, cwd=REPOSITORY, output=output.fileno(), user=nobody, death_signal=signal.SIGKILL
        )
        assert process.wait(PATIENCE_SECONDS) == 0, (folder / "output").read_text()
    assert (folder / "data/postgres/data").stat().st_uid == nobody.pw_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start servers as somebody else")
def test_root_starts_them_as_somebody_else_and_opens_no_folder_for_it(folder: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    with EmbeddedServers.start(private / "data", fast=True) as servers:
        for server in (servers.postgres, servers.valkey):
            assert psutil.Process(server.pid).uids().effective != 0
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert private.stat().st_uid == 0


def test_a_later_start_makes_no_new_database(used: Path) -> None:
    made = (used / "postgres/data/PG_VERSION").stat()
    with EmbeddedServers.start(used):
        assert (used / "postgres/data/PG_VERSION").stat() == made, "the database of the first start is used"
