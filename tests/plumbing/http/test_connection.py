"""Clients that are slow, silent or too talkative, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import uvicorn

from growth.embedded.folder import free_port
from growth.plumbing.http import connection
from growth.plumbing.http.connection import MAX_BODY_BYTES, MAX_HEAD_BYTES, MAX_HEADERS, MAX_WAITING, BoundedProtocol
from growth.plumbing.http.crowd import Crowd
from growth.serving import ApiServer
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

SHORT_SECONDS = 1.0
HEAD = b"POST / HTTP/1.1\r\nHost: growth\r\n"


class App:
    """Reads the body, answers with as much as it is told to, when it may."""

    def __init__(self) -> None:
        self.answer_bytes = 2
        self.asked = 0
        self.gone = 0
        self.answered = 0
        self.bodies: list[bytes] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.refuses_at: int | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        self.asked += 1
        self.headers.append(scope["headers"])
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            body += message["body"]
            if not message.get("more_body") or (self.refuses_at is not None and len(body) >= self.refuses_at):
                break
        self.bodies.append(body)
        await self.may_answer.wait()
        said = b"x" * self.answer_bytes
        headers = [(b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})
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
    server = ApiServer(
        uvicorn.Config(app, host="127.0.0.1", port=port, http=http, ws="none", lifespan="off", log_config=None)
    )
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.01)
    yield port
    server.should_exit = server.force_exit = True
    await task


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


@pytest.fixture
async def port(app: App, crowd: Crowd) -> AsyncIterator[int]:
    async with serving(app, partial(BoundedProtocol, crowd=crowd)) as port:
        yield port
    assert (len(crowd), crowd.held_bytes) == (0, 0), "who has left holds nothing"


async def until(is_so: Any) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def told(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def head_from(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await reader.readuntil(b"\r\n\r\n")


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
    # The last byte may have crossed with the answer, and then nothing is left of it.
    assert (await answer)[:12] in (b"HTTP/1.1 408", b"")
    writer.close()


async def test_a_body_that_drips_is_not_waited_for_and_nobody_is_asked_for_it(port: int, app: App) -> None:
    reader, writer = await open_to(port)
    writer.write(HEAD + b"content-length: 1000\r\n\r\n")
    answer = asyncio.create_task(told(reader))
    for _ in range(100):
        if answer.done():
            break
        writer.write(b"x")
        await asyncio.sleep(SHORT_SECONDS / 20)
    # The last byte may have crossed with the answer, and then nothing is left of it.
    assert (await answer)[:12] in (b"HTTP/1.1 408", b"")
    assert app.asked == 0
    writer.close()


async def test_a_head_without_an_end_is_refused(port: int) -> None:
    reader, writer = await open_to(port)
    writer.write(HEAD)
    for number in range(MAX_HEAD_BYTES // 64 + 10):
        writer.write(f"x-{number}: {'y' * 64}\r\n".encode())
    assert (await told(reader)).startswith(b"HTTP/1.1 431")
    writer.close()


async def test_who_does_not_read_is_not_written_to_for_ever_and_nobody_waits_for_them(
    port: int, app: App, crowd: Crowd
) -> None:
    app.answer_bytes = 50_000_000
    _, writer = await open_to(port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(HEAD + b"content-length: 0\r\n\r\n")
    await until(lambda: app.answered)
    await until(lambda: len(crowd) == 0)
    writer.close()


async def test_who_does_not_read_the_last_of_a_connection_is_not_waited_for_either(
    port: int, app: App, crowd: Crowd
) -> None:
    app.answer_bytes = 50_000_000
    _, writer = await open_to(port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(HEAD + b"content-length: 0\r\nconnection: close\r\n\r\n")
    await until(lambda: app.answered)
    await until(lambda: len(crowd) == 0)
    writer.close()


async def test_whole_requests_in_pieces_and_one_after_the_other_are_answered(port: int, app: App) -> None:
    reader, writer = await open_to(port)
    for _ in range(3):
        writer.write(HEAD + b"content-le")
        await asyncio.sleep(SHORT_SECONDS / 10)
        writer.write(b"ngth: 3\r\n\r\na")
        await asyncio.sleep(SHORT_SECONDS / 10)
        writer.write(b"bc")
        assert (await head_from(reader)).startswith(b"HTTP/1.1 200")
        await reader.readexactly(2)
    # Between two requests the connection may rest for longer than a request may take.
    await asyncio.sleep(2 * SHORT_SECONDS)
    writer.write(HEAD + b"content-length: 0\r\n\r\n")
    assert (await head_from(reader)).startswith(b"HTTP/1.1 200")
    assert app.answered == 4
    writer.close()


async def test_the_application_is_asked_at_the_last_byte_and_not_before(port: int, app: App) -> None:
    reader, writer = await open_to(port)
    writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await asyncio.sleep(SHORT_SECONDS / 3)
    assert app.asked == 0
    writer.write(b"2\r\nde\r\n0\r\n\r\n")
    assert (await head_from(reader)).startswith(b"HTTP/1.1 200")
    assert (app.asked, app.bodies) == (1, [b"abcde"])
    writer.close()


async def test_a_large_body_in_many_pieces_comes_whole(port: int, app: App) -> None:
    body = bytes(range(256)) * (MAX_BODY_BYTES // 256)
    reader, writer = await open_to(port)
    writer.write(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert (await head_from(reader)).startswith(b"HTTP/1.1 200")
    assert app.bodies == [body]
    writer.close()


@pytest.mark.parametrize("sized", [True, False], ids=["by its word", "in chunks"])
async def test_of_a_body_that_is_too_large_the_application_is_asked_at_once(
    port: int, app: App, *, sized: bool
) -> None:
    reader, writer = await open_to(port)
    app.refuses_at = 0
    size = MAX_BODY_BYTES + 1
    if sized:
        writer.write(HEAD + b"content-length: %d\r\n\r\nabc" % size)
    else:
        app.refuses_at = size
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % size + b"x" * size)
    assert (await head_from(reader)).startswith(b"HTTP/1.1 200")
    assert app.asked == 1
    writer.close()


async def test_a_body_that_waits_to_be_called_is_called(port: int, app: App) -> None:
    reader, writer = await open_to(port)
    writer.write(HEAD + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    assert (await head_from(reader)).startswith(b"HTTP/1.1 100")
    assert app.asked == 0
    writer.write(b"abc")
    assert (await head_from(reader)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_what_follows_the_body_is_no_header(port: int, app: App) -> None:
    reader, writer = await open_to(port)
    trailers = b"X-Forwarded-For: 1.2.3.4\r\nAuthorization: Bearer x\r\nIdempotency-Key: k\r\nContent-Type: a/b\r\n"
    for body in (b"0\r\n", b"3\r\nabc\r\n0\r\n"):
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n" + body + trailers + b"\r\n")
        await head_from(reader)
        await reader.readexactly(2)
    assert [[name for name, _ in headers] for headers in app.headers] == [[b"host", b"transfer-encoding"]] * 2
    writer.close()


@pytest.mark.parametrize(
    "rest",
    [b"0\r\n" + b"x-trailer: y\r\n" * 8_000, b"0\r\nx: " + b"y" * 200_000, b"1;" + b"e=f;" * 50_000],
    ids=["trailers", "one trailer", "an extension"],
)
async def test_what_is_no_body_has_an_end(port: int, app: App, rest: bytes) -> None:
    reader, writer = await open_to(port)
    writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n" + rest)
    assert (await told(reader))[:12] in (b"HTTP/1.1 400", b"")
    assert app.asked == 0
    writer.close()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
async def test_no_more_than_a_few_requests_wait_behind_one(port: int, app: App, method: bytes) -> None:
    app.may_answer.clear()
    app.answer_bytes = 0
    reader, writer = await open_to(port)
    more = b"content-length: 3\r\n\r\nabc" if method == b"POST" else b"\r\n"
    with suppress(ConnectionError):
        writer.write((method + b" / HTTP/1.1\r\nHost: growth\r\n" + more) * 5_000)
        await writer.drain()
    await until(lambda: app.asked)
    app.may_answer.set()
    answers = await told(reader)
    # Those that were taken in are answered, in turn, and the last says that it is the last.
    assert answers.count(b"HTTP/1.1 200") == app.asked == 1 + MAX_WAITING
    assert answers.count(b"connection: close") == 1
    writer.close()


async def test_a_few_requests_at_once_are_answered_in_turn(port: int, app: App) -> None:
    reader, writer = await open_to(port)
    writer.write((HEAD + b"content-length: 3\r\n\r\nabc") * 5)
    for _ in range(5):
        assert (await head_from(reader)).startswith(b"HTTP/1.1 200")
        await reader.readexactly(2)
    assert app.bodies == [b"abc"] * 5
    writer.close()


async def test_who_hangs_up_while_more_waits_is_not_written_to() -> None:
    """The one that is being answered was not told, and wrote to nobody: two stacks in the log, from anybody."""
    told_of: list[str] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while "http.disconnect" not in told_of:
            told_of.append((await receive())["type"])

    async with serving(app, partial(BoundedProtocol, crowd=Crowd())) as port:
        _, writer = await open_to(port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n" * 3)
        await until(lambda: told_of)
        writer.transport.abort()
        await until(lambda: len(told_of) > 1)
    assert told_of == ["http.request", "http.disconnect"]


async def test_a_request_that_drips_behind_another_takes_nothing_from_its_answer(port: int, app: App) -> None:
    app.may_answer.clear()
    reader, writer = await open_to(port)
    writer.write(HEAD + b"content-length: 0\r\n\r\n" + HEAD)
    await asyncio.sleep(2 * SHORT_SECONDS)
    app.may_answer.set()
    assert (await told(reader)).startswith(b"HTTP/1.1 200")
    assert app.answered == 1
    writer.close()


@pytest.mark.parametrize("ended", [True, False])
async def test_a_head_of_too_many_headers_is_refused(port: int, app: App, *, ended: bool) -> None:
    reader, writer = await open_to(port)
    writer.write(HEAD + b"a:b\r\n" * (MAX_HEADERS + 1) + (b"\r\n" if ended else b""))
    assert (await told(reader)).startswith(b"HTTP/1.1 431")
    assert app.asked == 0
    writer.close()


async def test_a_head_that_is_too_large_is_refused_though_it_ends(port: int, app: App) -> None:
    reader, writer = await open_to(port)
    writer.write(HEAD + b"a: " + b"b" * 3 * MAX_HEAD_BYTES + b"\r\n\r\n")
    assert (await told(reader)).startswith(b"HTTP/1.1 431")
    assert app.asked == 0
    writer.close()


async def test_what_is_no_http_takes_nothing_from_the_answer_before_it(port: int, app: App) -> None:
    reader, writer = await open_to(port)
    writer.write(HEAD + b"content-length: 0\r\n\r\n\x16\x03\x01 nonsense\r\n\r\n")
    answers = await told(reader)
    assert answers.startswith(b"HTTP/1.1 200")
    assert answers.count(b"HTTP/1.1") == 1
    assert app.answered == 1
    writer.close()
    reader, writer = await open_to(port)
    writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert (await told(reader)).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_who_wants_to_speak_otherwise_is_answered_all_the_same(port: int) -> None:
    reader, writer = await open_to(port)
    writer.write(b"GET / HTTP/1.1\r\nHost: growth\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await head_from(reader)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_without_the_bounds_thousands_of_requests_wait_behind_one(app: App) -> None:
    async with serving(app, "httptools") as port:
        reader, writer = await open_to(port)
        writer.write((HEAD + b"content-length: 0\r\n\r\n") * 500)
        for _ in range(500):
            assert (await head_from(reader)).startswith(b"HTTP/1.1 200")
            await reader.readexactly(2)
        writer.close()


async def test_without_the_bounds_the_application_waits_for_every_body(app: App) -> None:
    async with serving(app, "httptools") as port:
        _, writer = await open_to(port)
        writer.write(HEAD + b"content-length: 1000\r\n\r\n")
        await until(lambda: app.asked)
        writer.close()


async def test_without_the_bounds_a_silent_client_is_waited_for(app: App) -> None:
    async with serving(app, "httptools") as port:
        reader, writer = await open_to(port)
        writer.write(HEAD)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3 * SHORT_SECONDS):
                await reader.read()
        writer.close()
