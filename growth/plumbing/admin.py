"""Operators' HTTP of the plumbing: what was done, whether everything holds, and what could not be handled."""

from datetime import datetime
from typing import Annotated

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Struct
from msgspec.structs import replace

from growth.plumbing.http.answers import Page
from growth.plumbing.http.discretion import discreet
from growth.plumbing.http.listing import Listing, Since, Until, instant_of
from growth.plumbing.http.operators import for_operators, role_of
from growth.plumbing.outbox import dead_letters
from growth.plumbing.outbox.dead_letters import DeadLetter
from growth.plumbing.postgres.database import Database
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act, AuditEntry, AuditFilter
from growth.plumbing.watch.invariant_rounds import ASK_SECONDS, InvariantRounds, Unanswered, Walk
from growth.plumbing.watch.invariants import Violation, all_invariants
from growth.vocabulary import clock
from growth.vocabulary.actors import Role
from growth.vocabulary.text import Reason

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

Letter = Annotated[int, PathParameter(ge=1, le=2**63 - 1, description="Its number.")]


class DeadLetterRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Why; kept in the audit."""

    reason: Reason


class InvariantsReport(Struct, frozen=True):
    """How many sentences were answered, those that do not hold, and those of which it is not known."""

    checked: int
    violations: list[Violation]
    slow: list[Unanswered]
    """They took too long; the next round asks them again."""
    failed: list[Unanswered]
    """They could not be asked."""
    waiting: int
    """Not asked yet: the round is under way. Ask again."""
    walks: list[Walk]
    """Long tables are looked at a page at a time: how far each sentence of one is."""
    began_at: datetime
    ended_at: datetime | None


@for_operators(get, "/audit", "admin_system_audit_list", "List what operators did", Role.VIEWER)
async def list_audit(
    listing: NamedDependency[Listing],
    database: NamedDependency[Database],
    who: OperatorFilter = None,
    action: Filter = None,
    subject: Filter = None,
    since: Since = None,
    until: Until = None,
) -> Page[AuditEntry]:
    """Newest first. Accounts, devices, addresses and what is secret in URLs are shown to admins only."""
    role = role_of(listing.request)
    filters = AuditFilter(
        operator=who, action=action, subject=subject, since=instant_of("since", since), until=instant_of("until", until)
    )

    def show(entry: AuditEntry) -> AuditEntry:
        return replace(entry, before=discreet(entry.before, role), after=discreet(entry.after, role))

    async def read(before: int | None, most: int) -> list[AuditEntry]:
        return await audit.page(database, filters, before_entry=before, limit=most)

    return await listing.paged("entry", read, kind=int, show=show)


@for_operators(get, "/invariants", "admin_system_invariants_check", "Check that all invariants hold", Role.VIEWER)
async def check_invariants(
    invariant_rounds: NamedDependency[InvariantRounds], database: NamedDependency[Database]
) -> InvariantsReport:
    """Run every room's statements, each with a time of its own, on a connection of their own.

    Whoever asks during a round shares it. In a shop where a round takes more than a second, the last answer is told
    again for ten times as long.
    """
    found = await invariant_rounds.ask(clock.now(), ASK_SECONDS)
    slow, failed = found.unanswered("slow"), found.unanswered("failed")
    return InvariantsReport(
        checked=len(found.outcomes) - len(slow) - len(failed),
        violations=found.violations(),
        slow=slow,
        failed=failed,
        waiting=len(all_invariants()) - len(found.outcomes),
        walks=await invariant_rounds.walks(database),
        began_at=found.began_at,
        ended_at=found.ended_at,
    )


@for_operators(
    get, "/dead-letters", "admin_system_dead_letter_list", "List events that could not be handled", Role.VIEWER
)
async def list_dead_letters(
    listing: NamedDependency[Listing], database: NamedDependency[Database], subscription: Filter = None
) -> Page[DeadLetter]:
    """Oldest first. Each waits: its reader has gone on without it. What they say, `growth dead-letters show` tells."""

    async def read(after: int | None, most: int) -> list[DeadLetter]:
        return await dead_letters.page(database, subscription, after=after or 0, limit=most)

    return await listing.paged("letter", read, kind=int)


@for_operators(
    post,
    "/dead-letters/{letter:str}/retry",
    "admin_system_dead_letter_retry",
    "Retry an event that could not be handled",
    Role.ADMIN,
)
async def retry_dead_letter(
    letter: Letter, data: JSONBody[DeadLetterRequest], act: NamedDependency[Act], database: NamedDependency[Database]
) -> DeadLetter:
    """A worker tries within seconds. It is gone from the list if it was handled, else `tries` has grown."""
    async with database.transaction() as tx:
        return await dead_letters.retry(tx, act.why(data.reason), letter)


@for_operators(
    post,
    "/dead-letters/{letter:str}/pass",
    "admin_system_dead_letter_discard",
    "Give up an event that could not be handled",
    Role.ADMIN,
)
async def pass_dead_letter(
    letter: Letter, data: JSONBody[DeadLetterRequest], act: NamedDependency[Act], database: NamedDependency[Database]
) -> DeadLetter:
    """Its reader never hears of it: a reward, a count, or a webhook that came of it is missing then."""
    async with database.transaction() as tx:
        return await dead_letters.pass_over(tx, act.why(data.reason), letter)


router = Router(
    path="/admin/v1",
    route_handlers=[
        list_audit,
        check_invariants,
        list_dead_letters,
        retry_dead_letter,
        pass_dead_letter,
    ],
    tags=["Operators: system"],
)
