"""The crowd of one process' connections, bounded together: how many there are, and what unfinished requests hold.

Nobody has shown who they are yet, so all that can be told apart are addresses. Whoever holds most makes room first, and
of those the one that has waited longest: a request that comes at once never waits, and is never asked.
"""

from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from growth.plumbing.http.answers import MAX_ADDRESSES_REMEMBERED, address_group, parse_address

MAX_CONNECTIONS = 8_192
"""At rest a connection costs 7 KiB."""
MAX_HELD_BYTES = 32 * 1024 * 1024
"""By all connections: what came of requests that are not answered yet, and answers that nobody reads."""
MAX_HELD_BY_ONE_BYTES = 8 * 1024 * 1024
"""By one address, of /64 for IPv6. A trusted proxy has no such share: it speaks for many."""
KEPT_SHARE = 0.9
"""Making room goes on until so much is left, or the next byte would ask for room again."""
LEAVING_SHARE = 0.05
"""Of all connections, when there is no place for one more: looking for who has waited longest is not cheap."""

TOO_MUCH = "holds too much"
CROWDED = "crowded"


class CrowdMember(Protocol):
    """One connection, as the crowd sees it."""

    group: str | None
    """Its address, of IPv6 the /64; None for a trusted proxy and a Unix socket."""

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its client, so that nobody's answer is lost with it."""
        ...

    @property
    def since(self) -> float:
        """Since when, on the loop's clock."""
        ...

    def cut(self, reason: str) -> None:
        """End it."""
        ...


class Crowd:
    """All connections of a process. `trusted_proxies` are the networks whose peers have no share of their own."""

    def __init__(
        self,
        trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = (),
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_held_bytes: int = MAX_HELD_BYTES,
        max_held_by_one_bytes: int = MAX_HELD_BY_ONE_BYTES,
    ) -> None:
        self._trusted_proxies = trusted_proxies
        self._max_connections = max_connections
        self._max_held = max_held_bytes
        self._max_held_by_one = max_held_by_one_bytes
        self._members: dict[CrowdMember, None] = {}
        # In the order in which they began to hold something.
        self._held: dict[CrowdMember, int] = {}
        self._held_by: Counter[str | None] = Counter()
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._members)

    def group_of(self, peer: str) -> str | None:
        """Return what a peer is counted by; None for a trusted proxy."""
        return _group_of(peer, self._trusted_proxies)

    def join(self, member: CrowdMember) -> bool:
        """Take a connection in; if there are too many, others leave for it. False if none can."""
        if len(self._members) >= self._max_connections:
            self._make_place()
        if len(self._members) >= self._max_connections:
            return False
        self._members[member] = None
        return True

    def leave(self, member: CrowdMember) -> None:
        """Forget a connection and what it held."""
        self._members.pop(member, None)
        self.release(member)

    def hold(self, member: CrowdMember, held_bytes: int) -> bool:
        """Note how much a connection holds by now. False if that is too much: then it was cut, or one like it was."""
        more = held_bytes - self._held.get(member, 0)
        self._held[member] = held_bytes
        self._held_by[member.group] += more
        self.held_bytes += more
        if more > 0 and self._is_too_much(member.group):
            self._shrink(member.group)
            if member in self._held and self._is_too_much(member.group):
                # What is left belongs to requests that are being answered.
                self.release(member)
                member.cut(TOO_MUCH)
        return member in self._held

    def release(self, member: CrowdMember) -> None:
        """Note that a connection holds nothing any more."""
        held = self._held.pop(member, 0)
        if held:
            self.held_bytes -= held
            self._held_by[member.group] -= held
            if not self._held_by[member.group]:
                del self._held_by[member.group]

    def _is_too_much(self, group: str | None, share: float = 1.0) -> bool:
        return self.held_bytes > share * self._max_held or (
            group is not None and self._held_by[group] > share * self._max_held_by_one
        )

    def _shrink(self, group: str | None) -> None:
        """Cut who waits for the rest of a request, the longest first, until there is some room.

        Of `group` if it has more than its share; else of the addresses that hold most.
        """
        if group is not None and self._held_by[group] > self._max_held_by_one:
            holders = [one for one in self._held if one.group == group]
        else:
            holders = sorted(self._held, key=lambda one: -self._held_by[one.group])
        for member in holders:
            if not self._is_too_much(group, KEPT_SHARE):
                return
            if member.is_waiting:
                self.release(member)
                member.cut(TOO_MUCH)

    def _make_place(self) -> None:
        """Cut a few of those that wait for their clients: of the addresses with most, who has waited longest."""
        sizes = Counter(member.group for member in self._members)
        sizes[None] = 0
        waiting = sorted(
            (member for member in self._members if member.is_waiting),
            key=lambda member: (-sizes[member.group], member.since),
        )
        for member in waiting[: max(1, int(self._max_connections * LEAVING_SHARE))]:
            self.leave(member)
            member.cut(CROWDED)


@lru_cache(MAX_ADDRESSES_REMEMBERED)
def _group_of(peer: str, trusted_proxies: Collection[IPv4Network | IPv6Network]) -> str | None:
    address = parse_address(peer)
    if address is None or any(address in network for network in trusted_proxies):
        return None
    return address_group(str(address))
