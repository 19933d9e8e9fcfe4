"""A house under attack: what is in it, who asks, and proof that an attack left nothing behind."""

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from growth.plumbing.http.signatures import sign
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from tests import one_of_each as everything
from tests.app import ENVIRONMENT, JSON, RunningApp, running_app
from tests.one_of_each import Everything
from tests.shop.order.telling import SECRET

PROBLEM = "application/problem+json"
NOBODYS_ID = "0199c0de-0000-7000-8000-000000000001"

VICTIM, ATTACKER, FRIEND = "victim", "attacker", "friend-of-victim"

PLAIN = "application/json"
"""What the short cuts in front of the routes take."""
BYPASSING = 'application/json; charset="utf-8"'
"""The same, in a form that only the ordinary routes read."""

RawHeaders = list[tuple[bytes, bytes]]


class Call:
    """One call of the OpenAPI document."""

    def __init__(self, method: str, path: str, operation: JSON) -> None:
        self.method, self.path, self.operation = method, path, operation
        self.name: str = operation["operationId"]
        security = operation.get("security")
        self.caller: str | None = next(iter(security[0])) if security else None

    @property
    def changes(self) -> bool:
        """Whether it needs more than a viewer, whatever its handler says."""
        return self.method != "GET" and not self.path.endswith(("/dry-run", "/check"))

    @property
    def role(self) -> Role:
        """The lowest role of an operator who may make it, as the document says."""
        told = re.search(r"Role: (\w+)\.", self.operation.get("description", ""))
        return Role[told[1].upper()] if told else Role.VIEWER


class Attacked:
    """A running application with one of everything, most of it the victim's."""

    def __init__(self, app: RunningApp, document: JSON) -> None:
        self.app = app
        self.document = document
        self.there = Everything(app, VICTIM, FRIEND)
        self.ids = self.there.ids
        self.secrets = [ENVIRONMENT["GROWTH_JWT_SECRET"], SECRET, SECRET.removeprefix("whsec_")]
        self.admin = self.editor = self.viewer = ""

    @property
    def calls(self) -> list[Call]:
        """Every call there is."""
        return [
            Call(method.upper(), path, operation)
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        ]

    def calls_with_json(self) -> list[Call]:
        """The calls of shoppers and operators that take a body: one that is right or wrong as a whole.

        A batch of events is answered event by event; `tests/events` holds it to the same.
        """
        return [
            call
            for call in self.calls
            if "requestBody" in call.operation
            and call.caller != "shop"
            and call.operation["operationId"] != "events_report"
        ]

    def url(self, call: Call, **ids: str) -> str:
        """The path with the ids of what is really there."""
        return self.there.url(call.path, **ids)

    def token(self, user_id: str = ATTACKER) -> str:
        token = self.app.growth.identity.sign(user_id, now=now(), lifetime_seconds=3600)
        self.secrets.append(token)
        return token

    def credential(self, call: Call) -> str:
        """What such a call is rightly made with."""
        return self.admin if call.caller == "operator" else self.token()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        content: bytes | None = None,
        content_type: str | None = PLAIN,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> httpx.Response:
        """Ask with exactly these headers and this body."""
        sent: RawHeaders = [(b"host", b"growth.test"), *headers]
        if token is not None:
            sent.append((b"authorization", b"Bearer " + token.encode()))
        if content is not None:
            sent.append((b"content-length", b"%d" % len(content)))
            if content_type is not None:
                sent.append((b"content-type", content_type.encode("latin-1")))
        request = httpx.Request(method, f"http://growth.test{url}", headers=sent, content=content)
        return await self.app.client.send(request)

    async def ask_call(self, call: Call, **how: Any) -> httpx.Response:
        """Make this call at what is really there, with an empty object where it takes a body."""
        if "requestBody" in call.operation:
            how = {"content": b"{}"} | how
        return await self.ask(call.method, self.url(call), **how)

    async def hook(self, raw: bytes, secret: str = SECRET, /, **changes: str | None) -> httpx.Response:
        """Send a signed hook; `changes` replaces headers (`_` for `-`), or takes them away."""
        plain: dict[str, str | None] = {**sign(secret, "hook-of-attacker", now(), raw), "content-type": PLAIN}
        plain |= {name.replace("_", "-"): value for name, value in changes.items()}
        headers = [(name.encode(), value.encode("latin-1")) for name, value in plain.items() if value is not None]
        return await self.app.client.post("/shop/v1/events", content=raw, headers=headers)

    async def stored(self) -> dict[str, Any]:
        """How many rows every table has, and what is left of what is for sale."""
        database = self.app.growth.database
        tables = await database.fetch(
            """
            SELECT format('%I.%I', n.nspname, c.relname) AS name
            FROM pg_catalog.pg_class AS c
            JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname <> 'information_schema'
              AND NOT starts_with(n.nspname, 'pg_')
              AND c.relkind IN ('r', 'p')
              AND NOT c.relispartition
              -- How often a sale said no is added up every few seconds, whoever asked.
              AND c.oid <> 'flash_sale.refusals'::regclass
            ORDER BY 1
            """
        )
        counted = [f'(SELECT count(*) FROM {table["name"]}) AS "{table["name"]}"' for table in tables]
        row = await database.fetchrow(f"SELECT {', '.join(counted)}")
        assert row is not None
        assert {"plumbing.audit", "plumbing.outbox", "plumbing.idempotency", "flash_sale.claims"} <= set(row.keys())
        keys: list[Any] = sorted(await self.app.growth.redis.keys())
        # Who asks too often is counted, and forgotten within minutes.
        return {**row, "keys in Redis": [key for key in keys if not key.startswith((b"limits:", b"{limits:"))]}

    def leaks(self, text: str) -> list[str]:
        """The secrets, keys and tokens in a text."""
        return [secret for secret in self.secrets if secret and secret in text]


def refused(answer: httpx.Response, *statuses: int, code: str | None = None, field: str | None = None) -> JSON:
    """Hold an answer to how a "no" looks."""
    told = f"{answer.request.method} {answer.request.url} {answer.status_code} {answer.text[:400]}"
    assert answer.status_code in statuses, told
    assert answer.headers["content-type"] == PROBLEM, told
    problem: JSON = answer.json()
    assert re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)?", problem["code"]), told
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"], told
    assert "Traceback" not in answer.text
    assert code in (None, problem["code"]), told
    if field is not None:
        assert [error["field"] for error in problem["errors"]] == [field], told
    return problem


def _resolved(document: JSON, schema: JSON) -> JSON:
    if "$ref" not in schema:
        return schema
    node = document
    for key in schema["$ref"].removeprefix("#/").split("/"):
        node = node[key]
    return _resolved(document, node)


BOUNDS = ("minLength", "maxLength", "pattern", "minimum", "maximum")


def allows(leaf: JSON, value: object) -> bool:
    """Whether a field takes this text, as the document says."""
    if not isinstance(value, str) or leaf.keys() & {"enum", "const", "format"}:
        return value in leaf.get("enum", ())
    if any("\ud800" <= one <= "\udfff" for one in value):
        return False
    bounds = leaf.get("minLength", 0), leaf.get("maxLength", len(value))
    return bounds[0] <= len(value) <= bounds[1] and re.search(leaf.get("pattern", ""), value) is not None


def fields_of(document: JSON, schema: JSON) -> Iterator[tuple[str, str, JSON]]:
    """Every field of a body that is no object: its path, a body with %s in its place, its schema."""
    schema = _resolved(document, schema)
    choices = [one for one in schema.get("anyOf", []) + schema.get("oneOf", []) if one.get("type") != "null"]
    bounds = {name: schema[name] for name in BOUNDS if name in schema}
    for choice in choices:
        for path, body, leaf in fields_of(document, choice):
            # Any of several: what is wrong about one is right about another.
            kind = {"type": "any"} if len(choices) > 1 and not path else {}
            yield path, body, (leaf if path else bounds | leaf) | kind
    properties = schema.get("properties", {})
    tag = next((f'"{name}": "{one["const"]}", ' for name, one in properties.items() if "const" in one), "")
    for name, member in properties.items():
        for path, body, leaf in fields_of(document, member):
            said = "" if "const" in member else tag
            yield f"{name}{path}" if path[:1] in ("", "[") else f"{name}.{path}", f'{{{said}"{name}": {body}}}', leaf
    if "items" in schema:
        for path, body, leaf in fields_of(document, schema["items"]):
            yield f"[0].{path}" if path[:1] not in ("", "[") else f"[0]{path}", f"[{body}]", leaf
    if schema.get("type") in ("integer", "string", "boolean", "number"):
        yield "", "%s", schema


def body_schema(call: Call) -> JSON:
    """The schema of the body of a call."""
    schema: JSON = call.operation["requestBody"]["content"][PLAIN]["schema"]
    return schema


@asynccontextmanager
async def attacked(postgres_dsn: str, redis_url: str, **environment: str) -> AsyncIterator[Attacked]:
    """Start the application, and put into it what attackers are after."""
    async with running_app(postgres_dsn, redis_url, **everything.ENVIRONMENT, **environment) as app:
        house = Attacked(app, (await app.client.get("/openapi.json")).json())
        keys = [await app.operator_headers(role) for role in (Role.ADMIN, Role.EDITOR, Role.VIEWER)]
        house.admin, house.editor, house.viewer = (key["authorization"].removeprefix("Bearer ") for key in keys)
        house.secrets += [house.admin, house.editor, house.viewer]
        await house.there.put()
        house.secrets += [house.there.code, house.there.code.replace("-", ""), everything.ACCOUNT]
        # The gate remembers a sale once somebody has asked for it, and who first looks at their code has one made.
        await app.shopper(VICTIM, "POST", f"/v1/flash-sales/{house.ids['later_sale_id']}/claims", {})
        await app.shopper(ATTACKER, "GET", "/v1/referral")
        yield house
