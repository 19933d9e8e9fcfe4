"""Time: only entry points ask the clock; everybody else is told `now`."""

import ast
from collections.abc import Iterator, Mapping

import pytest

from tests.architecture.source import Module, imports, modules

ENTRY_FILES = {"routes.py", "admin.py", "cli.py", "dead_letter_commands.py", "worker.py", "bootstrap.py", "__main__.py"}

MAY_ASK: Mapping[str, str] = {
    "vocabulary/clock.py": "it is the clock",
    "plumbing/http/operators.py": "`act_of` is what an admin route begins with",
    "demo/": "a program of its own",
    "dev.py": "a program of its own",
    "load/": "a program of its own",
}

ASKS = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("time", "time"),
    ("time", "time_ns"),
    ("clock", "now"),
}
"""`time.monotonic` and `perf_counter` measure waits, and decide nothing that anybody could see."""


def asks(module: Module) -> Iterator[str]:
    knows_now = "growth.vocabulary.clock.now" in set(imports(module))
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=name)):
                if (owner, name) in ASKS:
                    yield module.at(node)
            case ast.Call(func=ast.Name(id="now")) if knows_now:
                yield module.at(node)


def may_ask(module: Module) -> bool:
    listed = any(module.path == place or (place.endswith("/") and module.path.startswith(place)) for place in MAY_ASK)
    return listed or module.file in ENTRY_FILES


def test_only_entry_points_ask_the_clock() -> None:
    assert [fault for module in modules() if not may_ask(module) for fault in asks(module)] == []


def test_nobody_is_allowed_without_need() -> None:
    asking = {module.path for module in modules() if list(asks(module))}
    assert [place for place in MAY_ASK if not any(path.startswith(place) for path in asking)] == []


@pytest.mark.parametrize(
    "text",
    [
        "from datetime import datetime\nX = datetime.now(UTC)\n",
        "import datetime\nX = datetime.datetime.now()\n",
        "import time\nX = time.time()\n",
        "from growth.vocabulary import clock\nX = clock.now()\n",
        "from growth.vocabulary.clock import now\nX = now()\n",
    ],
)
def test_asking_the_clock_elsewhere_is_seen(text: str) -> None:
    module = Module("mechanics/tea/service.py", text)
    assert list(asks(module))
    assert not may_ask(module)


def test_being_told_the_time_is_not_asking() -> None:
    assert not list(asks(Module("mechanics/tea/service.py", "def boil(now, turn):\n    return now + turn.now\n")))
