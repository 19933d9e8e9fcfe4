"""What is shipped: the service and its tools, neither benches nor pictures."""

import tomllib
from pathlib import Path

from tests.architecture.source import HOUSE, ROOT, Module, imports, modules

WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"][
    "wheel"
]


def shipped() -> list[Path]:
    """The files that the wheel takes: a package, without what is left out by name."""
    left_out = [ROOT / path.lstrip("/") for path in WHEEL["exclude"]]
    files = [path for name in WHEEL["packages"] for path in (ROOT / name).rglob("*") if path.is_file()]
    return [path for path in files if not any(path.is_relative_to(one) for one in left_out)]


def users_of_scripts(modules: tuple[Module, ...]) -> list[str]:
    outside = {"scripts", "tests"}
    return [module.path for module in modules if outside & {name.split(".")[0] for name in imports(module)}]


def test_the_wheel_has_no_bench_and_no_picture() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in shipped()}
    assert "growth/cli.py" in names
    assert "growth/load/spike.py" in names
    assert [name for name in names if "bench" in name or name.endswith((".png", ".jpg"))] == []
    assert all(path.is_relative_to(HOUSE) for path in shipped())


def test_what_is_shipped_needs_no_script_and_no_test() -> None:
    assert users_of_scripts(modules()) == []


def test_a_shipped_module_that_needs_a_script_is_seen() -> None:
    assert users_of_scripts((Module("load/spike.py", "from scripts.bench.kit import play\n"),)) == ["load/spike.py"]
