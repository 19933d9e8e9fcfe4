"""Operators' HTTP of campaigns, of whatever kind: list, get, create, check, change, and the four steps."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from types import MappingProxyType
from typing import Annotated, Any, get_origin
from zoneinfo import ZoneInfo

import msgspec
from litestar import Response, get, post, put
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, QueryParameter

from growth.kit.campaign.model import STEPS, CampaignKind, DraftCheck, Recipes, State, Step
from growth.kit.campaign.service import Campaigns
from growth.plumbing.docs.refusals_of import RAISES
from growth.plumbing.docs.tags import RESOURCE, Resource
from growth.plumbing.http import idempotency
from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    VERSION_REQUIRED,
    AnyRequest,
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
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import Uuid
from growth.vocabulary.refusals import Kind

MAX_SEARCH_CHARACTERS = 120

SUMMARIES = {
    "list": "List {nouns}",
    "get": "Get a {noun}",
    "create": "Draft a {noun}",
    "change": "Edit a {noun}",
    "check": "Check the draft of a {noun}",
    "recipe_list": "List recipes of {nouns}",
    "publish": "Publish a {noun}",
    "pause": "Pause a {noun}",
    "resume": "Resume a {noun}",
    "end": "End a {noun} for good",
}

StateFilter = Annotated[State | None, QueryParameter(name="state", description="Only campaigns in this state.")]
TitleSearch = Annotated[
    str | None,
    QueryParameter(
        name="q",
        min_length=1,
        max_length=MAX_SEARCH_CHARACTERS,
        pattern=r"^[^\x00]*$",
        description="Part of the title.",
    ),
]
AcceptWarnings = Annotated[
    bool, QueryParameter(description="The warnings of the compliance check were read; go on all the same.")
]
Service = Campaigns[Any, Any]


async def _list(
    service: Service,
    only: StateFilter = None,
    q: TitleSearch = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[Any]:
    position = decode_cursor(cursor, tuple[Uuid])
    before = None if position is None else position[0]
    found = await service.page(state=only, before=before, q=q, limit=limit + 1)
    return page_of(found, limit, lambda campaign: (service.kind.id_of(campaign),))


async def _get(campaign_id: PathUuid, service: Service) -> Response[Any]:
    return versioned(await service.find(campaign_id))


async def _create(
    data: Any, request: AnyRequest, operator: NamedDependency[Operator], service: Service
) -> Response[Any]:
    content = fingerprint(msgspec.json.encode(data))
    made = await service.create(act_of(request, operator), data, idempotency_key(request), content)
    return versioned(made.answer, 201, replayed=made.replayed)


async def _check(data: Any, service: Service) -> DraftCheck:
    return service.check(data, clock.now())


async def _recipes(service: Service, merchant_zone: NamedDependency[ZoneInfo]) -> Recipes[Any]:
    make = service.kind.recipes
    return Recipes([] if make is None else make(clock.now(), merchant_zone))


async def _change(
    campaign_id: PathUuid,
    data: Any,
    request: AnyRequest,
    operator: NamedDependency[Operator],
    service: Service,
    accept_warnings: AcceptWarnings = False,  # noqa: FBT002 - a query parameter
) -> Response[Any]:
    act = act_of(request, operator)
    changed = await service.change(act, campaign_id, if_match(request), data, accept_warnings=accept_warnings)
    return versioned(changed)


async def _publish(
    campaign_id: PathUuid,
    request: AnyRequest,
    operator: NamedDependency[Operator],
    service: Service,
    accept_warnings: AcceptWarnings = False,  # noqa: FBT002 - a query parameter
) -> Response[Any]:
    return versioned(await service.publish(act_of(request, operator), campaign_id, accept_warnings=accept_warnings))


def _step(step: Step) -> Callable[..., Any]:
    async def take_step(
        campaign_id: PathUuid, request: AnyRequest, operator: NamedDependency[Operator], service: Service
    ) -> Response[Any]:
        return versioned(await service.step(act_of(request, operator), campaign_id, step))

    return take_step


def campaign_routes(
    kind: CampaignKind[Any, Any],
    service: type[Service],
    named: str,
    operations: str,
    *,
    told: Mapping[str, str],
    raises: Mapping[str, Sequence[Kind]] = MappingProxyType({}),
    without: Collection[str] = (),
) -> list[HTTPRouteHandler]:
    """Make the routes of one kind, for a router at `/admin/v1/{kind.path}`.

    `service` is given to handlers under the name `named`; operationIds begin with `operations`. `told` describes, by
    call, what is special to the kind. `raises` lists, by call, the refusals that the room adds to those of every kind.
    Calls in `without` the room makes itself.
    """
    told = {
        "list": "In any state, newest first.",
        "get": "The ETag is the version that PUT asks for in If-Match.",
        "check": "Says what publishing it would meet: faults by field, and what rules of platforms and law say. Nothing"
        " is saved.",
        "recipe_list": "Ready drafts: create one as it stands, or change it before.",
    } | dict(told)
    one = f"/{{{kind.id_field}:str}}"
    resource = Resource(kind.path, kind.id_field, tuple(STEPS), kind.noun, kind.table.partition(".")[0], operations)
    moved = [kind.not_found, kind.wrong_state]
    edited = [*moved, VERSION_REQUIRED, kind.version_mismatch, kind.not_compliant]
    edited += [] if kind.locked_field is None else [kind.locked_field]
    calls: list[tuple[str, Callable[..., Any], str, Callable[..., Any], Role, Sequence[Kind]]] = [
        ("create", post, "", _create, Role.EDITOR, [idempotency.OTHER_CONTENT, idempotency.IN_PROGRESS]),
        ("list", get, "", _list, Role.VIEWER, []),
        ("get", get, one, _get, Role.VIEWER, [kind.not_found]),
        ("change", put, one, _change, Role.EDITOR, edited),
        ("check", post, "/check", _check, Role.VIEWER, []),
        ("recipe_list", get, "/recipes", _recipes, Role.VIEWER, []),
        ("publish", post, f"{one}/publish", _publish, Role.EDITOR, [*moved, kind.not_compliant]),
        *((step, post, f"{one}/{step}", _step(step), Role.EDITOR, moved) for step in STEPS if step != "publish"),
    ]
    return [
        method(
            path,
            status_code=201 if name == "create" else 200,
            name=f"{operations}_{name}",
            operation_id=f"{operations}_{name}",
            summary=SUMMARIES[name].format(noun=kind.noun, nouns=kind.nouns),
            description=told.get(name),
            guards=[requires(role)],
            opt={RAISES: [*kinds, *raises.get(name, [])], RESOURCE: resource},
        )(_of_kind(function, kind, service, named))
        for name, method, path, function, role, kinds in calls
        if name not in without
    ]


def _of_kind(
    function: Callable[..., Any], kind: CampaignKind[Any, Any], service: type[Service], named: str
) -> Callable[..., Any]:
    """Return `function` with a kind's types, and the room's names for the id and the service: Litestar reads them."""
    draft: Any = kind.draft
    class_: Any = service
    names = {"campaign_id": kind.id_field, "service": named}
    types: dict[str, Any] = {"data": JSONBody[draft], "service": NamedDependency[class_]}  # type: ignore[misc]
    signature = inspect.signature(function)
    returned: Any = signature.return_annotation
    if returned is not DraftCheck:
        returned = get_origin(returned)[draft if returned == Recipes[Any] else kind.campaign]
    parameters = [
        one.replace(name=names.get(name, name), annotation=types.get(name, one.annotation))
        for name, one in signature.parameters.items()
    ]
    ours = {names.get(name, name): name for name in signature.parameters}

    @wraps(function)
    async def handler(**given: Any) -> Any:
        return await function(**{ours[name]: value for name, value in given.items()})

    handler.__signature__ = signature.replace(parameters=parameters, return_annotation=returned)  # type: ignore[attr-defined]
    handler.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": returned}
    return handler
