"""Pages for mini-programs and operators have tables that are printed from the OpenAPI document, and are held to it.

`WRITE_PAGES=1 scripts/test tests/test_pages.py` prints them anew.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from growth import tables
from tests.architecture.source import HOUSE

pytestmark = pytest.mark.anyio

JSON = dict[str, Any]

MINI_PROGRAMS, OPERATORS = HOUSE / "demo" / "mini-programs.md", HOUSE / "demo" / "operators.md"
BEGIN, END = "<!-- printed from the OpenAPI document -->\n", "<!-- until here -->"


def calls(document: JSON, prefix: str) -> Iterator[tuple[str, JSON]]:
    for path, operations in document["paths"].items():
        if path.startswith(prefix):
            yield from ((f"{method.upper()} {path}", operation) for method, operation in operations.items())


def codes(document: JSON, operation: JSON) -> dict[str, str]:
    """Code → status, of all that a call may end in besides success."""
    shared = document["components"]["responses"]
    refused = {
        status: shared[answer["$ref"].rpartition("/")[2]]
        for status, answer in operation["responses"].items()
        if "$ref" in answer
    }
    return {
        code: status
        for status, answer in refused.items()
        for part in answer["content"]["application/problem+json"]["schema"]["allOf"]
        for code in part.get("properties", {}).get("code", {}).get("enum", [])
    }


def codes_by_call(document: JSON) -> str:
    """Each call of shoppers, and the codes of its own; those of nearly all calls stand above the table."""
    found = {call: codes(document, operation) for call, operation in calls(document, "/v1/")}
    everywhere = {code for told in found.values() for code in told if sum(code in one for one in found.values()) > 30}
    everywhere |= {code for code in set().union(*found.values()) if code.startswith(("auth.", "request."))}
    common = sorted(everywhere)
    lines = [f"May come of any call: {', '.join(f'`{code}`' for code in common)}.\n", "| call | codes |", "|---|---|"]
    for call, told in found.items():
        own = [
            f"{status} `{code}`"
            for code, status in sorted(told.items(), key=lambda one: (one[1], one[0]))
            if code not in everywhere
        ]
        if own:
            lines.append(f"| `{call}` | {' · '.join(own)} |")
    return "\n".join(lines) + "\n"


def calls_by_role(document: JSON) -> str:
    """Each call of operators by the least role that may make it; what viewers may is all that only reads."""
    by_role: dict[str, list[str]] = {}
    for call, operation in calls(document, "/admin/v1/"):
        by_role.setdefault(operation["x-role"], []).append(call)
    lines = ["| role | calls |", "|---|---|"]
    for role in ("editor", "admin"):
        listed = " · ".join(f"`{call.replace('/admin/v1', '')}`" for call in by_role[role])
        lines.append(f"| {role} | {listed} |")
    rest = [
        call for call in by_role["viewer"] if not call.startswith("GET ") and not call.endswith(("/dry-run", "/check"))
    ]
    assert rest == [], "a viewer only reads"
    return "\n".join(lines) + "\n"


async def test_tables_of_pages_are_what_the_document_says() -> None:
    document: JSON = json.loads(await tables.document(None, "en"))
    assert codes(document, document["paths"]["/v1/flash-sales/{sale_id}"]["get"])["flash_sale.not_found"] == "404"
    for page, printed in ((MINI_PROGRAMS, codes_by_call(document)), (OPERATORS, calls_by_role(document))):
        hold(page, printed)


def hold(page: Path, printed: str) -> None:
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    told, end, after = rest.partition(END)
    assert end, f"{page.name} has no place for its table"
    if os.environ.get("WRITE_PAGES"):
        page.write_text(f"{before}{BEGIN}{printed}{END}{after}", encoding="utf-8")
        told = printed
    assert told == printed, f"{page.name} tells of another document; {__doc__}"


def test_a_table_of_another_document_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WRITE_PAGES", raising=False)
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}| a |\n{END}\n", encoding="utf-8")
    hold(page, "| a |\n")
    with pytest.raises(AssertionError, match="another document"):
        hold(page, "| b |\n")
