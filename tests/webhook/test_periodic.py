"""What the clock does to deliveries: days are made ahead and dropped, and what waits is shown."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from growth.plumbing.postgres import partitions
from growth.webhook.delivery.periodic import KEPT_DAYS, TABLE, DeliveryKeeper
from tests.kit.turn import turn_at
from tests.webhook.conftest import Room, paused
from tests.webhook.receiving import answers, receiving

pytestmark = pytest.mark.anyio


def turn(room: Room, moment: datetime | None = None) -> Any:
    return turn_at(room.database, moment or room.hands.now())


async def test_days_are_made_ahead_and_old_ones_dropped_with_all_that_is_in_them(room: Room) -> None:
    keeper = DeliveryKeeper(room.database)
    today = room.hands.now()
    assert await keeper.prepare(turn(room)) > 0
    assert (today + timedelta(days=7)).astimezone(UTC).date() in await partitions.days(room.database, TABLE)
    async with receiving(answers("500 Oops")) as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(paused("new"), paused("old", today - timedelta(days=KEPT_DAYS + 1)))
        assert await room.sends() == 2
        assert await keeper.prune(turn(room)) == 1
        assert [one.state for one in await room.log(endpoint.endpoint_id)] == ["pending"]
        later = today + timedelta(days=KEPT_DAYS + 1)
        # Whoever made the database may have done it before midnight.
        over = [day for day in await partitions.days(room.database, TABLE) if day <= today.astimezone(UTC).date()]
        assert await keeper.prune(turn(room, later)) == len(over)
        assert await room.log(endpoint.endpoint_id) == []
        # What comes late for a day that is gone is kept as well, and sent.
        receiver.behave = answers()
        await room.happens(paused("late", today))
        assert await room.sends() == 1


async def test_how_many_wait_and_for_how_long_is_shown(room: Room) -> None:
    keeper = DeliveryKeeper(room.database)
    async with receiving(answers("500 Oops")) as receiver:
        endpoint = await room.endpoint(receiver)
        await room.happens(*(paused(number) for number in range(5)))
        room.later(seconds=100)
        assert await keeper.watch(turn(room)) == 5
        overdue = REGISTRY.get_sample_value("growth_webhook_overdue_seconds")
        assert overdue is not None
        assert 95 < overdue < 110
        await room.sends()
        await keeper.watch(turn(room))
        assert REGISTRY.get_sample_value("growth_webhook_overdue_seconds") == 0
        assert REGISTRY.get_sample_value("growth_webhook_waiting") == 5
        await room.webhooks.disable(room.act(), endpoint.endpoint_id)
        assert await keeper.watch(turn(room)) == 0
