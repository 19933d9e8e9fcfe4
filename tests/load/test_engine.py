import asyncio
import random
from time import monotonic

import pytest

from growth.load.arrivals import due_offsets, flat
from growth.load.engine import Engine
from growth.load.http_client import HEAD_END, Job, ServiceEndpoint
from tests.load.fake_service import OPERATOR_KEY, FakeService

pytestmark = pytest.mark.anyio

CONNECTIONS = 16
STALL_SECONDS = 1.0


class Stopwatch:
    """Asks for one and the same thing, and notes how long each answer took from when it was due."""

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.reasons: list[bytes] = []
        self._ask = b"GET /admin/v1/invariants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        self._ask += OPERATOR_KEY.encode() + HEAD_END

    def next_job(self, due: float) -> Job:
        return Job(due, 0, self._ask)

    def settle(self, job: Job, status: int, answer: bytes, now: float) -> None:
        if not status:
            self.reasons.append(answer)
        self.waited.append(now - job.due)


async def engine_on(service: FakeService) -> tuple[Engine, Stopwatch]:
    watch = Stopwatch()
    engine = Engine(ServiceEndpoint(service.url), CONNECTIONS, watch)
    await engine.open()
    return engine, watch


async def test_a_stall_is_charged_to_all_who_came_meanwhile() -> None:
    rate = 400
    async with FakeService() as service:
        engine, watch = await engine_on(service)
        start = monotonic() + 0.05
        service.stall(start + 0.5, STALL_SECONDS)
        await engine.play_open(due_offsets([flat(2.5, rate)], random.Random(1)), start, start + 2.5)
        await engine.close()
    assert not watch.reasons
    assert len(watch.waited) == engine.offered == pytest.approx(2.5 * rate, rel=0.15)
    # Those due in the first half of the stall waited for at least the other half.
    slow = sum(seconds > STALL_SECONDS / 2 for seconds in watch.waited)
    assert slow >= 0.75 * rate * STALL_SECONDS / 2
    assert max(watch.waited) > 0.9 * STALL_SECONDS


async def test_a_closed_loop_would_have_hidden_that_stall() -> None:
    """The negative control: same service, same stall; one slow answer a connection is all that shows."""
    async with FakeService() as service:
        engine, watch = await engine_on(service)
        service.stall(monotonic() + 0.5, STALL_SECONDS)
        await engine.play_closed(2.0)
        await engine.close()
    assert sum(seconds > STALL_SECONDS / 2 for seconds in watch.waited) <= CONNECTIONS


async def test_who_answers_in_time_kept_up() -> None:
    async with FakeService() as service:
        engine, watch = await engine_on(service)
        start = monotonic() + 0.05
        # So few that a slow machine keeps up with them too.
        assert await engine.play_open(due_offsets([flat(1.0, 30)], random.Random(2)), start, start + 1.0)
        await engine.close()
    assert sorted(watch.waited)[len(watch.waited) // 2] < STALL_SECONDS / 2


async def test_a_service_that_falls_behind_is_told_so_and_the_step_ends() -> None:
    async with FakeService() as service:
        engine, _ = await engine_on(service)
        start = monotonic() + 0.05
        service.stall(start + 0.2, 1.5)
        dues = due_offsets([flat(5.0, 300)], random.Random(3))
        assert not await engine.play_open(dues, start, start + 5.0, give_up=True)
        assert engine.offered < 5.0 * 300, "the step was not played to its end"
        await engine.close()


async def test_a_service_that_dies_is_an_error_for_each_request_and_is_found_again() -> None:
    async with FakeService() as service:
        engine, watch = await engine_on(service)
        start = monotonic() + 0.05
        playing = asyncio.create_task(
            engine.play_open(due_offsets([flat(1.5, 200)], random.Random(4)), start, start + 1.5)
        )
        await asyncio.sleep(0.5)
        for writer in service._writers:
            writer.transport.abort()
        await playing
        await engine.close()
    assert len(watch.waited) == engine.offered
    assert len(watch.reasons) <= CONNECTIONS
    assert all(reason.startswith(b"connection lost") for reason in watch.reasons)
