"""A proxy before Postgres that breaks the line where a test wants it broken."""

import asyncio
import contextlib
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""The message by which the service commits."""
CHUNK_BYTES = 65_536


class PostgresProxy:
    """Passes bytes on, until told otherwise."""

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.cut_before_commit = False
        """Cut the line instead of passing COMMIT on: it never happens."""
        self.cut_after_commit = False
        """Pass COMMIT on and cut the line instead of passing its answer back: it has happened."""
        self.cut_behind_commit = False
        """Pass COMMIT and its answer, and then cut the line."""
        self.committed = asyncio.Event()
        """Postgres has answered the COMMIT whose answer was cut."""
        self._may_pass = asyncio.Event()
        self._may_pass.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.thaw()
        await self.cut()
        await self._server.wait_closed()

    @property
    def dsn(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user = self._target.netloc.rpartition("@")[0] or "postgres"
        return f"postgresql://{user}@127.0.0.1:{port}{self._target.path}"

    async def freeze(self) -> None:
        """Hold every byte back in both directions: nobody hears that anything is wrong."""
        self._may_pass.clear()

    def thaw(self) -> None:
        self._may_pass.set()

    async def cut(self) -> None:
        """Cut every line there is."""
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def refuse(self) -> None:
        """Cut every line, and take no new one."""
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = parse_qs(self._target.query)
        if "host" in query:
            path = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
            server_reader, server_writer = await asyncio.open_unix_connection(path)
        else:
            assert self._target.hostname is not None
            server_reader, server_writer = await asyncio.open_connection(
                unquote(self._target.hostname), self._target.port
            )
        line = _Line(self, writer, server_writer)
        self._writers |= {writer, server_writer}
        for pump in (line.forth(reader), line.back(server_reader)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def pass_gate(self) -> None:
        await self._may_pass.wait()


class _Line:
    def __init__(self, proxy: PostgresProxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._at_commit = False

    async def forth(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                await self._proxy.pass_gate()
                if COMMIT in data:
                    if self._proxy.cut_before_commit:
                        break
                    self._at_commit = True
                self._server.write(data)
                await self._server.drain()
        self._end()

    async def back(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                await self._proxy.pass_gate()
                if self._at_commit and self._proxy.cut_after_commit:
                    self._proxy.committed.set()
                    break
                self._client.write(data)
                await self._client.drain()
                if self._at_commit and self._proxy.cut_behind_commit:
                    # Closed, not aborted: what was sent still arrives.
                    self._client.close()
                    await self._client.wait_closed()
                    break
        self._end()

    def _end(self) -> None:
        self._client.transport.abort()
        self._server.transport.abort()
