"""Names: one public class, one meaning, in the whole package."""

import ast
from collections import defaultdict
from collections.abc import Iterable

from tests.architecture.source import Module, modules


def told_twice(modules: Iterable[Module]) -> list[str]:
    """Public classes that have the name of another."""
    found = defaultdict(list)
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module.path)
    return [f"{name}: {', '.join(paths)}" for name, paths in found.items() if len(paths) > 1]


def test_no_two_public_classes_have_one_name() -> None:
    assert told_twice(modules()) == []


def test_two_of_one_name_are_seen() -> None:
    text = "class Tea: ...\nclass _Pot: ...\n"
    assert told_twice([Module("shop/tea.py", text), Module("shop/pot.py", text)]) == ["Tea: shop/tea.py, shop/pot.py"]
