"""Coalescing: many awaiting calls become one batch call. The signature of this code.

A batch closes when the previous one returns; there is no timer. Alone, a call goes out at once; in a crowd, calls
gather while the store is busy, so the cost of one trip is shared by all who wait for it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from typing import Any, Generic, TypeAlias, TypeVar
from weakref import WeakSet

from prometheus_client import Gauge

from growth.plumbing.request import request_id
from growth.vocabulary.refusals import Unavailable

_all: "WeakSet[Coalescer[Any, Any]]" = WeakSet()
_waiting_calls = Gauge("growth_coalescer_waiting_calls", "Calls that wait for their batch, over all queues.")
_waiting_calls.set_function(lambda: sum(len(one) for one in list(_all)))

Request = TypeVar("Request")
Answer = TypeVar("Answer")
_Call: TypeAlias = tuple[Request, asyncio.Future[Answer], str]
"""A call, who waits for it, and the id of its HTTP request."""


class Handover:
    """An answer that is still to come: the caller goes on waiting, now for `coalescer`, without waking in between.

    The request is queued there even if its caller has left, and whatever that queue's bound: it was let in here.
    """

    __slots__ = ("coalescer", "request")

    def __init__(self, coalescer: "Coalescer[Any, Any]", request: object) -> None:
        self.coalescer = coalescer
        self.request = request


class Coalescer(Generic[Request, Answer]):
    """Batches calls of one kind.

    `run` gets 1 to `max_batch` requests and returns as many answers in the same order; an answer that is an exception
    is raised to its own caller alone. If `run` itself raises, the callers of that batch get its exception, nobody else.
    A caller that goes away changes nothing for its neighbours, and its request still runs. More than `max_queue`
    waiting requests are turned away at once with `Unavailable`.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[list[Request]], Awaitable[Sequence[Answer | Handover | BaseException]]],
        *,
        max_batch: int,
        max_queue: int,
    ) -> None:
        self.name = name
        self._run = run
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._waiting: deque[_Call[Request, Answer]] = deque()
        self._batch: list[_Call[Request, Answer]] = []
        self._names: dict[int, str] | None = None
        self._runner: asyncio.Task[None] | None = None
        _all.add(self)

    def __len__(self) -> int:
        """How many calls wait for their batch."""
        return len(self._waiting)

    def __bool__(self) -> bool:
        return True

    def submit(self, request: Request) -> asyncio.Future[Answer]:
        """Queue `request`; the future holds its answer. It runs even if nobody awaits it."""
        if len(self._waiting) >= self._max_queue:
            raise Unavailable(f"{self.name} has {self._max_queue} calls waiting")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue(request, future, request_id.get())
        return future

    def request_id_of(self, request: Request) -> str:
        """Return the id of the HTTP request that made a call of the batch under way; "" if none did."""
        if self._names is None:
            self._names = {id(one): name for one, _, name in self._batch}
        return self._names.get(id(request), "")

    def _queue(self, request: Request, future: asyncio.Future[Answer], name: str) -> None:
        self._waiting.append((request, future, name))
        if self._runner is None:
            # In a context of its own: what a batch logs must not carry the request id of whoever came first. Each batch
            # sets it, if all its calls are of one request.
            self._runner = asyncio.create_task(self._work(), name=f"coalesce:{self.name}", context=Context())
            self._runner.add_done_callback(self._stopped)

    async def __call__(self, request: Request) -> Answer:
        """Return the answer to `request`, or raise its exception."""
        return await self.submit(request)

    @property
    def is_busy(self) -> bool:
        """Say whether anything is queued or running."""
        return self._runner is not None

    async def drain(self) -> None:
        """Wait until nothing is queued or running."""
        while self._runner is not None:
            await asyncio.wait([self._runner])

    async def _work(self) -> None:
        waiting = self._waiting
        try:
            while waiting:
                batch = [waiting.popleft() for _ in range(min(len(waiting), self._max_batch))]
                self._batch, self._names = batch, None
                first = batch[0][2]
                request_id.set(first if len(batch) == 1 or all(name == first for _, _, name in batch) else "")
                answers: Sequence[Answer | Handover | BaseException]
                try:
                    answers = await self._run([request for request, _, _ in batch])
                    assert len(answers) == len(batch), f"{self.name}: {len(answers)} answers to {len(batch)} requests"
                except Exception as error:  # noqa: BLE001 - it belongs to the callers, who are waiting
                    answers = [error] * len(batch)
                except BaseException as error:
                    _settle(batch, [Unavailable(f"{self.name} was stopped")] * len(batch))
                    if isinstance(error, asyncio.CancelledError) and not _being_cancelled():
                        continue  # something that `run` awaited was cancelled, not we
                    raise error from None
                _settle(batch, answers)
        finally:
            self._runner = None
            self._batch, self._names = [], None
            self._turn_away()

    def _stopped(self, runner: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step never reaches its own `finally`.
        if self._runner is runner:
            self._runner = None
            self._turn_away()

    def _turn_away(self) -> None:
        _settle(self._waiting, [Unavailable(f"{self.name} was stopped")] * len(self._waiting))
        self._waiting.clear()


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _settle(batch: Iterable[_Call[Request, Answer]], answers: Sequence[Answer | Handover | BaseException]) -> None:
    for (_, future, name), answer in zip(batch, answers, strict=True):
        if isinstance(answer, Handover):
            answer.coalescer._queue(answer.request, future, name)  # noqa: SLF001 - one of its own kind
            continue
        if future.done():
            continue
        if isinstance(answer, StopIteration):
            future.set_exception(RuntimeError("StopIteration is no answer: no future can raise it"))
        elif isinstance(answer, BaseException):
            future.set_exception(answer)
            # Whoever left will not look: do not let the loop complain about an exception nobody collected.
            future.exception()
        else:
            future.set_result(answer)
