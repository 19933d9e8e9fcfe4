"""Shoppers' HTTP of tasks."""

from litestar import Router, get
from litestar.di import NamedDependency

from growth.mechanics.task.model import TaskPage
from growth.mechanics.task.service import Tasks
from growth.plumbing.http.answers import MAX_PAGE, Cursor, Limit, Page, decode_cursor, page_of
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from growth.vocabulary.ids import Uuid


@get("/tasks", operation_id="task_list", summary="List tasks with my progress")
async def list_tasks(
    shopper: NamedDependency[Shopper],
    tasks: NamedDependency[Tasks],
    cursor: Cursor = None,
    limit: Limit = MAX_PAGE,
) -> Page[TaskPage]:
    """Those that can be done, then those that ended within a day; progress in the current day, week or in all.

    What was just done counts within about a second.
    """
    position = decode_cursor(cursor, tuple[bool, str, Uuid])
    pages = sorted(await tasks.mine(shopper.user_id, clock.now()), key=_place)
    if position is not None:
        pages = [one for one in pages if _place(one) > position]
    return page_of(pages[: limit + 1], limit, _place)


def _place(one: TaskPage) -> tuple[bool, str, str]:
    return (one.period_ends_at <= one.server_time, one.opens_at.isoformat(), one.task_id)


router = Router(path="/v1", route_handlers=[list_tasks], tags=["Tasks"])
