"""The OpenAPI document, completed: Litestar writes down what the routes say; this adds what they say only in code.

Who may call, which problems a call ends in, the headers it reads, and the words beside the fields of our Structs.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, TypeAlias
from zlib import crc32

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from msgspec import NODEFAULT, Struct, structs, to_builtins

from growth.plumbing.docs.event_catalogue import document_webhooks
from growth.plumbing.docs.examples import INSTANT
from growth.plumbing.docs.field_docs import field_docs
from growth.plumbing.docs.parts import always_sent
from growth.plumbing.docs.refusals_of import RAISES, kinds_of, names_in
from growth.plumbing.docs.schemas import BY_HAND, SCHEMAS, schema_of
from growth.plumbing.docs.tags import RESOURCE, Resource, tags_of
from growth.plumbing.field_errors import FieldError
from growth.plumbing.http import identity, operators, problems
from growth.plumbing.http.answers import (
    CSV_MEDIA_TYPE,
    REPLAYED_HEADER,
    TOO_LARGE,
    UNSUPPORTED_TYPE,
    csv_bytes,
    idempotency_key,
    if_match,
)
from growth.plumbing.http.listing import listed, listed_by
from growth.plumbing.strict_json import REQUEST_INVALID
from growth.vocabulary.actors import Role
from growth.vocabulary.refusals import Kind

JSON: TypeAlias = dict[str, Any]

EXAMPLES = "#/components/examples/"
RESPONSES = "#/components/responses/"
DRY_RUN = "/dry-run"
CONFLICT = 409

SECURITY: dict[str, JSON] = {
    "shopper": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "`sub` is the user id."},
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "gop_…",
        "description": "A key made by `growth operator add NAME --role viewer|editor|admin`.",
    },
    "shop": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "Standard Webhooks: webhook-id, webhook-timestamp and webhook-signature over the body as sent.",
    },
}

CALLERS: dict[str, tuple[str, set[Kind]]] = {
    "/admin/v1/": ("operator", {operators.KEY_MISSING, operators.KEY_INVALID}),
    "/shop/v1/": ("shop", set()),
    "/v1/": (
        "shopper",
        {identity.TOKEN_MISSING, identity.TOKEN_INVALID, identity.TOKEN_EXPIRED, identity.SHOPPER_ERASED},
    ),
}
"""Path → who calls, and how they are refused before the handler is asked."""

HEADERS: dict[str, JSON] = {
    "Retry-After": {"description": "Come back after so many seconds.", "schema": {"type": "integer", "minimum": 1}},
    REPLAYED_HEADER: {
        "description": "`true` when this is the first answer to the Idempotency-Key, told again.",
        "schema": {"const": "true"},
    },
}

IDEMPOTENCY_KEY: JSON = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Names this call for 24 hours: sent again with the same key it gives the first answer.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    "example": "f2d1c0e6-8c1c-4f39-9d8e-2b7a0a3c5e11",
}
IF_MATCH: JSON = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The version that was read, in double quotes: what ETag said.",
    "schema": {"type": "string", "pattern": '^"[0-9]{1,18}"$'},
    "example": '"1"',
}

PROBLEM: JSON = {
    "title": "Problem",
    "type": "object",
    "description": "RFC 9457. `code` is stable; some codes add members of their own.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "A tag URI around the code."},
        "title": {"type": "string", "description": "The same each time."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened here, for a developer."},
        "code": {"type": "string"},
        "request_id": {"type": "string", "description": "Name it when you ask us; also in X-Request-Id."},
        "errors": {
            "type": "array",
            "description": "With `request.invalid`: the fields at fault.",
            "items": {"$ref": f"{SCHEMAS}FieldError"},
        },
    },
}

RETRY = {problems.UNAVAILABLE.status: "same_key", problems.TOO_MANY.status: "after"}
"""Whether a refused call may be asked again, by status: under the same Idempotency-Key after Retry-After, as a new one
after it, or never as it stands."""

BOUNDS = frozenset({"format", "maxItems", "maxLength", "maximum", "minItems", "minLength", "minimum", "pattern"})
"""What binds a value, and nothing that is null."""


def complete(document: JSON, app: Litestar) -> JSON:
    """Return the document with everything added; `document` is what Litestar made of `app`, and is taken apart."""
    routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    handlers = {handler.operation_id: handler for route in routes for handler in route.route_handlers}
    resources: dict[str, Resource] = {}
    components = document.setdefault("components", {})
    components |= {"securitySchemes": SECURITY, "headers": HEADERS, "examples": {}, "responses": {}}
    schemas = components.setdefault("schemas", {})
    schema_of(FieldError, schemas)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            handler = handlers[operation["operationId"]]
            if BY_HAND in handler.opt:
                operation.update(handler.opt[BY_HAND](lambda type_: schema_of(type_, schemas)))
            if resource := handler.opt.get(RESOURCE):
                resources[operation["tags"][0]] = resource
            _complete_operation(operation, handler, path, method, components)
    document["webhooks"] = document_webhooks(components)
    document["tags"] = tags_of(document, resources)
    for schema in schemas.values():
        _describe(schema)
    schemas["Problem"] = PROBLEM
    names = {SCHEMAS + name: SCHEMAS + _short(name, schema) for name, schema in schemas.items()}
    components["schemas"] = {_short(name, schema): schema for name, schema in schemas.items()}
    tidied: JSON = _tidied(document, names)
    always_sent(tidied)
    return tidied


def _complete_operation(operation: JSON, handler: HTTPRouteHandler, path: str, method: str, components: JSON) -> None:
    used = _used(handler.fn)
    parameters = operation.setdefault("parameters", [])
    if not operation.get("description") and (told := inspect.getdoc(handler.fn)):
        operation["description"] = told
    for status, response in operation["responses"].items():
        response["description"] = HTTPStatus(int(status)).phrase
    if idempotency_key.__name__ in used:
        parameters.append(IDEMPOTENCY_KEY)
        for status in operation["responses"].keys() & {"200", "201"}:
            operation["responses"][status]["headers"] = {
                REPLAYED_HEADER: {"$ref": f"#/components/headers/{REPLAYED_HEADER}"}
            }
    if if_match.__name__ in used:
        parameters.append(IF_MATCH)
    if used & {csv_bytes.__name__, listed.__name__, listed_by.__name__}:
        _offer_csv(operation)
    role = _role(handler)
    if role is not None:
        operation["x-role"] = role.name.lower()
        operation["description"] = f"{operation.get('description', '')}\n\nRole: {role.name.lower()}.".strip()
    for prefix, (caller, of_all) in CALLERS.items():
        if path.startswith(prefix):
            operation["security"] = [{caller: []}]
            kinds = of_all | _kinds(operation, handler, role, asks=method == "get" or DRY_RUN in path)
            answers = [one for one in operation["responses"].items() if int(one[0]) < REQUEST_INVALID.status]
            operation["responses"] = {**dict(answers), **_refusals(kinds, components)}
            break


def _offer_csv(operation: JSON) -> None:
    media_type = CSV_MEDIA_TYPE.partition(";")[0]
    for status in operation["responses"].keys() & {"200", "201"}:
        operation["responses"][status].setdefault("content", {})[media_type] = {"schema": {"type": "string"}}


def _used(function: Callable[..., Any]) -> set[str]:
    """Return the names that a handler uses, itself or by helpers that stand beside it."""
    scope = inspect.unwrap(function).__globals__
    helpers = [helper for name in names_in(function) if inspect.isfunction(helper := scope.get(name))]
    beside = [helper for helper in helpers if helper.__module__ == function.__module__]
    return set(names_in(function)).union(*map(names_in, beside))


def _kinds(operation: JSON, handler: HTTPRouteHandler, role: Role | None, *, asks: bool) -> set[Kind]:
    """Return how the call itself may be refused; one that only asks names states, and never ends in them."""
    known = kinds_of(handler.fn).union(handler.opt.get(RAISES, ()))
    kinds = {kind for kind in known if not (asks and kind.status == CONFLICT)}
    kinds |= {problems.TOO_MANY, problems.UNAVAILABLE}
    if operation.get("requestBody"):
        kinds |= {UNSUPPORTED_TYPE, TOO_LARGE, REQUEST_INVALID}
    if operation["parameters"]:
        kinds.add(REQUEST_INVALID)
    if role is not None and role > Role.VIEWER:
        kinds.add(operators.ROLE_TOO_LOW)
    return kinds


def _role(handler: HTTPRouteHandler) -> Role | None:
    """Return the lowest role that `requires` lets through."""
    for guard in handler.guards or ():
        role = inspect.getclosurevars(guard).nonlocals.get("role")
        if isinstance(role, Role):
            return role
    return None


def _refusals(kinds: set[Kind], components: JSON) -> JSON:
    """Return how a call may be refused, by status; what that refers to, once for each set of codes, is added."""
    refused: JSON = {}
    for status in sorted({kind.status for kind in kinds}):
        here = {kind.code: kind for kind in kinds if kind.status == status}
        codes = sorted(here)
        name = f"Refused{status}_{crc32(' '.join(codes).encode()):08x}"
        # Beside a reference generators overlook what else there is.
        of_these = {"type": "object", "required": ["code"], "properties": {"code": {"enum": codes}}}
        media = {
            "schema": {"allOf": [{"$ref": SCHEMAS + "Problem"}, of_these]},
            "examples": {code: {"$ref": EXAMPLES + code} for code in codes},
        }
        waits = status in {problems.TOO_MANY.status, problems.UNAVAILABLE.status}
        components["examples"] |= {code: _example(here[code]) for code in codes}
        components["responses"][name] = {
            "description": HTTPStatus(status).phrase,
            "headers": {"Retry-After": {"$ref": "#/components/headers/Retry-After"}} if waits else {},
            "content": {problems.MEDIA_TYPE: media},
        }
        refused[str(status)] = {"$ref": RESPONSES + name}
    return refused


def _example(kind: Kind) -> JSON:
    standard = {"title": kind.title, "status": kind.status, "detail": kind.title, "code": kind.code}
    value = {"type": problems.TYPE_PREFIX + kind.code, **standard, "request_id": "5f0c2a-1"}
    return {"summary": kind.title, "value": value, "x-retry": RETRY.get(kind.status, "never")}


# --- schemas --------------------------------------------------------------------------------------------------------


def _short(name: str, schema: JSON) -> str:
    """Return `Page_Sale` for `Page_growth.mechanics.flash_sale.model.Sale_`."""
    return re.sub(r"\W+", "_", schema.get("title", name)).strip("_") if "." in name else name


def _describe(schema: JSON) -> None:
    """Add what the Struct behind a schema says of itself and of its fields."""
    # `Page[Sale]` is described as `Page`.
    name = schema.get("title", "").partition("[")[0]
    struct = _structs().get((name, frozenset(schema.get("properties", {}))))
    if struct is None:
        return
    schema.setdefault("description", inspect.getdoc(struct))
    if struct.__struct_config__.forbid_unknown_fields:
        schema["additionalProperties"] = False
    docs = field_docs(struct)
    for info in structs.fields(struct):
        if info.default_factory is not NODEFAULT:
            schema["properties"][info.encode_name]["default"] = to_builtins(info.default_factory())
        if info.name in docs:
            schema["properties"][info.encode_name]["description"] = docs[info.name]


@cache
def _structs() -> Mapping[tuple[str, frozenset[str]], type[Struct]]:
    """Return all Structs there are, by name and fields: a schema knows no more of where it came from."""
    found: dict[tuple[str, frozenset[str]], type[Struct]] = {}
    waiting = Struct.__subclasses__()
    while waiting:
        struct = waiting.pop()
        waiting += struct.__subclasses__()
        if struct.__module__.startswith("growth."):
            config, fields = struct.__struct_config__, frozenset(struct.__struct_encode_fields__)
            found[struct.__name__, fields] = struct
            if config.tag is not None and config.tag_field is not None:
                # In a union the tag is a property as well.
                found[struct.__name__, fields | {config.tag_field}] = struct
    return found


def _tidied(node: Any, names: Mapping[str, str]) -> Any:
    """Return `node` without noise: whole limits of whole numbers, short names, a shape for times.

    Bounds move to what they bind: beside a choice with null generators overlook them.
    """
    if isinstance(node, list):
        return [_tidied(item, names) for item in node]
    if not isinstance(node, dict):
        return int(node) if isinstance(node, float) and node.is_integer() else node
    tidied: JSON = {
        key: names.get(value, value) if key == "$ref" else _tidied(value, names)
        for key, value in node.items()
        if not ((key == "deprecated" and value is False) or (key == "headers" and not value))
    }
    bound = [one for one in tidied.get("oneOf", ()) if one.get("type") != "null"]
    if len(bound) == 1:
        bound[0].update({key: tidied.pop(key) for key in BOUNDS & tidied.keys()})
    if tidied.get("format") == "date-time":
        tidied.setdefault("examples", [INSTANT])
    return tidied
