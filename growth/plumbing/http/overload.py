"""Overload: what is more than the process can do is refused at once and cheaply, not answered late and in vain."""

import itertools

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from prometheus_client import Counter, Gauge

from growth.plumbing.http.problems import MEDIA_TYPE, problem_bytes
from growth.plumbing.http.short_cut import answer
from growth.vocabulary.refusals import Kind

PROBES = frozenset({"/livez", "/readyz"})
"""Who asks these decides whether there is a process at all."""
RETRY_AFTER_SECONDS = (1, 2, 3)
"""In turn: a crowd that is sent away together should not come back together."""

OVERLOADED = Kind("request.overloaded", "The service has more to do than it can. Try again in a moment.", 503)

_under_way = Gauge(
    "growth_requests_under_way", "Requests that wait for their answer, beside those that are never shed."
)
_shed = Counter("growth_requests_shed_total", "Requests refused because too many were under way.")


class Shed:
    """The ASGI middleware in front of whatever may wait. `app` is the rest.

    A request that would be one too many under way is answered 503 with Retry-After before anything of it is read. So
    those that are let in are answered in time, however many there are: goodput stays, where a queue would end it.
    """

    def __init__(self, app: ASGIApp, *, max_under_way: int) -> None:
        self._app = app
        self._max_under_way = max_under_way
        self._count = 0
        self._waits = itertools.cycle(RETRY_AFTER_SECONDS)
        _under_way.set_function(lambda: self._count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, or refuse."""
        if scope["type"] != ScopeType.HTTP or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if self._count >= self._max_under_way:
            _shed.inc()
            body = problem_bytes(OVERLOADED, OVERLOADED.title, scope["state"].get("request_id", ""))
            headers = [(b"content-type", MEDIA_TYPE.encode()), (b"retry-after", b"%d" % next(self._waits))]
            await answer(send, OVERLOADED.status, headers, body)
            return
        self._count += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._count -= 1
