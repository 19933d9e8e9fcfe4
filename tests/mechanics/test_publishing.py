"""A campaign that is published, paused or ended while somebody edits it: what is told is of the row that was locked."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Struct

from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.plumbing.postgres.database import Database
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from tests.app import JSON, RunningApp, running_app

pytestmark = pytest.mark.anyio

EDITED = "Edited meanwhile"
WAIT_STEP_SECONDS = 0.01


class Kind(Struct, frozen=True):
    """One kind of campaign: where it is made, and how its row is edited."""

    path: str
    table: str
    id_name: str
    edit: str
    """Changes the title, and what its event tells."""
    event_type: str | None
    query: str = ""
    lock: str = "SELECT $1"
    """Whoever edits takes it first."""


LATER = "closes_at = closes_at + INTERVAL '1 hour'"
KINDS = [
    Kind("flash-sales", "flash_sale.sales", "sale_id", f"title = $2, {LATER}", "flash_sale.published"),
    Kind(
        "flash-sale-series",
        "flash_sale.series",
        "series_id",
        "plan = jsonb_set(jsonb_set(plan, '{title}', to_jsonb($2::text)), '{items,0,title}', to_jsonb($2::text))",
        None,
    ),
    Kind("group-buys", "group_buy.campaigns", "group_buy_id", f"title = $2, {LATER}", "group_buy.published"),
    Kind("coupon-templates", "coupon.templates", "template_id", "title = $2", "coupon.template_published"),
    Kind(
        "check-in-programs",
        "checkin.programs",
        "program_id",
        "title = $2, until_day = from_day + 40",
        "checkin.program_published",
    ),
    Kind("tasks", "task.tasks", "task_id", f"title = $2, {LATER}", "task.published"),
    Kind(
        "referral-programs",
        "referral.programs",
        "program_id",
        "draft = jsonb_set(draft, '{title}', to_jsonb($2::text))",
        "referral.program_published",
        "?accept_warnings=true",
        "SELECT pg_advisory_xact_lock(hashtextextended('referral.programs', 0)), $1",
    ),
]


def draft_of(kind: Kind, app: RunningApp) -> JSON:
    """A plain draft of this kind."""
    opens_at = now() - timedelta(minutes=1)
    times = {"opens_at": rfc3339(opens_at), "closes_at": rfc3339(opens_at + timedelta(days=2))}
    sold = {"title": "Tea", "sku": "tea", "price_fen": 5000, "list_price_fen": 9900, "units_total": 300}
    day = str(app.growth.of(Almanacs).zone.day(now()))
    plan = {"zone": "Asia/Shanghai", "days_of_week": ["mon"], "start_time": "12:00", "duration_minutes": 30}
    drafts: dict[str, JSON] = {
        "flash-sales": sold | times,
        "flash-sale-series": {"title": "Tea", "items": [sold], "from_day": day, **plan},
        "group-buys": sold | times | {"team_size": 3},
        "coupon-templates": {
            "title": "Tea",
            "discount": {"type": "fixed", "off_fen": 1000},
            "validity": {"type": "days", "days": 30},
            "units_total": 10,
        },
        "check-in-programs": {"title": "Tea", "from_day": day},
        "tasks": {"title": "Tea", "event_type": "product.viewed", "reward": [{"type": "points", "points": 1}]} | times,
        "referral-programs": {"title": "Tea", "level_1": {"type": "percent", "basis_points": 1000}},
    }
    return drafts[kind.path]


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app


async def somebody_waits(database: Database) -> None:
    """Return once a transaction waits for a lock that another holds."""
    while not await database.fetchval(  # noqa: ASYNC110 - Postgres tells nobody
        """
        SELECT EXISTS (
            SELECT
            FROM pg_stat_activity
            WHERE datname = current_database()
              AND wait_event_type = 'Lock'
        )
        """
    ):
        await asyncio.sleep(WAIT_STEP_SECONDS)


async def beside_an_edit(app: RunningApp, kind: Kind, made_id: str, step: str) -> JSON:
    """Take a step while an edit of the row is not committed yet; return the answer."""
    database = app.growth.database
    async with database.transaction() as tx:
        await tx.execute(kind.lock, made_id)
        await tx.execute(f"UPDATE {kind.table} SET {kind.edit} WHERE {kind.id_name} = $1", made_id, EDITED)
        asked = app.operator("POST", f"/admin/v1/{kind.path}/{made_id}/{step}{kind.query}", role=Role.ADMIN)
        step_ = asyncio.create_task(asked)
        await somebody_waits(database)
    answer = await step_
    assert answer.status_code == 200, answer.text
    body: JSON = answer.json()
    return body


async def made(app: RunningApp, kind: Kind) -> str:
    answer = await app.operator("POST", f"/admin/v1/{kind.path}", draft_of(kind, app), role=Role.ADMIN)
    assert answer.status_code == 201, answer.text
    return str(answer.json()[kind.id_name])


async def entry(database: Database, made_id: str, step: str) -> Any:
    """What the audit says the campaign was called before the step and after it."""
    return await database.fetchrow(
        """
        SELECT before ->> 'title' AS before, after ->> 'title' AS after
        FROM plumbing.audit
        WHERE subject = $1
          AND action LIKE $2
        """,
        made_id,
        f"%.{step}",
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.path)
async def test_what_is_published_beside_an_edit_is_told_as_it_was_edited(app: RunningApp, kind: Kind) -> None:
    made_id = await made(app, kind)
    answer = await beside_an_edit(app, kind, made_id, "publish")
    assert (answer["title"], answer["state"]) == (EDITED, "published")
    database = app.growth.database
    assert tuple(await entry(database, made_id, "publish")) == (EDITED, EDITED)
    if kind.event_type is not None:
        ((told),) = await database.fetch(
            "SELECT data::jsonb AS data FROM plumbing.outbox WHERE subject = $1 AND type = $2", made_id, kind.event_type
        )
        facts = {name: value for name, value in told["data"].items() if name in answer and name != kind.id_name}
        assert {name: _plain(value) for name, value in facts.items()} == {name: _plain(answer[name]) for name in facts}
        assert facts, "it tells something of what could be edited"
    else:
        titles = await database.fetch("SELECT title FROM flash_sale.sales WHERE series_id = $1", made_id)
        assert {row["title"] for row in titles} == {EDITED}


def _plain(value: Any) -> Any:
    """A time, however many digits it is written with."""
    return value.replace("000Z", "Z") if isinstance(value, str) else value


@pytest.mark.parametrize("step", ["pause", "end"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.path)
async def test_what_is_paused_or_ended_beside_an_edit_is_recorded_as_it_was_edited(
    app: RunningApp, kind: Kind, step: str
) -> None:
    made_id = await made(app, kind)
    published = await app.operator("POST", f"/admin/v1/{kind.path}/{made_id}/publish{kind.query}", role=Role.ADMIN)
    assert published.status_code == 200, published.text
    answer = await beside_an_edit(app, kind, made_id, step)
    assert answer["title"] == EDITED
    assert tuple(await entry(app.growth.database, made_id, step)) == (EDITED, EDITED)
