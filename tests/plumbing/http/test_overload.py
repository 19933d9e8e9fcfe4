"""Overload: one too many is refused at once, and nothing else changes."""

import asyncio
from typing import Any

import msgspec
import pytest

from growth.plumbing.http.overload import Shed

pytestmark = pytest.mark.anyio

MAX = 8


class Kitchen:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.cooking = 0
        self.most = 0
        self.done = asyncio.Event()

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        self.cooking += 1
        self.most = max(self.most, self.cooking)
        try:
            await self.done.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"tea"})
        finally:
            self.cooking -= 1


async def ask(app: Any, path: str = "/v1/tea") -> tuple[int, dict[bytes, bytes], bytes]:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing of it is read")

    await app({"type": "http", "path": path, "method": "GET", "state": {"request_id": "r"}}, receive, send)
    return said[0]["status"], dict(said[0]["headers"]), said[1]["body"]


async def test_one_too_many_is_refused_at_once_and_told_when_to_come_back() -> None:
    kitchen = Kitchen()
    app = Shed(kitchen, max_under_way=MAX)
    let_in = [asyncio.create_task(ask(app)) for _ in range(MAX)]
    await asyncio.sleep(0)
    refused = [await ask(app) for _ in range(3 * MAX)]
    assert {status for status, _, _ in refused} == {503}
    assert {headers[b"retry-after"] for _, headers, _ in refused} == {b"1", b"2", b"3"}
    assert msgspec.json.decode(refused[0][2])["code"] == "request.overloaded"
    assert kitchen.most == MAX
    kitchen.done.set()
    assert {status for status, _, _ in await asyncio.gather(*let_in)} == {200}
    assert (await ask(app))[0] == 200, "there is room again"


async def test_probes_are_let_in_whatever_happens() -> None:
    kitchen = Kitchen()
    app = Shed(kitchen, max_under_way=1)
    first = asyncio.create_task(ask(app))
    await asyncio.sleep(0)
    probe = asyncio.create_task(ask(app, "/readyz"))
    await asyncio.sleep(0)
    assert kitchen.cooking == 2
    kitchen.done.set()
    assert [(await one)[0] for one in (first, probe)] == [200, 200]


async def test_a_request_that_breaks_or_is_given_up_leaves_its_place() -> None:
    class Broken:
        async def __call__(self, *_: Any) -> None:
            raise RuntimeError

    app = Shed(Broken(), max_under_way=1)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            await ask(app)
    kitchen = Kitchen()
    app = Shed(kitchen, max_under_way=1)
    given_up = asyncio.create_task(ask(app))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    kitchen.done.set()
    assert (await ask(app))[0] == 200


async def test_without_the_bound_everybody_waits() -> None:
    kitchen = Kitchen()
    waiting = [asyncio.create_task(ask(kitchen)) for _ in range(10 * MAX)]
    await asyncio.sleep(0)
    assert kitchen.most == 10 * MAX
    kitchen.done.set()
    await asyncio.gather(*waiting)
