"""Discretion: what only admins see. Accounts that money goes to, devices and addresses, what is secret in URLs.

Viewers and editors run campaigns; whom the shop pays, and from where people call, is none of it.
"""

import re
from typing import Any

from growth.vocabulary.actors import Role

HIDDEN = "***"

_FIELDS = frozenset({"account", "payee", "device", "device_id", "address", "secret", "secrets"})
_URL_FIELD = "url"
_URL = re.compile(r"(https?://)(?:[^/?#]*@)?([^/?#]*)(.*)", re.DOTALL)


def discreet(value: Any, role: Role) -> Any:
    """Return plain data as an operator of `role` sees it, however deep what is hidden lies."""
    return value if role >= Role.ADMIN else _hidden(value)


def discreet_url(url: str, role: Role) -> str:
    """Return a URL as an operator of `role` sees it: whose it is, and nothing that could be a token."""
    if role >= Role.ADMIN:
        return url
    found = _URL.fullmatch(url)
    if found is None:
        return HIDDEN
    scheme, host, rest = found.groups()
    return f"{scheme}{host}{rest if rest in {'', '/'} else f'/{HIDDEN}'}"


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _field(key, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner) for inner in value]
    return value


def _field(key: str, value: Any) -> Any:
    if key in _FIELDS and value is not None:
        return dict.fromkeys(value, HIDDEN) if isinstance(value, dict) else HIDDEN
    if key == _URL_FIELD and isinstance(value, str):
        return discreet_url(value, Role.VIEWER)
    return _hidden(value)
