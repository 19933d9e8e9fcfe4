"""Whatever trouble Postgres is in, whoever asks meanwhile hears 503 with Retry-After, and is served when it is over."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from growth.vocabulary.clock import now, rfc3339
from tests.app import RunningApp, running_app
from tests.kit.invariants import violations
from tests.one_of_each import ENVIRONMENT, Everything
from tests.shop.order import telling

pytestmark = pytest.mark.anyio

STATES = {
    "08006": "connection_failure",
    "25006": "cannot execute INSERT in a read-only transaction",
    "28000": "role is not permitted to log in",
    "40001": "could not serialize access",
    "40P01": "deadlock detected",
    "42501": "permission denied for table",
    "53100": "could not extend file: No space left on device",
    "53200": "out of memory",
    "54000": "database is not accepting commands that assign new transaction IDs to avoid wraparound data loss",
    "55000": "cannot do this while recovery is in progress",
    "55P03": "canceling statement due to lock timeout",
    "57014": "canceling statement due to user request",
    "57P01": "terminating connection due to administrator command",
    "57P03": "the database system is starting up",
    "58000": "system error",
    "58030": "could not read block 0 in file: Input/output error",
    "XX000": "cannot assign TransactionIds during recovery",
    "XX001": "invalid page in block 0",
    "XX002": "index is corrupted",
}
TABLES = ("shop.events", "checkin.days", "flash_sale.claims", "activity.log")
OURS = "22012"
"""A state that no table would call the outside's: division by zero."""


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url, **ENVIRONMENT) as app:
        yield app
        assert not await violations(app.growth.database)


async def _acts(app: RunningApp, sale_id: str, name: str) -> dict[str, httpx.Response]:
    """One hook, one tap, one claim, one batch of events, of a shopper of that name."""
    told = {"id": f"e-{name}", "type": "app.opened", "at": rfc3339(now() - timedelta(seconds=1))}
    return {
        "hook": await app.hook(telling.raw_of(telling.registered(name))),
        "check-in": await app.shopper(name, "POST", "/v1/check-ins"),
        "claim": await app.shopper(name, "POST", f"/v1/flash-sales/{sale_id}/claims", {}),
        "events": await app.shopper(name, "POST", "/v1/events", {"events": [told]}),
    }


async def _fails_with(app: RunningApp, state: str, words: str) -> None:
    async with app.growth.database.transaction() as tx:
        await tx.execute(
            f"""
            CREATE FUNCTION public.fails() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION '{words}' USING ERRCODE = '{state}';
            END $$
            """
        )
        for table in TABLES:
            await tx.execute(
                f"CREATE TRIGGER fails BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION public.fails()"
            )


async def _is_well(app: RunningApp) -> None:
    async with app.growth.database.transaction() as tx:
        await tx.execute("DROP FUNCTION public.fails() CASCADE")


async def test_trouble_of_the_database_is_503_at_every_door_and_over_when_it_is_over(app: RunningApp) -> None:
    house = Everything(app, "owner", "friend")
    await house._campaigns()
    for state, words in STATES.items():
        await _fails_with(app, state, words)
        for door, answer in (await _acts(app, house.ids["sale_id"], f"u-{state}")).items():
            assert answer.status_code == 503, (state, door, answer.text)
            assert int(answer.headers["retry-after"]) >= 1, (state, door)
            assert answer.json()["code"] == "unavailable", (state, door)
        await _is_well(app)
        for door, answer in (await _acts(app, house.ids["sale_id"], f"u-{state}")).items():
            assert answer.status_code in {200, 201, 202}, (state, door, answer.text)


async def test_negative_control_a_state_that_is_ours_is_no_503(app: RunningApp) -> None:
    house = Everything(app, "owner", "friend")
    await house._campaigns()
    await _fails_with(app, OURS, "division by zero")
    answers = await _acts(app, house.ids["sale_id"], "u")
    assert {door: answer.status_code for door, answer in answers.items()} == dict.fromkeys(answers, 500)
    await _is_well(app)
