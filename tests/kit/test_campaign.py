"""The contract of campaigns, held for every kind there is: over HTTP, on real stores."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct

from growth.embedded import EmbeddedServers
from growth.kit.campaign.findings import Severity
from growth.kit.campaign.model import STEPS, CampaignKind
from growth.kit.campaign.service import Campaigns
from growth.mechanics.checkin.model import PROGRAMS as CHECKINS
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.mechanics.flash_sale.model import SALES
from growth.mechanics.flash_sale.series.model import SERIES
from growth.mechanics.group_buy.model import GROUP_BUYS
from growth.mechanics.referral.model import PROGRAMS as REFERRALS
from growth.mechanics.task.model import TASKS
from growth.plumbing.postgres.database import Database
from growth.rewards.coupon.template.model import TEMPLATES
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from tests import servers as test_servers
from tests.app import JSON, RunningApp, running_app
from tests.architecture.test_sql import kinds

pytestmark = pytest.mark.anyio

EDITED = "Edited meanwhile"
WARNED = "?accept_warnings=true"
AT_ONCE = 6
WAIT_STEP_SECONDS = 0.01


class Tried(Struct, frozen=True):
    """One kind of campaign, and how its row is edited behind everybody's back."""

    kind: CampaignKind[Any, Any]
    edit: str
    """Changes the title, and what its event tells."""
    fault: tuple[str, Any]
    """A field, and a value that does not fit to the rest of a draft."""
    lock: str = "SELECT $1"
    """Whoever edits takes it first."""

    @property
    def url(self) -> str:
        return f"/admin/v1/{self.kind.path}"


LATER = "closes_at = closes_at + INTERVAL '1 hour'"
TRIED = [
    Tried(SALES, f"title = $2, {LATER}", ("list_price_fen", 1)),
    Tried(
        SERIES,
        "plan = jsonb_set(jsonb_set(plan, '{title}', to_jsonb($2::text)), '{items,0,title}', to_jsonb($2::text))",
        ("days_of_week", ["mon", "mon"]),
    ),
    Tried(GROUP_BUYS, f"title = $2, {LATER}", ("list_price_fen", 1)),
    Tried(TEMPLATES, "title = $2", ("skus", ["tea", "tea"])),
    Tried(CHECKINS, "title = $2, until_day = from_day + 40", ("until_day", "2020-01-01")),
    Tried(TASKS, f"title = $2, {LATER}", ("distinct_by", "nothing")),
    Tried(
        REFERRALS,
        "draft = jsonb_set(draft, '{title}', to_jsonb($2::text))",
        ("skus", ["tea", "tea"]),
        "SELECT pg_advisory_xact_lock(hashtextextended('referral.programs', 0)), $1",
    ),
]
every_kind = pytest.mark.parametrize("tried", TRIED, ids=lambda tried: tried.kind.path)
NOBODYS = "019aab00-0000-7000-8000-000000000000"
ASKS_FOR_CARE = "转发 Tea"
"""A title that the rules warn of."""


def draft_of(tried: Tried, app: RunningApp, **changes: Any) -> JSON:
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
    return drafts[tried.kind.path] | changes


@pytest.fixture(scope="module")
async def house(servers: EmbeddedServers) -> AsyncIterator[RunningApp]:
    """One house for all: making one takes longer than what is asked of it."""
    servers.ensure_running()
    async with test_servers.database(servers) as dsn, running_app(dsn, await test_servers.empty_valkey(servers)) as app:
        yield app


@pytest.fixture
async def app(house: RunningApp, tried: Tried) -> RunningApp:
    """The house, without a live campaign of this kind: some kinds take only one at a time."""
    for state in ("published", "paused"):
        for one in (await asked(house, "GET", f"{tried.url}?state={state}&limit=100"))["items"]:
            await asked(house, "POST", f"{tried.url}/{one[tried.kind.id_field]}/end")
    return house


async def asked(app: RunningApp, method: str, path: str, body: JSON | None = None, **more: Any) -> JSON:
    """What an admin is answered who is not refused."""
    answer = await app.operator(method, path, body, role=Role.ADMIN, **more)
    assert answer.status_code in {200, 201}, answer.text
    found: JSON = answer.json()
    return found


async def refused(app: RunningApp, method: str, path: str, body: JSON | None = None, **more: Any) -> tuple[int, JSON]:
    """The status of a refusal, and the problem."""
    answer = await app.operator(method, path, body, **{"role": Role.ADMIN} | more)
    return answer.status_code, answer.json()


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


async def beside_an_edit(app: RunningApp, tried: Tried, made_id: str, step: str) -> JSON:
    """Take a step while an edit of the row is not committed yet; return the answer."""
    database, kind = app.growth.database, tried.kind
    async with database.transaction() as tx:
        await tx.execute(tried.lock, made_id)
        await tx.execute(f"UPDATE {kind.table} SET {tried.edit} WHERE {kind.id_field} = $1", made_id, EDITED)
        query = WARNED if step == "publish" else ""
        step_ = asyncio.create_task(asked(app, "POST", f"{tried.url}/{made_id}/{step}{query}"))
        await somebody_waits(database)
    return await step_


async def made(app: RunningApp, tried: Tried, *steps: str, **changes: Any) -> str:
    """Draft one and take these steps; return its id."""
    draft = draft_of(tried, app, **changes)
    made_id = str((await asked(app, "POST", tried.url, draft))[tried.kind.id_field])
    for step in steps:
        await asked(app, "POST", f"{tried.url}/{made_id}/{step}{WARNED if step == 'publish' else ''}")
    return made_id


async def entries(app: RunningApp, made_id: str) -> list[JSON]:
    """What the audit says of one, from the first on."""
    found: list[JSON] = (await asked(app, "GET", f"/admin/v1/audit?subject={made_id}"))["items"]
    return found[::-1]


async def told(app: RunningApp, made_id: str) -> list[tuple[str, JSON]]:
    """The events of one, in order."""
    rows = await app.growth.database.fetch(
        "SELECT type, data::jsonb AS data FROM plumbing.outbox WHERE subject = $1 ORDER BY xid, position", made_id
    )
    return [(row["type"], row["data"]) for row in rows]


# --- sentences --------------------------------------------------------------------------------------------------------


def test_every_kind_of_the_house_is_tried() -> None:
    assert {kind.path for _, kind in kinds()} == {tried.kind.path for tried in TRIED}


@every_kind
async def test_what_is_created_under_a_key_is_created_once(app: RunningApp, tried: Tried) -> None:
    draft = draft_of(tried, app)
    again = [await app.operator("POST", tried.url, draft, role=Role.ADMIN, idempotency_key="once") for _ in range(2)]
    assert [one.status_code for one in again] == [201, 201]
    assert again[0].json() == again[1].json()
    assert [one.headers.get("idempotent-replayed") for one in again] == [None, "true"]
    other = await refused(app, "POST", tried.url, draft | {"title": "Milk"}, idempotency_key="once")
    assert (other[0], other[1]["code"]) == (422, "idempotency.other_content")


@every_kind
async def test_an_edit_names_the_version_that_was_read(app: RunningApp, tried: Tried) -> None:
    one = f"{tried.url}/{await made(app, tried)}"
    changed = await app.operator("PUT", one, draft_of(tried, app, title="Milk"), role=Role.ADMIN, if_match='"1"')
    assert (changed.status_code, changed.json()["title"], changed.headers["etag"]) == (200, "Milk", '"2"')
    status, stale = await refused(app, "PUT", one, draft_of(tried, app), if_match='"1"')
    assert (status, stale["code"], stale["version"]) == (412, tried.kind.version_mismatch.code, 2)
    status, blind = await refused(app, "PUT", one, draft_of(tried, app))
    assert (status, blind["code"]) == (412, "request.version_required")
    assert (await asked(app, "GET", one))["title"] == "Milk"


@every_kind
async def test_only_the_steps_of_the_picture_can_be_taken(app: RunningApp, tried: Tried) -> None:
    made_id = await made(app, tried)
    one, state = f"{tried.url}/{made_id}", "draft"
    for step in ("publish", "pause", "resume", "end", None):
        for wrong, (from_states, _) in STEPS.items():
            if state not in from_states:
                status, problem = await refused(app, "POST", f"{one}/{wrong}")
                assert (status, problem["code"], problem["state"]) == (409, tried.kind.wrong_state.code, state)
        if step is not None:
            await asked(app, "POST", f"{one}/{step}{WARNED if step == 'publish' else ''}")
            state = STEPS[step][1]
            assert (await asked(app, "GET", one))["state"] == state
    for early in ((), ("publish", "pause")):
        other = await made(app, tried, *early)
        assert (await asked(app, "POST", f"{tried.url}/{other}/end"))["state"] == "ended"
    version = (await asked(app, "GET", one))["version"]
    status, problem = await refused(app, "PUT", one, draft_of(tried, app), if_match=f'"{version}"')
    assert (status, problem["code"]) == (409, tried.kind.wrong_state.code)


@every_kind
async def test_every_write_is_audited_with_before_and_after_and_each_step_is_told_once(
    app: RunningApp, tried: Tried
) -> None:
    made_id = await made(app, tried)
    one, steps = f"{tried.url}/{made_id}", ("publish", "pause", "resume", "end")
    await asked(app, "PUT", one, draft_of(tried, app, title="Milk"), if_match='"1"')
    for step in steps:
        await asked(app, "POST", f"{one}/{step}{WARNED if step == 'publish' else ''}")
    audited = [one for one in await entries(app, made_id) if one["action"].startswith(f"{tried.kind.audited_as}.")]
    states = ["draft", "draft", "published", "paused", "published", "ended"]
    assert [one["action"].partition(".")[2] for one in audited] == ["create", "change", *steps]
    assert [one["after"]["state"] for one in audited] == states
    assert [one["before"] and one["before"]["state"] for one in audited] == [None, *states[:-1]]
    assert (audited[1]["before"]["title"], audited[1]["after"]["title"]) == ("Tea", "Milk")
    names = [event.__struct_config__.tag for event in tried.kind.told.values()]
    assert [type_ for type_, _ in await told(app, made_id)] == names


@every_kind
async def test_a_step_that_is_taken_by_many_at_once_is_taken_once(app: RunningApp, tried: Tried) -> None:
    made_id = await made(app, tried)
    publishing = [
        app.operator("POST", f"{tried.url}/{made_id}/publish{WARNED}", role=Role.ADMIN) for _ in range(AT_ONCE)
    ]
    answers = await asyncio.gather(*publishing)
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * (AT_ONCE - 1)
    assert len([one for one in await entries(app, made_id) if one["action"].endswith(".publish")]) == 1


@every_kind
async def test_lists_are_cut_into_pages_and_searched_by_title(app: RunningApp, tried: Tried) -> None:
    ids = [await made(app, tried, title=title) for title in ("Green MATCHA", "Milk", "Matcha 50% off")]
    found = await asked(app, "GET", f"{tried.url}?q=matcha&state=draft&limit=1")
    assert [one[tried.kind.id_field] for one in found["items"]] == [ids[2]]
    more = await asked(app, "GET", f"{tried.url}?q=matcha&state=draft&limit=1&cursor={found['next_cursor']}")
    assert [one[tried.kind.id_field] for one in more["items"]] == [ids[0]]
    assert more["next_cursor"] is None
    assert len((await asked(app, "GET", f"{tried.url}?q=50%25+OFF"))["items"]) == 1
    assert (await asked(app, "GET", f"{tried.url}?q=matcha&state=paused"))["items"] == []


@every_kind
async def test_what_does_not_fit_together_is_refused_by_field(app: RunningApp, tried: Tried) -> None:
    name, value = tried.fault
    made_id = await made(app, tried)
    for method, path, more in (("POST", tried.url, {}), ("PUT", f"{tried.url}/{made_id}", {"if_match": '"1"'})):
        status, problem = await refused(app, method, path, draft_of(tried, app) | {name: value}, **more)
        assert (status, problem["code"]) == (400, "request.invalid")
        assert name in [fault["field"].partition("[")[0] for fault in problem["errors"]]
    status, problem = await refused(app, "POST", tried.url, draft_of(tried, app) | {"unheard_of": 1})
    assert (status, problem["errors"][0]["field"]) == (400, "unheard_of")


@every_kind
async def test_a_check_says_what_publishing_would_meet_and_saves_nothing(app: RunningApp, tried: Tried) -> None:
    count = f"SELECT count(*) FROM {tried.kind.table}"
    before = await app.growth.database.fetchval(count)
    name, value = tried.fault
    found = await asked(app, "POST", f"{tried.url}/check", draft_of(tried, app, title=ASKS_FOR_CARE) | {name: value})
    assert name in [fault["field"].partition("[")[0] for fault in found["faults"]]
    assert "share.wording" in [finding["rule"] for finding in found["findings"]]
    assert (await asked(app, "POST", f"{tried.url}/check", draft_of(tried, app)))["faults"] == []
    assert await app.growth.database.fetchval(count) == before


@every_kind
async def test_warnings_of_the_rules_are_accepted_or_hold_a_campaign_back(app: RunningApp, tried: Tried) -> None:
    one = f"{tried.url}/{await made(app, tried, title=ASKS_FOR_CARE)}"
    status, problem = await refused(app, "POST", f"{one}/publish")
    assert (status, problem["code"]) == (409, tried.kind.not_compliant.code)
    assert "share.wording" in [finding["rule"] for finding in problem["findings"]]
    assert (await asked(app, "GET", one))["state"] == "draft"
    published = await asked(app, "POST", f"{one}/publish{WARNED}")
    assert published["state"] == "published"
    plain = f"{tried.url}/{await made(app, tried)}"
    await asked(app, "POST", f"{one}/end")
    live = await asked(app, "POST", f"{plain}/publish{WARNED}")
    draft, version = draft_of(tried, app) | _kept(live, tried), f'"{live["version"]}"'
    worse = draft | {"title": ASKS_FOR_CARE}
    status, problem = await refused(app, "PUT", plain, worse, if_match=version)
    assert (status, problem["code"]) == (409, tried.kind.not_compliant.code)
    changed = await asked(app, "PUT", f"{plain}{WARNED}", worse, if_match=version)
    assert changed["title"] == ASKS_FOR_CARE


def _kept(live: JSON, tried: Tried) -> JSON:
    """The draft's fields as they are."""
    return {name: live[name] for name in tried.kind.draft.__struct_fields__ if name in live}


@every_kind
async def test_who_may_only_look_writes_nothing(app: RunningApp, tried: Tried) -> None:
    one, draft = f"{tried.url}/{await made(app, tried)}", draft_of(tried, app)
    writes = [("POST", tried.url, draft), ("PUT", one, draft), *(("POST", f"{one}/{step}", None) for step in STEPS)]
    for method, path, body in writes:
        status, problem = await refused(app, method, path, body, role=Role.VIEWER)
        assert (status, problem["code"]) == (403, "auth.role_too_low")
    for method, path, body in (("GET", tried.url, None), ("GET", one, None), ("POST", f"{tried.url}/check", draft)):
        assert (await app.operator(method, path, body, role=Role.VIEWER)).status_code == 200
    assert (await asked(app, "GET", one))["version"] == 1


@every_kind
async def test_what_is_not_there_is_not_found(app: RunningApp, tried: Tried) -> None:
    one = f"{tried.url}/{NOBODYS}"
    calls = [
        ("GET", one, None),
        ("PUT", one, draft_of(tried, app)),
        *(("POST", f"{one}/{step}", None) for step in STEPS),
    ]
    for method, path, body in calls:
        status, problem = await refused(app, method, path, body, **({"if_match": '"1"'} if method == "PUT" else {}))
        assert (status, problem["code"]) == (404, tried.kind.not_found.code)


@every_kind
async def test_what_is_published_beside_an_edit_is_told_as_it_was_edited(app: RunningApp, tried: Tried) -> None:
    made_id = await made(app, tried)
    answer = await beside_an_edit(app, tried, made_id, "publish")
    assert (answer["title"], answer["state"]) == (EDITED, "published")
    entry = next(one for one in await entries(app, made_id) if one["action"] == f"{tried.kind.audited_as}.publish")
    assert (entry["before"]["title"], entry["after"]["title"]) == (EDITED, EDITED)
    if tried.kind.told:
        ((_, data),) = await told(app, made_id)
        facts = {name: value for name, value in data.items() if name in answer and name != tried.kind.id_field}
        assert {name: _plain(value) for name, value in facts.items()} == {name: _plain(answer[name]) for name in facts}
        assert facts, "it tells something of what could be edited"
    else:
        titles = await app.growth.database.fetch("SELECT title FROM flash_sale.sales WHERE series_id = $1", made_id)
        assert {row["title"] for row in titles} == {EDITED}


def _plain(value: Any) -> Any:
    """A time, however many digits it is written with."""
    return value.replace("000Z", "Z") if isinstance(value, str) else value


@pytest.mark.parametrize("step", ["pause", "end"])
@every_kind
async def test_what_is_paused_or_ended_beside_an_edit_is_recorded_as_it_was_edited(
    app: RunningApp, tried: Tried, step: str
) -> None:
    made_id = await made(app, tried, "publish")
    answer = await beside_an_edit(app, tried, made_id, step)
    assert answer["title"] == EDITED
    entry = next(one for one in await entries(app, made_id) if one["action"] == f"{tried.kind.audited_as}.{step}")
    assert (entry["before"]["title"], entry["after"]["title"]) == (EDITED, EDITED)


# --- recipes ----------------------------------------------------------------------------------------------------------

SHANGHAI, NEW_YORK = ZoneInfo("Asia/Shanghai"), ZoneInfo("America/New_York")
INSTANTS = [
    (datetime(2027, 5, 12, 4, tzinfo=UTC), SHANGHAI),
    (datetime(2027, 2, 28, 15, 59, tzinfo=UTC), SHANGHAI),
    (datetime(2028, 2, 29, 16, 0, tzinfo=UTC), SHANGHAI),
    (datetime(2026, 12, 31, 11, 59, tzinfo=UTC), SHANGHAI),
    (datetime(2027, 3, 14, 4, 59, tzinfo=UTC), NEW_YORK),
    (datetime(2027, 11, 7, 5, 30, tzinfo=UTC), NEW_YORK),
]
"""A noon; a minute before a month's end; midnight in a leap year; a minute before eight; a jump of clocks ahead, and
back."""


def service_of(app: RunningApp, tried: Tried) -> Campaigns[Any, Any]:
    services = [one for room in app.growth.rooms for one in room.services if isinstance(one, Campaigns)]
    return next(one for one in services if one.kind is tried.kind)


@pytest.mark.parametrize(("at", "zone"), INSTANTS, ids=str)
@every_kind
async def test_a_recipe_is_without_fault_at_any_instant(
    house: RunningApp, tried: Tried, at: datetime, zone: ZoneInfo
) -> None:
    assert tried.kind.recipes is not None
    recipes = tried.kind.recipes(at, zone)
    assert recipes == tried.kind.recipes(at, zone), "of now and the zone alone"
    assert len({one.recipe for one in recipes}) == len(recipes) >= 2
    service = service_of(house, tried)
    for recipe in recipes:
        told = service.check(recipe.draft, at)
        assert told.faults == []
        assert not [one for one in told.findings if one.severity is Severity.REFUSE]
        assert recipe.title_en.isascii()
        assert not recipe.title_zh.isascii()


@every_kind
async def test_a_recipe_is_told_and_published_as_it_stands(app: RunningApp, tried: Tried) -> None:
    url = f"{tried.url}/recipes"
    told = (await app.operator("GET", url, role=Role.VIEWER)).json()["items"]
    assert tried.kind.recipes is not None
    assert [one["recipe"] for one in told] == [one.recipe for one in tried.kind.recipes(now(), SHANGHAI)]
    for recipe in told:
        assert (await asked(app, "POST", f"{tried.url}/check", recipe["draft"]))["faults"] == []
    made_id = (await asked(app, "POST", tried.url, told[0]["draft"]))[tried.kind.id_field]
    assert (await asked(app, "POST", f"{tried.url}/{made_id}/publish{WARNED}"))["state"] == "published"


@every_kind
async def test_a_recipe_of_long_ago_would_be_at_fault(house: RunningApp, tried: Tried) -> None:
    """Negative control: what is checked can be at fault, where a kind has times at all."""
    at, zone = INSTANTS[0]
    assert tried.kind.recipes is not None
    late = at + timedelta(days=400)
    checks = [service_of(house, tried).check(one.draft, late).faults for one in tried.kind.recipes(at, zone)]
    endless = tried.kind in {SERIES, TEMPLATES, REFERRALS}
    assert all(checks) is not endless
