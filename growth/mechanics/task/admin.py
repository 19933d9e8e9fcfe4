"""Operators' HTTP of tasks, and of the rules that campaigns are held to."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from growth.mechanics.task.countable import FieldKind, catalogue
from growth.mechanics.task.model import Task, TaskDraft
from growth.mechanics.task.progress.model import Occurrence
from growth.mechanics.task.progress.service import activity_types
from growth.mechanics.task.service import TaskDryRun, Tasks, TaskStats
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    Limit,
    Page,
    PathUuid,
    decode_cursor,
    idempotency_key,
    if_match,
    page_of,
    versioned,
)
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.operators import act_of, requires
from growth.plumbing.strict_json import Instant
from growth.rewards.compliance import RULES, Rule
from growth.shopper.activity.model import counted_at
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import ShopperId, Uuid

MAX_DATA_FIELDS = 50

StateFilter = Annotated[
    Literal["draft", "published", "paused", "ended"] | None,
    QueryParameter(name="state", description="Only tasks in this state."),
]
AcceptWarnings = Annotated[
    bool, QueryParameter(description="The warnings of the compliance check were read; publish all the same.")
]


class TaskDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a shopper would do, and when it would be told."""

    user_id: ShopperId
    data: Annotated[dict[str, Any], Meta(max_length=MAX_DATA_FIELDS)] = {}
    """The event's data."""
    event_type: Annotated[str, Meta(max_length=64)] | None = None
    """The one that the task counts, if left out."""
    event_id: Annotated[str, Meta(min_length=1, max_length=128)] = "dry-run"
    """Of an event that was told already, to see whether it would count again."""
    at: Instant | None = None
    """When it would happen; `now`, if left out. What clients tell more than 5 minutes later counts when it is told."""
    now: Instant | None = None
    """When it would be told; now, if left out."""


class CountableEvent(Struct, frozen=True):
    """An event that tasks can count."""

    type: str
    fields: dict[str, FieldKind]
    """What filters and `distinct_by` may name."""
    can_be_undone: bool
    """Whether a refund can take it back."""


class CountableEvents(Struct, frozen=True):
    """All of them, by name."""

    items: list[CountableEvent]


class ComplianceRules(Struct, frozen=True):
    """Every rule that publishing asks."""

    items: list[Rule]


@post("", operation_id="admin_tasks_create", summary="Draft a task", guards=[requires(Role.EDITOR)])
async def create_task(
    data: JSONBody[TaskDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    tasks: NamedDependency[Tasks],
) -> Response[Task]:
    """Nobody sees a draft, and nothing counts; publish it when it is right."""
    content = fingerprint(msgspec.json.encode(data))
    made = await tasks.create(act_of(request, operator), data, idempotency_key(request), content)
    return versioned(made.answer, 201, replayed=made.replayed)


@get("", operation_id="admin_tasks_list", summary="List tasks", guards=[requires(Role.VIEWER)])
async def list_all_tasks(
    tasks: NamedDependency[Tasks],
    only: StateFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[Task]:
    """Tasks in any state, newest first."""
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    found = await tasks.page(state=only, before=before, limit=limit + 1)
    return page_of(found, limit, lambda task: (task.task_id,))


@get("/{task_id:str}", operation_id="admin_tasks_get", summary="Get one", guards=[requires(Role.VIEWER)])
async def get_task(task_id: PathUuid, tasks: NamedDependency[Tasks]) -> Response[Task]:
    """The ETag is the version that PUT asks for in If-Match."""
    return versioned(await tasks.find(task_id))


@put("/{task_id:str}", operation_id="admin_tasks_change", summary="Edit", guards=[requires(Role.EDITOR)])
async def change_task(
    task_id: PathUuid,
    data: JSONBody[TaskDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    tasks: NamedDependency[Tasks],
) -> Response[Task]:
    """Replaces all fields. Once open, what is asked for and what is promised are fixed."""
    return versioned(await tasks.change(act_of(request, operator), task_id, if_match(request), data))


@post(
    "/{task_id:str}/publish",
    status_code=200,
    operation_id="admin_tasks_publish",
    summary="Show a draft to shoppers, and begin to count",
    guards=[requires(Role.EDITOR)],
)
async def publish_task(
    task_id: PathUuid,
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    tasks: NamedDependency[Tasks],
    accept_warnings: AcceptWarnings = False,  # noqa: FBT002 - a query parameter
) -> Response[Task]:
    """409 `task.not_compliant` tells in `findings` which rules of platforms or law speak against it.

    What they refuse stays refused; warnings pass with `accept_warnings=true`.
    """
    return versioned(await tasks.publish(act_of(request, operator), task_id, accept_warnings=accept_warnings))


def _step(name: Literal["pause", "resume", "end"], told: str) -> Any:
    @post(
        f"/{{task_id:str}}/{name}",
        status_code=200,
        operation_id=f"admin_tasks_{name}",
        summary=told,
        guards=[requires(Role.EDITOR)],
        name=f"admin_tasks_{name}",
    )
    async def take_step(
        task_id: PathUuid,
        request: Request[Any, Any, Any],
        operator: NamedDependency[Operator],
        tasks: NamedDependency[Tasks],
    ) -> Response[Task]:
        steps = {"pause": tasks.pause, "resume": tasks.resume, "end": tasks.end}
        return versioned(await steps[name](act_of(request, operator), task_id))

    return take_step


@post(
    "/{task_id:str}/dry-run",
    status_code=200,
    operation_id="admin_tasks_dry_run",
    summary="See whether an event would count for a shopper, and why",
    guards=[requires(Role.VIEWER)],
)
async def dry_run_task(
    task_id: PathUuid, data: JSONBody[TaskDryRunRequest], tasks: NamedDependency[Tasks]
) -> TaskDryRun:
    """Changes nothing."""
    now = data.now or clock.now()
    task = await tasks.find(task_id)
    type_, at = data.event_type or task.event_type, data.at or now
    occurrence = Occurrence(
        occurrence_id=data.event_id,
        user_id=data.user_id,
        type=type_,
        at=at,
        counted_at=counted_at(at, now) if type_ in activity_types() else at,
        data=data.data,
    )
    return await tasks.dry_run(task_id, occurrence, now)


@get("/{task_id:str}/stats", operation_id="admin_tasks_stats", summary="Numbers", guards=[requires(Role.VIEWER)])
async def get_task_stats(task_id: PathUuid, tasks: NamedDependency[Tasks]) -> TaskStats:
    """Shoppers by how far they are, rewards taken back, the budget; in all and by period."""
    return await tasks.stats(task_id, clock.now())


@get(
    "/task-events",
    operation_id="admin_task_events",
    summary="List the events that tasks can count",
    guards=[requires(Role.VIEWER)],
    sync_to_thread=False,
)
def list_task_events() -> CountableEvents:
    """With the fields that filters and `distinct_by` may name."""
    known = sorted(catalogue().values(), key=lambda event: event.type)
    return CountableEvents(
        [CountableEvent(event.type, dict(event.fields), event.facts.undone_by is not None) for event in known]
    )


@get(
    "/compliance-rules",
    operation_id="admin_compliance_rules",
    summary="List the rules that campaigns are held to when they are published",
    guards=[requires(Role.VIEWER)],
    sync_to_thread=False,
)
def list_compliance_rules() -> ComplianceRules:
    """Whose rules they are, and what refuses or warns."""
    return ComplianceRules(list(RULES))


router = Router(
    path="/admin/v1",
    route_handlers=[
        Router(
            path="/tasks",
            route_handlers=[
                create_task,
                list_all_tasks,
                get_task,
                change_task,
                publish_task,
                _step("pause", "Stop counting for now"),
                _step("resume", "Count on"),
                _step("end", "End for good"),
                dry_run_task,
                get_task_stats,
            ],
        ),
        list_task_events,
        list_compliance_rules,
    ],
    tags=["Operators: tasks"],
)
