"""Many calls become one, and no caller feels the others."""

import asyncio
import contextvars
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.plumbing.work.coalesce import Coalescer
from growth.vocabulary.refusals import Kind, Refusal, Unavailable
from tests.kit.examples import examples
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

NO = Kind("test.no", "No.")


class Doubler:
    """Doubles numbers, when it is let."""

    def __init__(self, *, max_batch: int = 4, max_queue: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.running = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.coalescer: Coalescer[int, int] = Coalescer("doubler", self.run, max_batch=max_batch, max_queue=max_queue)

    async def run(self, numbers: list[int]) -> Sequence[int | BaseException]:
        self.batches.append(list(numbers))
        self.running += 1
        assert self.running == 1, "one batch at a time"
        try:
            await self.gate.wait()
            return [self.double(number) for number in numbers]
        finally:
            self.running -= 1

    def double(self, number: int) -> int | BaseException:
        return Refusal(NO, number=number) if number < 0 else number * 2

    def calls(self, *numbers: int) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self._call(number)) for number in numbers]

    async def _call(self, number: int) -> int:
        return await self.coalescer(number)


async def _turn() -> None:
    """Let everything that can run now run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lone_call_goes_out_at_once() -> None:
    doubler = Doubler()
    assert await doubler.coalescer(21) == 42
    assert doubler.batches == [[21]]


async def test_calls_of_one_tick_share_a_batch_and_those_that_come_while_it_runs_share_the_next() -> None:
    doubler = Doubler(max_batch=4)
    doubler.gate.clear()
    first = doubler.calls(1, 2, 3)
    await _turn()
    second = doubler.calls(4, 5, 6, 7, 8)
    await _turn()
    assert doubler.batches == [[1, 2, 3]]
    doubler.gate.set()
    assert await asyncio.gather(*first, *second) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert doubler.batches == [[1, 2, 3], [4, 5, 6, 7], [8]]


async def test_a_bad_input_is_refused_to_its_own_caller_alone() -> None:
    doubler = Doubler()
    results = await asyncio.gather(*doubler.calls(1, -2, 3), return_exceptions=True)
    assert results[0] == 2
    assert results[2] == 6
    assert isinstance(results[1], Refusal)
    assert results[1].members == {"number": -2}


async def test_a_failing_batch_fails_its_callers_and_nobody_else() -> None:
    doubler = Doubler(max_batch=2)

    def double(number: int) -> int:
        if number == 2:
            raise ValueError(number)
        return number * 2

    doubler.double = double  # type: ignore[method-assign]
    results = await asyncio.gather(*doubler.calls(1, 2, 3, 4), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError, int, int]
    assert await doubler.coalescer(5) == 10


@pytest.mark.parametrize("answers", [[], [1], [1, 2, 3]])
async def test_too_few_or_too_many_answers_reach_nobody(answers: list[int]) -> None:
    async def run(_: list[int]) -> Sequence[int]:
        return answers

    coalescer: Coalescer[int, int] = Coalescer("wrong", run, max_batch=2, max_queue=10)
    results = await asyncio.gather(coalescer(1), coalescer(2), return_exceptions=True)
    assert [type(result) for result in results] == [AssertionError] * 2


async def test_a_cancelled_caller_changes_nothing_for_its_neighbours_and_its_request_still_runs() -> None:
    doubler = Doubler(max_batch=3)
    doubler.gate.clear()
    running = doubler.calls(1, 2, 3)
    await _turn()
    waiting = doubler.calls(4, 5, 6)
    await _turn()
    running[1].cancel()
    waiting[1].cancel()
    await _turn()
    doubler.gate.set()
    results = await asyncio.gather(*running, *waiting, return_exceptions=True)
    assert [result for result in results if isinstance(result, int)] == [2, 6, 8, 12]
    assert [type(results[1]), type(results[4])] == [asyncio.CancelledError] * 2
    assert doubler.batches == [[1, 2, 3], [4, 5, 6]]


async def test_nobody_left_to_hear_an_error_is_no_error() -> None:
    """The loop complains about exceptions nobody collected, and warnings are errors here."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    doubler = Doubler()
    doubler.gate.clear()
    calls = doubler.calls(-1, -2)
    await _turn()
    for call in calls:
        call.cancel()
    await _turn()
    doubler.gate.set()
    await doubler.coalescer.drain()
    doubler.coalescer.submit(-3)
    await doubler.coalescer.drain()
    await _turn()
    assert complaints == []


async def test_a_full_queue_turns_callers_away_at_once_and_serves_those_who_wait() -> None:
    doubler = Doubler(max_batch=1, max_queue=2)
    doubler.gate.clear()
    calls = doubler.calls(1)
    await _turn()
    calls += doubler.calls(2, 3)
    await _turn()
    with pytest.raises(Unavailable):
        await doubler.coalescer(4)
    doubler.gate.set()
    assert await asyncio.gather(*calls) == [2, 4, 6]
    assert await doubler.coalescer(5) == 10


async def test_draining_waits_for_what_is_queued_and_for_what_comes_meanwhile() -> None:
    doubler = Doubler(max_batch=1)
    doubler.gate.clear()
    calls = doubler.calls(1, 2)
    await _turn()
    drained = asyncio.create_task(doubler.coalescer.drain())
    await _turn()
    calls += doubler.calls(3)
    await _turn()
    assert not drained.done()
    doubler.gate.set()
    await drained
    assert all(call.done() for call in calls)
    await doubler.coalescer.drain()


async def test_a_cancelled_drain_stops_nothing() -> None:
    doubler = Doubler()
    doubler.gate.clear()
    calls = doubler.calls(1)
    await _turn()
    drained = asyncio.create_task(doubler.coalescer.drain())
    await _turn()
    drained.cancel()
    await _turn()
    doubler.gate.set()
    assert await calls[0] == 2


async def test_a_stopped_runner_tells_everybody_who_waits_and_the_next_call_starts_anew() -> None:
    doubler = Doubler(max_batch=2)
    doubler.gate.clear()
    calls = doubler.calls(1, 2, 3)
    await _turn()
    runner = doubler.coalescer._runner
    assert runner is not None
    runner.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
    doubler.gate.set()
    assert await doubler.coalescer(4) == 8


async def test_a_runner_stopped_before_its_first_step_leaves_nobody_waiting() -> None:
    doubler = Doubler()
    waiting = doubler.coalescer.submit(1)
    assert doubler.coalescer._runner is not None
    doubler.coalescer._runner.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Unavailable):
            await waiting
        assert await doubler.coalescer(2) == 4
        await doubler.coalescer.drain()


async def test_a_cancellation_within_a_batch_is_the_failure_of_that_batch_alone() -> None:
    """What `run` awaits may be cancelled by others; the next batch has nothing to do with that."""
    doubler = Doubler(max_batch=1)

    def double(number: int) -> int:
        if number == 1:
            raise asyncio.CancelledError
        return number * 2

    doubler.double = double  # type: ignore[method-assign]
    results = await asyncio.gather(*doubler.calls(1, 2), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable, int]


async def test_a_batch_does_not_run_in_the_context_of_its_first_caller() -> None:
    """Log lines of a batch must not carry the request id of whoever happened to start it."""
    request_id = contextvars.ContextVar("request_id", default="none")
    seen: list[str] = []

    async def run(numbers: list[int]) -> Sequence[int]:
        seen.append(request_id.get())
        return numbers

    coalescer: Coalescer[int, int] = Coalescer("context", run, max_batch=2, max_queue=10)
    request_id.set("mine")
    await coalescer(1)
    assert seen == ["none"]


async def test_an_answer_that_no_future_can_carry_harms_nobody_else() -> None:
    doubler = Doubler()

    def double(number: int) -> int | BaseException:
        return StopIteration() if number == 1 else number * 2

    doubler.double = double  # type: ignore[method-assign]
    async with asyncio.timeout(PATIENCE_SECONDS):
        results = await asyncio.gather(*doubler.calls(1, 2), return_exceptions=True)
    assert isinstance(results[0], Exception)
    assert results[1] == 4


async def test_64_callers_behind_a_barrier_each_get_their_own_answer_many_times_over() -> None:
    doubler = Doubler(max_batch=16, max_queue=64)
    for _ in range(50):
        assert await asyncio.gather(*doubler.calls(*range(64))) == [number * 2 for number in range(64)]
    assert max(len(batch) for batch in doubler.batches) == 16


@examples(60)
@given(
    plan=st.lists(
        st.tuples(st.integers(-5, 50), st.sampled_from(["call", "cancel", "pause"]), st.integers(0, 3)), max_size=40
    ),
    max_batch=st.integers(1, 5),
)
def test_whatever_the_order_of_calls_and_cancellations_every_caller_gets_its_own_answer(
    plan: list[tuple[int, str, int]], max_batch: int
) -> None:
    async def story() -> None:
        doubler = Doubler(max_batch=max_batch)
        calls: list[tuple[int, bool, asyncio.Task[int]]] = []
        for number, then, steps in plan:
            doubler.gate.clear() if number % 3 == 0 else doubler.gate.set()
            (call,) = doubler.calls(number)
            for _ in range(steps):
                await asyncio.sleep(0)
            calls.append((number, then == "cancel", call))
            if then == "cancel":
                call.cancel()
        doubler.gate.set()
        for number, cancelled, call in calls:
            try:
                assert await call == number * 2
            except Refusal:
                assert number < 0
            except asyncio.CancelledError:
                assert cancelled
        await doubler.coalescer.drain()
        assert all(0 < len(batch) <= max_batch for batch in doubler.batches)

    asyncio.run(story())
