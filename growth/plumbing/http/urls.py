"""URLs: what stands percent-encoded in one is text, whatever the text; an id with a slash is one piece of a path.

Servers hand over paths that are decoded, in which the slash of an id parts the path like any other. So a path with
such a slash is decoded here once more, with a mark in the slash's place that no id can have; the routes find their way
by that, and handlers get the slash back.
"""

from urllib.parse import parse_qsl, unquote, urlencode

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from growth.vocabulary.ids import composed

_MARK, _NO_MARK = "\x00", "\x01"
_ENCODED_SLASH, _ENCODED_MARK = "%2f", "%00"


class WholePaths:
    """The ASGI middleware around the routes: keeps slashes of ids together, and puts what queries say into NFC."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Spell the URL so that the routes read it as it was meant."""
        if scope["type"] == ScopeType.HTTP:
            raw = scope["raw_path"]
            if _MARK in scope["path"]:
                # Somebody else's mark is no slash; no id has what stands in its place either.
                scope["path"] = scope["path"].replace(_MARK, _NO_MARK)
            elif b"%2" in raw:
                spelled = raw.decode("ascii", "replace")
                marked = spelled.replace("%2F", _ENCODED_MARK).replace(_ENCODED_SLASH, _ENCODED_MARK)
                scope["path"] = unquote(marked)
            query = scope["query_string"]
            if b"%" in query or not query.isascii():
                told = unquote(query.decode("ascii", "replace"))
                if composed(told) != told:
                    pairs = parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True)
                    scope["query_string"] = urlencode([(name, composed(value)) for name, value in pairs]).encode()
        await self._app(scope, receive, send)


def plain_ids(app: ASGIApp) -> ASGIApp:
    """Put between the routes and their handlers: gives the pieces of a path as the text that was meant, in NFC."""

    async def with_plain_ids(scope: Scope, receive: Receive, send: Send) -> None:
        pieces = scope.get("path_params")
        if pieces:
            scope["path_params"] = {name: composed(piece).replace(_MARK, "/") for name, piece in pieces.items()}
        await app(scope, receive, send)

    return with_plain_ids
