"""One client's connection, bounded: the server's own protocol waits for ever, and for a head without an end."""

import asyncio
from http import HTTPStatus
from typing import Any

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

READ_SECONDS = 10.0
"""For a whole request, head and body, from its first byte; and for the first byte of a connection."""
WRITE_SECONDS = 30.0
"""For a client that does not read what it asked for."""
MAX_HEAD_BYTES = 32_768
"""Of the request line and all headers."""

_cut = Counter("growth_connections_cut_total", "Connections ended because of the client.", ["reason"])


class BoundedProtocol(HttpToolsProtocol):
    """Ends connections that are slow, silent or too talkative. Timers are set only for what is not there at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._in_request = False
        self._in_head = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first byte, for a while."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._stop_expecting()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; wait for the rest of a request that is not whole, for a while from its beginning."""
        if self._in_head or not self._in_request:
            self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            self._stop_expecting()
        elif self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head")
        elif self._in_request:
            self._expect()
        else:
            self._stop_expecting()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_request = self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End its head."""
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End it."""
        self._in_request = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for the client to read, for a while."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(WRITE_SECONDS, self._abort)

    def resume_writing(self) -> None:
        """Go on."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        super().resume_writing()

    def _expect(self) -> None:
        if self._reading is None:
            self._reading = self.loop.call_later(READ_SECONDS, self._too_slow)

    def _stop_expecting(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _too_slow(self) -> None:
        self._reading = None
        if self._in_head or not self._in_request:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "silent" if not self._in_request else "slow head")
        else:
            # Somebody may be answering already: whoever reads the body is told that the client is gone.
            _cut.labels("slow body").inc()
            self.transport.abort()

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        _cut.labels(reason).inc()
        self._stop_expecting()
        said = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(said.encode())
        self.transport.close()

    def _abort(self) -> None:
        self._writing = None
        _cut.labels("does not read").inc()
        self.transport.abort()
