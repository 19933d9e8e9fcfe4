"""HTTP: what every edge shares. Bodies, versions, idempotency keys, pages, callers' addresses, CSV."""

import csv
import io
import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Annotated, Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec
from litestar import Request, Response
from litestar.exceptions import InternalServerException
from litestar.handlers import BaseRouteHandler
from litestar.params import PathParameter, QueryParameter
from litestar.types import Scope
from msgspec import Struct

from growth.plumbing.field_errors import WHOLE_BODY, FieldError
from growth.plumbing.strict_json import (
    MAX_DECODERS,
    decode_json,
    decode_with,
    invalid,
    json_bytes,
    mended,
)
from growth.vocabulary.clock import rfc3339
from growth.vocabulary.ids import MAX_FOREIGN_ID_CHARS, USER_ID, USER_ID_PATTERN, UUID_PATTERN
from growth.vocabulary.refusals import Kind, Refusal

T = TypeVar("T")


class Versioned(Protocol):
    """What is edited under a version."""

    @property
    def version(self) -> int:
        """Grows with every edit."""
        ...


V = TypeVar("V", bound=Versioned)

Network: TypeAlias = IPv4Network | IPv6Network
AnyRequest: TypeAlias = Request[Any, Any, Any]

MAX_BODY_BYTES = 64 * 1024
"""The largest body, unless a call says otherwise."""
MAX_PAGE = 100
DEFAULT_PAGE = 20
MAX_CURSOR_CHARACTERS = 4096
"""Room for three ids of the shop's of which each character takes six bytes."""
MAX_FORWARDED_HOPS = 32
"""Proxies in a row that X-Forwarded-For is followed through."""
MAX_ADDRESSES_REMEMBERED = 4096

REPLAYED_HEADER = "Idempotent-Replayed"
"""On an answer that was given before."""

UNSUPPORTED_TYPE = Kind("request.unsupported_type", "The body must be application/json", 415)
TOO_LARGE = Kind("request.too_large", "The body is larger than this call takes", 413)
VERSION_REQUIRED = Kind("request.version_required", "If-Match must name the version that was read", 412)

_JSON_TYPE = re.compile(r'application/json\s*(?:;\s*charset="?utf-8"?\s*)?', re.IGNORECASE)
_ETAG = re.compile(r'"(\d{1,18})"', re.ASCII)
_BASE64 = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_CURSOR_CHARACTERS}}}")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,128}")


# --- bodies ---------------------------------------------------------------------------------------------------------


def require_json(request: AnyRequest, *also: str) -> None:
    """Raise the 415 unless the body is declared as JSON in UTF-8, or as one of the media types in `also`."""
    declared = request.headers.get("content-type", "")
    if not _JSON_TYPE.fullmatch(declared) and declared.partition(";")[0].strip().lower() not in also:
        raise Refusal(UNSUPPORTED_TYPE)


async def raw_body(request: AnyRequest, *, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Read the body as it came. Raises the 413 as soon as it is known to be larger than `max_bytes`."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise Refusal(TOO_LARGE, f"At most {max_bytes} bytes")
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise Refusal(TOO_LARGE, f"At most {max_bytes} bytes")
            chunks.append(chunk)
    except InternalServerException:
        # The caller went away half-way; nobody reads the answer, and nothing is wrong with us.
        raise invalid(FieldError(WHOLE_BODY, "It ends too early")) from None
    return b"".join(chunks)


async def body(request: AnyRequest, type_: type[T], *, max_bytes: int = MAX_BODY_BYTES) -> T:
    """Read and decode the JSON body. Raises `Refusal` 400 (naming the field), 413 or 415."""
    require_json(request)
    return decode_json(await raw_body(request, max_bytes=max_bytes), type_)


class StrictRequest(Request[Any, Any, Any]):
    """Makes `data: JSONBody[T]` as strict as `body`: Litestar alone would take `"1"` for 1 and the last of two keys.

    For `Litestar(request_class=StrictRequest, request_max_body_size=MAX_BODY_BYTES)`. With it the OpenAPI document
    shows the body and no handler can forget the checks.
    """

    async def body(self) -> bytes:
        """Return the body as it came. Raises `Refusal` 400 when the caller went away half-way."""
        try:
            return await super().body()
        except InternalServerException:
            raise invalid(FieldError(WHOLE_BODY, "It ends too early")) from None

    async def json(self) -> Any:
        """Return the body decoded into the type of the handler's `data`. Raises `Refusal` 400 or 415."""
        require_json(self)
        raw = await self.body()
        if _mends_text(self.route_handler):
            raw = mended(raw)
        return decode_with(_decoder_of(self.route_handler), raw)


@lru_cache(MAX_DECODERS)
def _decoder_of(handler: BaseRouteHandler) -> msgspec.json.Decoder[Any]:
    field = handler.parsed_data_field
    assert field is not None
    # `raw` is the annotation whole; from `annotation` Litestar has taken msgspec's limits away.
    return msgspec.json.Decoder(field.raw)


@lru_cache(MAX_DECODERS)
def _mends_text(handler: BaseRouteHandler) -> bool:
    """Say whether the body's type has `mends_text`: what people carry or type may hold halves of characters."""
    field = handler.parsed_data_field
    return field is not None and getattr(field.annotation, "mends_text", False)


class JsonResponse(Response[Any]):
    """For `Litestar(response_class=JsonResponse)`: what handlers return becomes JSON whose times have milliseconds."""

    def render(self, content: Any, media_type: str, enc_hook: Callable[[Any], Any] | None = None) -> bytes:
        """Return the body; bytes and text pass as they are."""
        if media_type != "application/json" or isinstance(content, bytes):
            return super().render(content, media_type, enc_hook) if enc_hook else super().render(content, media_type)
        return json_bytes(content)


# --- paths ----------------------------------------------------------------------------------------------------------

# Litestar drops msgspec's limits from parameters: `FromPath[Uuid]` takes any text. Only its own markers hold.
_END = r"(?!\n)"
"""In Python "$" also matches before a last newline."""

PathUuid = Annotated[str, PathParameter(pattern=UUID_PATTERN + _END, description="An id made by this service.")]
"""`sale_id: PathUuid`, in place of `FromPath[SaleId]`."""
PathUserId = Annotated[
    str,
    PathParameter(min_length=1, max_length=MAX_FOREIGN_ID_CHARS, pattern=USER_ID_PATTERN + _END, description=USER_ID),
]
"""`user_id: PathUserId`, in place of `FromPath[UserId]`."""


# --- headers --------------------------------------------------------------------------------------------------------


def if_match(request: AnyRequest) -> int:
    """Return the version that `If-Match: "<version>"` names. Raises `Refusal` 412 without one, 400 for another form."""
    header = request.headers.get("if-match")
    if header is None:
        raise Refusal(VERSION_REQUIRED)
    match = _ETAG.fullmatch(header.strip())
    if match is None:
        raise invalid(FieldError("If-Match", 'Expected one version in double quotes, like "3"'))
    return int(match[1])


def etag(version: int) -> str:
    """Return the ETag header's value for a version, as `if_match` reads it."""
    return f'"{version}"'


def is_not_modified(request: AnyRequest, etag: str) -> bool:
    """Say whether If-None-Match names `etag` (RFC 9110, section 13.1.2): by weak comparison, and `*` names any."""
    asked = ",".join(request.headers.getall("if-none-match", []))
    named = {one.strip().removeprefix("W/") for one in asked.split(",")}
    return not named.isdisjoint({"*", etag.removeprefix("W/")})


def idempotency_key(request: AnyRequest) -> str | None:
    """Return the Idempotency-Key, if any: 1 to 128 visible ASCII characters, else `Refusal` 400."""
    keys = request.headers.getall("idempotency-key", [])
    if not keys:
        return None
    if len(keys) > 1 or not _VISIBLE_ASCII.fullmatch(keys[0]):
        raise invalid(FieldError("Idempotency-Key", "Expected 1 to 128 visible ASCII characters, once"))
    return keys[0]


# --- pages ----------------------------------------------------------------------------------------------------------

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="How many items, at most.")]
"""`limit: Limit = DEFAULT_PAGE`."""
Cursor = Annotated[
    str | None, QueryParameter(max_length=MAX_CURSOR_CHARACTERS, description="`next_cursor` of the page before.")
]
"""`cursor: Cursor = None`."""


class Page(Struct, Generic[T], frozen=True):
    """One page of a list."""

    items: Sequence[T]
    next_cursor: str | None = None
    """Where the next page starts; nothing on the last one."""


def encode_cursor(*position: object) -> str:
    """Return an opaque cursor for the sort key of a page's last item.

    It is not signed: all a forged one can do is start the caller's own list elsewhere.
    """
    return urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, type_: type[T]) -> T | None:
    """Return the position in `cursor`; `type_` is the tuple that was encoded, `tuple[Instant, Uuid]`.

    Raises `Refusal` 400 for a cursor that this service did not make.
    """
    if cursor is None:
        return None
    try:
        # What is not of the alphabet decodes to nothing, and nothing is no JSON.
        raw = b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_") if _BASE64.fullmatch(cursor) else b""
        return decode_json(raw, type_)
    except (ValueError, Refusal):
        raise invalid(FieldError("cursor", "Not a cursor of this list")) from None


def page_of(items: Sequence[T], limit: int, position: Callable[[T], Sequence[object]]) -> Page[T]:
    """Return the page of `items`, of which the store was asked for `limit + 1`; `position` gives an item's sort key."""
    if len(items) <= limit:
        return Page(items)
    shown = items[:limit]
    return Page(shown, encode_cursor(*position(shown[-1])))


# --- addresses ------------------------------------------------------------------------------------------------------


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address out of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`; IPv4 in IPv6 as IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


@lru_cache(MAX_ADDRESSES_REMEMBERED)
def _hop(text: str, trusted_proxies: tuple[Network, ...]) -> tuple[str, bool]:
    """Return the address in its one spelling (nothing if it is none), and whether it is a trusted proxy."""
    address = parse_address(text)
    if address is None:
        return "", False
    return str(address), any(address in network for network in trusted_proxies)


def client_address(scope: Scope | Mapping[str, Any], trusted_proxies: tuple[Network, ...]) -> str:
    """Return the address of whoever called: the peer, or what trusted proxies say about the one before them.

    X-Forwarded-For is read from the right, through trusted proxies only; the first other address is the caller, and
    what stands left of it is the caller's own claim. An entry that is no address ends the walk at the proxy that
    wrote it. A peer without an address (a Unix socket) counts as a trusted proxy, if any are configured.
    """
    client = scope.get("client")
    peer = str(client[0]) if client else ""
    found, trusted = _hop(peer, trusted_proxies) if peer else ("", True)
    if not trusted or not trusted_proxies:
        return found or peer
    forwarded = ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for")
    for entry in reversed(forwarded.split(",")[-MAX_FORWARDED_HOPS:]):
        address, trusted = _hop(entry[:64], trusted_proxies)
        if not address:
            break
        found = address
        if not trusted:
            break
    return found


def is_proxy(address: str, trusted_proxies: tuple[Network, ...]) -> bool:
    """Say whether an address is a trusted proxy's."""
    return bool(trusted_proxies) and _hop(address, trusted_proxies)[1]


@lru_cache(MAX_ADDRESSES_REMEMBERED)
def address_group(address: str) -> str:
    """Return what limits count an address by: IPv4 as it is, IPv6 by its /64, which one subscriber has whole."""
    if ":" not in address:
        return address
    try:
        return str(IPv6Network((address, 64), strict=False))
    except ValueError:
        return address


@lru_cache(MAX_ADDRESSES_REMEMBERED)
def peer_group(peer: str) -> str:
    """Return what limits count the peer of a connection by, where no proxy is trusted."""
    address = parse_address(peer)
    return peer if address is None else address_group(str(address))


# --- CSV ------------------------------------------------------------------------------------------------------------

CSV_MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
_FORMULA_START = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - spreadsheets take the full-width ones too
_BYTE_ORDER_MARK = "\ufeff"


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a CSV file that a spreadsheet opens as plain data.

    Text that a spreadsheet would run as a formula gets a leading apostrophe. Starts with a byte-order mark: without it
    Excel reads Chinese as gibberish. Numbers stay numbers, times are RFC 3339, nothing is an empty cell.
    """
    return _BYTE_ORDER_MARK.encode() + csv_lines([columns, *rows])


def versioned(campaign: V, status: int = 200, *, replayed: bool = False) -> Response[V]:
    """Return what has a `version` with it as ETag, which PUT asks for in If-Match."""
    headers = {"ETag": etag(campaign.version)}
    if replayed:
        headers[REPLAYED_HEADER] = "true"
    return JsonResponse(campaign, status_code=status, headers=headers)


def created(answer: T, *, replayed: bool) -> Response[T]:
    """Return what a POST has made, or had made already, under the same Idempotency-Key."""
    return JsonResponse(answer, status_code=201, headers={REPLAYED_HEADER: "true"} if replayed else {})


def wants_csv(request: AnyRequest) -> bool:
    """Say whether a list is asked for as a file: `Accept: text/csv`."""
    return request.headers.get("accept", "").partition(",")[0].partition(";")[0].strip() == "text/csv"


def csv_lines(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows of a CSV file, as `csv_bytes` writes them, without its beginning."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    text = value if isinstance(value, str) else json_bytes(value).decode()
    text = text.replace("\x00", "")
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_START) else text
