"""A server that says 204 to everything, in a process of its own: what the generator can do when nobody else works.

Prints its port, serves until its stdin ends.
"""

import asyncio
import os
import sys
from typing import cast

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class _Null(asyncio.Protocol):
    """Answers each request head with the same bytes; good enough for requests without a body that come whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._write = cast("asyncio.WriteTransport", transport).write

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - whatever it was
        self._write(ANSWER)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Null, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    await orders.read()


def main() -> None:
    """Serve, on the core named by the first argument if there is one."""
    if len(sys.argv) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[1])})
    try:
        import uvloop  # noqa: PLC0415 - a faster loop if there is one
    except ImportError:
        asyncio.run(_main())
    else:
        uvloop.run(_main())


if __name__ == "__main__":
    main()
