"""TABLE: URL → which router. And what stands in front of them: telemetry, then the turnstile, then the routes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ASGIApp

import growth.listeners.retention.report.admin as retention_admin
import growth.mechanics.checkin.admin as checkin_admin
import growth.mechanics.checkin.streak.routes as checkin_routes
import growth.mechanics.flash_sale.admin as sale_admin
import growth.mechanics.flash_sale.claim.admin as claim_admin
import growth.mechanics.flash_sale.claim.routes as claim_routes
import growth.mechanics.flash_sale.draw.admin as draw_admin
import growth.mechanics.flash_sale.draw.routes as draw_routes
import growth.mechanics.flash_sale.reminder.routes as reminder_routes
import growth.mechanics.flash_sale.routes as sale_routes
import growth.mechanics.flash_sale.series.admin as series_admin
import growth.mechanics.group_buy.admin as group_buy_admin
import growth.mechanics.group_buy.routes as group_buy_routes
import growth.mechanics.group_buy.team.admin as team_admin
import growth.mechanics.group_buy.team.routes as team_routes
import growth.mechanics.referral.admin as referral_admin
import growth.mechanics.referral.commission.admin as commission_admin
import growth.mechanics.referral.commission.routes as commission_routes
import growth.mechanics.referral.correction.admin as referral_correction_admin
import growth.mechanics.referral.inviter.routes as referral_routes
import growth.mechanics.referral.relation.routes as referral_relation_routes
import growth.mechanics.referral.review.admin as review_rules_admin
import growth.mechanics.task.admin as task_admin
import growth.mechanics.task.routes as task_routes
import growth.plumbing.admin as plumbing_admin
import growth.rewards.coupon.admin as coupon_admin
import growth.rewards.coupon.code.admin as coupon_code_admin
import growth.rewards.coupon.code.routes as coupon_code_routes
import growth.rewards.coupon.routes as coupon_routes
import growth.rewards.coupon.take.routes as coupon_take_routes
import growth.rewards.coupon.template.admin as coupon_template_admin
import growth.rewards.granting.admin as granting_admin
import growth.rewards.ledger.admin as ledger_admin
import growth.rewards.ledger.routes as ledger_routes
import growth.rewards.pack.admin as pack_admin
import growth.rewards.withdrawal.approval.admin as withdrawal_admin
import growth.rewards.withdrawal.routes as withdrawal_routes
import growth.shop.order.owed.admin as owed_admin
import growth.shop.order.routes as shop_routes
import growth.shopper.activity.routes as events_routes
import growth.webhook.admin as webhook_admin
import growth.webhook.delivery.admin as delivery_admin
from growth import shoppers
from growth.bootstrap import Growth, stop_task
from growth.mechanics.checkin.short_cut import CheckinFront
from growth.mechanics.flash_sale.short_cut import Turnstile
from growth.mechanics.group_buy.short_cut import GroupBuyFront
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
from growth.shopper.activity.short_cut import EventsFront
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper

STOP_SECONDS = 3.0

AnyRequest = Request[Any, Any, Any]


def routers() -> Sequence[Router]:
    """Return every router there is."""
    return [
        sale_routes.router,
        claim_routes.router,
        draw_routes.router,
        reminder_routes.router,
        sale_admin.router,
        claim_admin.router,
        series_admin.router,
        draw_admin.router,
        group_buy_routes.router,
        team_routes.router,
        group_buy_admin.router,
        team_admin.router,
        referral_routes.router,
        referral_relation_routes.router,
        referral_admin.router,
        referral_correction_admin.router,
        commission_routes.router,
        withdrawal_routes.router,
        commission_admin.router,
        review_rules_admin.router,
        withdrawal_admin.router,
        task_routes.router,
        task_admin.router,
        checkin_routes.router,
        checkin_admin.router,
        coupon_routes.router,
        coupon_take_routes.router,
        coupon_code_routes.router,
        coupon_template_admin.router,
        coupon_code_admin.router,
        coupon_admin.router,
        pack_admin.router,
        ledger_routes.router,
        ledger_admin.router,
        granting_admin.router,
        events_routes.router,
        retention_admin.router,
        shop_routes.router,
        owed_admin.router,
        webhook_admin.router,
        delivery_admin.router,
        shoppers.router,
        plumbing_admin.router,
    ]


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
        route_handlers=[*routers(), livez, readyz, *([docs.router] if serves_docs else [])],
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
    sale = growth.flash_sale
    return {
        "database": _given(growth.database),
        "invariant_rounds": _given(growth.invariants),
        "shop": _given(growth.shop),
        "refunds_required": _given(growth.refunds_required),
        "events": _after_shopper(growth.events.events),
        "webhooks": _given(growth.webhook.webhooks),
        "deliveries": _given(growth.webhook.deliveries),
        "coupons": _given(growth.coupon.coupons),
        "coupon_templates": _given(growth.coupon.templates),
        "coupon_takes": _given(growth.coupon.takes),
        "coupon_codes": _given(growth.coupon.codes),
        "coupon_quotes": _given(growth.coupon.quotes),
        "packs": _given(growth.pack),
        "shoppers": _given(growth.shoppers),
        "ledger": _given(growth.rewards.ledger),
        "granting": _given(growth.rewards.granting),
        "board": _given(sale.board),
        "sales": _given(sale.sales),
        "claims": _given(sale.claims),
        "draws": _given(sale.draws),
        "reminders": _given(sale.reminders),
        "series": _given(sale.series),
        "group_board": _given(growth.group_buy.board),
        "group_buys": _given(growth.group_buy.group_buys),
        "teams": _given(growth.group_buy.teams),
        "reports": _given(growth.retention.reports),
        "referral_programs": _given(growth.referral.programs),
        "referral_relations": _after_shopper(growth.referral.relations),
        "referral_standings": _after_shopper(growth.referral.standings),
        "referral_corrections": _given(growth.referral.corrections),
        "commissions": _given(growth.commission.commissions),
        "reviews": _given(growth.commission.reviews),
        "withdrawals": _given(growth.commission.withdrawals),
        "desk": _given(growth.commission.desk),
        "tasks": _given(growth.task.tasks),
        "check_ins": _given(growth.checkin.check_ins),
        "checkin_programs": _given(growth.checkin.programs),
        "checkin_repairs": _given(growth.checkin.repairs),
        "checkin_calendars": _given(growth.checkin.calendars),
    }


def _fronts(growth: Growth, routes: ASGIApp, door: Door) -> ASGIApp:
    """Put the short cuts in front of the routes, the busiest outermost."""
    sale = growth.flash_sale
    limit = growth.limits.shopper.take
    bindings = ReferralFront(
        Pages(routes, growth.database, growth.operators),
        relations=growth.referral.relations,
        door=door,
        limit=limit,
        now=clock.now,
    )
    batches = EventsFront(bindings, events=growth.events.events, door=door, limit=limit, now=clock.now)
    taps = CheckinFront(batches, check_ins=growth.checkin.check_ins, door=door)
    seats = GroupBuyFront(taps, board=growth.group_buy.board, teams=growth.group_buy.teams, door=door)
    return Turnstile(
        # Behind the turnstile, which waits for nothing but a claim, and bounds those itself.
        Shed(seats, max_under_way=growth.settings.max_requests_under_way),
        board=sale.board,
        claims=sale.claims,
        door=door,
    )


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="growth",
        version="1",
        description="Flash sales for shops that live in mini-programs.",
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
    """Keep the board and the loop's watch while the application is up."""
    stop = asyncio.Event()
    board = asyncio.create_task(growth.flash_sale.board.run(stop), name="flash_sale.board")
    database = growth.database
    people = asyncio.create_task(database.people.run(database, stop), name="person.memory")
    watch = watch_loop()
    try:
        yield
    finally:
        stop.set()
        await stop_task(board, STOP_SECONDS)
        await stop_task(people, STOP_SECONDS)
        watch.cancel()
