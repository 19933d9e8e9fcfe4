"""What a run did not prove is told at its end, and fails it unless it may stay so by name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.unproven import MAY_STAY, main, note

ROOT = Path(__file__).parents[1]
SKIPPED = "tests/k8s/test_image.py::test_image"

NEVER_RAN = """
import pytest

def test_runs():
    pass

def test_never_ran():
    pytest.skip("there is no such tool")

@pytest.mark.xfail(strict=True)
def test_fails_as_told():
    assert False
"""
SKIPS_ITSELF = 'import pytest; pytest.skip("nothing of it is here", allow_module_level=True)'


def noted(collected: Path, *lines: tuple[str, str]) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("UNPROVEN", str(collected))
        collected.touch()
        for line in lines:
            note(*line)
    return collected


def test_what_is_allowed_by_name_is_told_and_stays_green(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(str(noted(tmp_path / "notes", *[(name, "no\nnetwork") for name in MAY_STAY]))) == 0
    told = capsys.readouterr().out
    assert all(f"NOT PROVEN: {name}: no network" in told and why in told for name, why in MAY_STAY.items())


@pytest.mark.parametrize("name", [SKIPPED, "another instant", "advisories of some packages"])
def test_what_is_not_allowed_fails_the_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(str(noted(tmp_path / "notes", ("advisories", "dark"), (name, "no tool"), (name, "no tool")))) == 1
    assert capsys.readouterr().out.count(f"NOT PROVEN: {name}: no tool") == 1


def test_a_run_that_proved_everything_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(str(noted(tmp_path / "notes"))) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "spread"])
def test_each_skipped_test_is_noted(workers: list[str], tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "README.md").touch()
    (tmp_path / "test_some.py").write_text(NEVER_RAN)
    (tmp_path / "test_file.py").write_text(SKIPS_ITSELF)
    notes = tmp_path / "notes"
    config = str(ROOT / "pyproject.toml")
    command = [sys.executable, "-m", "pytest", "-q", "-c", config, "--rootdir", str(tmp_path), *workers, str(tmp_path)]
    environment = os.environ | {"UNPROVEN": str(notes), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(notes.read_text(encoding="utf-8").splitlines()) == {
        "test_some.py::test_never_ran\tSkipped: there is no such tool",
        "test_file.py\tSkipped: nothing of it is here",
    }


@pytest.mark.parametrize(("name", "code"), [("advisories", 0), ("another instant", 1)])
def test_a_run_of_all_checks_ends_as_its_list_says(name: str, code: int, tmp_path: Path) -> None:
    """The script itself; its checks all pass, and could not look at one thing."""
    looks = f"printf '{name}\\tno tool\\n' >>\"$UNPROVEN\""
    lists = f"exec {sys.executable} {ROOT}/scripts/unproven.py $2"
    (scripts := tmp_path / "scripts").mkdir()
    (programs := tmp_path / ".venv" / "bin").mkdir(parents=True)
    (scripts / "setup.sh").write_text('cd "$(dirname "${BASH_SOURCE[0]}")/.."; setup() { :; }')
    shutil.copy(ROOT / "scripts" / "test", scripts)
    for stub in (scripts / "test-at", *(programs / one for one in ("python", "ruff", "mypy", "lint-imports"))):
        stub.write_text(f"#!/bin/sh\nif [ $1 = scripts/unproven.py ]; then {lists}; fi\n{looks}\n")
        stub.chmod(0o755)
    done = subprocess.run([scripts / "test"], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert f"NOT PROVEN: {name}: no tool" in done.stdout
