"""Lists as files: to their end, in pages, and never a part that looks like the whole."""

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar, Request, Response, get
from msgspec import Struct

import growth
from growth.plumbing.http import listing
from growth.vocabulary.refusals import Unavailable

pytestmark = pytest.mark.anyio

OF_THEIR_OWN = {"report", "code"}
"""Reports, which are refused where they would be too long; printed codes, of which a batch is made at once."""


class Row(Struct, frozen=True):
    row_id: str


def test_every_list_that_is_served_as_a_file_is_read_to_its_end() -> None:
    """Each goes through the one way that reads page after page."""
    for path in Path(growth.__file__).parent.rglob("admin.py"):
        text = path.read_text(encoding="utf-8")
        if "csv" in text and not {"listed(", "listed_by("} & set(re.findall(r"\blisted\w*\(", text)):
            assert path.parent.name in OF_THEIR_OWN, f"{path}: has a file of its own making"


async def test_a_file_that_cannot_go_on_breaks_off_and_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "CSV_ROWS_AT_ONCE", 2)
    asked: list[str | None] = []

    async def read(after: str | None, most: int) -> list[Row]:
        asked.append(after)
        if len(asked) == 3:
            raise Unavailable("a test")
        return [Row(f"{len(asked)}-{number}") for number in range(most)]

    @get("/rows")
    async def rows(request: Request[Any, Any, Any]) -> Response[Any]:
        return await listing.listed(request, None, 20, Row, "row_id", read)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/rows",
        "raw_path": b"/rows",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"accept", b"text/csv")],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }
    with contextlib.suppress(Exception):
        await Litestar([rows])(scope, receive, send)  # type: ignore[arg-type]
    bodies = [message for message in sent if message["type"] == "http.response.body"]
    assert b"".join(message["body"] for message in bodies).decode("utf-8-sig").split() == [
        "row_id",
        "1-0",
        "1-1",
        "2-0",
        "2-1",
    ]
    # Without the last message a server cuts the connection: nobody takes it for a whole file.
    assert all(message["more_body"] for message in bodies)
    assert asked == [None, "1-1", "2-1"]
