"""Operators' HTTP of the plumbing: what was done, and whether everything holds."""

from datetime import UTC, datetime
from typing import Annotated, Any

from litestar import Request, Router, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from msgspec import Struct
from msgspec.structs import replace

from growth.plumbing import audit
from growth.plumbing.audit import AuditEntry, AuditFilter
from growth.plumbing.discretion import discreet
from growth.plumbing.http import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, page_of
from growth.plumbing.invariants import Violation, all_invariants, violations
from growth.plumbing.operators import requires, role_of
from growth.plumbing.postgres import Database
from growth.plumbing.wire import FieldError, invalid
from growth.vocabulary.actors import Role

MAX_FILTER_CHARACTERS = 128

Filter = Annotated[
    str | None,
    QueryParameter(max_length=MAX_FILTER_CHARACTERS, pattern=r"^[^\x00]*$", description="Exactly this one."),
]
# `operator` is also what the application injects into handlers that ask for it by that name.
OperatorFilter = Annotated[
    str | None,
    QueryParameter(
        name="operator", max_length=MAX_FILTER_CHARACTERS, pattern=r"^[^\x00]*$", description="Exactly this one."
    ),
]
Since = Annotated[datetime | None, QueryParameter(description="At this instant or later, RFC 3339 with a zone.")]
Until = Annotated[datetime | None, QueryParameter(description="Before this instant, RFC 3339 with a zone.")]


class InvariantsReport(Struct, frozen=True):
    """How many sentences were checked, and those that do not hold."""

    checked: int
    violations: list[Violation]


def _in_utc(name: str, instant: datetime | None) -> datetime | None:
    if instant is None:
        return None
    if instant.tzinfo is None:
        raise invalid(FieldError(name, "Needs a zone, like 2026-11-21T12:00:00Z"))
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise invalid(FieldError(name, "Beyond the times that can be told in every zone")) from None


@get("/audit", operation_id="admin_audit", summary="List what operators did", guards=[requires(Role.VIEWER)])
async def list_audit(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    who: OperatorFilter = None,
    action: Filter = None,
    subject: Filter = None,
    since: Since = None,
    until: Until = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[AuditEntry]:
    """Newest first. Accounts, devices, addresses and what is secret in URLs are shown to admins only."""
    position = decode_cursor(cursor, tuple[int])
    filters = AuditFilter(
        operator=who, action=action, subject=subject, since=_in_utc("since", since), until=_in_utc("until", until)
    )
    entries = await audit.page(
        database, filters, before_entry=None if position is None else position[0], limit=limit + 1
    )
    role = role_of(request)
    shown = [
        replace(entry, before=discreet(entry.before, role), after=discreet(entry.after, role)) for entry in entries
    ]
    return page_of(shown, limit, lambda entry: (entry.entry,))


@get(
    "/invariants",
    operation_id="admin_invariants",
    summary="Check everything that must always hold",
    guards=[requires(Role.VIEWER)],
)
async def check_invariants(database: NamedDependency[Database]) -> InvariantsReport:
    """Run every room's statements; they read whole tables, so ask now and then, not all the time."""
    return InvariantsReport(len(all_invariants()), await violations(database))


router = Router(path="/admin/v1", route_handlers=[list_audit, check_invariants], tags=["Operators"])
