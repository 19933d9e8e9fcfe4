"""What stands in front of the routes needs this: headers in one pass, an answer in two messages, a body given back.

A front is a short cut, never another way: whatever is not exactly of the plain form goes on to the ordinary routes.
"""

from typing import Any

from litestar.types import Receive, Scope, Send

MAX_PLAIN_KEY_BYTES = 128

Headers = list[tuple[bytes, bytes]]


class Asked:
    """The headers that matter to a front, read in one pass."""

    __slots__ = ("content_type", "etag", "key", "keys", "token", "tokens", "types")

    def __init__(self, scope: Scope) -> None:
        self.token = self.key = self.content_type = self.etag = b""
        self.keys = self.tokens = self.types = 0
        for name, value in scope["headers"]:
            if name == b"authorization":
                # Of two neither counts, whatever they are: the routes refuse them.
                self.token = value[7:] if not self.tokens and value[:7] == b"Bearer " else b""
                self.tokens += 1
            elif name == b"idempotency-key":
                self.key = value
                self.keys += 1
            elif name == b"content-type":
                self.content_type = value
                self.types += 1
            elif name == b"if-none-match":
                self.etag = value

    @property
    def is_plain(self) -> bool:
        """Say whether a POST with these headers needs no further look: JSON, a key of letters, digits, dashes."""
        return (
            self.content_type == b"application/json"
            and self.types == 1
            and self.keys <= 1
            and len(self.key) <= MAX_PLAIN_KEY_BYTES
            and (not self.keys or self.key.replace(b"-", b"a").isalnum())
        )


def again(message: Any, receive: Receive) -> Receive:
    """Give back the message that was read, then go on."""
    waiting = [message]

    async def receive_again() -> Any:
        return waiting.pop() if waiting else await receive()

    return receive_again


async def answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send one whole answer."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
