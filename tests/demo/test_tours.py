"""Each tour is walked as it stands: its commands run in a shell beside a demo shop, and it is told what it shows."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from growth.embedded.folder import free_port
from tests.architecture.source import ROOT
from tests.patience import PATIENCE_SECONDS

TOURS = [ROOT / "README.md", *sorted((ROOT / "growth" / "demo" / "tours").glob("*.md"))]
BLOCKS = re.compile(r"```sh\n(?P<commands>.*?)```\n(?:\n```json\n(?P<shown>.*?)```\n)?", re.DOTALL)
OF_THE_README = re.compile(r"## A first tour.*?(?=\n## )", re.DOTALL)
FILES = re.compile(r"```python\n(# (\w+\.py):.*?)```\n", re.DOTALL)
MARK = "=== block "

pytestmark = [pytest.mark.slow, pytest.mark.one_day]


@pytest.fixture(scope="module")
def beside_a_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder like the repository's own, with `growth dev` running in it."""
    folder = tmp_path_factory.mktemp("tours")
    (folder / ".venv").symlink_to(Path(sys.prefix))
    (folder / "growth").symlink_to(ROOT / "growth")
    with (folder / "dev.log").open("wb") as log:
        command = [sys.executable, "-m", "growth", "dev", "--port", str(free_port()), "--data", str(folder / ".growth")]
        dev = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        begin = time.monotonic()
        while not (folder / ".growth" / "dev.json").exists():
            assert dev.poll() is None, (folder / "dev.log").read_text(encoding="utf-8")
            assert time.monotonic() - begin < PATIENCE_SECONDS
            time.sleep(0.1)
        yield folder
    finally:
        dev.send_signal(signal.SIGINT)
        dev.wait()


def not_shown(shown: str, told: str) -> list[str]:
    """The lines of a tour that no line of the answers, in their order, is like; `…` stands for anything."""
    answers, lacking = iter(told.splitlines()), []
    for line in shown.splitlines():
        pattern = re.compile(".*".join(re.escape(part) for part in line.split("…")))
        if not any(pattern.fullmatch(answer) for answer in answers):
            lacking.append(line)
    return lacking


def walk(tour: str, folder: Path) -> list[str]:
    """Run the commands of a tour in one shell, which ends at the first that fails; return what each block answered."""
    for text, name in FILES.findall(tour):
        (folder / name).write_text(text, encoding="utf-8")
    blocks = [block["commands"] for block in BLOCKS.finditer(tour)]
    script = ". growth/demo/tours/shell.sh\nset -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
    script += "".join(f"echo '{MARK}'\n{commands}" for commands in blocks)
    told = folder / "told"
    with told.open("wb") as output:
        ended = subprocess.run(
            ["bash", "-c", script], cwd=folder, stdout=output, stderr=output, timeout=PATIENCE_SECONDS, check=False
        )
    parts = told.read_text(encoding="utf-8").split(f"{MARK}\n")[1:]
    assert ended.returncode == 0, parts[-1]
    return parts


@pytest.mark.parametrize("path", TOURS, ids=lambda path: path.stem)
def test_a_tour_can_be_walked_as_it_stands_and_is_told_what_it_shows(path: Path, beside_a_shop: Path) -> None:
    tour = path.read_text(encoding="utf-8")
    if path.name == "README.md":
        tour = OF_THE_README.findall(tour)[0]
    told = walk(tour, beside_a_shop)
    shown = [block["shown"] or "" for block in BLOCKS.finditer(tour)]
    assert shown
    for lines, answers in zip(shown, told, strict=True):
        assert not_shown(lines, answers) == [], answers


def test_a_line_that_is_not_told_or_not_in_this_order_is_seen() -> None:
    told = '{"state":"held","at":"12:00"} 201\n{"code":"sold_out"} 409\n'
    assert not_shown('{"state":"held",…} 201\n{…"sold_out"} 409', told) == []
    assert not_shown('{"state":"paid",…} 201', told) == ['{"state":"paid",…} 201']
    assert not_shown('{…"sold_out"} 409\n{"state":"held",…} 201', told) == ['{"state":"held",…} 201']


def test_a_tour_ends_at_the_first_command_that_fails_or_uses_what_is_not_set(tmp_path: Path) -> None:
    (tmp_path / "growth").symlink_to(ROOT / "growth")
    for command in ("false", "echo $NOBODY_SET_THIS"):
        with pytest.raises(AssertionError):
            walk(f"```sh\n{command}\n```\n", tmp_path)
