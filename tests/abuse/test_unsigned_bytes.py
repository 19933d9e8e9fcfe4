"""Bytes from nobody, at the product as it runs in a pod, without a proxy in front: it stays within the pod's memory.

One process bears all attacks, one after the other, each sent by one address and by hundreds. What is looked at are
causes: the peak of its memory as the kernel counts it, and that others are served, however long this machine takes.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from growth import dev
from growth.embedded import EmbeddedServers
from growth.plumbing.http import connection, crowd
from growth.plumbing.settings import variables
from growth.plumbing.watch import telemetry
from tests import servers as test_servers
from tests.abuse.outsiders import (
    LOOPBACK,
    Connection,
    Outside,
    answer_of,
    hang_up,
    more_files,
    outside,
    pod_bytes,
)

pytestmark = pytest.mark.anyio

HEAD = b"POST /shop/v1/events HTTP/1.1\r\nHost: growth\r\nContent-Type: application/json\r\n"
SIGNED = HEAD + b"Webhook-Id: x\r\nWebhook-Timestamp: 1\r\nWebhook-Signature: v1,eA==\r\n"
GET = b"GET / HTTP/1.1\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
MANY = 450
HOOK_BYTES = connection.MAX_BODY_BYTES
PIPELINED = 256 * 1024

ATTACKS: dict[str, tuple[int, bytes]] = {
    "GETs in a row": (60, b"GET /livez HTTP/1.1\r\na: b\r\n\r\n" * (PIPELINED // 28)),
    "HEADs in a row": (60, b"HEAD / HTTP/1.1\r\n\r\n" * (PIPELINED // 19)),
    "bodies in a row": (60, (HEAD + b"Content-Length: 900\r\n\r\n" + b"x" * 900) * 256),
    "one behind another that never ends": (MANY, GET + HEAD + b"Content-Length: 900000\r\n\r\n" + b"x" * 800_000),
    "bodies without a last byte": (MANY, HEAD + b"Content-Length: %d\r\n\r\n" % HOOK_BYTES + b"x" * (HOOK_BYTES - 1)),
    "whole bodies, wrongly signed": (MANY, SIGNED + b"Content-Length: %d\r\n\r\n" % HOOK_BYTES + b"x" * HOOK_BYTES),
    "chunks without an end": (MANY, HEAD + CHUNKED + (b"ffff\r\n" + b"x" * 65_535 + b"\r\n") * 15),
    "chunks of one byte": (60, HEAD + CHUNKED + b"1\r\nx\r\n" * 40_000),
    "one trailer without an end": (MANY, HEAD + CHUNKED + b"0\r\nx: " + b"y" * 500_000),
    "heads without an end": (3_000, b"GET / HTTP/1.1\r\nx: " + b"y" * 32_000),
    "heads of many headers": (3_000, b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 120),
    "heads that are too large": (MANY, b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 250_000),
    "heads of too many headers": (MANY, b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 50_000),
    "an address without an end": (MANY, b"GET /" + b"a" * 250_000),
}  # fmt: skip


def from_one(_number: int) -> str:
    return "127.0.0.1"


def from_many(number: int) -> str:
    return f"127.1.{1 + number // 200}.{1 + number % 200}"


@pytest.fixture(scope="module")
async def stores(servers: EmbeddedServers) -> AsyncIterator[tuple[str, str]]:
    servers.ensure_running()
    async with test_servers.database(servers) as dsn:
        yield dsn, await test_servers.empty_valkey(servers)


@pytest.fixture(scope="module")
async def api(stores: tuple[str, str]) -> AsyncIterator[Outside]:
    async with outside("serve", *stores) as process:
        yield process


async def all_of(api: Outside, times: int, data: bytes, address: Callable[[int], str]) -> list[Connection | None]:
    """Send the same bytes on so many connections at once."""
    more_files(times + 200)
    return await asyncio.gather(*(api.hurl(data, address=address(number)) for number in range(times)))


async def holds(api: Outside, pod: str = "api.yaml") -> None:
    """The process is within its pod's memory, alive, and there for others."""
    assert await api.ask("/livez") == 200
    assert await api.shopper_is_served()
    assert api.peak_bytes() < pod_bytes(pod), f"{api.peak_bytes() >> 20} MiB"


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_bytes_from_nobody_stay_within_the_memory_of_a_pod(api: Outside, attack: tuple[int, bytes]) -> None:
    for address in (from_one, from_many):
        connections = await all_of(api, *attack, address)
        await holds(api)
        hang_up(connections)


async def test_more_connections_than_there_is_place_for_keep_nobody_out(api: Outside) -> None:
    wanted = crowd.MAX_CONNECTIONS + 500
    if more_files(wanted + 200) < wanted + 200:
        pytest.skip("this machine gives no process so many files")
    connections = await all_of(api, wanted, b"", from_one)
    await holds(api)
    assert (await api.cuts())["crowded"] > 0
    hang_up(connections)


async def test_requests_that_are_not_whole_take_no_place_of_those_that_are(api: Outside) -> None:
    """600 is more than `GROWTH_MAX_REQUESTS_UNDER_WAY`."""
    for data in (HEAD + b"Content-Length: 10\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n"):
        connections = await all_of(api, 600, data, from_one)
        assert [await api.shopper_is_served() for _ in range(20)] == [True] * 20
        hang_up(connections)


async def test_who_does_not_read_answers_takes_no_place_of_those_who_do(stores: tuple[str, str]) -> None:
    async with outside("serve", *stores, GROWTH_DOCS="true", GROWTH_MAX_REQUESTS_UNDER_WAY="20") as api:
        # Once made, it is answered at once.
        assert await api.ask("/openapi.json") == 200
        asked = b"GET /openapi.json HTTP/1.1\r\n\r\n" * 5
        connections = []
        for number in range(60):
            one = await api.hurl(asked, address=from_many(number))
            assert one is not None
            one[1].transport.pause_reading()  # type: ignore[attr-defined]
            connections.append(one)
        assert [await api.shopper_is_served() for _ in range(20)] == [True] * 20
        await holds(api)
        hang_up(connections)


async def test_a_byte_at_a_time_keeps_nobody_out(api: Outside) -> None:
    connections = await all_of(api, 200, b"G", from_one)
    for byte in b"ET / HTTP/1.1\r\nHost: growth\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy":
        for one in connections:
            assert one is not None
            one[1].write(bytes([byte]))
        await asyncio.sleep(0)
    await holds(api)
    hang_up(connections)


TRAILERS = (
    b"X-Forwarded-For: 198.51.100.%d\r\nAuthorization: Bearer nonsense\r\nIdempotency-Key: x\r\n"
    b"Content-Type: text/plain\r\nX-Request-Id: mine\r\n"
)


async def test_what_follows_a_body_changes_nothing(stores: tuple[str, str]) -> None:
    limits = {"GROWTH_ADDRESS_REQUESTS_PER_SECOND": "1", "GROWTH_ADDRESS_BURST": "3"}
    async with outside("serve", *stores, GROWTH_TRUSTED_PROXIES="127.0.0.1/32", **limits) as api:
        head = HEAD + b"X-Forwarded-For: 203.0.113.7\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        whole = [head + b"2\r\n{}\r\n0\r\n" + TRAILERS % number + b"\r\n" for number in range(60)]
        connections = await asyncio.gather(*(api.hurl(data) for data in whole))
        answers = [await answer_of(one) for one in connections]
        hang_up(connections)
        assert not any(b"x-request-id: mine" in answer for answer in answers)
        # They are counted by the head's address: a few are refused for their signature, then it must wait.
        statuses = [answer[9:12] for answer in answers]
        assert set(statuses) == {b"401", b"429"}


async def test_one_address_has_its_share_and_another_its_own(stores: tuple[str, str]) -> None:
    shares = {variable.name: variable.default for variable in variables()}
    assert shares["GROWTH_ADDRESS_REQUESTS_PER_SECOND"] == "1000", "there is a share by default"
    asked = b"GET /v1/points HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n"
    # Any machine answers more than one a second, so what there is at once is spent in the end.
    limits = {"GROWTH_ADDRESS_REQUESTS_PER_SECOND": "1", "GROWTH_ADDRESS_BURST": "20"}
    async with outside("serve", *stores, **limits) as api:
        connection = await api.connect(address="127.3.0.1")
        statuses: list[bytes] = []
        while statuses.count(b"429") < 20:
            connection[1].write(asked)
            head = await connection[0].readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            await connection[0].readexactly(length)
            statuses.append(head[9:12])
        hang_up([connection])
        assert statuses[:20] == [b"401"] * 20
        assert set(statuses) == {b"401", b"429"}
        assert await api.shopper_is_served()


async def test_a_worker_stays_within_its_pod_too(stores: tuple[str, str]) -> None:
    async with outside("worker", *stores) as worker:
        worker.port = worker.metrics_port
        asked = b"GET /metrics HTTP/1.1\r\n"
        for data in (b"", asked + b"a: b\r\n" * 1_000, b"x" * 500_000, asked + b"\r\n"):
            connections = await all_of(worker, 10 * telemetry.MAX_SCRAPES, data, from_one)
            assert await worker.ask("/livez") == 200
            hang_up(connections)
        assert worker.peak_bytes() < pod_bytes("worker.yaml")


@pytest.mark.parametrize("kind", ["serve", "worker"])
async def test_what_is_to_listen_on_loopback_listens_nowhere_else(stores: tuple[str, str], kind: str) -> None:
    async with outside(kind, *stores) as process:
        assert process.listens_on() == {LOOPBACK}


def test_growth_dev_listens_on_loopback_with_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    servers = SimpleNamespace(
        postgres=SimpleNamespace(dsn="postgresql://u:p@127.0.0.1:1/d"),
        valkey=SimpleNamespace(url="redis://127.0.0.1:1/0"),
    )
    settings = dev._settings(servers, tmp_path, 8080)  # type: ignore[arg-type]
    assert settings.host == "127.0.0.1"
    assert settings.docs is None
    assert not settings.is_production, "so its pages are served"


HELD, OF_ONE = "growth.plumbing.http.crowd:MAX_HELD_BYTES", "growth.plumbing.http.crowd:MAX_HELD_BY_ONE_BYTES"
WAITING, FREE = "growth.plumbing.http.connection:MAX_WAITING", "growth.plumbing.http.connection:FREE_BYTES"
WITHOUT = {
    "the bound on what is held": ((HELD, OF_ONE), "bodies without a last byte"),
    "the bound on what waits": ((WAITING, FREE), "GETs in a row"),
}


@pytest.mark.parametrize("without", WITHOUT.values(), ids=WITHOUT)
async def test_without_the_bound_the_same_bytes_end_a_pod(
    stores: tuple[str, str], without: tuple[Sequence[str], str]
) -> None:
    constants, attack = without
    unbound = ("tests.abuse.unbound", *(f"{name}=1<<40" for name in constants))
    async with outside("serve", *stores, unbound) as api:
        connections = await all_of(api, *ATTACKS[attack], from_one)
        # It has taken in all of it once it answers somebody who came after.
        assert await api.ask("/livez") == 200
        assert api.peak_bytes() > pod_bytes("api.yaml")
        hang_up(connections)
