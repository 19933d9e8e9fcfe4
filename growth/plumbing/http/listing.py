"""Lists: a page; of operators also a file of all of it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Response
from litestar.params import QueryParameter
from litestar.response import Stream
from msgspec import Struct

from growth.plumbing.field_errors import FieldError, field_error
from growth.plumbing.http.answers import (
    CSV_MEDIA_TYPE,
    DEFAULT_PAGE,
    AnyRequest,
    Cursor,
    JsonResponse,
    Limit,
    Page,
    csv_bytes,
    csv_lines,
    decode_cursor,
    page_of,
    wants_csv,
)
from growth.plumbing.strict_json import Instant, invalid
from growth.vocabulary.ids import Uuid

T = TypeVar("T")

# Text, for of a `datetime` in a query any number would do: so many seconds after 1970.
Since = Annotated[
    str | None, QueryParameter(format="date-time", description="At this instant or later, RFC 3339 with a zone.")
]
Until = Annotated[str | None, QueryParameter(format="date-time", description="Before this instant.")]

CSV_ROWS_AT_ONCE = 1_000
"""Read, and held in memory, while a file is written."""


def instant_of(name: str, text: str | None) -> datetime | None:
    """Return, in UTC, the instant that the parameter `name` gives. Raises `Refusal` (400) if it is none."""
    if text is None:
        return None
    try:
        return msgspec.convert(text, Instant).astimezone(UTC)
    except msgspec.ValidationError as error:
        raise invalid(field_error(error, prefix=name)) from None
    except OverflowError:
        raise invalid(FieldError(name, "Beyond the times that can be told in every zone")) from None


class Listing(Struct, frozen=True):
    """What a caller asked of a list: the dependency `listing`, so that its call has the parameters of every list."""

    request: AnyRequest
    cursor: str | None
    limit: int

    async def paged(
        self,
        name: str,
        read: Callable[[Any, int], Awaitable[Sequence[T]]],
        *,
        kind: Any = Uuid,
        show: Callable[[T], Any] | None = None,
    ) -> Page[Any]:
        """Return a page in the order of the field `name`, of the type `kind`; each item as `show` shows it.

        `read` returns up to so many items that come after the one whose field has the value given, None for the first.
        """
        after = decode_cursor(self.cursor, tuple[kind])
        found = await read(None if after is None else after[0], self.limit + 1)
        page = page_of(found, self.limit, lambda one: _position(one, (name,)))
        return page if show is None else Page([show(one) for one in page.items], page.next_cursor)

    async def listed(
        self, row: type[Struct], name: str, read: Callable[[Any, int], Awaitable[Sequence[T]]]
    ) -> Response[Any]:
        """Return the same, of one of our ids, as a page or a file, see `listed_by`."""
        return await listed(self.request, self.cursor, self.limit, row, name, read)


def provide_listing(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Listing:
    """Return what the caller asks of a list: the dependency `listing`."""
    return Listing(request, cursor, limit)


async def listed(
    request: AnyRequest,
    cursor: str | None,
    limit: int,
    row: type[Struct],
    name: str,
    read: Callable[[str | None, int], Awaitable[Sequence[T]]],
) -> Response[Any]:
    """Return a list in the order of one of our ids, the field `name`, see `listed_by`."""

    async def read_after(position: tuple[str] | None, most: int) -> Sequence[T]:
        return await read(None if position is None else position[0], most)

    return await listed_by(request, cursor, limit, row, (name,), tuple[Uuid], read_after)


async def listed_by(
    request: AnyRequest,
    cursor: str | None,
    limit: int,
    row: type[Struct],
    names: Sequence[str],
    kind: Any,
    read: Callable[[Any, int], Awaitable[Sequence[T]]],
) -> Response[Any]:
    """Return a list as a page or, for `Accept: text/csv`, as a file with a column for each field of `row`.

    `read` returns up to so many items that come after the one in which the fields `names` have the values given, a
    tuple of the type `kind`. A file goes on to the end of the list, page by page, with one page in memory; where it
    cannot, the connection breaks, so that nobody takes a part of it for the whole.
    """
    after = decode_cursor(cursor, kind)
    if not wants_csv(request):
        return JsonResponse(page_of(await read(after, limit + 1), limit, lambda one: _position(one, names)))

    async def read_on(last: T) -> Sequence[T]:
        return await read(_position(last, names), CSV_ROWS_AT_ONCE)

    # Before the answer begins: what is refused is refused as ever.
    first = await read(after, CSV_ROWS_AT_ONCE)
    return Stream(_file(first, row.__struct_fields__, read_on), media_type=CSV_MEDIA_TYPE)


async def _file(
    page: Sequence[T], columns: Sequence[str], read_on: Callable[[T], Awaitable[Sequence[T]]]
) -> AsyncIterator[bytes]:
    yield csv_bytes(columns, _rows(page, columns))
    while len(page) == CSV_ROWS_AT_ONCE:
        page = await read_on(page[-1])
        yield csv_lines(_rows(page, columns))


def _position(one: object, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(one, name) for name in names)


def _rows(page: Iterable[object], columns: Sequence[str]) -> Iterator[list[object]]:
    return ([getattr(one, column) for column in columns] for one in page)
