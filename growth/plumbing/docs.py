"""Documentation: the OpenAPI 3.1 document at `/openapi.json`, its reader at `/docs`, both from our own files."""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from litestar import MediaType, Request, Response, Router, get
from litestar.openapi.plugins import OpenAPIRenderPlugin

from growth.plumbing.openapi import complete
from growth.plumbing.wire import json_bytes

PATH = "/"
"""Where Litestar puts its own routes for the document; of those only `DOCUMENT_PATH` stays."""
DOCUMENT_PATH = "/openapi.json"

_reader = (Path(__file__).parent / "docs.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """Return the Content-Security-Policy sources of what stands between `<tag>` and `</tag>`."""
    inline = re.findall(rf"<{tag}>(.*?)</{tag}>", _reader, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in inline)


READER_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class DocumentPlugin(OpenAPIRenderPlugin):
    """Serves the completed document, made when first asked for."""

    def __init__(self) -> None:
        super().__init__(path=DOCUMENT_PATH, media_type=MediaType.JSON)
        self._body: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the document's bytes."""
        if self._body is None:
            self._body = json_bytes(complete(openapi_schema, request.app))
        return self._body

    def receive_router(self, router: Router) -> None:
        """Take away what Litestar added besides: the root, and a page in HTML for every path of one segment."""
        router.routes[:] = [route for route in router.routes if route.path == DOCUMENT_PATH]


def plugins() -> Sequence[OpenAPIRenderPlugin]:
    """For `OpenAPIConfig(render_plugins=...)` of one application."""
    return [DocumentPlugin()]


@get("/docs", media_type=MediaType.HTML, sync_to_thread=False, include_in_schema=False)
def read_docs() -> Response[str]:
    """Return the reader: one page, which reads the document that lies beside it."""
    return Response(_reader, headers=READER_HEADERS)


router = Router(path="/", route_handlers=[read_docs])
