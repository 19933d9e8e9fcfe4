"""TABLES: clock → what runs, event → who reacts. They are read from the rooms, which declare them."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from litestar.routes import HTTPRoute

from growth.bootstrap import Growth, assembled
from growth.kit.room import Room, Standing
from growth.plumbing.docs.page import document as openapi_document
from growth.plumbing.docs.parts import Part
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.outbox.retry import RETRY_BATCH, Retries
from growth.plumbing.settings import load_settings
from growth.plumbing.work.periodic import PeriodicTask
from growth.web import Routes

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}

PAGE = """# What wakes the code

`growth house` prints this page from what the rooms declare; a test holds it to them.
"""


def schedule(growth: Growth) -> Sequence[PeriodicTask]:
    """Return what the clock wakes: one leader for each task among all workers."""
    retries = Retries(growth.database, reactions(growth))
    return [
        *(task for room in growth.rooms for task in room.tasks),
        PeriodicTask("outbox.retry", 5, retries.retry_due, RETRY_BATCH),
    ]


def reactions(growth: Growth) -> Sequence[Subscription]:
    """Return who reacts to events: each reads with a cursor of its own and handles every event exactly once."""
    return [subscription for room in growth.rooms for subscription in room.subscriptions]


def standing(growth: Growth) -> Sequence[Standing]:
    """Return what each worker does all the time."""
    return [one for room in growth.rooms for one in room.worker_standing]


@asynccontextmanager
async def unconnected() -> AsyncIterator[Growth]:
    """Assemble this release to be looked at: nothing needs to run for it, and nothing needs to be set."""
    nowhere = {
        "GROWTH_ENVIRONMENT": "development",
        "GROWTH_POSTGRES_DSN": "postgresql://nowhere",
        "GROWTH_REDIS_URL": "redis://nowhere",
        "GROWTH_JWT_SECRET": "x" * 32,
        "GROWTH_SHOP_SECRETS": "whsec_" + "A" * 44,
    }
    async with assembled(load_settings(nowhere), connect_now=False) as growth:
        yield growth


async def page() -> str:
    """Return the page of this release."""
    async with unconnected() as growth:
        return told(growth)


async def document(part: Part | None, lang: str) -> bytes:
    """Return the OpenAPI document of this release, or a part of it, as JSON."""
    async with unconnected() as growth:
        return openapi_document.of(Routes(growth, serves_docs=True).litestar, part, lang)


def told(growth: Growth) -> str:
    """Say in Markdown who answers each URL, who reacts to each event, and what the clock wakes: what rooms declare."""
    urls = [
        (f"`{method} {path}`", room.name, f"`{handler}`")
        for room in growth.rooms
        for path, method, handler in sorted(_answered(room))
    ]
    short_cuts = [(f"`{cut.method} {cut.path}`", room.name) for room in growth.rooms for cut in room.short_cuts]
    events = [
        (f"`{event}`", room.name, f"`{one.name}`")
        for room in growth.rooms
        for one in room.subscriptions
        for event in (sorted(one.types) if one.types is not None else [f"all of {one.log.table}"])
    ]
    clock = [
        (f"`{task.name}`", room.name, f"every {task.every_seconds:g} s") for room in growth.rooms for task in room.tasks
    ]
    always = [
        (f"`{one.name}`", room.name, f"in each {process}")
        for room in growth.rooms
        for process, standing in (("api process", room.api_standing), ("worker", room.worker_standing))
        for one in standing
    ]
    return "\n".join(
        [
            PAGE,
            *_table("What the shop, shoppers and operators call", ("URL", "room", "handler"), urls),
            *_table("What is served before the routes, while it is plain", ("URL", "room"), short_cuts),
            *_table("What events wake", ("event", "room", "reader"), events),
            *_table("What the clock wakes", ("task", "room", "how often"), clock),
            *_table("What runs all the time", ("what", "room", "where"), always),
        ]
    )


def _answered(room: Room) -> Iterator[tuple[str, str, str]]:
    for router in room.routers:
        for route in router.routes:
            if isinstance(route, HTTPRoute):
                for handler in route.route_handlers:
                    for method in METHODS.intersection(handler.http_methods):
                        yield route.path, method, handler.handler_name


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"## {title}",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
