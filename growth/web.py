"""HTTP: the rooms' routes, and what stands in front of them: telemetry, callers, short cuts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.types import ASGIApp

from growth.bootstrap import Growth, stop_task
from growth.plumbing.docs import page as docs
from growth.plumbing.http.answers import MAX_BODY_BYTES, JsonResponse, StrictRequest
from growth.plumbing.http.callers import ADDRESS, Callers
from growth.plumbing.http.listing import provide_listing
from growth.plumbing.http.operators import provide_act, provide_operator
from growth.plumbing.http.overload import Shed
from growth.plumbing.http.problems import exception_handlers
from growth.plumbing.http.short_cut import Door, ShortCuts
from growth.plumbing.http.urls import WholePaths, plain_ids
from growth.plumbing.person.pages import Pages
from growth.plumbing.settings import Settings
from growth.plumbing.watch.readiness import Readiness
from growth.plumbing.watch.telemetry import Telemetry, watch_loop
from growth.vocabulary.actors import Shopper

STOP_SECONDS = 3.0

AnyRequest = Request[Any, Any, Any]


@get(
    "/livez",
    media_type=MediaType.TEXT,
    sync_to_thread=False,
    operation_id="system_liveness_check",
    summary="Ask whether the process lives",
    tags=["Probes"],
)
def livez() -> str:
    """Answer as long as the process runs."""
    return "ok"


@get(
    "/readyz",
    media_type=MediaType.TEXT,
    operation_id="system_readiness_check",
    summary="Ask whether the process can serve",
    tags=["Probes"],
    responses={503: ResponseSpec(str, generate_examples=False, description="No: why", media_type=MediaType.TEXT)},
)
async def readyz(readiness: NamedDependency[Readiness]) -> Response[str]:
    """Answer 200 when Postgres and Redis take writes, else 503 and which of them does not."""
    why = await readiness.trouble()
    return Response(why or "ok", status_code=503 if why else 200)


class Routes:
    """The ordinary routes, and what they serve with. Making them takes a second: a process does so once."""

    def __init__(self, growth: Growth, *, serves_docs: bool) -> None:
        self.litestar = Litestar(
            route_handlers=[
                *(router for room in growth.rooms for router in room.routers),
                livez,
                readyz,
                *([docs.router] if serves_docs else []),
            ],
            dependencies={
                "shopper": Provide(self._shopper),
                "operator": Provide(provide_operator),
                "act": Provide(provide_act, sync_to_thread=False),
                "listing": Provide(provide_listing, sync_to_thread=False),
                "address": Provide(_address, sync_to_thread=False),
                "readiness": self._given("readiness"),
                **{name: self._given(name) for room in growth.rooms for name in room.gives},
                **{name: self._given_after_shopper(name) for room in growth.rooms for name in room.gives_after_shopper},
            },
            before_request=self._limit,
            exception_handlers=exception_handlers,
            request_class=StrictRequest,
            response_class=JsonResponse,
            request_max_body_size=MAX_BODY_BYTES,
            middleware=[plain_ids],
            lifespan=[lambda _app: _running(self._growth)],
            openapi_config=_openapi(),
            # Bodies may hold what must not be logged; problems log what they know.
            logging_config=None,
        )
        self.serve_with(growth)

    def serve_with(self, growth: Growth) -> None:
        """Serve with this from now on."""
        self._growth = growth
        self.door = Door(growth.identity, growth.limits.shopper_here)
        self._services: dict[str, object] = {"readiness": Readiness(growth.database, growth.redis)}
        for room in growth.rooms:
            self._services |= {**room.gives, **room.gives_after_shopper}
        self.litestar.state.operators = growth.operators

    def _given(self, name: str) -> Provide:
        return Provide(lambda: self._services[name], sync_to_thread=False)

    def _given_after_shopper(self, name: str) -> Provide:
        def provide(shopper: NamedDependency[Shopper]) -> Any:  # noqa: ARG001 - so that it comes after
            return self._services[name]

        return Provide(provide, sync_to_thread=False)

    async def _shopper(self, request: AnyRequest) -> Shopper:
        found = await self._growth.identity.shopper(request)
        await self._growth.limits.shopper.take(found.user_id)
        return found

    async def _limit(self, request: AnyRequest) -> None:
        if request.scope["path"].startswith("/v1/"):
            # Before the body is read: nobody without a token is told what is wrong with one. Tokens are remembered.
            found = await self._growth.identity.shopper(request)
            self.door.count(found.user_id, request.scope)
        operator = request.scope["state"].get("operator")
        if operator is not None:
            await self._growth.limits.operator.take(operator.name)


def _address(request: AnyRequest) -> str:
    return str(request.scope["state"].get(ADDRESS, ""))


def serves_docs(settings: Settings) -> bool:
    """Say whether the document and its pages are served."""
    return not settings.is_production if settings.docs is None else settings.docs


def create_app(growth: Growth, routes: Routes | None = None) -> ASGIApp:
    """Return the ASGI application around everything in `growth`; with `routes` that served before, if there are any."""
    if routes is None:
        routes = Routes(growth, serves_docs=serves_docs(growth.settings))
    else:
        routes.serve_with(growth)
    fronts = _fronts(growth, WholePaths(routes.litestar), routes.door)
    return Telemetry(Callers(fronts, trusted_proxies=growth.settings.trusted_proxies, share=growth.limits.address))


def _fronts(growth: Growth, routes: ASGIApp, door: Door) -> ASGIApp:
    """Put the short cuts of the rooms in front of the routes, and in between what refuses when there is too much."""
    cuts = [cut for room in growth.rooms for cut in room.short_cuts]
    limit = growth.limits.shopper.take
    never_shed = [cut for cut in cuts if cut.is_never_shed]
    others = [cut for cut in cuts if not cut.is_never_shed]
    behind = ShortCuts(Pages(routes, growth.database, growth.operators), others, door=door, limit=limit)
    shed = Shed(behind, max_under_way=growth.settings.max_requests_under_way)
    return ShortCuts(shed, never_shed, door=door, limit=limit)


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="growth",
        version="1",
        description="Social growth for shops that live in mini-programs: campaigns, rewards and what came of them.",
        path=docs.PATH,
        render_plugins=docs.plugins(),
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
