"""Nothing lies about: every module is reached from where a process starts, every name is used."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from tests.architecture.source import ROOT, Module, imports, modules

STARTS = {"growth.__main__", "growth.cli"}
"""And the modules that scripts run."""

FOR_OTHERS: Mapping[str, str] = {
    # Names that nothing in the house uses, and who does.
    "render": "Litestar calls it",
    "receive_router": "Litestar calls it",
    "collect": "prometheus_client calls it",
    "capture_signals": "uvicorn calls it",
    "on_header": "httptools calls it",
    "on_message_complete": "httptools calls it",
    "on_response_complete": "uvicorn calls it",
    "pause_writing": "the event loop calls it",
    "resume_writing": "the event loop calls it",
    "LocustShopper": "Locust makes them",
    "thaw": "tests that freeze a server",
    "supervise": "tests that kill a server",
}


def run_by_name(text: str) -> set[str]:
    """Modules that a text names whole: `python -m growth.load.generator`."""
    return set(re.findall(r"\bgrowth(?:\.\w+)+", text))


def scripts() -> str:
    """Every script as text, the benches among them."""
    files = [path for path in (ROOT / "scripts").rglob("*") if path.is_file() and path.suffix in ("", ".py", ".sh")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def unreached(modules: Iterable[Module], starts: set[str]) -> list[str]:
    known = {module.name: module for module in modules}
    waiting, reached = list(starts & known.keys()), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            # Importing a module runs the packages around it.
            around = [name.rpartition(".")[0]] if "." in name else []
            named = {line.value for line in ast.walk(known[name].tree) if isinstance(line, ast.Constant)}
            waiting += [other for other in [*imports(known[name]), *around, *(named & known.keys())] if other in known]
    return sorted(known.keys() - reached)


def public_names(module: Module) -> Iterator[str]:
    """Functions, classes, methods and constants that a module offers; what is decorated is offered to the decorator."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Module | ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    if not any(isinstance(decorator, ast.Call) for decorator in line.decorator_list):
                        yield line.name
                elif isinstance(line, ast.Assign) and isinstance(node, ast.Module):
                    yield from (target.id for target in line.targets if isinstance(target, ast.Name))


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text))


def unused(modules: Iterable[Module]) -> list[str]:
    """Names that stand once in the house, where they are made. What only a test uses is dead too."""
    counted = sum((words(module.text) for module in modules), Counter[str]())
    return [
        f"{module.path}: {name}"
        for module in modules
        # Words may wait for the room that will speak them.
        if not module.path.startswith("vocabulary/")
        for name in public_names(module)
        if counted[name] == 1 and not name.startswith("_") and name not in FOR_OTHERS
    ]


def test_every_module_is_reached_from_where_a_process_starts() -> None:
    assert unreached(modules(), STARTS | run_by_name(scripts())) == []


def test_a_module_that_nobody_imports_is_seen() -> None:
    house = [
        Module("cli.py", "from growth.shop.order.store import orders\n"),
        Module("__init__.py", ""),
        Module("shop/order/__init__.py", ""),
        Module("shop/order/store/__init__.py", ""),
        Module("shop/order/store/orders.py", ""),
        Module("shop/order/leftover.py", "import growth.cli\n"),
    ]
    assert unreached(house, STARTS) == ["growth.shop.order.leftover"]


def test_every_name_is_used() -> None:
    assert unused(modules()) == []


def test_a_name_that_nobody_uses_is_seen() -> None:
    pot = Module("shop/pot.py", "SIZE = 1\ndef pour(): ...\ndef boil(): ...\nclass Pot:\n    def lid(self): ...\n")
    cup = Module("shop/cup.py", "from growth.shop.order.pot import pour, Pot\n")
    assert unused([pot, cup]) == ["shop/pot.py: SIZE", "shop/pot.py: boil", "shop/pot.py: lid"]
    assert unused([pot, cup, Module("shop/tea.py", "pot.boil(pot.SIZE).lid()")]) == []


def test_no_exception_outlives_its_reason() -> None:
    offered = {name for module in modules() for name in public_names(module)}
    assert [name for name in FOR_OTHERS if name not in offered] == []
