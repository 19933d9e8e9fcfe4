"""`growth dev`: Postgres, Valkey, api and worker on this machine, with a demo shop; Ctrl-C ends all of it."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from growth.demo import DemoShop, put_demo_shop
from growth.embedded import EmbeddedServerError, EmbeddedServers
from growth.embedded.processes import start_process
from growth.plumbing.identity import Identity
from growth.plumbing.migrate import migrate_up
from growth.plumbing.telemetry import configure_logging
from growth.settings import Settings, load_settings
from growth.vocabulary import clock

READY_SECONDS = 20.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.2
PROBE_SECONDS = 2.0
MAX_FAST_DEATHS = 3
"""A process that ends this often within `FAST_DEATH_SECONDS` of its start has a fault that a restart does not mend."""
FAST_DEATH_SECONDS = 10.0
TOKEN_SECONDS = 30 * 24 * 3600

console = Console(highlight=False, soft_wrap=True)


def run_dev(port: int, data: str) -> int:
    """Run until Ctrl-C or SIGTERM; return the exit code."""
    data_dir = Path(data).resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    stop = Stop()
    configure_logging("warning", json=False)
    try:
        console.print(f"Starting Postgres and Valkey in {data_dir} …")
        with EmbeddedServers.start(data_dir) as servers:
            settings = _settings(servers, data_dir, port)
            asyncio.run(migrate_up(settings.postgres_dsn))
            shop = asyncio.run(put_demo_shop(settings))
            return _run(servers, settings, shop, data_dir, stop)
    except EmbeddedServerError as error:
        console.print(f"[red]growth dev:[/red] {error}")
        return 1


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

    def __init__(self, name: str, data_dir: Path, *options: str) -> None:
        self.name = name
        self._options = options
        self.log = data_dir / f"{name}.log"
        self._data_dir = data_dir
        self._fast_deaths = 0
        self._started_at = 0.0
        self._start()

    @property
    def pid(self) -> int:
        """The process as it runs now."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Say whether it lives."""
        return self._process.poll() is None

    def _start(self) -> None:
        self._started_at = time.monotonic()
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
            return False
        fast = time.monotonic() - self._started_at < FAST_DEATH_SECONDS
        self._fast_deaths = self._fast_deaths + 1 if fast else 0
        if self._fast_deaths >= MAX_FAST_DEATHS:
            raise EmbeddedServerError(f"{self.name} ends as soon as it starts; {self.log} says why")
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
    worker_port = settings.metrics_port + 1
    processes = [Process("serve", data_dir), Process("worker", data_dir, "--metrics-port", str(worker_port))]
    try:
        _await_ready(settings.port, processes[0], stop)
        facts = _write_facts(servers, settings, shop, data_dir, processes)
        if not stop.asked:
            _tell(settings, shop, data_dir, facts)
        while not stop.asked:
            time.sleep(LOOK_SECONDS)
            died = servers.ensure_running() + [one.name for one in processes if one.ensure_running()]
            if died:
                console.print(f"[yellow]{' and '.join(died)} died and runs again.[/yellow]")
                _write_facts(servers, settings, shop, data_dir, processes)
        console.print("\nStopping …")
    finally:
        for process in processes:
            process.stop()
        (data_dir / "dev.json").unlink(missing_ok=True)
    return 0


def _settings(servers: EmbeddedServers, data_dir: Path, port: int) -> Settings:
    """Set the environment that our processes inherit."""
    known = _secrets(data_dir / "secrets.json")
    for name in [name for name in os.environ if name.startswith("GROWTH_")]:
        console.print(f"[yellow]{name} is set, and not used here.[/yellow]")
        del os.environ[name]
    os.environ |= {
        "GROWTH_ENVIRONMENT": "development",
        "GROWTH_HOST": "127.0.0.1",
        "GROWTH_PORT": str(port),
        "GROWTH_METRICS_PORT": str(port + 1000 if port < 60_000 else port - 1000),  # noqa: PLR2004 - ports end at 65,535
        "GROWTH_POSTGRES_DSN": servers.postgres.dsn,
        "GROWTH_REDIS_URL": servers.valkey.url,
        "GROWTH_JWT_SECRET": known["jwt_secret"],
        "GROWTH_SHOP_SECRETS": known["shop_secret"],
        # Receivers of webhooks that somebody tries out on this machine.
        "GROWTH_WEBHOOK_ALLOWED_HOSTS": "localhost,127.0.0.1",
        "GROWTH_PAYOUT": "sandbox",
    }
    return load_settings(os.environ)


def _secrets(path: Path) -> Mapping[str, str]:
    """Return this folder's secrets, made at the first start, so that tokens outlive a restart."""
    if not path.exists():
        made = {"jwt_secret": secrets.token_urlsafe(32), "shop_secret": "whsec_" + b64encode(os.urandom(32)).decode()}
        path.touch(mode=0o600)
        path.write_text(json.dumps(made))
    found: dict[str, str] = json.loads(path.read_text())
    return found


def _await_ready(port: int, process: Process, stop: Stop) -> None:
    give_up_at = time.monotonic() + READY_SECONDS
    while not stop.asked:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=PROBE_SECONDS):
                if process.running:
                    return
        except (urllib.error.URLError, OSError):
            pass
        if not process.running or time.monotonic() > give_up_at:
            last = process.log.read_text(errors="replace").splitlines()[-5:]
            raise EmbeddedServerError("the api did not start (is the port taken?):\n  " + "\n  ".join(last))
        time.sleep(0.05)


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
    console.print(f"[green]growth is at {url}[/green], its API at {url}/docs, its metrics at {facts['metrics_url']}\n")
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
