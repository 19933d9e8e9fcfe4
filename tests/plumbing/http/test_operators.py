"""Operators are known by a key that is shown once, and may do what their role allows, until revoked."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar, Response, get
from litestar.di import NamedDependency, Provide

from growth.plumbing.http import operators
from growth.plumbing.http.operators import Operators, add, list_operators, provide_operator, requires, revoke
from growth.plumbing.http.problems import exception_handlers
from growth.plumbing.postgres.database import Database
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.refusals import Refusal, Unavailable
from tests.plumbing.postgres_proxy import PostgresProxy

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


async def made(database: Database, name: str = "ann", role: Role = Role.EDITOR) -> str:
    async with database.transaction() as tx:
        return await add(tx, name, role, NOW)


async def revoked(database: Database, name: str) -> None:
    async with database.transaction() as tx:
        await revoke(tx, name, NOW)


async def test_a_key_tells_who_it_is(database: Database) -> None:
    keys = {name: await made(database, name, role) for name, role in zip("abc", Role, strict=True)}
    known = Operators(database)
    for name, role in zip("abc", Role, strict=True):
        assert await known.authenticate(keys[name]) == Operator(name, role)


async def test_a_key_is_256_random_bits_and_only_its_hash_is_kept(database: Database) -> None:
    keys = [await made(database, f"operator-{number}") for number in range(20)]
    assert all(len(key) == operators.KEY_LENGTH and key.startswith("gop_") for key in keys)
    assert len(set(keys)) == 20
    rows = await database.fetch("SELECT operator::text AS shown, key_hash FROM plumbing.operators AS operator")
    assert {row["key_hash"] for row in rows} == {hashlib.sha256(key.encode()).digest() for key in keys}
    assert not any(key[4:] in row["shown"] for row in rows for key in keys)


@pytest.mark.parametrize("name", ["", "Ann", "a b", "ann\n", "-ann", "a" * 65, "änn", "a;drop"])
async def test_a_bad_name_is_refused(database: Database, name: str) -> None:
    with pytest.raises(Refusal) as raised:
        await made(database, name)
    assert raised.value.kind is operators.NAME_INVALID


async def test_a_name_is_never_used_twice_not_even_after_revoking(database: Database) -> None:
    await made(database)
    for _ in range(2):
        with pytest.raises(Refusal) as raised:
            await made(database)
        assert raised.value.kind is operators.NAME_TAKEN
        if not (await list_operators(database))[0].revoked_at:
            await revoked(database, "ann")


async def test_64_who_want_one_name_get_one_operator(database: Database) -> None:
    results = await asyncio.gather(*(made(database) for _ in range(64)), return_exceptions=True)
    assert sum(isinstance(result, str) for result in results) == 1
    assert sum(isinstance(result, Refusal) for result in results) == 63


async def test_revoking_needs_a_live_operator(database: Database) -> None:
    await made(database)
    await revoked(database, "ann")
    for name in ("ann", "bob"):
        with pytest.raises(Refusal) as raised:
            await revoked(database, name)
        assert raised.value.kind is operators.NOT_FOUND


async def test_all_operators_there_ever_were_are_listed_without_keys(database: Database) -> None:
    await made(database, "bob", Role.ADMIN)
    await made(database, "ann", Role.VIEWER)
    await revoked(database, "bob")
    assert await list_operators(database) == [
        operators.OperatorRow("ann", Role.VIEWER, NOW, None),
        operators.OperatorRow("bob", Role.ADMIN, NOW, NOW),
    ]


@pytest.mark.parametrize(
    "key", ["", "gop_", "x" * 47, "gop_" + "A" * 43, "gop_" + "ü" * 43, "gop_" + "A" * 10_000, "gop_\x00" + "A" * 42]
)
async def test_a_key_of_nobody_is_refused(database: Database, key: str) -> None:
    await made(database)
    with pytest.raises(Refusal) as raised:
        await Operators(database).authenticate(key)
    assert raised.value.kind is operators.KEY_INVALID


async def test_keys_differing_in_any_character_are_of_nobody(database: Database) -> None:
    key = await made(database)
    known = Operators(database)
    wrong = [key[:at] + ("A" if key[at] != "A" else "B") + key[at + 1 :] for at in range(4, len(key))]
    results = await asyncio.gather(*(known.authenticate(one) for one in wrong), return_exceptions=True)
    assert all(isinstance(result, Refusal) for result in results)


class Time:
    """A clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.seconds)


async def test_a_revoked_key_ends_within_five_seconds_everywhere(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await made(database)
    processes = [Operators(database) for _ in range(3)]
    with monkeypatch.context() as patched:
        clock = Time(patched)
        for known in processes:
            await known.authenticate(key)
        await revoked(database, "ann")
        clock.seconds += operators.MAX_AGE_SECONDS
        for known in processes:
            with pytest.raises(Refusal):
                await known.authenticate(key)


async def test_a_known_key_costs_no_read_for_five_seconds(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await made(database)
    known = Operators(database)
    await known.authenticate(key)

    async def never(*_: object) -> None:
        pytest.fail("read again")

    monkeypatch.setattr(database, "fetch", never)
    for _ in range(10):
        await known.authenticate(key)


async def test_many_keys_at_once_are_one_read_and_hold_one_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever guesses keys by the thousand takes no connection from anybody."""
    key = await made(database)
    known = Operators(database)
    reads: list[int] = []
    fetch = database.fetch

    async def counted(query: str, *args: Any) -> Any:
        reads.append(len(args[0]))
        return await fetch(query, *args)

    monkeypatch.setattr(database, "fetch", counted)
    guesses = [f"gop_{number:043}" for number in range(operators.MAX_LOOKUPS_WAITING - 1)]
    results = await asyncio.gather(*(known.authenticate(one) for one in [*guesses, key]), return_exceptions=True)
    assert results[-1] == Operator("ann", Role.EDITOR)
    assert all(isinstance(result, Refusal) for result in results[:-1])
    assert len(reads) == operators.MAX_LOOKUPS_WAITING / operators.MAX_LOOKUPS_IN_ONE_READ
    one_too_many = [f"gop_{number:043}" for number in range(operators.MAX_LOOKUPS_WAITING + 1)]
    results = await asyncio.gather(*(known.authenticate(one) for one in one_too_many), return_exceptions=True)
    assert sum(isinstance(result, Unavailable) for result in results) == 1


async def test_what_is_remembered_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "MAX_CACHED_OPERATORS", 3)
    known = Operators(database)
    for number in range(10):
        await known.authenticate(await made(database, f"operator-{number}"))
        assert len(known._seen) <= 3


async def test_when_postgres_is_gone_known_keys_work_on_a_little_and_unknown_ones_are_not_called_wrong(
    database: Database, proxied: Database, proxy: PostgresProxy
) -> None:
    known_key, other_key = await made(database, "known"), await made(database, "other")
    known = Operators(proxied)
    await known.authenticate(known_key)
    await proxy.refuse()
    assert await known.authenticate(known_key) == Operator("known", Role.EDITOR)
    with pytest.raises(Unavailable):
        await known.authenticate(other_key)


# --- at the edge ----------------------------------------------------------------------------------------------------


@get("/view", guards=[requires(Role.VIEWER)])
async def view(operator: NamedDependency[Operator]) -> Response[str]:
    return Response(operator.name)


@get("/edit", guards=[requires(Role.EDITOR)])
async def edit(operator: NamedDependency[Operator]) -> Response[str]:
    return Response(operator.name)


@get("/admin", guards=[requires(Role.ADMIN)])
async def admin(operator: NamedDependency[Operator]) -> Response[str]:
    return Response(operator.name)


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar(
        [view, edit, admin],
        dependencies={"operator": Provide(provide_operator)},
        exception_handlers=exception_handlers,
    )
    app.state.operators = Operators(database)
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://growth") as client:
        yield client


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_do_what_those_below_may_and_no_more(
    database: Database, client: httpx.AsyncClient, role: Role
) -> None:
    headers = {"Authorization": f"Bearer {await made(database, 'ann', role)}"}
    for path, needed in (("/view", Role.VIEWER), ("/edit", Role.EDITOR), ("/admin", Role.ADMIN)):
        answer = await client.get(path, headers=headers)
        if role >= needed:
            assert (answer.status_code, answer.text) == (200, "ann")
        else:
            assert answer.status_code == 403
            assert answer.json()["code"] == "auth.role_too_low"
            assert answer.json()["needed"] == needed.name.lower()


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "auth.key_missing"),
        ("", "auth.key_missing"),
        ("Bearer", "auth.key_missing"),
        ("Bearer ", "auth.key_missing"),
        ("Basic {key}", "auth.key_missing"),
        ("{key}", "auth.key_missing"),
        ("Bearer x{key}", "auth.key_invalid"),
        ("Bearer {key} {key}", "auth.key_invalid"),
        ("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.", "auth.key_invalid"),
    ],
)
async def test_without_a_good_key_nothing_is_served(
    database: Database, client: httpx.AsyncClient, header: str | None, code: str
) -> None:
    key = await made(database)
    headers = {} if header is None else {"Authorization": header.format(key=key)}
    answer = await client.get("/view", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == code
    assert answer.headers["www-authenticate"] == "Bearer"
    assert key not in answer.text


async def test_the_scheme_is_read_in_any_case(database: Database, client: httpx.AsyncClient) -> None:
    answer = await client.get("/view", headers={"Authorization": f"bearer  {await made(database)}"})
    assert answer.status_code == 200


def test_keys_are_revoked_no_slower_than_promised() -> None:
    assert timedelta(seconds=operators.MAX_AGE_SECONDS) <= timedelta(seconds=5)
