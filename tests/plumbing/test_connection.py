"""Clients that are slow, silent or too talkative, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from growth.embedded.folder import free_port
from growth.plumbing import connection
from growth.plumbing.connection import MAX_HEAD_BYTES, BoundedProtocol
from growth.serving import Server
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

SHORT_SECONDS = 1.0
HEAD = b"POST / HTTP/1.1\r\nHost: growth\r\n"


class App:
    """Reads the body, answers with as much as it is told to."""

    def __init__(self) -> None:
        self.answer_bytes = 2
        self.gone = 0
        self.answered = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            if not message.get("more_body"):
                break
        body = b"x" * self.answer_bytes
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.answered += 1


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READ_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(connection, "WRITE_SECONDS", SHORT_SECONDS)


@asynccontextmanager
async def serving(app: Any, http: Any) -> AsyncIterator[int]:
    port = free_port()
    server = Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, http=http, ws="none", lifespan="off", log_config=None)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.01)
    yield port
    server.should_exit = server.force_exit = True
    await task


@pytest.fixture
async def port(app: App) -> AsyncIterator[int]:
    async with serving(app, BoundedProtocol) as port:
        yield port


async def told(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def open_to(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def test_who_says_nothing_is_sent_away(port: int) -> None:
    reader, writer = await open_to(port)
    assert (await told(reader)).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_head_that_drips_is_not_waited_for(port: int) -> None:
    reader, writer = await open_to(port)
    answer = asyncio.create_task(told(reader))
    for byte in HEAD + b"a: b\r\n" * 40:
        if answer.done():
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(SHORT_SECONDS / 20)
    assert (await answer).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_body_that_drips_is_not_waited_for_and_whoever_reads_it_is_told(port: int, app: App) -> None:
    reader, writer = await open_to(port)
    writer.write(HEAD + b"content-length: 1000\r\n\r\n")
    answer = asyncio.create_task(told(reader))
    for _ in range(100):
        if answer.done():
            break
        writer.write(b"x")
        await asyncio.sleep(SHORT_SECONDS / 20)
    assert await answer == b""
    assert app.gone == 1
    writer.close()


async def test_a_head_without_an_end_is_refused(port: int) -> None:
    reader, writer = await open_to(port)
    writer.write(HEAD)
    for number in range(MAX_HEAD_BYTES // 64 + 10):
        writer.write(f"x-{number}: {'y' * 64}\r\n".encode())
    assert (await told(reader)).startswith(b"HTTP/1.1 431")
    writer.close()


async def test_who_does_not_read_is_not_written_to_for_ever(port: int, app: App) -> None:
    app.answer_bytes = 50_000_000
    _, writer = await open_to(port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(HEAD + b"content-length: 0\r\n\r\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not app.answered:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    writer.close()


async def test_whole_requests_in_pieces_and_one_after_the_other_are_answered(port: int, app: App) -> None:
    reader, writer = await open_to(port)
    for _ in range(3):
        writer.write(HEAD + b"content-le")
        await asyncio.sleep(SHORT_SECONDS / 10)
        writer.write(b"ngth: 3\r\n\r\na")
        await asyncio.sleep(SHORT_SECONDS / 10)
        writer.write(b"bc")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await reader.readexactly(2)
    # Between two requests the connection may rest for longer than a request may take.
    await asyncio.sleep(2 * SHORT_SECONDS)
    writer.write(HEAD + b"content-length: 0\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert app.answered == 4
    writer.close()


async def test_without_the_bounds_a_silent_client_is_waited_for(app: App) -> None:
    async with serving(app, "httptools") as port:
        reader, writer = await open_to(port)
        writer.write(HEAD)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * SHORT_SECONDS):
                await reader.read()
        writer.close()
