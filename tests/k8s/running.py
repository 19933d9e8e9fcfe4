"""Processes of the service as a cluster starts them: `growth serve`, `growth worker`, an environment, no more."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from growth.embedded.folder import free_port
from growth.embedded.waiting import why_dead
from tests.app import ENVIRONMENT
from tests.patience import PATIENCE_SECONDS, inherited, until

ANSWER_SECONDS = 2.0


class Running:
    """One process, and where it answers."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, metrics_port: int, log: Path) -> None:
        self.process = process
        self.address = f"http://127.0.0.1:{port}"
        self.metrics = f"http://127.0.0.1:{metrics_port}"
        self._log = log

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    async def answers(self, url: str) -> None:
        """Wait until it answers 200 there, as long as it lives."""

        async def is_ok() -> bool:
            assert self.process.poll() is None, why_dead(url, self.process.returncode, self._log)
            return await asyncio.to_thread(_is_ok, url)

        await until(is_ok, f"{url} answers")

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


def _is_ok(url: str) -> bool:
    try:
        with urlopen(url, timeout=ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    *,
    cwd: Path | None = None,
    user: int | None = None,
    environment: Mapping[str, str],
) -> Iterator[Running]:
    """Run `command` on free ports, with `environment` beside the tests' own settings and nothing inherited."""
    port, metrics_port = free_port(), free_port()
    said = ENVIRONMENT | {
        "GROWTH_HOST": "127.0.0.1",
        "GROWTH_PORT": str(port),
        "GROWTH_METRICS_PORT": str(metrics_port),
        **inherited("PATH"),
        **environment,
    }
    log = folder / f"{command[-1]}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=said, stdout=output, stderr=subprocess.STDOUT, user=user, group=user
        )
    try:
        yield Running(process, port, metrics_port, log)
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)
