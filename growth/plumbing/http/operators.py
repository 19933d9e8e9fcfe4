"""Operators: who may run campaigns, by a key that is shown once and stored hashed.

A key is 256 random bits, so its SHA-256 needs neither salt nor slowness, and is looked up by equality in an index.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import asyncpg
from litestar.connection import ASGIConnection, Request
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Guard
from msgspec import Struct

from growth.plumbing.http.problems import request_id_of
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.watch.audit import Act
from growth.plumbing.work.coalesce import Coalescer
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.refusals import Kind, Refusal

KEY_PREFIX = "gop_"
KEY_BYTES = 32
KEY_LENGTH = len(KEY_PREFIX) + 43
"""The prefix and 32 bytes in base64 without padding."""

MAX_AGE_SECONDS = 5.0
"""How long a revoked key may still work on a process that has just seen it."""
MAX_CACHED_OPERATORS = 1024
MAX_LOOKUPS_IN_ONE_READ = 64
MAX_LOOKUPS_WAITING = 256
"""Whoever tries keys in bulk waits in this queue, on one connection, and not in the pool."""

KEY_MISSING = Kind("auth.key_missing", "An operator key is needed: Authorization: Bearer gop_…", 401)
KEY_INVALID = Kind("auth.key_invalid", "This operator key is unknown or revoked.", 401)
ROLE_TOO_LOW = Kind("auth.role_too_low", "This operator's role may not do that.", 403)
NAME_TAKEN = Kind("operator.name_taken", "An operator has or had this name; names are never used twice.")
NAME_INVALID = Kind("operator.name_invalid", "An operator's name is 1 to 64 of a-z 0-9 _ . @ -", 400)
NOT_FOUND = Kind("operator.not_found", "No live operator has this name.", 404)


class OperatorRow(Struct, frozen=True):
    """An operator as listed; the key itself is nowhere."""

    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None


async def add(tx: Tx, name: str, role: Role, now: datetime) -> str:
    """Make an operator and return the key, which nobody can see again. Raises `Refusal` for a used or bad name."""
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    try:
        added = await tx.fetchval(
            """
            INSERT INTO plumbing.operators (name, key_hash, role, created_at)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (name) DO NOTHING
            RETURNING name
            """,
            name,
            _hash(key),
            int(role),
            now,
        )
    except asyncpg.CheckViolationError as error:
        raise Refusal(NAME_INVALID) from error
    if added is None:
        raise Refusal(NAME_TAKEN, name=name)
    return key


async def revoke(tx: Tx, name: str, now: datetime) -> None:
    """End an operator's key; it stops working everywhere within `MAX_AGE_SECONDS`. Raises `Refusal` if unknown."""
    revoked = await tx.fetchval(
        """
        UPDATE plumbing.operators
        SET revoked_at = greatest($2, created_at)
        WHERE name = $1
          AND revoked_at IS NULL
        RETURNING name
        """,
        name,
        now,
    )
    if revoked is None:
        raise Refusal(NOT_FOUND, name=name)


async def list_operators(reader: Reader) -> list[OperatorRow]:
    """Return all operators there ever were, by name."""
    rows = await reader.fetch(
        """
        SELECT name, role, created_at, revoked_at
        FROM plumbing.operators
        ORDER BY name
        """
    )
    return [OperatorRow(row["name"], Role(row["role"]), row["created_at"], row["revoked_at"]) for row in rows]


class Operators:
    """Tells operators by their keys. One per process; rooms find it as `app.state.operators`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[bytes, tuple[float, Operator]] = {}
        self._lookup: Coalescer[bytes, Operator | None] = Coalescer(
            "operators", self._read, max_batch=MAX_LOOKUPS_IN_ONE_READ, max_queue=MAX_LOOKUPS_WAITING
        )

    async def of(self, sent: Sequence[str]) -> Operator:
        """Return whose the key in the Authorization headers `sent` is. Raises what `authenticate` does."""
        if len(sent) > 1:
            raise Refusal(KEY_INVALID, "One Authorization header only.")
        scheme, _, key = "".join(sent).partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refusal(KEY_MISSING)
        return await self.authenticate(key.strip())

    async def authenticate(self, key: str) -> Operator:
        """Return whose `key` it is. Raises `Refusal` (401) if it is nobody's, `Unavailable` if that cannot be told."""
        if len(key) != KEY_LENGTH or not key.startswith(KEY_PREFIX) or not key.isascii():
            raise Refusal(KEY_INVALID)
        key_hash = _hash(key)
        seen = self._seen.get(key_hash)
        if seen is not None and time.monotonic() < seen[0]:
            return seen[1]
        asked_at = time.monotonic()
        operator = await self._lookup(key_hash)
        if operator is None:
            self._seen.pop(key_hash, None)
            raise Refusal(KEY_INVALID)
        if len(self._seen) >= MAX_CACHED_OPERATORS:
            self._seen.clear()
        self._seen[key_hash] = (asked_at + MAX_AGE_SECONDS, operator)
        return operator

    async def _read(self, key_hashes: list[bytes]) -> Sequence[Operator | None]:
        rows = await self._database.fetch(
            """
            SELECT key_hash, name, role
            FROM plumbing.operators
            WHERE key_hash = ANY ($1::bytea[])
              AND revoked_at IS NULL
            """,
            key_hashes,
        )
        found = {row["key_hash"]: Operator(row["name"], Role(row["role"])) for row in rows}
        return [found.get(key_hash) for key_hash in key_hashes]


def requires(role: Role) -> Guard:
    """Return a guard that lets operators of `role` or above through, and remembers who it was for the handler.

    Raises `Refusal`: 401 without a good key or with two, 403 below `role`.
    """

    async def guard(connection: ASGIConnection, _handler: BaseRouteHandler) -> None:  # type: ignore[type-arg]
        operators: Operators = connection.app.state.operators
        operator = await operators.of(connection.headers.getall("authorization", []))
        if operator.role < role:
            raise Refusal(ROLE_TOO_LOW, needed=role.name.lower(), role=operator.role.name.lower())
        connection.scope["state"]["operator"] = operator

    return guard


def for_operators(
    method: Callable[..., Any], path: str, name: str, summary: str, role: Role, *, status_code: int = 200, **more: Any
) -> Callable[[Callable[..., Any]], HTTPRouteHandler]:
    """Declare a call of operators: `@for_operators(get, "/teas", "admin_tea_list", "List teas", Role.VIEWER)`.

    `name` is its operationId; `role` the lowest that may ask, see `requires`; `more` is as for `method`.
    """
    made: Callable[[Callable[..., Any]], HTTPRouteHandler] = method(
        path, status_code=status_code, operation_id=name, summary=summary, guards=[requires(role)], **more
    )
    return made


async def provide_operator(request: Request) -> Operator:  # type: ignore[type-arg]
    """Return the operator whom the `requires` guard let through: the dependency `operator`."""
    operator = request.scope["state"].get("operator")
    assert isinstance(operator, Operator), "a handler that takes an operator needs the guard requires(...)"
    return operator


def provide_act(request: Request) -> Act:  # type: ignore[type-arg]
    """Say who does something, and when: the dependency `act`. Why is in bodies: `act.why(reason)`."""
    operator = request.scope["state"].get("operator")
    assert isinstance(operator, Operator), "a handler that takes an act needs the guard requires(...)"
    return act_of(request, operator)


def role_of(request: Request[Any, Any, Any]) -> Role:
    """Return the role of the operator whom the guard let through."""
    operator = request.scope["state"]["operator"]
    assert isinstance(operator, Operator)
    return operator.role


def act_of(request: Request[Any, Any, Any], operator: Operator, reason: str = "") -> Act:
    """Say who does something, when, and why."""
    return Act(operator, clock.now(), request_id_of(request), reason)


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()
