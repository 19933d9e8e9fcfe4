"""Receivers that mean harm, or are broken: each costs one bounded attempt, and nobody else anything."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from growth.webhook.delivery import courier as courier_module
from growth.webhook.delivery.courier import MAX_BODY_BYTES, Courier, NameLookup
from growth.webhook.model import ErrorClass, ReceiverAnswer
from tests.patience import PATIENCE_SECONDS
from tests.webhook.conftest import Room, paused, room_on
from tests.webhook.receiving import Behaviour, Heard, Receiver, answers, hangs, receiving

pytestmark = pytest.mark.anyio

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
TOTAL_SECONDS = 1.5
BODY_SECONDS = 0.75


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "TOTAL_SECONDS", TOTAL_SECONDS)
    monkeypatch.setattr(courier_module, "BODY_SECONDS", BODY_SECONDS)


@pytest.fixture
async def courier() -> AsyncIterator[Courier]:
    courier = Courier(["127.0.0.1", "localhost"], now)
    yield courier
    await courier.close()


async def send(courier: Courier, url: str) -> ReceiverAnswer:
    """One attempt, which ends whatever is at the other end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await courier.send(url, {"webhook-id": "1", "content-type": "application/json"}, b"{}")


def says(*pieces: bytes, every_seconds: float = 0.0, closes: bool = True) -> Behaviour:
    async def behave(reader: Reader, writer: Writer, _heard: Heard) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every_seconds)
        if closes:
            writer.close()
        else:
            await reader.read(1)

    return behave


async def drips(_reader: Reader, writer: Writer, _heard: Heard) -> None:
    """A header that never ends, a byte at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\nx-drip: ")
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.02)


async def continues(_reader: Reader, writer: Writer, _heard: Heard) -> None:
    """Interim answers without an end (RFC 9110, section 15.2)."""
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0)


async def never_reads(_reader: Reader, _writer: Writer, _heard: Heard) -> None:
    await asyncio.sleep(TOTAL_SECONDS + BODY_SECONDS)


HOSTILE: dict[str, tuple[Behaviour, int | None, ErrorClass | None]] = {
    "hangs": (hangs, None, "timeout"),
    "never reads": (never_reads, None, "timeout"),
    "drips a header": (drips, None, "timeout"),
    "only interim answers": (continues, None, "closed"),
    "closes at once": (says(), None, "closed"),
    "closes within the head": (says(b"HTTP/1.1 200 OK\r\nx"), None, "closed"),
    "no HTTP": (says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), None, "protocol"),
    "a status that is none": (says(b"HTTP/1.1 two hundred\r\n\r\n"), None, "protocol"),
    "a header of a megabyte": (says(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 1_048_576 + b"\r\n\r\n"), None, "protocol"),
    "a thousand headers": (
        says(b"HTTP/1.1 200 OK\r\n" + b"".join(b"x%d: %s\r\n" % (n, b"a" * 1000) for n in range(1000)) + b"\r\n"),
        None,
        "closed",
    ),
    "two lengths": (says(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"), None, "protocol"),
    "another protocol": (says(b"HTTP/1.1 101 Switching\r\nupgrade: tea\r\nconnection: upgrade\r\n\r\n"), 101, "status"),
    "a body that ends too early": (says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na"), 200, None),
    "a body that never comes": (says(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", closes=False), 200, None),
    "a bomb": (answers("200 OK", b"bomb", "content-encoding: gzip"), 200, None),
    "bad chunks": (says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), None, "protocol"),
    "an error": (answers("500 Oops", b"no"), 500, "status"),
    "success": (answers("202 Accepted", b"yes"), 202, None),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_whatever_a_receiver_does_is_one_bounded_attempt(courier: Courier, name: str) -> None:
    behave, status, error = HOSTILE[name]
    async with receiving(behave) as receiver:
        told = await send(courier, receiver.url)
        assert (told.attempt.status, told.attempt.error) == (status, error)
        # And the next one is as good as any.
        receiver.behave = answers()
        assert (await send(courier, receiver.url)).attempt.error is None


async def test_a_body_without_an_end_is_not_read_beyond_its_bound(courier: Courier) -> None:
    written = 0

    async def floods(_reader: Reader, writer: Writer, _heard: Heard) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while written < 100_000_000:
            writer.write(b"a" * 65_536)
            await writer.drain()
            written += 65_536

    async with receiving(floods) as receiver:
        assert (await send(courier, receiver.url)).attempt.error is None
    # What the kernel's buffers take is beyond anybody's bound.
    assert MAX_BODY_BYTES <= written < 20_000_000


async def test_quick_answers_share_a_connection(courier: Courier) -> None:
    async with receiving(answers("200 OK", b"thanks")) as receiver:
        for _ in range(5):
            await send(courier, receiver.url)
        assert (len(receiver.heard), receiver.connections) == (5, 1)


@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
async def test_redirects_are_not_followed(courier: Courier, status: str) -> None:
    async with receiving() as inside, receiving(answers(f"{status} There", b"", f"location: {inside.url}")) as receiver:
        told = await send(courier, receiver.url)
        assert (told.attempt.status, told.attempt.error) == (int(status), "status")
        assert inside.connections == 0


async def test_cookies_are_not_kept_and_proxies_not_asked(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving(answers("200 OK", b"", "set-cookie: a=b; path=/")) as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await send(courier, receiver.url)
        await send(courier, receiver.url)
        assert "cookie" not in receiver.heard[1].headers
        assert proxy.connections == 0


async def test_a_closed_port_a_plain_port_and_a_strangers_certificate(courier: Courier, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert (await send(courier, f"http://127.0.0.1:{port}/")).attempt.error == "refused"
    async with receiving(says(b"HTTP/1.1 400 Bad\r\n\r\n")) as receiver:
        told = await send(courier, receiver.url.replace("http:", "https:"))
        assert told.attempt.error in {"tls", "closed", "timeout"}
        assert receiver.heard == []
    receiver = Receiver()
    tls = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=self_signed(tmp_path))
    try:
        told = await send(courier, f"https://127.0.0.1:{tls.sockets[0].getsockname()[1]}/")
        assert told.attempt.error == "tls"
        assert receiver.heard == []
    finally:
        tls.close()


def self_signed(folder: Path) -> ssl.SSLContext:
    """A certificate that nobody vouches for."""
    from datetime import timedelta  # noqa: PLC0415 - what only this needs

    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now() - timedelta(days=1)).not_valid_after(now() + timedelta(days=1))
    certificate = made.sign(key, hashes.SHA256())
    path = folder / "tls.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


# --- names -----------------------------------------------------------------------------------------------------------


class Rebinding(AbstractResolver):
    """A name server that says one thing when asked first, and another ever after."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002
    ) -> list[ResolveResult]:
        self.asked += 1
        said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in said
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("inside", ["127.0.0.1", "::ffff:127.0.0.1", "::1"])
async def test_a_name_that_leads_inside_later_is_refused_at_the_socket(room: Room, inside: str) -> None:
    strict = room_on(room.database, room.hands, exempt=(), names=Rebinding(["8.8.8.8"], [inside]))
    async with receiving() as receiver:
        endpoint = await strict.endpoint(f"https://crm.example.com:{receiver.port}/hooks")
        await strict.happens(paused())
        assert await strict.sends() == 1
        await strict.courier.close()
        assert receiver.connections == 0
    delivery = await strict.only(endpoint.endpoint_id)
    assert (delivery.state, delivery.log[0].error) == ("pending", "target_refused")


async def test_without_the_look_at_the_socket_a_rebound_name_gets_in(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: what the guard above keeps out."""

    def unchecked(address: tuple[Any, ...]) -> socket.socket:
        return socket.socket(*address[:3])

    monkeypatch.setattr(courier_module, "checked_socket", unchecked)
    loose = room_on(room.database, room.hands, exempt=(), names=Rebinding(["8.8.8.8"], ["127.0.0.1"]))
    async with receiving() as receiver:
        await loose.endpoint(f"https://crm.example.com:{receiver.port}/hooks")
        await loose.happens(paused())
        await loose.sends()
        await loose.courier.close()
        assert receiver.connections == 1


async def test_one_address_inside_among_many_is_one_too_many_when_an_endpoint_is_made(room: Room) -> None:
    for found in (["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["2606:4700::1111", "::ffff:10.0.0.1"], []):
        strict = room_on(room.database, room.hands, exempt=(), names=Rebinding(found))
        with pytest.raises(Refusal) as caught:
            await strict.endpoint("https://crm.example.com/hooks")
        assert caught.value.kind.code == "webhook.target_refused"
        assert "10.0.0.1" not in caught.value.detail
        made = await room_on(room.database, room.hands, exempt=(), names=Rebinding(["8.8.8.8"])).endpoint(
            "https://crm.example.com/hooks"
        )
        with pytest.raises(Refusal):
            await strict.webhooks.change(strict.act(), made.endpoint_id, 1, made)


async def test_a_host_that_is_no_longer_vouched_for_is_called_no_more(room: Room) -> None:
    async with receiving() as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused())
        strict = room_on(room.database, room.hands, exempt=())
        await strict.sends()
        await strict.courier.close()
        assert receiver.connections == 0
    assert (await room.only(endpoint.endpoint_id)).log[0].error == "target_refused"


async def test_a_name_nobody_knows_and_a_name_server_that_hangs(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "CONNECT_SECONDS", TOTAL_SECONDS)
    monkeypatch.setattr(courier_module, "LOOK_UP_SECONDS", TOTAL_SECONDS)
    asked: list[str] = []
    answered = threading.Event()

    def look_up(host: str, port: int, _family: int) -> list[ResolveResult]:
        asked.append(host)
        if host == "unknown.example.com":
            raise socket.gaierror(socket.EAI_NONAME, "nobody knows")
        if host == "slow.example.com":
            answered.wait(10)
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    monkeypatch.setattr(courier_module, "_look_up", look_up)
    names = ["quick", "slow.example.com", "unknown.example.com"]
    courier = Courier(names, now)
    try:
        async with receiving() as receiver:

            async def to(host: str) -> str | None:
                return (await send(courier, f"http://{host}:{receiver.port}/")).attempt.error

            slow = [asyncio.create_task(to("slow.example.com")) for _ in range(20)]
            assert await to("quick") is None
            assert await to("unknown.example.com") == "dns"
            assert {await task for task in slow} == {"timeout"}
            # However many waited, one thread does: the others stay for other names.
            assert asked.count("slow.example.com") == 1
    finally:
        answered.set()
        await courier.close()


async def test_names_are_looked_up_in_threads_of_their_own() -> None:
    names = NameLookup()
    try:
        (found, *_) = await names.resolve("localhost", 80, socket.AF_INET)
        assert found["host"].startswith("127.")
        with pytest.raises(socket.gaierror):
            await names.resolve("localhost", 80, socket.AF_UNIX)
    finally:
        await names.close()


async def test_hostile_receivers_do_not_slow_the_others(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one of them at once, with a backlog each; the well-behaved one is through before their first time-out."""
    monkeypatch.setattr(courier_module, "TOTAL_SECONDS", 60.0)
    kinds = [behave for behave, _, error in HOSTILE.values() if error is not None]
    async with receiving() as quick:
        hostile = [receiving(behave) for behave in kinds]
        servers = [await one.__aenter__() for one in hostile]
        for server in servers:
            await room.endpoint(server, "flash_sale.*")
        await room.endpoint(quick, "flash_sale.*")
        await room.happens(*(paused(number) for number in range(100)))
        stop = asyncio.Event()
        running = asyncio.create_task(room.sender.run(stop))
        await quick.hears(100)
        assert len(set(quick.ids)) == 100
        monkeypatch.setattr("growth.webhook.delivery.sender.STOP_SECONDS", 0.1)
        stop.set()
        await running
        for one in hostile:
            await one.__aexit__(None, None, None)
