"""Operators' HTTP of tasks, and of the rules that campaigns are held to."""

from typing import Annotated, Any

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from growth.kit.campaign.admin import campaign_routes
from growth.mechanics.task import model
from growth.mechanics.task.countable import FieldKind, catalogue
from growth.mechanics.task.model import TASKS
from growth.mechanics.task.progress.model import Occurrence
from growth.mechanics.task.progress.service import activity_types
from growth.mechanics.task.service import TaskDryRun, Tasks, TaskStats
from growth.plumbing.http.answers import PathUuid
from growth.plumbing.http.operators import for_operators
from growth.plumbing.strict_json import Instant
from growth.rewards.compliance import RULES, Rule
from growth.shopper.activity.model import counted_at
from growth.vocabulary import clock
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import ShopperId

MAX_DATA_FIELDS = 50


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


@for_operators(
    post,
    "/{task_id:str}/dry-run",
    "admin_task_dry_run",
    "See whether an event would count for a shopper, and why",
    Role.VIEWER,
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


@for_operators(get, "/{task_id:str}/stats", "admin_task_stats_get", "Get the numbers of a task", Role.VIEWER)
async def get_task_stats(task_id: PathUuid, tasks: NamedDependency[Tasks]) -> TaskStats:
    """Shoppers by how far they are, rewards taken back, the budget; in all and by period."""
    return await tasks.stats(task_id, clock.now())


@for_operators(
    get,
    "/task-events",
    "admin_task_event_list",
    "List the events that tasks can count",
    Role.VIEWER,
    sync_to_thread=False,
)
def list_task_events() -> CountableEvents:
    """With the fields that filters and `distinct_by` may name."""
    known = sorted(catalogue().values(), key=lambda event: event.type)
    return CountableEvents(
        [CountableEvent(event.type, dict(event.fields), event.facts.undone_by is not None) for event in known]
    )


@for_operators(
    get,
    "/compliance-rules",
    "admin_task_compliance_rules_get",
    "Get the compliance rules that published campaigns are held to",
    Role.VIEWER,
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
                *campaign_routes(
                    TASKS,
                    Tasks,
                    "tasks",
                    "admin_task",
                    told={
                        "create": "Nobody sees a draft, and nothing counts; publish it when it is right.",
                        "change": "Replaces all fields. Once open, what it asks and promises is fixed.",
                        "publish": "From now on shoppers see it, and what they do counts.",
                        "pause": "What is told meanwhile never counts.",
                        "resume": "What is told from now on counts again.",
                        "end": "What happened before still counts when it is told; refunds take back.",
                    },
                    raises={"publish": [model.TOO_MANY]},
                ),
                dry_run_task,
                get_task_stats,
            ],
        ),
        list_task_events,
        list_compliance_rules,
    ],
    tags=["Operators: tasks"],
)
