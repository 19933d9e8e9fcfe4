"""Documentation: the OpenAPI 3.1 document at `/openapi.json`, its reader at `/docs`, both from our own files."""

import asyncio
import re
import threading
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.params import FromQuery, QueryParameter

from growth.plumbing.docs.openapi import complete
from growth.plumbing.docs.parts import Part, part_of
from growth.plumbing.docs.words import translated
from growth.plumbing.strict_json import json_bytes

PATH = "/"
"""Where Litestar would put routes of its own."""

_reader = (Path(__file__).parent / "docs.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """Return the Content-Security-Policy sources of what stands between `<tag>` and `</tag>`."""
    inline = re.findall(rf"<{tag}>(.*?)</{tag}>", _reader, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in inline)


_POLICY = (
    f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Cache-Control": "no-cache", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


class NoPages(OpenAPIRenderPlugin):
    """Takes away what Litestar serves by itself: its own document, and a page in HTML for every path of one segment."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.JSON)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """Serve nothing: no route leads here."""
        raise AssertionError

    def receive_router(self, router: Router) -> None:
        """Take the routes away."""
        router.routes.clear()


def plugins() -> Sequence[OpenAPIRenderPlugin]:
    """For `OpenAPIConfig(render_plugins=...)`."""
    return [NoPages()]


class Document:
    """The document of one application, made when first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._app: Litestar | None = None
        self._whole: dict[str, Any] = {}
        self._bytes: dict[tuple[Part | None, str], bytes] = {}

    def made(self, app: Litestar, part: Part | None, lang: str) -> bytes | None:
        """Return its bytes if they were made before."""
        return self._bytes.get((part, lang)) if self._app is app else None

    def of(self, app: Litestar, part: Part | None = None, lang: str = "en") -> bytes:
        """Return its bytes, or a part's, in a language. Making it takes a second: call this outside the event loop."""
        with self._lock:
            if self._app is not app:
                self._bytes = {}
                self._whole = complete(app.openapi_schema.to_schema(), app)
                self._app = app
            if (part, lang) not in self._bytes:
                asked = self._whole if part is None else part_of(self._whole, part)
                self._bytes[part, lang] = json_bytes(translated(asked, lang))
            return self._bytes[part, lang]


document = Document()

AnyRequest = Request[Any, Any, Any]
PartFilter = Annotated[Part | None, QueryParameter(description="Only what this kind of caller calls.")]


@get("/openapi.json", media_type=MediaType.JSON, include_in_schema=False)
async def read_document(
    request: AnyRequest, part: PartFilter = None, lang: FromQuery[Literal["en", "zh"]] = "en"
) -> Response[bytes]:
    """Return the document, or what one kind of caller needs of it; with its words in Chinese, where they are asked."""
    made = document.made(request.app, part, lang)
    if made is None:
        made = await asyncio.to_thread(document.of, request.app, part, lang)
    return Response(made, headers=HEADERS)


@get("/docs", media_type=MediaType.HTML, sync_to_thread=False, include_in_schema=False)
def read_docs() -> Response[str]:
    """Return the reader: one page, which reads the document that lies beside it."""
    return Response(_reader, headers=HEADERS | {"Content-Security-Policy": _POLICY})


router = Router(path="/", route_handlers=[read_document, read_docs])
