"""Lists of operators: a page, or a file of all of it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from litestar import Response
from litestar.response import Stream
from msgspec import Struct

from growth.plumbing.http import (
    CSV_MEDIA_TYPE,
    AnyRequest,
    JsonResponse,
    csv_bytes,
    csv_lines,
    decode_cursor,
    page_of,
    wants_csv,
)
from growth.vocabulary.ids import Uuid

T = TypeVar("T")

CSV_ROWS_AT_ONCE = 1_000
"""Read, and held in memory, while a file is written."""


async def listed(
    request: AnyRequest,
    cursor: str | None,
    limit: int,
    row: type[Struct],
    name: str,
    read: Callable[[str | None, int], Awaitable[Sequence[T]]],
) -> Response[Any]:
    """Return a list as a page or, for `Accept: text/csv`, as a file with a column for each field of `row`.

    `read` returns up to so many items that come after the one whose id, the field `name`, is given. A file goes on to
    the end of the list, page by page, with one page in memory; where it cannot, the connection breaks, so that nobody
    takes a part of it for the whole.
    """
    position = decode_cursor(cursor, tuple[Uuid])
    after = None if position is None else position[0]
    if not wants_csv(request):
        return JsonResponse(page_of(await read(after, limit + 1), limit, lambda one: (getattr(one, name),)))
    # Before the answer begins: what is refused is refused as ever.
    first = await read(after, CSV_ROWS_AT_ONCE)
    return Stream(_file(first, row.__struct_fields__, name, read), media_type=CSV_MEDIA_TYPE)


async def _file(
    page: Sequence[T], columns: Sequence[str], name: str, read: Callable[[str | None, int], Awaitable[Sequence[T]]]
) -> AsyncIterator[bytes]:
    yield csv_bytes(columns, _rows(page, columns))
    while len(page) == CSV_ROWS_AT_ONCE:
        page = await read(getattr(page[-1], name), CSV_ROWS_AT_ONCE)
        yield csv_lines(_rows(page, columns))


def _rows(page: Iterable[object], columns: Sequence[str]) -> Iterator[list[object]]:
    return ([getattr(one, column) for column in columns] for one in page)
