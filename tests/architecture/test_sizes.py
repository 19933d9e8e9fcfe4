"""Small rooms: a file past 400 lines or a function past 70 wants another noun. Bounds have names that end in units."""

import ast
import re
from collections.abc import Iterator, Mapping

import pytest

from tests.architecture.source import Module, called, calls, modules

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70

LONG_FILES: Mapping[str, str] = {
    "mechanics/flash_sale/claim/store.py": "a quarter of it is one statement, `win`",
}
"""Path → why it is one file. A debt says what will leave."""

LONG_FUNCTIONS: Mapping[str, str] = {
    "mechanics/flash_sale/claim/store.py win": "one statement: all guards of a win stand in it",
    "rewards/ledger/store/entries.py move": "one statement: transfers, balances and lots stand or fall together",
    "mechanics/group_buy/team/store/teams.py take": "one statement: all guards of a seat stand in it",
    "rewards/coupon/take/store.py take": "one statement: all guards of a taking stand in it",
    "rewards/coupon/code/store.py redeem": "one statement: all guards of a code stand in it",
}
"""`path function` → why it is one function."""

BOUND = re.compile(r"(?:^|_)(?:max|limit|timeout|maxsize|batch|queue|attempts|retries|burst|seconds|bytes)(?:_|$)")
WAITS = {"sleep", "timeout", "wait_for"}

UNNAMED: Mapping[str, str] = {
    # Path → why its bounds may be plain numbers.
    "demo/": "a story with numbers in it",
}


def is_long(module: Module) -> bool:
    return module.text.count("\n") > MAX_FILE_LINES


def long_functions(module: Module) -> Iterator[str]:
    """The functions of a module that are too long."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield f"{module.path} {node.name}"


def _is_number(node: ast.expr) -> bool:
    """0 and 1 need no name: none, and one."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, int | float):
        return False
    return node.value > 1


def unnamed_bounds(module: Module) -> Iterator[str]:
    """Numbers given as a bound or a wait: `limit=100`, `asyncio.sleep(5)`."""
    named = {value for line in module.tree.body if isinstance(line, ast.Assign) for value in ast.walk(line.value)}
    for call in calls(module):
        # A constant's value is where its name is given; of a field's limits the field is the name.
        if call in named or called(call) in {"Meta", "QueryParameter", "PathParameter"}:
            continue
        for keyword in call.keywords:
            if keyword.arg and BOUND.search(keyword.arg) and _is_number(keyword.value):
                yield f"{module.at(call)} {keyword.arg}"
        if called(call) in WAITS and any(_is_number(argument) for argument in call.args):
            yield f"{module.at(call)} {called(call)}"


def test_files_are_short() -> None:
    assert [module.path for module in modules() if is_long(module) and module.path not in LONG_FILES] == []


def test_functions_are_short() -> None:
    found = [name for module in modules() for name in long_functions(module)]
    assert [name for name in found if name not in LONG_FUNCTIONS] == []


def test_a_long_file_and_a_long_function_are_seen() -> None:
    body = "\n".join(f"    x = {number}" for number in range(MAX_FUNCTION_LINES))
    assert list(long_functions(Module("shop/tea.py", f"def pour():\n{body}\n"))) == ["shop/tea.py pour"]
    assert is_long(Module("shop/tea.py", "X = 1\n" * (MAX_FILE_LINES + 1)))
    assert not is_long(Module("shop/tea.py", "X = 1\n" * MAX_FILE_LINES))


def test_no_exception_outlives_its_reason() -> None:
    paths = {module.path for module in modules()}
    assert [place for place in UNNAMED if not any(path.startswith(place) for path in paths)] == []
    assert set(LONG_FILES) - {module.path for module in modules() if is_long(module)} == set()
    assert set(LONG_FUNCTIONS) - {name for module in modules() for name in long_functions(module)} == set()


def test_every_bound_has_a_name() -> None:
    faults = [
        fault for module in modules() if not module.path.startswith(tuple(UNNAMED)) for fault in unnamed_bounds(module)
    ]
    assert faults == []


@pytest.mark.parametrize(
    "text", ["page(limit=100)", "Coalescer('tea', run, max_batch=64)", "asyncio.timeout(5)", "connect(timeout=2.5)"]
)
def test_a_bound_without_a_name_is_seen(text: str) -> None:
    assert list(unnamed_bounds(Module("shop/tea.py", text)))


@pytest.mark.parametrize("text", ["page(limit=MAX_CLAIMS, offset=100, burst=1)", "WARM = timedelta(seconds=60)"])
def test_a_bound_with_a_name_is_fine(text: str) -> None:
    assert not list(unnamed_bounds(Module("shop/tea.py", text)))
