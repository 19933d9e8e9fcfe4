"""HTTP: the rooms' routes, and what stands in front of them: telemetry, callers, short cuts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ASGIApp

from growth.bootstrap import Growth, stop_task
from growth.mechanics.checkin.short_cut import CheckinFront
from growth.mechanics.checkin.streak.service import CheckIns
from growth.mechanics.flash_sale.board import SaleBoard
from growth.mechanics.flash_sale.claim.service import Claims
from growth.mechanics.flash_sale.short_cut import Turnstile
from growth.mechanics.group_buy.board import GroupBuyBoard
from growth.mechanics.group_buy.short_cut import GroupBuyFront
from growth.mechanics.group_buy.team.service import Teams
from growth.mechanics.referral.relation.service import Relations
from growth.mechanics.referral.short_cut import ReferralFront
from growth.plumbing.docs import page as docs
from growth.plumbing.http.answers import MAX_BODY_BYTES, JsonResponse, StrictRequest
from growth.plumbing.http.callers import ADDRESS, Callers
from growth.plumbing.http.operators import provide_operator
from growth.plumbing.http.overload import Shed
from growth.plumbing.http.problems import exception_handlers
from growth.plumbing.http.short_cut import Door
from growth.plumbing.http.urls import WholePaths, plain_ids
from growth.plumbing.person.pages import Pages
from growth.plumbing.watch.readiness import Readiness
from growth.plumbing.watch.telemetry import Telemetry, watch_loop
from growth.shopper.activity.service import Events
from growth.shopper.activity.short_cut import EventsFront
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper

STOP_SECONDS = 3.0

AnyRequest = Request[Any, Any, Any]


@get("/livez", media_type=MediaType.TEXT, sync_to_thread=False, summary="Is the process alive?", tags=["Probes"])
def livez() -> str:
    """Answer as long as the process runs."""
    return "ok"


@get(
    "/readyz",
    media_type=MediaType.TEXT,
    summary="Can it serve?",
    tags=["Probes"],
    responses={503: ResponseSpec(str, generate_examples=False, description="No: why", media_type=MediaType.TEXT)},
)
async def readyz(readiness: NamedDependency[Readiness]) -> Response[str]:
    """Answer 200 when Postgres and Redis take writes, else 503 and which of them does not."""
    why = await readiness.trouble()
    return Response(why or "ok", status_code=503 if why else 200)


def create_app(growth: Growth) -> ASGIApp:
    """Return the ASGI application around everything in `growth`."""
    readiness = Readiness(growth.database, growth.redis)

    said = growth.settings
    serves_docs = not said.is_production if said.docs is None else said.docs
    door = Door(growth.identity, growth.limits.shopper_here)

    async def shopper(request: AnyRequest) -> Shopper:
        found = await growth.identity.shopper(request)
        await growth.limits.shopper.take(found.user_id)
        return found

    def address(request: AnyRequest) -> str:
        return str(request.scope["state"].get(ADDRESS, ""))

    async def limit(request: AnyRequest) -> None:
        if request.scope["path"].startswith("/v1/"):
            # Before the body is read: nobody without a token is told what is wrong with one. Tokens are remembered.
            found = await growth.identity.shopper(request)
            door.count(found.user_id, request.scope)
        operator = request.scope["state"].get("operator")
        if operator is not None:
            await growth.limits.operator.take(operator.name)

    litestar = Litestar(
        route_handlers=[
            *(router for room in growth.rooms for router in room.routers),
            livez,
            readyz,
            *([docs.router] if serves_docs else []),
        ],
        dependencies={
            "shopper": Provide(shopper),
            "operator": Provide(provide_operator),
            "address": Provide(address, sync_to_thread=False),
            "readiness": _given(readiness),
            **_services(growth),
        },
        before_request=limit,
        exception_handlers=exception_handlers,
        request_class=StrictRequest,
        response_class=JsonResponse,
        request_max_body_size=MAX_BODY_BYTES,
        middleware=[plain_ids],
        lifespan=[lambda _app: _running(growth)],
        openapi_config=_openapi(),
        # Bodies may hold what must not be logged; problems log what they know.
        logging_config=None,
    )
    litestar.state.operators = growth.operators
    fronts = _fronts(growth, WholePaths(litestar), door)
    return Telemetry(Callers(fronts, trusted_proxies=said.trusted_proxies, share=growth.limits.address))


def _given(value: Any) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


def _after_shopper(value: Any) -> Provide:
    """Given to handlers that ask for the shopper too, after it: two at once make a task group, which costs more."""

    def provide(shopper: NamedDependency[Shopper]) -> Any:  # noqa: ARG001 - so that it comes after
        return value

    return Provide(provide, sync_to_thread=False)


def _services(growth: Growth) -> dict[str, Provide]:
    """Return what handlers may ask for by name, room by room."""
    given = {name: _given(service) for room in growth.rooms for name, service in room.gives.items()}
    after = {name: _after_shopper(one) for room in growth.rooms for name, one in room.gives_after_shopper.items()}
    return given | after


def _fronts(growth: Growth, routes: ASGIApp, door: Door) -> ASGIApp:
    """Put the short cuts in front of the routes, the busiest outermost."""
    limit = growth.limits.shopper.take
    bindings = ReferralFront(
        Pages(routes, growth.database, growth.operators),
        relations=growth.of(Relations),
        door=door,
        limit=limit,
        now=clock.now,
    )
    batches = EventsFront(bindings, events=growth.of(Events), door=door, limit=limit, now=clock.now)
    taps = CheckinFront(batches, check_ins=growth.of(CheckIns), door=door)
    seats = GroupBuyFront(taps, board=growth.of(GroupBuyBoard), teams=growth.of(Teams), door=door)
    return Turnstile(
        # Behind the turnstile, which waits for nothing but a claim, and bounds those itself.
        Shed(seats, max_under_way=growth.settings.max_requests_under_way),
        board=growth.of(SaleBoard),
        claims=growth.of(Claims),
        door=door,
    )


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="growth",
        version="1",
        description="Social growth for shops that live in mini-programs: campaigns, rewards and what came of them.",
        path=docs.PATH,
        render_plugins=docs.plugins(),
        components=Components(
            security_schemes={
                "shopper": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
                "operator": SecurityScheme(type="http", scheme="bearer", bearer_format="gop_…"),
            }
        ),
    )


@asynccontextmanager
async def _running(growth: Growth) -> AsyncIterator[None]:
    """Keep up what each api process does all the time, and the loop's watch, while the application is up."""
    stop = asyncio.Event()
    standing = [asyncio.create_task(one.run(stop), name=one.name) for room in growth.rooms for one in room.api_standing]
    watch = watch_loop()
    try:
        yield
    finally:
        stop.set()
        for task in standing:
            await stop_task(task, STOP_SECONDS)
        watch.cancel()
