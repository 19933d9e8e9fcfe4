import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from growth.load.http_client import Job, LoadConnection, Pool, ServiceEndpoint, answer_bytes

pytestmark = pytest.mark.anyio

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Ear:
    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.failures: asyncio.Queue[str] = asyncio.Queue()
        self.again: asyncio.Queue[LoadConnection] = asyncio.Queue()

    def answered(self, connection: LoadConnection | None, job: Job, status: int, answer: bytes) -> None:  # noqa: ARG002
        self.heard.put_nowait((status, answer))

    def failed(self, job: Job, reason: str) -> None:  # noqa: ARG002
        self.failures.put_nowait(reason)

    def connected(self, connection: LoadConnection) -> None:
        self.again.put_nowait(connection)


@asynccontextmanager
async def talking_to(handler: Handler) -> AsyncIterator[tuple[Pool, Ear]]:
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    ear = Ear()
    pool = Pool(ServiceEndpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), 1, ear)
    await pool.open()
    try:
        yield pool, ear
    finally:
        await pool.close()
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


def saying(*pieces: bytes, then_close: bool = False) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
            if then_close:
                writer.close()
                return

    return handler


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd",),
        (b"HTTP/1.1 200 OK\r\ncontent-", b"length: 4\r\n\r\nab", b"cd"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r", b"\n", b"abcd"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n", b"0\r\n\r\n"),
    ],
)
async def test_an_answer_is_read_in_however_many_pieces_it_comes(pieces: tuple[bytes, ...]) -> None:
    async with talking_to(saying(*pieces)) as (pool, ear):
        connection = pool.free[0]
        for _ in range(2):
            connection.send(Job(0, 0, ASK), 0)
            status, answer = await ear.heard.get()
            assert (status, b"abcd" in answer) == (200, True)


async def test_204_and_304_have_no_body_whatever_their_head_says() -> None:
    async with talking_to(saying(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n")) as (pool, ear):
        pool.free[0].send(Job(0, 0, ASK), 0)
        assert (await ear.heard.get())[0] == 304


async def test_a_lost_connection_is_charged_to_its_request_and_opened_again() -> None:
    async with talking_to(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab", then_close=True)) as (pool, ear):
        pool.free[0].send(Job(0, 0, ASK), 0)
        assert "connection lost" in await ear.failures.get()
        assert isinstance(await ear.again.get(), LoadConnection)
        assert ear.heard.empty()


async def test_a_connection_that_dies_while_free_is_replaced_and_charged_to_nobody() -> None:
    ready = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if ready.is_set():
            await reader.read()
        ready.set()
        writer.close()

    async with talking_to(handler) as (pool, ear):
        await ear.again.get()
        assert ear.failures.empty()
        assert not pool.free


async def test_the_last_answer_of_a_connection_counts_and_the_connection_is_replaced() -> None:
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\n\r\nok"
    async with talking_to(saying(last, then_close=True)) as (pool, ear):
        pool.free[0].send(Job(0, 0, ASK), 0)
        assert (await ear.heard.get())[0] == 200
        await ear.again.get()
        assert ear.failures.empty()


async def test_what_is_not_http_is_an_error_not_an_answer() -> None:
    async with talking_to(saying(b"SSH-2.0-OpenSSH\r\n\r\n")) as (pool, ear):
        pool.free[0].send(Job(0, 0, ASK), 0)
        assert "connection lost" in await ear.failures.get()


async def test_a_request_without_an_answer_fails_after_the_time_out() -> None:
    async with talking_to(saying(b"")) as (pool, ear):
        pool.free[0].send(Job(0, 0, ASK), 100.0)
        pool.sweep(105.0)
        assert ear.failures.empty()
        pool.sweep(110.5)
        assert await ear.failures.get() == "no answer in 10 s"


def test_an_answer_whose_end_cannot_be_told_is_refused() -> None:
    assert answer_bytes(b"HTTP/1.1 200 OK\r\n\r\nwho knows") == -1
