"""Documents name what exists: files, tests, commands."""

import re
from pathlib import Path

from tests.architecture.source import HOUSE, ROOT
from tests.conftest import published_tests

README_LINES = 150


def names_of_tests() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE))
    return found


LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
FILE = re.compile(r"`(?:\./)?((?:[\w.-]+/)*[\w-]+\.(?:py|md|sql|sh|lua|toml)|(?:[\w.-]+/)+)`")
"""A path between back quotes: with a known ending, or a folder."""


def documents() -> list[Path]:
    """Every page of the repository."""
    folders = ("growth", "scripts", "tests", "k8s")
    return [*ROOT.glob("*.md"), *(path for folder in folders for path in sorted((ROOT / folder).rglob("*.md")))]


def dead_links(page: Path, text: str) -> list[str]:
    """What a page links to that is not there."""
    return [link for link in LINK.findall(text) if not (page.parent / link).exists()]


def dead_paths(text: str) -> list[str]:
    """Paths between back quotes that no file or folder of the house ends with."""
    ends = [f"/{path.relative_to(HOUSE).as_posix()}{'/' * path.is_dir()}" for path in HOUSE.rglob("*")]
    return [path for path in FILE.findall(text) if not any(end.endswith(f"/{path}") for end in ends)]


def test_every_link_leads_somewhere() -> None:
    pages = documents()
    assert len(pages) > 20
    dead = {str(page.relative_to(ROOT)): dead_links(page, page.read_text(encoding="utf-8")) for page in pages}
    assert {page: links for page, links in dead.items() if links} == {}


def test_every_path_that_the_page_for_readers_names_is_there() -> None:
    page = HOUSE / "README.md"
    assert dead_paths(page.read_text(encoding="utf-8")) == []


def test_a_link_or_path_to_nowhere_is_seen() -> None:
    page = HOUSE / "README.md"
    assert dead_links(page, "[a](decisions/README.md) [b](nowhere.md) [c](https://example.org/x)") == ["nowhere.md"]
    assert dead_paths("`web.py` `shop/order/` `claim/gate.py` `nowhere.py` `shop/claim/`") == [
        "nowhere.py",
        "shop/claim/",
    ]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_every_test_that_the_table_of_published_failures_names_exists() -> None:
    named = published_tests()
    assert len(named) > 30
    assert sorted(named - names_of_tests()) == []


def test_every_published_failure_has_a_test() -> None:
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.partition("## Published failures")[2].splitlines() if line.startswith("| ")][1:]
    untested = [row for row in rows if "`test_" not in row and "`faults/`" not in row]
    assert untested == []
