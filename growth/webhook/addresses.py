"""Whom we may call: URLs in one plain spelling, and addresses that are the public internet's. No I/O.

A merchant's operator chooses the URL, so it is a stranger's wish to have this service, which sits beside databases and
a cloud's metadata, send requests. The rules permit what is known to be public, rather than forbid what is known to be
private: what IANA's registries (RFC 6890 and its updates) do not give to the public internet is refused.
"""

import re
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from msgspec import Struct
from yarl import URL

from growth.vocabulary.refusals import Kind, Refusal

MAX_URL_CHARACTERS = 1024
HTTPS_PORT = 443
MIN_FREE_PORT = 1024
"""Below it are mail, shells and the like, which a request over HTTP may confuse."""

TARGET_REFUSED = Kind("webhook.target_refused", "This address may not be called", 400)

_URL = re.compile(r"https?://[!#-;=?-\[\]_a-z~]+")
"""Visible ASCII less quotes, backslash, caret, backtick, braces and angle brackets: what no two parsers read alike."""
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}")
_ENDS_IN_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$")
"""What the URL standard, and libc, take for an IPv4 address, however it is written."""

_INSIDE_NAMES = (
    # RFC 6761, 6762, 7686, 8375 and 9476, and what clouds and clusters use for themselves.
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "home.arpa",
    "onion",
    "test",
    "invalid",
    "alt",
)

_NOT_PUBLIC_4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' own, and some clouds' metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # public by its number, a cloud's own host by its meaning
        "169.254.0.0/16",  # link-local: metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")
"""All that is global unicast. Loopback, link-local, unique local, multicast, addresses that stand for IPv4 ones
(mapped, compatible, translated, NAT64's 64:ff9b::/96 and 64:ff9b:1::/48), discard and segment ids lie outside."""
_NOT_PUBLIC_6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address within
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)
"""RFC 5214: the upper half of an interface id that has an IPv4 address in its lower one."""


class AllowedUrl(Struct, frozen=True):
    """A URL that may be tried. Its name may still lead to an address that may not."""

    url: str
    host: str
    """A name, or an address, in lower case and without brackets."""
    port: int
    is_exempt: bool
    """The deployment's own settings vouch for this host: it may be inside, and need not speak TLS."""


def may_call(address: IPv4Address | IPv6Address) -> bool:
    """Say whether an address is the public internet's."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None or address not in _PUBLIC_6:
        return False
    if any(address in network for network in _NOT_PUBLIC_6):
        return False
    return (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP


def may_call_text(address: str) -> bool:
    """Say it of an address as a resolver or a socket writes it; what is no address may not be called."""
    try:
        return may_call(ip_address(address))
    except ValueError:
        return False


def read_target(url: str, exempt_hosts: Collection[str] = ()) -> AllowedUrl:
    """Return what `url` names. Raises `Refusal` 400 for every spelling that is not the plain one, and what it hides.

    `exempt_hosts`: names and addresses, in lower case, that the deployment vouches for.
    """
    if len(url) > MAX_URL_CHARACTERS or not _URL.fullmatch(url):
        raise _refused("Use https://, lower case, and none of the characters that browsers and libraries argue about.")
    try:
        parts = urlsplit(url)
        port = parts.port
        also = URL(url, encoded=True)
        is_one_reading = (also.raw_host, also.explicit_port, also.scheme) == (parts.hostname, port, parts.scheme)
    except ValueError:
        raise _refused("It cannot be read as a URL.") from None
    host = parts.hostname or ""
    if "@" in parts.netloc or parts.fragment or "#" in url:
        raise _refused("Leave out user, password and fragment.")
    if not is_one_reading or parts.netloc != _netloc(host, port):
        raise _refused("Its host has another spelling than the plain one.")
    is_exempt = host in exempt_hosts
    if parts.scheme == "http" and not is_exempt:
        raise _refused("Use https://. Only hosts named in GROWTH_WEBHOOK_ALLOWED_HOSTS may do without.")
    port = port if port is not None else HTTPS_PORT if parts.scheme == "https" else 80
    if not is_exempt:
        _check_host(host)
        if port != HTTPS_PORT and port < MIN_FREE_PORT:
            raise _refused(f"Use port {HTTPS_PORT}, or one from {MIN_FREE_PORT}.")
    return AllowedUrl(url, host, port, is_exempt)


def check_addresses(host: str, addresses: Iterable[str]) -> None:
    """Raise `Refusal` 400 unless a name leads to the public internet alone: one address inside is one too many."""
    found = list(addresses)
    if not found:
        raise _refused(f"No address is known for {host}.")
    if not all(may_call_text(address) for address in found):
        # Which address it is is not told: that would make this a tool for looking around inside.
        raise _refused(f"{host} leads to an address that is not the public internet's.")


def _netloc(host: str, port: int | None) -> str:
    return (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")


def _check_host(host: str) -> None:
    if ":" in host or _is_canonical_4(host):
        if not may_call_text(host):
            raise _refused("It is an address that is not the public internet's.")
        return
    if _ENDS_IN_NUMBER.search(host):
        raise _refused("Write an IPv4 address as four decimal numbers.")
    if not _NAME.fullmatch(host):
        raise _refused("Its host is no full name: letters, digits and hyphens with a dot between, none at the end.")
    if any(host == name or host.endswith(f".{name}") for name in _INSIDE_NAMES):
        raise _refused("Its host is a name that only means something inside.")


def _is_canonical_4(host: str) -> bool:
    try:
        return str(IPv4Address(host)) == host
    except ValueError:
        return False


def _refused(detail: str) -> Refusal:
    return Refusal(TARGET_REFUSED, detail)
