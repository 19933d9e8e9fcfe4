"""Documents name what exists."""

import re

from tests.architecture.source import ROOT
from tests.conftest import published_tests


def names_of_tests() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE))
    return found


def test_every_test_that_the_table_of_published_failures_names_exists() -> None:
    named = published_tests()
    assert len(named) > 30
    assert sorted(named - names_of_tests()) == []


def test_every_published_failure_has_a_test() -> None:
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.partition("## Published failures")[2].splitlines() if line.startswith("| ")][1:]
    untested = [row for row in rows if "`test_" not in row and "`faults/`" not in row]
    assert untested == []
