"""The worker as it is wired: an event goes out by both outlets, and one that is switched off holds nothing back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from growth.bootstrap import Growth, assembled
from growth.plumbing.outbox import outbox
from growth.plumbing.settings import SettingsError, load_settings
from growth.webhook.model import EndpointDraft
from growth.webhook.service import Webhooks
from growth.worker import run_worker
from tests.app import ENVIRONMENT
from tests.patience import PATIENCE_SECONDS
from tests.webhook.conftest import Hands, paused, room_on
from tests.webhook.receiving import receiving

pytestmark = pytest.mark.anyio

POLL_SECONDS = 0.05


@asynccontextmanager
async def working(postgres_dsn: str, redis_url: str, **environment: str) -> AsyncIterator[Growth]:
    """A worker, from its start to its clean stop."""
    where = {"GROWTH_POSTGRES_DSN": postgres_dsn, "GROWTH_REDIS_URL": redis_url}
    settings = load_settings(ENVIRONMENT | where | {"GROWTH_WEBHOOK_ALLOWED_HOSTS": "127.0.0.1"} | environment)
    stop = asyncio.Event()
    async with assembled(settings) as growth:
        worker = asyncio.create_task(run_worker(growth, stop))
        try:
            yield growth
        finally:
            stop.set()
            await worker


async def test_an_event_goes_out_by_both_outlets_of_a_running_worker(postgres_dsn: str, redis_url: str) -> None:
    async with receiving() as receiver, working(postgres_dsn, redis_url, GROWTH_STREAM="told") as growth:
        act = room_on(growth.database, Hands()).act()
        await growth.of(Webhooks).create(act, EndpointDraft(url=receiver.url, event_types=["*"]), None, b"")
        async with growth.database.transaction() as tx:
            await outbox.emit(tx, paused("sale-1"))
        await receiver.hears(1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (added := await growth.redis.xlen("told")):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(POLL_SECONDS)
    assert (len(receiver.heard), added) == (1, 1)


async def test_an_outlet_that_is_switched_off_holds_nothing_back(postgres_dsn: str, redis_url: str) -> None:
    async def cursors(growth: Growth) -> set[str]:
        return {row["subscription"] for row in await growth.database.fetch("SELECT * FROM plumbing.cursors")}

    async with working(postgres_dsn, redis_url, GROWTH_STREAM="told") as growth:
        async with growth.database.transaction() as tx:
            await outbox.emit(tx, paused("sale-1"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "outbox.stream" not in await cursors(growth):  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
    async with working(postgres_dsn, redis_url) as growth, asyncio.timeout(PATIENCE_SECONDS):
        while "outbox.stream" in await cursors(growth):  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GROWTH_WEBHOOK_ALLOWED_HOSTS", "*.example.com"),
        ("GROWTH_WEBHOOK_ALLOWED_HOSTS", "CRM"),
        ("GROWTH_WEBHOOK_ALLOWED_HOSTS", "http://crm/"),
        ("GROWTH_WEBHOOK_ALLOWED_HOSTS", "[::1]"),
        ("GROWTH_STREAM", "a b"),
        ("GROWTH_STREAM_MAX_EVENTS", "10"),
        ("GROWTH_EVENT_SOURCE", "a b"),
    ],
)
def test_a_wrong_setting_is_named(name: str, text: str) -> None:
    where = {"GROWTH_POSTGRES_DSN": "postgresql://h/d", "GROWTH_REDIS_URL": "redis://h"}
    with pytest.raises(SettingsError) as caught:
        load_settings(ENVIRONMENT | where | {name: text})
    assert [name in fault for fault in caught.value.faults] == [True]


def test_settings_are_read() -> None:
    where = {"GROWTH_POSTGRES_DSN": "postgresql://h/d", "GROWTH_REDIS_URL": "redis://h"}
    plain = load_settings(ENVIRONMENT | where)
    assert (plain.webhook_allowed_hosts, plain.stream, plain.event_source) == ((), None, "growth")
    told = load_settings(
        ENVIRONMENT | where | {"GROWTH_WEBHOOK_ALLOWED_HOSTS": "crm, ::1,127.0.0.1", "GROWTH_STREAM": "{growth}:events"}
    )
    assert told.webhook_allowed_hosts == ("crm", "::1", "127.0.0.1")
    assert told.stream == "{growth}:events"
