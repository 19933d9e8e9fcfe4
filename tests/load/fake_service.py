"""A tiny service that follows the contract, or breaks it where a test wants to see whether the generator notices."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, Self

import jwt

OPERATOR_KEY = "gop_fake"
JWT_SECRET = "a-secret-of-at-least-thirty-two-bytes"
SHOP_SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()

CLAIMS = re.compile(r"/v1/flash-sales/([^/]+)/claims")
SALE = re.compile(r"/v1/flash-sales/([^/]+)")
CLAIM = re.compile(r"/v1/claims/([^/]+)")
ADMIN_SALE = re.compile(r"/admin/v1/flash-sales/([^/]+)/(publish|end|stats)")
NO_TIME = datetime(2026, 1, 1, tzinfo=UTC).isoformat()


@dataclass
class Lies:
    """What the service does wrong."""

    oversells_by: int = 0
    forgets_limit: bool = False
    opens_early: bool = False
    forgets_keys: bool = False
    refuses_replays: bool = False
    loses_every_tenth: bool = False
    takes_any_token: bool = False
    stores_differ: bool = False
    invariant_broken: bool = False
    pays_nothing: bool = False
    fails_every: int = 0


@dataclass
class Sale:
    draft: dict[str, Any]
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_key: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @property
    def opens_at(self) -> float:
        return datetime.fromisoformat(self.draft["opens_at"]).timestamp()

    def live(self, user_id: str | None = None) -> int:
        return sum(
            claim["units"]
            for claim in self.claims.values()
            if claim["state"] in {"held", "paid"} and user_id in {None, claim["user_id"]}
        )


Answer = tuple[int, dict[str, Any] | None]


def refusal(code: str, status: int = 409) -> Answer:
    return status, {"type": "about:blank", "title": "No.", "status": status, "code": code}


class FakeService:
    """`async with FakeService() as service`: listens on `service.url`."""

    def __init__(self, lies: Lies | None = None) -> None:
        self.lies = lies or Lies()
        self.sales: dict[str, Sale] = {}
        self.requests = 0
        self.sale_made = asyncio.Event()
        self.stall_from = float("inf")
        self.stall_seconds = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._users: dict[str, str | None] = {}
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    def stall(self, begin: float, seconds: float) -> None:
        """From `begin` on the monotonic clock, answer nothing for `seconds`."""
        self.stall_from, self.stall_seconds = begin, seconds

    def lose_claims(self) -> None:
        """Forget all claims, as a store would that lost its disk."""
        for sale in self.sales.values():
            sale.claims.clear()

    def stop_answering(self) -> None:
        """Refuse every connection from now on, and drop those that are open."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                start, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = start.split(" ")
                self.requests += 1
                now = monotonic()
                if self.stall_from <= now < self.stall_from + self.stall_seconds:
                    await asyncio.sleep(self.stall_from + self.stall_seconds - now)
                if self.lies.fails_every and self.requests % self.lies.fails_every == 0:
                    status, content = refusal("internal", 500)
                else:
                    status, content = self._answer(method, path, headers, body)
                payload = b"" if content is None else json.dumps(content, separators=(",", ":")).encode()
                writer.write(
                    f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
                    f"content-length: {len(payload)}\r\n\r\n".encode()
                    + payload
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    # What it answers.

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:  # noqa: PLR0911
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if path.startswith("/admin/"):
            return self._operator(method, path, body) if token == OPERATOR_KEY else refusal("auth.token_invalid", 401)
        if path == "/shop/v1/events":
            return self._shop(headers, body)
        user_id = self._user(token)
        if user_id is None:
            return refusal("auth.token_invalid", 401)
        if match := CLAIMS.fullmatch(path):
            return self._claim(self.sales[match[1]], user_id, headers["idempotency-key"], json.loads(body)["units"])
        if match := CLAIM.fullmatch(path):
            return self._one_claim(method, match[1], user_id)
        if match := SALE.fullmatch(path):
            now = datetime.now(UTC).isoformat()
            return 200, {"sale_id": match[1], "server_time": now, "state": "open"}
        return refusal("request.not_found", 404)

    def _user(self, token: str) -> str | None:
        if token not in self._users:
            try:
                self._users[token] = jwt.decode(token, JWT_SECRET, algorithms=["HS256"])["sub"]
            except jwt.InvalidTokenError:
                self._users[token] = "anybody" if self.lies.takes_any_token else None
        return self._users[token]

    def _claim(self, sale: Sale, user_id: str, key: str, units: int) -> Answer:
        known = sale.by_key.get((user_id, key))
        if known and not self.lies.forgets_keys:
            return refusal("flash_sale.sold_out") if self.lies.refuses_replays else (201, known)
        if time() < sale.opens_at and not self.lies.opens_early:
            return refusal("flash_sale.not_open")
        if sale.live() + units > sale.draft["units_total"] + self.lies.oversells_by:
            return refusal("flash_sale.sold_out")
        limited = not self.lies.forgets_limit and not (known and self.lies.forgets_keys)
        if limited and sale.live(user_id) + units > sale.draft["max_per_shopper"]:
            return refusal("flash_sale.limit_reached")
        claim_id = f"00000000-0000-7000-8000-{hash((id(sale), len(sale.claims))) & 0xFFFFFFFFFFFF:012x}"
        claim = {"claim_id": claim_id, "user_id": user_id, "units": units, "state": "held", "held_until": NO_TIME}
        sale.claims[claim_id] = sale.by_key[user_id, key] = claim
        return 201, dict(claim)

    def _one_claim(self, method: str, claim_id: str, user_id: str) -> Answer:
        claim = next((sale.claims[claim_id] for sale in self.sales.values() if claim_id in sale.claims), None)
        if claim is None or claim["user_id"] != user_id:
            return refusal("flash_sale.claim_not_found", 404)
        if self.lies.loses_every_tenth and int(claim_id[-2:], 16) % 10 == 0:
            return refusal("flash_sale.claim_not_found", 404)
        if method == "DELETE":
            if claim["state"] != "held":
                return refusal("flash_sale.claim_not_held")
            claim["state"] = "released"
            return 204, None
        return 200, claim

    def _shop(self, headers: dict[str, str], body: bytes) -> Answer:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(SHOP_SECRET.removeprefix("whsec_"))
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        if headers["webhook-signature"] != expected:
            return refusal("auth.signature_invalid", 401)
        results = []
        for event in json.loads(body):
            for line in event["data"]["lines"]:
                for sale in self.sales.values():
                    if line["claim_id"] in sale.claims and not self.lies.pays_nothing:
                        sale.claims[line["claim_id"]]["state"] = "paid"
            outcome = "ignored" if self.lies.pays_nothing else "applied"
            results.append({"id": event["id"], "outcome": outcome, "code": "", "detail": ""})
        return 200, {"results": results}

    def _operator(self, method: str, path: str, body: bytes) -> Answer:
        if (method, path) == ("POST", "/admin/v1/flash-sales"):
            sale_id = f"00000000-0000-7000-8000-{len(self.sales):012d}"
            self.sales[sale_id] = Sale(json.loads(body))
            self.sale_made.set()
            return 201, {"sale_id": sale_id}
        if path == "/admin/v1/invariants":
            broken = [{"room": "flash_sale", "name": "Units taken are units held", "rows": [{}]}]
            return 200, {"checked": 3, "violations": broken if self.lies.invariant_broken else []}
        match = ADMIN_SALE.fullmatch(path)
        if match is None:
            return refusal("request.not_found", 404)
        if match[2] != "stats":
            return 200, {}
        sale = self.sales[match[1]]
        states = [claim["state"] for claim in sale.claims.values()]
        return 200, {
            "units_total": sale.draft["units_total"],
            "taken": sale.live(),
            "held": {"claims": states.count("held"), "units": states.count("held")},
            "paid": {"claims": states.count("paid"), "units": states.count("paid")},
            "stores_agree": not self.lies.stores_differ,
        }
