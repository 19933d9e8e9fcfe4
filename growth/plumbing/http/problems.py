"""Problems: how every "no" and every failure reaches a caller, `application/problem+json` (RFC 9457).

`code` is stable, `room.reason`. States that say no come as `Refusal`; a store that does not answer as `Unavailable`
(503, Retry-After); what Litestar itself refuses is put into the same words. Anything else is a bug: 500 `internal`,
told to the log with its stack, never to the caller.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.params import ParameterKwarg
from msgspec import Struct

from growth.plumbing.field_errors import WHOLE_BODY, FieldError, field_error
from growth.plumbing.http.answers import TOO_LARGE, UNSUPPORTED_TYPE
from growth.plumbing.strict_json import REQUEST_INVALID, json_bytes
from growth.vocabulary.refusals import Kind, Refusal, Unavailable

log = structlog.get_logger("problems")

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "tag:growth,2026:"
"""A problem's `type` is a tag URI (RFC 4151): unique, and not pretending to be a page."""

MAX_RETRY_SECONDS = 3600
"""Nobody is told to come back later than this."""

UNAUTHENTICATED = Kind("auth.required", "Credentials are required", 401)
FORBIDDEN = Kind("auth.forbidden", "These credentials do not allow this", 403)
NOT_FOUND = Kind("request.not_found", "There is no such thing here", 404)
METHOD_NOT_ALLOWED = Kind("request.method_not_allowed", "This path does not take this method", 405)
TOO_MANY = Kind("request.too_many", "Too many requests", 429)
INTERNAL = Kind("internal", "Something went wrong on our side", 500)
UNAVAILABLE = Kind("unavailable", "The service cannot answer right now", 503)

_BY_STATUS = {
    kind.status: kind
    for kind in (
        REQUEST_INVALID,
        UNAUTHENTICATED,
        FORBIDDEN,
        NOT_FOUND,
        METHOD_NOT_ALLOWED,
        TOO_LARGE,
        UNSUPPORTED_TYPE,
        TOO_MANY,
        UNAVAILABLE,
    )
}

_MISSING_PARAMETER = re.compile(r"Missing required (\w+) parameter '([^']+)'")

ExceptionHandler = Callable[[Request[Any, Any, Any], Any], Response[bytes]]


class Problem(Struct, kw_only=True):
    """The members that every problem has; some codes add their own."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str = ""


def problem_bytes(
    kind: Kind, detail: str = "", request_id: str = "", members: Mapping[str, object] | None = None
) -> bytes:
    """Return the body of one problem. `members` must not repeat the standard ones; times become RFC 3339."""
    standard: dict[str, object] = {
        "type": TYPE_PREFIX + kind.code,
        "title": kind.title,
        "status": kind.status,
        "detail": detail or kind.title,
        "code": kind.code,
    }
    if request_id:
        standard["request_id"] = request_id
    if members:
        assert standard.keys().isdisjoint(members), f"{kind.code} repeats a standard member"
        standard.update(members)
    return json_bytes(standard)


def request_id_of(request: Request[Any, Any, Any]) -> str:
    """Return the id that telemetry gave this request, or nothing."""
    state = request.scope.get("state") or {}
    return str(state.get("request_id", ""))


def problem_response(
    request: Request[Any, Any, Any],
    kind: Kind,
    detail: str = "",
    *,
    members: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response[bytes]:
    """Return one problem as a response, with the headers that its status asks for."""
    shown = dict(headers or {})
    shown.setdefault("Cache-Control", "no-store")
    if kind.status == UNAUTHENTICATED.status:
        shown.setdefault("WWW-Authenticate", "Bearer")
    body = problem_bytes(kind, detail, request_id_of(request), members)
    return Response(content=body, status_code=kind.status, media_type=MEDIA_TYPE, headers=shown)


def retry_after(seconds: float) -> str:
    """Return a Retry-After header's value: whole seconds, rounded up, at least 1."""
    return str(min(MAX_RETRY_SECONDS, max(1, -int(-seconds // 1))))


def _refused(request: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    headers: dict[str, str] = dict(getattr(refusal, "headers", None) or {})
    seconds = refusal.members.get("retry_after_seconds")
    if isinstance(seconds, (int, float)):
        headers.setdefault("Retry-After", retry_after(seconds))
    return problem_response(request, refusal.kind, refusal.detail, members=refusal.members, headers=headers)


def _unavailable(request: Request[Any, Any, Any], error: Unavailable) -> Response[bytes]:
    # Telemetry puts it into its line about this request; an outage must not write two.
    request.scope.setdefault("state", {})["trouble"] = f"{error.what}: {error.__cause__!r}"
    return problem_response(
        request,
        UNAVAILABLE,
        "Try again after Retry-After, with the same Idempotency-Key",
        headers={"Retry-After": retry_after(error.retry_after_seconds)},
    )


def _undecodable(request: Request[Any, Any, Any], error: msgspec.ValidationError) -> Response[bytes]:
    return _invalid(request, [field_error(error)])


def _invalid(request: Request[Any, Any, Any], errors: list[FieldError]) -> Response[bytes]:
    first = errors[0]
    return problem_response(request, REQUEST_INVALID, f"{first.field}: {first.detail}", members={"errors": errors})


def _by_litestar(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what Litestar refused. Its own words may quote the query string, so they are not passed on."""
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        if error.status_code >= INTERNAL.status:
            return _bug(request, error)
        kind = Kind(f"request.http_{error.status_code}", "The request cannot be served", error.status_code)
    if kind is REQUEST_INVALID:
        return _invalid(request, _errors_of(request, error))
    return problem_response(request, kind, headers=error.headers)


def _errors_of(request: Request[Any, Any, Any], error: HTTPException) -> list[FieldError]:
    found = []
    for item in error.extra if isinstance(error.extra, list) else []:
        field = str(item.get("key", ""))
        if field == "data":
            # Litestar's word for the body: it is missing, or `StrictRequest` would have said what is wrong.
            found.append(FieldError(WHOLE_BODY, "A JSON body is required"))
        else:
            message = msgspec.ValidationError(str(item.get("message", "")))
            found.append(field_error(message, prefix=_as_sent(request, field) or WHOLE_BODY))
    if not found and (missing := _MISSING_PARAMETER.search(error.detail)):
        found.append(FieldError(missing[2], f"This {missing[1]} parameter is required"))
    return found or [FieldError(WHOLE_BODY, "It cannot be read")]


def _as_sent(request: Request[Any, Any, Any], argument: str) -> str:
    """Return the name that a handler's argument has in the query: `state` is Litestar's own word within a handler."""
    parameter = request.route_handler.parsed_fn_signature.parameters.get(argument)
    definition = None if parameter is None else parameter.kwarg_definition
    return (isinstance(definition, ParameterKwarg) and definition.name) or argument


def _bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    scope = request.scope
    log.error(
        "request.failed",
        method=scope.get("method"),
        path=scope["path"],
        request_id=request_id_of(request),
        exc_info=(type(error), error, error.__traceback__),
    )
    return problem_response(request, INTERNAL, "Tell us the request_id")


exception_handlers: dict[int | type[Exception], ExceptionHandler] = {
    Refusal: _refused,
    Unavailable: _unavailable,
    msgspec.ValidationError: _undecodable,
    HTTPException: _by_litestar,
    Exception: _bug,
}
"""For `Litestar(exception_handlers=...)`."""
