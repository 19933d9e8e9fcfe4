"""`growth dev`: Postgres, Valkey, api and worker on this machine, with a demo shop; Ctrl-C ends all of it."""

import asyncio
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.text import Text

from growth.demo import DemoShop, put_demo_shop
from growth.embedded import EmbeddedServerError, EmbeddedServers
from growth.embedded.processes import start_process
from growth.embedded.waiting import Waiting, is_taken, listens, taken, why_dead
from growth.plumbing.http.identity import Identity
from growth.plumbing.postgres.migrate import migrate_up
from growth.plumbing.settings import Settings, SettingsError, load_settings
from growth.plumbing.watch.telemetry import configure_logging
from growth.vocabulary import clock

STOP_SECONDS = 30.0
LOOK_SECONDS = 0.2
POLL_SECONDS = 0.05
PROBE_SECONDS = 2.0
MAX_SAID = 300
"""Characters that are shown of an answer."""
MAX_EARLY_DEATHS = 3
"""A process that ends so often before it listened has a fault that a restart does not mend."""
TOKEN_SECONDS = 30 * 24 * 3600

console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


class Secrets(Struct, frozen=True):
    """Of one folder; made at the first start, so that tokens outlive a restart."""

    jwt_secret: str
    shop_secret: str


def run_dev(port: int, data: str) -> int:
    """Run until Ctrl-C or SIGTERM; return the exit code."""
    data_dir = Path(data).resolve()
    stop = Stop()
    configure_logging("warning", json=False)
    try:
        _find_ports_free(port, metrics_port_beside(port), metrics_port_beside(port) + 1)
        _make_folders(data_dir)
        console.print(f"Starting Postgres and Valkey in {data_dir} …")
        with EmbeddedServers.start(data_dir) as servers:
            settings = _settings(servers, data_dir, port)
            asyncio.run(migrate_up(settings.postgres_dsn))
            shop = asyncio.run(put_demo_shop(settings))
            return _run(servers, settings, shop, data_dir, stop)
    except EmbeddedServerError as error:
        told = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        told = f"{error.filename}: {error.strerror}. Next step: remove it, or choose another: growth dev --data DIR"
    console.print(Text.assemble(("growth dev:", "red"), f" {told}"))
    return 1


def metrics_port_beside(port: int) -> int:
    """Return the api's port of metrics; the worker's is the next."""
    return port + 1000 if port < 60_000 else port - 1000  # noqa: PLR2004 - ports end at 65,535


def _make_folders(data_dir: Path) -> None:
    """Make the folder of data and those in it; tell of one that cannot be had."""
    for folder in (data_dir, data_dir / "postgres", data_dir / "valkey"):
        try:
            folder.mkdir(mode=0o777 if folder == data_dir else 0o700, parents=True, exist_ok=True)
        except OSError as error:
            reason = f"{folder} can be no folder: {error.strerror}"
            raise EmbeddedServerError(f"{reason}. Next step: choose another: growth dev --data DIR") from None


def _find_ports_free(*ports: int) -> None:
    for port in ports:
        if is_taken(port):
            raise EmbeddedServerError(f"{taken(port)}. Next step: end that, or choose another: growth dev --port N")


class Stop:
    """Remembers that somebody asked us to end."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked = True


class Process:
    """One of ours, started again when it dies."""

    def __init__(self, name: str, data_dir: Path, port: int, *options: str, ports: Sequence[int]) -> None:
        """`port` is what it listens on when all else is done; `ports` are all of its own."""
        self.name = name
        self._options = options
        self.log = data_dir / f"{name}.log"
        self._data_dir = data_dir
        self._port, self._ports = port, ports
        self._early_deaths = 0
        self._has_listened = False
        self._start()

    @property
    def pid(self) -> int:
        """The process as it runs now."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Say whether it lives."""
        return self._process.poll() is None

    @property
    def listens(self) -> bool:
        """Say whether it has come as far as to listen on its port."""
        self._has_listened = self._has_listened or listens(self.pid, self._port)
        return self._has_listened

    def why_dead(self) -> str:
        """Say why it ended."""
        return why_dead(self.name, self._process.returncode, self.log, self._ports)

    def _start(self) -> None:
        self._has_listened = False
        with self.log.open("ab") as output:
            self._process = start_process(
                [sys.executable, "-m", "growth", self.name, *self._options],
                cwd=self._data_dir,
                output=output.fileno(),
                user=None,
                death_signal=signal.SIGTERM,
            )

    def ensure_running(self) -> bool:
        """Start it again if it died; say so. Raises `EmbeddedServerError` when that does not help."""
        if self.running:
            if self.listens:
                self._early_deaths = 0
            return False
        self._early_deaths += not self._has_listened
        if self._early_deaths >= MAX_EARLY_DEATHS:
            raise EmbeddedServerError(f"{self.name} ends whenever it starts. {self.why_dead()}")
        self._start()
        return True

    def stop(self) -> None:
        """Ask it to end, and wait; kill it if it does not."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _run(servers: EmbeddedServers, settings: Settings, shop: DemoShop, data_dir: Path, stop: Stop) -> int:
    api_ports, worker_port = (settings.port, settings.metrics_port), settings.metrics_port + 1
    processes = [
        Process("serve", data_dir, settings.port, ports=api_ports),
        Process("worker", data_dir, worker_port, "--metrics-port", str(worker_port), ports=[worker_port]),
    ]
    try:
        _await_ready(settings.port, processes, stop)
        facts = _write_facts(servers, settings, shop, data_dir, processes)
        if not stop.asked:
            _tell(settings, shop, data_dir, facts)
        while not stop.asked:
            time.sleep(LOOK_SECONDS)
            died = servers.ensure_running() + [one.name for one in processes if one.ensure_running()]
            if died:
                console.print(f"{' and '.join(died)} died and runs again.", style="yellow")
                _write_facts(servers, settings, shop, data_dir, processes)
        console.print("\nStopping …")
    finally:
        for process in processes:
            process.stop()
        (data_dir / "dev.json").unlink(missing_ok=True)
    return 0


def _settings(servers: EmbeddedServers, data_dir: Path, port: int) -> Settings:
    """Set the environment that our processes inherit."""
    path = data_dir / "secrets.json"
    known = _secrets(path)
    for name in [name for name in os.environ if name.startswith("GROWTH_")]:
        console.print(f"{name} is set, and not used here.", style="yellow")
        del os.environ[name]
    os.environ |= {
        "GROWTH_ENVIRONMENT": "development",
        "GROWTH_HOST": "127.0.0.1",
        "GROWTH_PORT": str(port),
        "GROWTH_METRICS_PORT": str(metrics_port_beside(port)),
        "GROWTH_POSTGRES_DSN": servers.postgres.dsn,
        "GROWTH_REDIS_URL": servers.valkey.url,
        "GROWTH_JWT_SECRET": known.jwt_secret,
        "GROWTH_SHOP_SECRETS": known.shop_secret,
        # Receivers of webhooks that somebody tries out on this machine.
        "GROWTH_WEBHOOK_ALLOWED_HOSTS": "localhost,127.0.0.1",
        "GROWTH_PAYOUT": "sandbox",
    }
    try:
        return load_settings(os.environ)
    except SettingsError:
        # All else is ours.
        raise _damaged(path) from None


def _secrets(path: Path) -> Secrets:
    """Return those in the file, which is made if there is none. Raises `EmbeddedServerError`."""
    if not path.exists():
        made = Secrets(secrets.token_urlsafe(32), "whsec_" + b64encode(os.urandom(32)).decode())
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.encode(made))
    try:
        return msgspec.json.decode(path.read_bytes(), type=Secrets)
    except (OSError, msgspec.DecodeError):
        raise _damaged(path) from None


def _damaged(path: Path) -> EmbeddedServerError:
    return EmbeddedServerError(f"{path} is damaged. Next step: remove it, and new secrets are made")


def _await_ready(port: int, processes: Sequence[Process], stop: Stop) -> None:
    """Wait as long as the processes live. Raises `EmbeddedServerError` with the reason when one has died."""
    waiting = Waiting(" and ".join(process.name for process in processes), last_resort_seconds=math.inf)
    while not stop.asked:
        why = _not_ready(port) if all(process.listens for process in processes) else "starting"
        for process in processes:
            if not process.running:
                raise EmbeddedServerError(process.why_dead())
        if not why:
            return
        waiting.goes_on(why)
        time.sleep(POLL_SECONDS)


def _not_ready(port: int) -> str:
    """Return what `/readyz` says is missing; nothing once it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PROBE_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace")[:MAX_SAID]
    except OSError as error:  # a URLError is one
        return str(error)


def _write_facts(
    servers: EmbeddedServers, settings: Settings, shop: DemoShop, data_dir: Path, processes: list[Process]
) -> dict[str, object]:
    """Write what any client or load tool needs to attach."""
    facts: dict[str, object] = {
        "base_url": f"http://127.0.0.1:{settings.port}",
        "metrics_url": f"http://127.0.0.1:{settings.metrics_port}/metrics",
        "worker_metrics_url": f"http://127.0.0.1:{settings.metrics_port + 1}/metrics",
        "operator_key": shop.operator_key,
        "shop_secret": settings.shop_secrets[0],
        "jwt_secret": settings.jwt_secret,
        "postgres_dsn": settings.postgres_dsn,
        "redis_url": settings.redis_url,
        "pids": {
            "dev": os.getpid(),
            "postgres": servers.postgres.pid,
            "redis": servers.valkey.pid,
            **{process.name: process.pid for process in processes},
        },
    }
    path = data_dir / "dev.json"
    fresh = data_dir / "dev.json.new"
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(facts, indent=2) + "\n")
    fresh.replace(path)
    return facts


def _tell(settings: Settings, shop: DemoShop, data_dir: Path, facts: Mapping[str, object]) -> None:
    assert settings.jwt_secret is not None
    identity = Identity(algorithms=settings.jwt_algorithms, secret=settings.jwt_secret)
    token = identity.sign("alice", now=clock.now(), lifetime_seconds=TOKEN_SECONDS)
    url, sale = facts["base_url"], shop.open_sale_id
    shopper = f"-H 'Authorization: Bearer {token}'"
    claim = "-H 'Content-Type: application/json' -H 'Idempotency-Key: my-first-claim' -d '{\"units\": 1}'"
    operator = f"-H 'Authorization: Bearer {shop.operator_key}'"
    rest = f", its API at {url}/docs, its metrics at {facts['metrics_url']}\n"
    console.print(Text.assemble((f"growth is at {url}", "green"), rest))
    console.print(shop.told())
    console.print(f"alice's token {token}\n")
    console.print("Try:\n")
    # Printed plain, without a colour or a line break inside: they are there to be pasted.
    for line in (
        f"curl -s {url}/v1/flash-sales {shopper}",
        f"curl -s {url}/v1/flash-sales/{sale}/claims {shopper} {claim}",
        f"curl -s {url}/v1/flash-sales/{sale}/claims {shopper}",
        f"curl -s {url}/admin/v1/flash-sales/{sale}/stats {operator}",
    ):
        sys.stdout.write(line + "\n\n")
    console.print(
        f"Logs are in {data_dir}, and dev.json there tells a client or load tool all of this. Ctrl-C ends it."
    )
    sys.stdout.flush()
