"""Starts `growth serve` or `growth worker` with faults built in: `python -m tests.faults.launcher serve`.

The process is the real one in every other respect. `FAULTS` in its environment says what is to go wrong, as JSON of
`Faults`; a function is named as `module:Class.method` or `module:function`.
"""

import asyncio
import functools
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec import Struct

ENVIRONMENT = "FAULTS"


class Death(Struct, frozen=True, forbid_unknown_fields=True):
    """SIGKILL from within, at one step: nothing after it happens, not even a `finally`."""

    at: str
    when: Literal["before", "after"]
    nth: int = 1
    """At which call; with `armed_by`, at which call of that one."""
    armed_by: str | None = None
    """Death comes with the first call after this function was called for the `nth` time; within the same transaction,
    if both are called with one."""
    with_work: bool = False
    """Only calls that answer something count: of `armed_by`, if it is given."""


class Faults(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is wrong with this process."""

    death: Death | None = None
    clock_seconds: float = 0
    """How far the clock is ahead."""
    grace_seconds: float | None = None
    """Instead of `loading.GRACE`."""
    reconcile_seconds: float | None = None
    """Between two turns of `flash_sale.reconcile`."""
    lease_seconds: float | None = None
    """Instead of `periodic.LEASE_SECONDS`."""
    tasks: list[str] | None = None
    """The only tasks that run."""
    slow: dict[str, float] = {}
    """Functions that take so many seconds longer."""
    does_nothing: list[str] = []
    """Functions that return 0 at once."""
    without: list[tuple[str, str, str]] = []
    """A function, a piece of its text, and what stands there instead."""


def main() -> None:
    """Read the plan, spoil the process, run it."""
    faults = msgspec.json.decode(os.environ.pop(ENVIRONMENT, "{}"), type=Faults)
    # The clock before anything else: others take it by name when they are imported.
    if faults.clock_seconds:
        clock = importlib.import_module("growth.vocabulary.clock")
        ahead = timedelta(seconds=faults.clock_seconds)
        clock.now = lambda: datetime.now(UTC) + ahead  # type: ignore[attr-defined]
    _shorten_waits(faults)
    for name, text, instead in faults.without:
        _rewrite(name, text, instead)
    for name in faults.does_nothing:
        _replace(name, lambda _function: _nothing)
    for name, seconds in faults.slow.items():
        _replace(name, functools.partial(_delayed, seconds))
    if faults.death is not None:
        _doom(faults.death)
    from growth.cli import main as growth  # noqa: PLC0415 - only now: it imports all the rest

    growth()


def _shorten_waits(faults: Faults) -> None:
    if faults.grace_seconds is not None:
        loading: Any = importlib.import_module("growth.mechanics.flash_sale.claim.redis_sync")
        loading.GRACE = timedelta(seconds=faults.grace_seconds)
    if faults.lease_seconds is not None:
        periodic: Any = importlib.import_module("growth.plumbing.work.periodic")
        periodic.LEASE_SECONDS = faults.lease_seconds
    if faults.reconcile_seconds is not None or faults.tasks is not None:
        schedule: Any = importlib.import_module("growth.tables")
        schedule.schedule = _other_schedule(schedule.schedule, faults)


def _other_schedule(schedule: Callable[[Any], Any], faults: Faults) -> Callable[[Any], Any]:
    def other(growth: Any) -> Any:
        tasks = schedule(growth)
        if faults.tasks is not None:
            tasks = [task for task in tasks if task.name in faults.tasks]
            assert len(tasks) == len(faults.tasks), "a task is no longer called like this"
        if faults.reconcile_seconds is not None:
            shorter = {"flash_sale.reconcile": faults.reconcile_seconds}
            tasks = [msgspec.structs.replace(t, every_seconds=shorter.get(t.name, t.every_seconds)) for t in tasks]
        return tasks

    return other


def _owner(name: str) -> tuple[Any, str]:
    """Return the module or class that has a function, and the function's name in it."""
    module, _, path = name.partition(":")
    owner: Any = importlib.import_module(module)
    *above, last = path.split(".")
    for part in above:
        owner = getattr(owner, part)
    return owner, last


def _replace(name: str, make: Callable[[Any], Any]) -> None:
    owner, last = _owner(name)
    setattr(owner, last, make(getattr(owner, last)))


async def _nothing(*_: Any, **__: Any) -> int:
    return 0


def _delayed(seconds: float, function: Any) -> Any:
    @functools.wraps(function)
    async def delayed(*args: Any, **named: Any) -> Any:
        await asyncio.sleep(seconds)
        return await function(*args, **named)

    return delayed


def _rewrite(name: str, text: str, instead: str) -> None:
    """Put other source in a function's place."""
    owner, last = _owner(name)
    assert inspect.ismodule(owner), "only functions of a module are rewritten"
    source = inspect.getsource(getattr(owner, last))
    assert text in source, f"{name} is no longer written like this: {text}"
    exec(compile(source.replace(text, instead), f"{name} rewritten", "exec"), owner.__dict__)


def _doom(death: Death) -> None:
    if death.armed_by is None:
        _replace(death.at, functools.partial(_dying, death, _Counter(death.nth)))
        return
    armed: list[object] = []

    def is_it(first: object) -> bool:
        return bool(armed) and not (_is_tx(armed[0]) and _is_tx(first) and first is not armed[0])

    _replace(death.at, functools.partial(_dying, death, is_it))
    _replace(death.armed_by, functools.partial(_arming, death, _Counter(death.nth), armed))


class _Counter:
    """Says yes once, to the nth question."""

    def __init__(self, nth: int) -> None:
        self._left = nth

    def __call__(self, _: object = None) -> bool:
        self._left -= 1
        return self._left == 0


def _dying(death: Death, is_it: Callable[[object], bool], function: Any) -> Any:
    @functools.wraps(function)
    async def dying(*args: Any, **named: Any) -> Any:
        if death.when == "before" and is_it(args[0]):
            _die(death)
        answer = await function(*args, **named)
        counts = answer or death.armed_by or not death.with_work
        if death.when == "after" and counts and is_it(args[0]):
            _die(death)
        return answer

    return dying


def _arming(death: Death, is_it: Callable[[], bool], armed: list[object], function: Any) -> Any:
    @functools.wraps(function)
    async def arming(*args: Any, **named: Any) -> Any:
        answer = await function(*args, **named)
        if (answer or not death.with_work) and is_it():
            armed.append(args[0])
        return answer

    return arming


def _is_tx(value: object) -> bool:
    return type(value).__name__ == "Tx"


def _die(death: Death) -> None:
    os.write(2, f"dies {death.when} {death.at}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.argv[0] = "growth"
    main()
