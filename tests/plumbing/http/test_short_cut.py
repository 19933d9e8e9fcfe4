"""Short cuts serve what is plain, and hand all else on untouched; their door lets good tokens in, not too often."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from growth.plumbing.http.identity import Identity
from growth.plumbing.http.limits import Share, TooManyRequests
from growth.plumbing.http.short_cut import Answer, Door, No, PlainRequest, ShortCut, ShortCuts, made_answer, page_answer
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Kind, Refusal, Unavailable

pytestmark = pytest.mark.anyio

SECRET = "a toy secret of more than thirty-two bytes"


@pytest.fixture
def identity() -> Identity:
    return Identity(algorithms=("HS256",), secret=SECRET)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    return at


def token(identity: Identity, who: str) -> bytes:
    return identity.sign(who, now=now(), lifetime_seconds=60).encode()


def a_door(identity: Identity, *, per_second: float, burst: int) -> Door:
    return Door(identity, Share("shopper", per_second=per_second, burst=burst))


def a_request() -> Any:
    return {"type": "http", "state": {}}


async def known(door: Door, token: bytes, request: Any) -> str | None:
    shopper = await door.known(token, request)
    return None if shopper is None else shopper.user_id


async def test_good_tokens_are_known_and_others_are_left_to_the_routes(identity: Identity) -> None:
    door = a_door(identity, per_second=5, burst=5)
    assert await known(door, token(identity, "ann"), a_request()) == "ann"
    assert await known(door, b"", a_request()) is None
    assert await known(door, b"nonsense", a_request()) is None


async def test_who_asks_too_often_is_left_to_the_routes_and_nobody_else(identity: Identity, clock: list[float]) -> None:
    door = a_door(identity, per_second=2, burst=3)
    ann, bob = token(identity, "ann"), token(identity, "bob")
    assert [await known(door, ann, a_request()) for _ in range(5)] == ["ann", "ann", "ann", None, None]
    assert await known(door, bob, a_request()) == "bob"
    clock[0] += 0.5
    assert [await known(door, ann, a_request()) for _ in range(2)] == ["ann", None], "the steady pace, not the burst"


async def test_the_routes_count_by_the_same_share_and_no_request_twice(identity: Identity) -> None:
    door = a_door(identity, per_second=1, burst=2)
    ann = token(identity, "ann")
    handed_on = a_request()
    assert await known(door, ann, handed_on) == "ann"
    door.count("ann", handed_on)
    door.count("ann", a_request())
    with pytest.raises(TooManyRequests):
        door.count("ann", a_request())
    assert await known(door, ann, a_request()) is None


async def test_without_a_limit_nobody_is_counted(identity: Identity) -> None:
    door = a_door(identity, per_second=0, burst=1)
    ann = token(identity, "ann")
    assert [await known(door, ann, a_request()) for _ in range(100)] == ["ann"] * 100


# --- the middleware ---------------------------------------------------------------------------------------------------

ID = "0199c0de-0000-7000-8000-000000000001"
PATH = f"/v1/cups/{ID}/sips"
JSON_TYPE = (b"content-type", b"application/json")
FULL = Kind("tea.full", "The cup is full.")

Serve = Callable[[PlainRequest], Awaitable[Answer | None]]


class Kitchen:
    """The short cut of one room, and routes that note what reaches them."""

    def __init__(self, identity: Identity, serve: Serve, **changes: Any) -> None:
        self.token = (b"authorization", b"Bearer " + token(identity, "ann"))
        self.limited: list[str] = []
        self.routed: list[bytes] = []
        self.scope: Any = {}
        cut = ShortCut(method="POST", path="/v1/cups/{cup_id}/sips", serve=serve, body=_sip, max_bytes=8)
        cut = msgspec.structs.replace(cut, **changes)
        door = a_door(identity, per_second=0, burst=1)
        self._app = ShortCuts(self._routes, [cut], door=door, limit=self._limit)

    async def _limit(self, user_id: str) -> None:
        self.limited.append(user_id)

    async def _routes(self, _scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message.get("more_body"):
                break
        self.routed.append(body)
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(
        self, *pieces: bytes, path: str = PATH, query: bytes = b"", headers: Any = None, method: str = "POST"
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        said: list[Any] = []
        waiting = [
            {"type": "http.request", "body": piece, "more_body": at + 1 < len(pieces)}
            for at, piece in enumerate(pieces)
        ]

        async def receive() -> Any:
            return waiting.pop(0) if waiting else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.append(message)

        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [self.token, JSON_TYPE] if headers is None else [self.token, *headers],
            "state": {"request_id": "r-1"},
        }
        await self._app(self.scope, receive, send)
        return said[0]["status"], dict(said[0]["headers"]), said[1]["body"]


def _sip(body: bytes) -> bytes | None:
    return body if body in {b"", b"sip"} else None


async def sips(asked: PlainRequest) -> Answer | None:
    return made_answer(201, f"{asked.shopper.user_id} {asked.id} {asked.key} {asked.body!r}".encode())


async def test_a_plain_request_is_served_and_known_by_its_path(identity: Identity) -> None:
    kitchen = Kitchen(identity, sips)
    status, headers, body = await kitchen.ask(b"sip", headers=[JSON_TYPE, (b"idempotency-key", b"k-1")])
    assert (status, body) == (201, f"ann {ID} k-1 b'sip'".encode())
    assert headers == {
        b"content-type": b"application/json",
        b"cache-control": b"no-store",
        b"content-length": b"%d" % len(body),
    }
    assert kitchen.scope["path_template"] == "/v1/cups/{cup_id}/sips"
    assert not kitchen.routed


@pytest.mark.parametrize(
    "odd",
    [
        {"path": "/v1/cups"},
        {"path": f"/v1/mugs/{ID}/sips"},
        {"path": f"/v1/cups/{ID}/gulp"},
        {"path": f"/v1/cups/{ID}0/sips"},
        {"query": b"x=1"},
        {"method": "PUT"},
        {"headers": []},
        {"headers": [JSON_TYPE, JSON_TYPE]},
        {"headers": [(b"content-type", b"application/json; charset=utf-8")]},
        {"headers": [JSON_TYPE, (b"idempotency-key", b"")]},
        {"headers": [JSON_TYPE, (b"idempotency-key", b"a b")]},
        {"headers": [JSON_TYPE, (b"idempotency-key", b"x" * 129)]},
        {"headers": [JSON_TYPE, (b"idempotency-key", b"a"), (b"idempotency-key", b"b")]},
        {"headers": [JSON_TYPE, (b"authorization", b"Bearer x")]},
    ],
)
async def test_whatever_is_not_plain_reaches_the_routes_with_its_body(identity: Identity, odd: Any) -> None:
    kitchen = Kitchen(identity, sips)
    assert (await kitchen.ask(b"sip", **odd))[0] == 418
    assert kitchen.routed == [b"sip"]
    assert not kitchen.scope.get("path_template")


@pytest.mark.parametrize("pieces", [(b"gulp",), (b"sip", b"", b"sips"), (b"sips", b"sips", b"sips")])
async def test_a_body_that_is_not_plain_reaches_the_routes_whole(identity: Identity, pieces: tuple[bytes, ...]) -> None:
    kitchen = Kitchen(identity, sips)
    assert (await kitchen.ask(*pieces))[0] == 418
    assert kitchen.routed == [b"".join(pieces)]


async def test_a_room_that_does_not_answer_leaves_it_to_the_routes(identity: Identity) -> None:
    async def none(_: PlainRequest) -> None:
        return None

    kitchen = Kitchen(identity, none)
    assert (await kitchen.ask(b"s", b"ip"))[0] == 418
    assert kitchen.routed == [b"sip"]
    assert not kitchen.scope["path_template"], "the routes name it"


async def test_no_body_needs_no_type(identity: Identity) -> None:
    kitchen = Kitchen(identity, sips)
    assert (await kitchen.ask(b"", headers=[]))[0] == 201


async def test_who_is_never_shed_waits_for_no_second_piece(identity: Identity) -> None:
    for is_never_shed, status in ((False, 201), (True, 418)):
        kitchen = Kitchen(identity, sips, is_never_shed=is_never_shed)
        assert (await kitchen.ask(b"s", b"ip"))[0] == status
        assert kitchen.routed == ([b"sip"] if is_never_shed else [])


async def test_the_share_over_all_processes_is_asked_where_the_room_says_so(identity: Identity) -> None:
    for is_limited in (False, True):
        kitchen = Kitchen(identity, sips, is_limited=is_limited)
        await kitchen.ask(b"sip")
        assert kitchen.limited == ["ann"] * is_limited


async def test_a_refusal_is_told_as_the_routes_tell_it(identity: Identity) -> None:
    async def full(_: PlainRequest) -> Answer:
        refusal = Refusal(FULL, retry_after_seconds=1.2)
        raise refusal

    status, headers, body = await Kitchen(identity, full).ask(b"sip")
    told = msgspec.json.decode(body)
    assert (status, told["code"], told["request_id"]) == (409, "tea.full", "r-1")
    assert (headers[b"content-type"], headers[b"retry-after"]) == (b"application/problem+json", b"2")


async def test_a_store_that_does_not_answer_is_a_503_that_is_logged_with_its_cause(identity: Identity) -> None:
    async def gone(_: PlainRequest) -> Answer:
        raise Unavailable("The tap is dry") from OSError("no water")

    kitchen = Kitchen(identity, gone)
    status, headers, body = await kitchen.ask(b"sip")
    assert (status, msgspec.json.decode(body)["code"]) == (503, "unavailable")
    assert int(headers[b"retry-after"]) > 0
    assert kitchen.scope["state"]["trouble"] == "The tap is dry: OSError('no water')"


async def test_a_crowd_is_refused_with_ready_made_bytes_that_name_each_request(identity: Identity) -> None:
    no = No(FULL, {"cups": 3})

    async def full(asked: PlainRequest) -> Answer:
        return no.told(asked)

    status, _, body = await Kitchen(identity, full).ask(b"sip")
    assert (status, msgspec.json.decode(body)) == (
        409,
        {
            "type": "tag:growth,2026:tea.full",
            "title": "The cup is full.",
            "status": 409,
            "detail": "The cup is full.",
            "code": "tea.full",
            "request_id": "r-1",
            "cups": 3,
        },
    )


async def test_a_page_is_not_sent_again_to_who_has_it(identity: Identity) -> None:
    async def cup(asked: PlainRequest) -> Answer | None:
        return page_answer(asked, b'W/"7"', b"{}")

    kitchen = Kitchen(identity, cup, method="GET", path="/v1/cups/{cup_id}", body=None)
    got = {}
    for asked in (b'W/"7"', b'W/"6"', b"", b'"7"', b"*", b'W/"7", W/"8"'):
        got[asked] = (
            await kitchen.ask(
                b"", method="GET", path=f"/v1/cups/{ID}", headers=[(b"if-none-match", asked)] if asked else []
            )
        )[0]
    assert got == {b'W/"7"': 304, b'W/"6"': 200, b"": 200, b'"7"': 418, b"*": 418, b'W/"7", W/"8"': 418}
