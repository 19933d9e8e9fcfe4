"""Receivers of webhooks on this machine, well-behaved and otherwise."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from growth.webhook.delivery.sender import Sender
from tests.patience import PATIENCE_SECONDS

JSON = dict[str, Any]


class Heard(NamedTuple):
    """One request as it came."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> JSON:
        event: JSON = msgspec.json.decode(self.body)
        return event


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Heard], Awaitable[None]]


def answers(status: str = "200 OK", body: bytes = b"", *headers: str) -> Behaviour:
    """Answer so, and keep the connection."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _heard: Heard) -> None:
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return behave


async def hangs(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _heard: Heard) -> None:
    """Take the request and say nothing until the sender goes."""
    await reader.read(1)


class Receiver:
    """Listens on a port of its own, remembers what it heard, and does as `behave` says."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.connections = 0
        self.open = 0
        self.most_at_once = 0
        self.behave: Behaviour = answers()
        self.port = 0
        self._news = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def ids(self) -> list[str]:
        return [heard.headers["webhook-id"] for heard in self.heard]

    async def hears(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._news:
            await self._news.wait_for(lambda: len(self.heard) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")[:-2]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                heard = Heard(first.split(" ")[1], headers, body)
                self.heard.append(heard)
                async with self._news:
                    self._news.notify_all()
                self.open += 1
                self.most_at_once = max(self.most_at_once, self.open)
                try:
                    await self.behave(reader, writer, heard)
                finally:
                    self.open -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(behave: Behaviour | None = None) -> AsyncIterator[Receiver]:
    """A receiver, up for as long as the block runs."""
    receiver = Receiver()
    if behave is not None:
        receiver.behave = behave
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


async def settled(sender: Sender) -> None:
    """Wait until nothing of a sender's is under way."""
    while sender._under_way:
        await asyncio.wait(list(sender._under_way))
