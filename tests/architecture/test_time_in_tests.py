"""Tests hang on no day, no hour and no speed: the mistakes of that kind which a look at the text can find."""

import ast
from collections.abc import Iterator, Mapping

import pytest

from tests.architecture.source import ROOT, Module

TESTS = ROOT / "tests"

MAY_BOUND: Mapping[str, str] = {
    "patience.py": "it is the one last resort",
    "faults/houses.py": "the same, around what may be unavailable meanwhile",
    "faults/crowd.py": "the same, of a shopper",
    "architecture/": "its examples are of such mistakes",
}
"""Where a clock may end a test."""

CLOCKS = {"monotonic", "perf_counter", "monotonic_ns", "perf_counter_ns", "time_ns"}


def written_tests() -> Iterator[Module]:
    for path in sorted(TESTS.rglob("*.py")):
        yield Module(path.relative_to(TESTS).as_posix(), path.read_text(encoding="utf-8"))


def called(node: ast.AST) -> str:
    """Return the last name of what is called: `now` of `clock.now()`."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def days_of_now(module: Module) -> Iterator[str]:
    """Yield where the day, month or hour of an instant is taken without a zone: `now()` is UTC, a merchant is not."""
    for node in ast.walk(module.tree):
        if called(node) == "today" and ast.unparse(node).startswith(("date.", "datetime.")):
            yield f"{module.at(node)} today by this machine's zone"
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Call() as instant, attr="date" | "strftime" | "isocalendar" as part)
            ):
                if called(instant) in {"now", "utcnow"}:
                    yield f"{module.at(node)} .{part}() of an instant in no zone"
            case ast.Call(func=ast.Attribute(value=ast.Call() as instant, attr="replace"), keywords=[*named]):
                if called(instant) in {"now", "utcnow"} and {one.arg for one in named} & {"hour", "day", "month"}:
                    yield f"{module.at(node)} a day's begin in no zone"


def dates_that_may_not_be(module: Module) -> Iterator[str]:
    """Yield where a year, month or day is put into a date: of 29 February or the 31st there is none."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and called(node) == "replace":
            put = {one.arg: one.value for one in node.keywords if one.arg in {"year", "month", "day"}}
            if any(not isinstance(value, ast.Constant) for value in put.values()):
                yield module.at(node)


def is_literal_instant(node: ast.AST) -> bool:
    """Say whether it is written down: `datetime(2026, …)`, `date(2026, …)`, `fromisoformat("2026-…")`."""
    if not isinstance(node, ast.Call) or not node.args:
        return False
    first = node.args[0]
    name = called(node)
    return isinstance(first, ast.Constant) and (
        (name in {"datetime", "date"} and isinstance(first.value, int))
        or (name == "fromisoformat" and isinstance(first.value, str))
    )


def literals_beside_the_clock(module: Module) -> Iterator[str]:
    """Yield where an instant that is written down is compared with the true one: some day it has passed."""
    written = {
        target.id
        for node in module.tree.body
        if isinstance(node, ast.Assign) and is_literal_instant(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Compare):
            sides = [list(ast.walk(side)) for side in (node.left, *node.comparators)]
            asks = any(called(one) in {"now", "utcnow"} for side in sides for one in side)
            literal = any(
                is_literal_instant(one) or (isinstance(one, ast.Name) and one.id in written)
                for side in sides
                for one in side
            )
            if asks and literal:
                yield module.at(node)


def asks_a_clock(node: ast.AST) -> bool:
    """Say whether it is such a question; `time()` alone makes a time of the day."""
    return called(node) in CLOCKS or (
        isinstance(node, ast.Call) and ast.unparse(node).endswith(("loop().time()", "loop.time()", "time.time()"))
    )


def clocks_that_end_tests(module: Module) -> Iterator[str]:
    """Yield where a test fails by the seconds something took, or waits for so many and no more."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Assert():
                compared = [one for one in ast.walk(node.test) if isinstance(one, ast.Compare)]
                if any(asks_a_clock(one) for compare in compared for one in ast.walk(compare)):
                    yield f"{module.at(node)} seconds are compared"
            case ast.Call(args=[ast.Constant(value=int() | float()), *_]) if called(node) == "timeout":
                yield f"{module.at(node)} a time-out of its own"
            case ast.Call(args=[_, ast.Constant(value=int() | float())]) if called(node) == "wait_for":
                yield f"{module.at(node)} a time-out of its own"
            case ast.Call(keywords=[*named]) if called(node) == "wait_for":
                if any(one.arg == "timeout" and isinstance(one.value, ast.Constant) for one in named):
                    yield f"{module.at(node)} a time-out of its own"


def sleeps_below_zero(module: Module) -> Iterator[str]:
    """Yield where a test sleeps for a difference: on a slow machine what it waits for has passed, and that is an error.

    For `asyncio` alone it is none.
    """
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=func, args=[ast.BinOp(op=ast.Sub()), *_]):
                if called(node) == "sleep" and ast.unparse(func) != "asyncio.sleep":
                    yield module.at(node)


def may_bound(module: Module) -> bool:
    return any(module.path == place or (place.endswith("/") and module.path.startswith(place)) for place in MAY_BOUND)


def test_no_test_takes_a_day_of_utc_for_the_merchants() -> None:
    assert [fault for module in written_tests() for fault in days_of_now(module)] == []


def test_no_test_makes_a_date_that_may_not_be() -> None:
    assert [fault for module in written_tests() for fault in dates_that_may_not_be(module)] == []


def test_no_test_compares_a_date_it_names_with_the_true_clock() -> None:
    assert [fault for module in written_tests() for fault in literals_beside_the_clock(module)] == []


def test_no_test_fails_because_the_machine_is_slow() -> None:
    assert [
        fault for module in written_tests() if not may_bound(module) for fault in clocks_that_end_tests(module)
    ] == []


def test_no_test_sleeps_for_less_than_nothing() -> None:
    assert [fault for module in written_tests() for fault in sleeps_below_zero(module)] == []


def test_nobody_is_allowed_a_clock_without_need() -> None:
    bound = {module.path for module in written_tests() if list(clocks_that_end_tests(module))}
    allowed = [place for place in MAY_BOUND if place != "architecture/"]
    assert [place for place in allowed if place not in bound] == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (days_of_now, "day = now().date()\n"),
        (days_of_now, "day = datetime.now(UTC).date().replace(day=1)\n"),
        (days_of_now, "month = clock.now().strftime('%Y-%m')\n"),
        (days_of_now, "start = now().replace(hour=0, minute=0)\n"),
        (days_of_now, "day = date.today()\n"),
        (dates_that_may_not_be, "later = end.replace(year=end.year + 1)\n"),
        (dates_that_may_not_be, "later = end.replace(month=1 + end.month % 12)\n"),
        (literals_beside_the_clock, "assert now() < datetime(2026, 11, 27, tzinfo=UTC)\n"),
        (
            literals_beside_the_clock,
            "NOON = datetime(2026, 11, 25, tzinfo=UTC)\ndef f(): return NOON + DAY > clock.now()\n",
        ),
        (literals_beside_the_clock, "FIRST = datetime.fromisoformat('2026-11-25T12:00:00Z')\nassert FIRST > now()\n"),
        (clocks_that_end_tests, "assert time.monotonic() - started < 5\n"),
        (clocks_that_end_tests, "assert 0.9 < asyncio.get_running_loop().time() - started < 3\n"),
        (clocks_that_end_tests, "async def f():\n    async with asyncio.timeout(5):\n        pass\n"),
        (clocks_that_end_tests, "asyncio.wait_for(question, timeout=5)\n"),
        (clocks_that_end_tests, "asyncio.wait_for(question, 0.5)\n"),
        (sleeps_below_zero, "anyio.sleep(HOLD_SECONDS - (now() - begun).total_seconds())\n"),
    ],
)
def test_each_mistake_is_seen(rule: object, text: str) -> None:
    assert list(rule(Module("shop/test_tea.py", text)))  # type: ignore[operator]


@pytest.mark.parametrize(
    "text",
    [
        "day = now().astimezone(ZONE).date()\n",
        "day = NOON.date()\n",
        "first = day.replace(day=1)\n",
        "NOON = datetime(2026, 11, 25, tzinfo=UTC)\nassert told.at == NOON\n",
        "assert told.at > now()\n",
        "took = time.monotonic() - started\n",
        "async def f():\n    async with asyncio.timeout(PATIENCE_SECONDS):\n        pass\n",
        "text = name.replace('a', 'b')\n",
        "anyio.sleep(max(0.0, HOLD_SECONDS - took))\n",
        "asyncio.sleep(due - now)\n",
    ],
)
def test_what_is_right_is_let_be(text: str) -> None:
    module = Module("shop/test_tea.py", text)
    rules = (
        days_of_now,
        dates_that_may_not_be,
        literals_beside_the_clock,
        clocks_that_end_tests,
        sleeps_below_zero,
    )
    assert [fault for rule in rules for fault in rule(module)] == []
