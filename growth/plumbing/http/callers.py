"""Callers, before anybody knows who they are: each request is taken from the share of the address it comes from.

That comes first, so a token, an operator's key or a hook's signature that is refused costs its sender as much as one
that is good. IPv6 counts by /64, which one subscriber has whole; the group stands in the request's state, and nothing
further in counts by anything finer.
"""

import time
from collections.abc import Awaitable
from ipaddress import ip_network

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from growth.plumbing.http.answers import Network, address_group, client_address, is_proxy, peer_group
from growth.plumbing.http.limits import Share
from growth.plumbing.http.overload import PROBES
from growth.plumbing.http.short_cut import answer_refusal

log = structlog.get_logger("callers")

ADDRESS = "address"
"""Where the group stands in `scope["state"]`."""
TELL_SECONDS = 60.0


class Callers:
    """The ASGI middleware. `app` is the rest, `share` what one address may ask of this process.

    A trusted proxy that does not say for whom it asks speaks for everybody, and has no share.
    """

    def __init__(self, app: ASGIApp, *, trusted_proxies: tuple[Network, ...], share: Share) -> None:
        self._app = app
        self._trusted_proxies = trusted_proxies
        self._share = share
        self._told_at = float("-inf")

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Let in, or refuse (429) before anything of it is read. No coroutine of its own: everybody passes here."""
        if scope["type"] == ScopeType.HTTP:
            client = scope["client"]
            if self._trusted_proxies or not client:
                address = client_address(scope, self._trusted_proxies)
                group, is_counted = address_group(address), not is_proxy(address, self._trusted_proxies)
            else:
                group, is_counted = peer_group(client[0]), True
            scope["state"][ADDRESS] = group
            if is_counted and scope["path"] not in PROBES:
                wait = self._share.wait(group)
                if wait:
                    self._tell(group)
                    return answer_refusal(send, scope, self._share.refusal(wait))
        return self._app(scope, receive, send)

    def _tell(self, group: str) -> None:
        """Say now and then that somebody inside is refused: that is a proxy rather than a shopper."""
        now = time.monotonic()
        if now - self._told_at > TELL_SECONDS and group and ip_network(group).is_private:
            self._told_at = now
            log.warning("callers.inside_refused", address=group, hint="A proxy? Name it in GROWTH_TRUSTED_PROXIES")
