"""What a claim is compared with: the least that the same server, and the same framework, can do with the same request.

Both read the request's body and answer a body of a claim's size. Neither knows who asks, and neither remembers.
"""

import asyncio
import sys
from typing import Annotated

import uvicorn
import uvloop
from litestar import Litestar, post
from litestar.enums import ScopeType
from litestar.params import FromPath, JSONBody
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Meta, Struct

from growth.vocabulary.ids import Uuid

BODY = (
    b'{"claim_id":"00000000-0000-7000-8000-000000000000","sale_id":"00000000-0000-7000-8000-000000000000","sku":"bare",'
    b'"units":1,"price_fen":100,"state":"held","held_until":"2026-11-21T12:30:00.000Z","release_reason":null,'
    b'"server_time":"2026-11-21T12:00:00.000Z"}'
)
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


class BareClaim(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a claim."""

    units: Annotated[int, Meta(ge=1, le=100)] = 1


class Answered(Struct, frozen=True):
    """A body of the same size as a claim's."""

    claim_id: str
    sale_id: str
    sku: str = "bare"
    units: int = 1
    price_fen: int = 100
    state: str = "held"
    held_until: str = "2026-11-21T12:30:00.000Z"
    release_reason: None = None
    server_time: str = "2026-11-21T12:00:00.000Z"


async def bare_asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer everything alike."""
    assert scope["type"] == ScopeType.HTTP
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY, "more_body": False})


@post("/v1/flash-sales/{sale_id:str}/claims")
async def handle(sale_id: FromPath[Uuid], data: JSONBody[BareClaim]) -> Answered:
    """Answer a claim with what was asked for."""
    return Answered(claim_id="00000000-0000-7000-8000-000000000000", sale_id=sale_id, units=data.units)


def bare_litestar() -> Litestar:
    """Return an application with that one handler."""
    return Litestar([handle], openapi_config=None, logging_config=None)


async def serve(app: ASGIApp) -> None:
    """Serve on a port of the system's choice, which is printed; the server is set up as `growth serve` sets it up."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http="httptools",
        loop="none",
        ws="none",
        lifespan="off",
        backlog=4096,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(), name="bare:serve")
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    sys.stdout.write(f"{server.servers[0].sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await serving


def main() -> None:
    """Serve what the first argument names."""
    app = bare_litestar() if sys.argv[1] == "litestar" else bare_asgi
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(app))


if __name__ == "__main__":
    main()
