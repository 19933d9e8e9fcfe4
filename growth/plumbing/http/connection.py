"""One client's connection, bounded: the server's own protocol waits for ever, and keeps whatever it is sent.

The application is asked once a request is here to its last byte, so who sends half of one takes nothing from anybody.
Until then, and until it is answered, what is kept of it is counted (see `crowd`). What follows the head and is no body
(trailers) is dropped: whatever stands there was seen by nobody who vouches for headers.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

import httptools
from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from growth.plumbing.http.crowd import CROWDED, Crowd

READ_SECONDS = 10.0
"""For a whole request, head and body, from its first byte; and for the first byte of a connection."""
WRITE_SECONDS = 30.0
"""For a client that does not read what it asked for."""
MAX_HEAD_BYTES = 32_768
"""Of the request line and all headers; and of what is no body after them: trailers, extensions of chunks."""
MAX_HEADERS = 128
MAX_BODY_BYTES = 1024 * 1024
"""Of the largest body that any call takes. Of a larger one the application is asked at once, to refuse it."""
MAX_WAITING = 8
"""Requests that wait behind the one that is being answered."""
PIECE_BYTES = 16 * 1024
"""Fed to the parser at once."""
FREE_BYTES = 16 * 1024
"""What a connection may hold of whole requests uncounted: all but hooks and large batches are smaller."""
BEGUN_BYTES = 16 * 1024
"""What a request that is not whole is counted as, beside its bytes: its headers as objects, the parser, a timer."""
UNREAD_BYTES = 8 * 1024
"""Of an answer that the client does not take, before that counts as not reading."""

_cut = Counter("growth_connections_cut_total", "Connections ended because of the client.", ["reason"])

# The server's own warns of each request that is no HTTP: a line for whoever sends a byte.
_log = logging.getLogger("uvicorn.error.connection")
_log.setLevel(logging.ERROR)


class _EnoughError(Exception):
    """Stops the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """Ends connections that are slow, silent or too talkative. Timers are set only for what is not there at once."""

    def __init__(self, *args: Any, crowd: Crowd, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self.group: str | None = None
        self._crowd = crowd
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._rests_since = 0.0
        self._in_request = self._in_head = self._is_counted = self._is_deaf = False
        # What the application is asked, and what it will be asked next: once that is whole.
        self._asked: RequestResponseCycle | None = None
        self._unasked: tuple[RequestResponseCycle, Any] | None = None
        # What came and is not answered; what came since the parser last told of a head's end or of a piece of a body.
        self._bytes = self._idle_bytes = 0

    # --- the connection -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place in the crowd; wait for the first byte, for a while."""
        super().connection_made(transport)
        self.group = self._crowd.group_of(self.client[0]) if self.client else None
        if self._crowd.join(self):
            # The application never waits for a client to read: at most one answer is written beyond this.
            transport.set_write_buffer_limits(high=UNREAD_BYTES)
            self._expect()
        else:
            self._give_up(None, CROWDED)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers, and all that was to come."""
        self._stop_expecting()
        for timer in (self._writing, self._resting):
            if timer is not None:
                timer.cancel()
        self._writing = self._resting = None
        self._crowd.leave(self)
        if self._asked is not None and not self._asked.response_complete:
            # The server tells only the request that came last.
            self._asked.disconnected = True
            self._asked.message_event.set()
        super().connection_lost(exc)
        self._forget()

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its client, so that nobody's answer is lost with it."""
        return self._asked is None

    @property
    def since(self) -> float:
        """Since when, on the loop's clock."""
        return self._rests_since if self._reading is None else self._reading.when() - READ_SECONDS

    def cut(self, reason: str) -> None:
        """End it, for the crowd's sake: whoever has begun a request is told to come back."""
        self.pipeline.clear()
        self._give_up(HTTPStatus.SERVICE_UNAVAILABLE if self._in_request else None, reason)

    # --- what comes ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Feed the parser; wait for the rest of a request that is not whole, for a while from its beginning."""
        if len(data) > PIECE_BYTES:
            for at in range(0, len(data), PIECE_BYTES):
                self.data_received(data[at : at + PIECE_BYTES])
            return
        if self._is_deaf:
            return
        self._idle_bytes += len(data)
        self._bytes += len(data)
        if self._bytes > FREE_BYTES and not self._count():
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        except httptools.HttpParserUpgrade:
            pass  # nothing else is spoken here: the request is answered like any other
        if self._in_request and not self.transport.is_closing():
            if not self._is_deaf:
                self._judge()
        elif self._reading is not None:
            self._stop_expecting()

    def _judge(self) -> None:
        """Wait for the rest of a request, if it is worth it."""
        if self._in_head and (self._idle_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS):
            self._give_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head")
        elif self._idle_bytes > MAX_HEAD_BYTES + PIECE_BYTES:
            self._give_up(HTTPStatus.BAD_REQUEST, "no body")
        elif self._count():
            self._expect()
            self._await_body()

    @property
    def _is_dropping(self) -> bool:
        """Whether what comes is the rest of a body that was refused already."""
        return self._in_request and not self._in_head and getattr(self.cycle, "response_complete", False)

    def on_message_begin(self) -> None:
        """Begin a request."""
        if len(self.pipeline) >= MAX_WAITING:
            self._give_up(None, "pipelined")
            raise _EnoughError
        self._in_request = self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; drop a trailer."""
        if self._in_head:
            # As the server's own, without the cost of calling it for each.
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """End its head."""
        if len(self.headers) > MAX_HEADERS or self._idle_bytes > MAX_HEAD_BYTES + PIECE_BYTES:
            self._give_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head")
            raise _EnoughError
        self._in_head, self._idle_bytes = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._idle_bytes = 0
        if self._unasked is None:
            # It waits behind another, or is too large and refused: the server stops reading when there is much of it.
            super().on_body(body)
            return
        cycle = self._unasked[0]
        cycle.body += body
        if len(cycle.body) > MAX_BODY_BYTES:
            self._ask()

    def on_message_complete(self) -> None:
        """End it: now the application is asked."""
        self._in_request = False
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        if self._unasked is not None and self._writing is None:
            self._ask()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it says so in English
        """Refuse what is no HTTP, unless all was said already."""
        if not self._is_deaf:
            self._give_up(HTTPStatus.BAD_REQUEST, "not HTTP")

    # --- what is asked and answered -----------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Ask the application once the request is whole, and its client has read what it was told before."""
        self._unasked = cycle, app
        if not cycle.more_body and self._writing is None:
            self._ask()

    def _ask(self) -> None:
        assert self._unasked is not None
        self._asked, app = self._unasked
        self._unasked = None
        if self._asked.more_body:
            self._asked.message_event.set()
        super()._start_asgi_task(self._asked, app)

    def _await_body(self) -> None:
        """Call for a body that waits to be called; have one refused at once that is too large by its own word."""
        if self._unasked is None or not self._unasked[0].more_body:
            return
        cycle = self._unasked[0]
        announced = next((value for name, value in cycle.scope["headers"] if name == b"content-length"), b"0")
        if int(announced) > MAX_BODY_BYTES:
            self._ask()
        elif cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_response_complete(self) -> None:
        """Go on with what waits; else rest."""
        self._asked = None
        if not self.pipeline:
            self._bytes = self._idle_bytes if self._in_head else 0
            if self._is_counted:
                self._count()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._expect_reader()
            return
        if self._writing is None:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            self._await_body()
        else:
            self._rest()

    def pause_writing(self) -> None:
        """Wait for the client to read, for a while; meanwhile it can ask for nothing more."""
        self._expect_reader()
        self.flow.pause_reading()
        self._count()

    def resume_writing(self) -> None:
        """Go on."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if self._is_counted:
            self._count()
        self.flow.resume_reading()
        if self._unasked is not None and not self._unasked[0].more_body:
            self._ask()

    # --- the bounds ---------------------------------------------------------------------------------------------------

    def _count(self) -> bool:
        """Tell the crowd what is held here; say whether it may be."""
        if self._is_dropping:
            self._bytes = 0
        unread = 0 if self._writing is None else self.transport.get_write_buffer_size()
        held = self._bytes + unread + (BEGUN_BYTES if self._in_request else 0)
        self._is_counted = held > 0
        if held:
            return self._crowd.hold(self, held)
        self._crowd.release(self)
        return True

    def _expect(self) -> None:
        if self._reading is None:
            self._reading = self.loop.call_later(READ_SECONDS, self._too_slow)

    def _stop_expecting(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _expect_reader(self) -> None:
        """Also of a connection that is to close: it would wait for ever for the client to read the last of it."""
        if self._writing is None and self.transport.get_write_buffer_size():
            self._writing = self.loop.call_later(WRITE_SECONDS, self._abort, "does not read")

    def _rest(self) -> None:
        """Wait for the next request. The timer of the rest before goes on: one for each request would cost as much."""
        self._rests_since = self.loop.time()
        if self._resting is None:
            self._resting = self.loop.call_later(self.timeout_keep_alive, self._end_rest)

    def _end_rest(self) -> None:
        self._resting = None
        if self._asked is not None or self._unasked is not None or self._in_request:
            return
        left = self._rests_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._resting = self.loop.call_later(left, self._end_rest)
        else:
            self.transport.close()
            self._expect_reader()

    def _too_slow(self) -> None:
        self._reading = None
        reason = "silent" if not self._in_request else "slow head" if self._in_head else "slow body"
        self._give_up(HTTPStatus.REQUEST_TIMEOUT, reason)

    def _give_up(self, status: HTTPStatus | None, reason: str) -> None:
        """Listen no more. What was asked for is answered, then it ends; where nothing was, say `status` and end now."""
        self._is_deaf = True
        self._stop_expecting()
        if self.pipeline and self.pipeline[0][0].more_body:
            self.pipeline.popleft()
        if self._asked is not None:
            _cut.labels(reason).inc()
            last = self.pipeline[0][0] if self.pipeline else self._asked
            last.keep_alive = False
            return
        is_answered = self._is_dropping
        self._forget()
        if status is None or is_answered:
            self._abort(reason)
            return
        _cut.labels(reason).inc()
        retry = "retry-after: 1\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
        said = f"HTTP/1.1 {status.value} {status.phrase}\r\n{retry}content-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(said.encode())
        self.transport.close()
        self._expect_reader()

    def _forget(self) -> None:
        """Let go of what was sent: a request knows its connection, and both would stay until the next collection."""
        self.pipeline.clear()
        self.parser = self.cycle = self.headers = self._unasked = None  # type: ignore[assignment]

    def _abort(self, reason: str) -> None:
        self._writing = None
        _cut.labels(reason).inc()
        self.transport.abort()
