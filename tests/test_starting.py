"""Starts: waited for as long as the child lives, aloud, and told why it died."""

import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from growth import dev
from growth.embedded import EmbeddedServerError, EmbeddedValkey, waiting
from growth.embedded.folder import free_port
from growth.embedded.waiting import Waiting, is_taken, listens, taken, why_dead
from tests.patience import PATIENCE_SECONDS, inherited

ROOT = Path(__file__).parents[1]
MINUTE = 60.0


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that a wait looks at its clock, a minute has passed: a machine as slow as can be."""
    passed = iter(range(10_000))
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: next(passed) * MINUTE))


@pytest.fixture
def port() -> Iterator[int]:
    """One that somebody listens on: this process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Child:
    """A process that becomes ready, or dies, when it was looked at so often."""

    name = "serve"

    def __init__(self, *, ready_after: float = math.inf, dies_after: float = math.inf) -> None:
        self._looks = 0
        self._ready_after, self._dies_after = ready_after, dies_after

    @property
    def listens(self) -> bool:
        self._looks += 1
        return self._looks > self._ready_after

    @property
    def running(self) -> bool:
        return self._looks <= self._dies_after

    def why_dead(self) -> str:
        return "serve ended with 1: port 8000 is taken"


def wait_for(child: Any, stop: Any = SimpleNamespace(asked=False)) -> None:  # noqa: B008 - nobody changes it
    dev._await_ready(1, [child], stop)


@pytest.mark.usefixtures("minutes")
def test_growth_dev_does_not_give_up_on_a_slow_start_and_says_that_it_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "_not_ready", lambda _: "")
    wait_for(Child(ready_after=60))
    told = capsys.readouterr().err.splitlines()
    assert len(told) >= 50, "an hour of waiting, a line a minute"
    assert "Still waiting for serve (60 s): starting" in told


def test_growth_dev_tells_why_a_child_died_and_not_that_it_took_long() -> None:
    with pytest.raises(EmbeddedServerError, match="ended with 1: port 8000 is taken"):
        wait_for(Child(dies_after=2))


def test_growth_dev_ends_its_wait_when_it_is_asked_to() -> None:
    asked = iter([False, False, True])

    class Stop:
        @property
        def asked(self) -> bool:
            return next(asked)

    wait_for(Child(), Stop())


@pytest.mark.parametrize("beside", [0, 1000, 1001])
def test_growth_dev_names_who_has_its_port_before_it_starts_anything(tmp_path: Path, beside: int) -> None:
    """Its own, that of the api's metrics, that of the worker's."""
    own = free_port(beside)
    with socket.create_server(("127.0.0.1", own + beside)):
        told = subprocess.run(
            [sys.executable, "-m", "growth", "dev", "--port", str(own), "--data", str(tmp_path / "data")],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert told.returncode == 1
    assert f"port {own + beside} is taken by" in told.stdout
    assert f"(pid {os.getpid()}). Next step:" in told.stdout
    assert not (tmp_path / "data/postgres").exists()


@pytest.mark.parametrize("inside", ["", "beyond", "postgres", "valkey"])
def test_growth_dev_tells_of_a_folder_that_it_cannot_have_without_a_stack(tmp_path: Path, inside: str) -> None:
    file = tmp_path / ("valkey" if inside == "valkey" else "postgres")
    file.touch()
    with pytest.raises(EmbeddedServerError, match=f"{file}.* can be no folder: .* Next step"):
        dev._make_folders(file / inside if inside in ("", "beyond") else tmp_path)


def test_growth_dev_tells_of_damaged_secrets_without_a_stack(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text("{")
    with pytest.raises(EmbeddedServerError, match=f"{secrets} is damaged. Next step"):
        dev._secrets(secrets)


def test_a_stranger_on_the_port_is_not_taken_for_the_child(port: int) -> None:
    assert listens(os.getpid(), port)
    assert not listens(os.getppid(), port)


def test_a_free_port_is_not_said_to_be_taken(port: int) -> None:
    assert is_taken(port)
    assert taken(port).endswith(f"(pid {os.getpid()})")
    assert not is_taken(free_port())


def test_why_a_process_died_is_its_code_its_port_and_the_end_of_its_log(tmp_path: Path, port: int) -> None:
    log = tmp_path / "log"
    log.write_text("begins\n" + "\n".join(f"line {n}" for n in range(50)) + "\nOSError: no room\n")
    told = why_dead("serve", 3, log, [port, free_port()])
    assert told.startswith(f"serve ended with 3: port {port} is taken by ")
    assert told.endswith("OSError: no room")
    assert "begins" not in told
    assert why_dead("serve", -9, tmp_path / "none") == "serve ended by signal 9. It said nothing."


@pytest.mark.usefixtures("minutes")
def test_a_server_that_starts_slowly_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ready, looks = EmbeddedValkey._ready, iter(range(10_000))
    monkeypatch.setattr(EmbeddedValkey, "_ready", lambda self, pid: next(looks) > 5 and ready(self, pid))
    monkeypatch.setattr(waiting, "LAST_RESORT_SECONDS", math.inf)
    with EmbeddedValkey.start(tmp_path, fast=True) as server:
        assert server.running
    assert "Still waiting for Valkey to start (300 s)" in capsys.readouterr().err


@pytest.mark.usefixtures("minutes")
def test_the_last_resort_tells_for_what_and_what_was_heard_last() -> None:
    wait = Waiting("the moon", last_resort_seconds=3 * MINUTE)
    for _ in range(3):
        wait.goes_on("it is night")
    with pytest.raises(EmbeddedServerError, match="waited 240 s in vain for the moon: it is day"):
        wait.goes_on("it is day")


def test_what_is_inherited_is_named_and_the_calendar_comes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOCK_OFFSET", raising=False)
    monkeypatch.setenv("LD_PRELOAD", "other.so")
    assert inherited("HOME", "NONE") == {"HOME": os.environ["HOME"]}
    monkeypatch.setenv("CLOCK_OFFSET", "60")
    assert inherited("HOME").keys() == {"HOME", "LD_PRELOAD", "CLOCK_OFFSET"}
