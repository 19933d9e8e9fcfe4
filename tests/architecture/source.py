"""The house as text: modules and their syntax trees, for rules to read. A rule is a function from that to faults."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "growth"


class Module(NamedTuple):
    """One Python file of the house."""

    path: str
    """From `growth/` on: `shop/order/store/orders.py`."""
    text: str

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.text)

    @property
    def file(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def is_store(self) -> bool:
        """Whether it holds SQL: `store.py`, or a file in a folder `store`."""
        return self.file == "store.py" or self.folder.rpartition("/")[2] == "store"

    @property
    def name(self) -> str:
        """As Python imports it: `growth.shop.order.store.orders`."""
        return ".".join(
            ["growth", *self.path.removesuffix(".py").removesuffix("__init__").strip("/").split("/")]
        ).strip(".")

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 0)}"


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def modules() -> tuple[Module, ...]:
    """Every Python file of the house."""
    return tuple(Module(path_of(path), path.read_text(encoding="utf-8")) for path in sorted(HOUSE.rglob("*.py")))


def path_of(path: Path) -> str:
    return path.relative_to(HOUSE).as_posix()


def calls(module: Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))


def called(call: ast.Call) -> str:
    """The last word of what is called: `fetch` for `tx.fetch(...)`."""
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def imports(module: Module) -> Iterator[str]:
    """The names of modules that a module imports; `from a import b` may mean the module a.b."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
