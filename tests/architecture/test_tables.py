"""The three tables that wake the code: every entry has a name of its own, led by its room's word."""

import ast
from collections.abc import Iterator

import msgspec
import pytest

from growth.plumbing.settings import Settings, variables
from growth.web import routers
from tests.architecture.source import HOUSE, ROOT, Module, called, calls, modules

PLUMBING_WORDS = {"outbox", "idempotency", "invariants", "erasure"}

WHERE_FROM = {"schedule.py": "PeriodicTask", "reactions.py": "Subscription"}


def names_in(module: Module, kind: str) -> Iterator[str]:
    """The names of the entries of one table, in order."""
    for call in calls(module):
        if called(call) == kind:
            first = call.args[0] if call.args else None
            yield str(first.value) if isinstance(first, ast.Constant) else f"{module.at(call)} has no literal name"


def name_faults(names: list[str], words: set[str]) -> list[str]:
    twice = [name for name in set(names) if names.count(name) > 1]
    return twice + [name for name in names if name.partition(".")[0] not in words]


def room_words() -> set[str]:
    rooms = [path for floor in ("mechanics", "rewards", "listeners") for path in (HOUSE / floor).glob("*/")]
    return {path.name for path in rooms} | PLUMBING_WORDS | {"shop", "events"}


def made_elsewhere() -> list[str]:
    """What is woken has one table; an entry made anywhere else would be missed by whoever reads the tables."""
    return [
        module.at(call)
        for module in modules()
        for table, kind in WHERE_FROM.items()
        # What makes load is a program of its own.
        if module.path != table and not module.path.startswith("load/")
        for call in calls(module)
        if called(call) == kind
    ]


@pytest.mark.parametrize("table", WHERE_FROM)
def test_every_entry_has_a_name_of_its_own(table: str) -> None:
    module = next(module for module in modules() if module.path == table)
    names = list(names_in(module, WHERE_FROM[table]))
    assert names
    assert name_faults(names, room_words()) == []


def test_a_name_used_twice_or_of_no_room_is_seen() -> None:
    words = {"tea"}
    assert name_faults(["tea.boil", "tea.boil"], words) == ["tea.boil"]
    assert name_faults(["pot.boil"], words) == ["pot.boil"]
    assert name_faults(list(names_in(Module("schedule.py", "PeriodicTask(name, 1)"), "PeriodicTask")), words)


def test_nothing_is_woken_past_the_tables() -> None:
    assert made_elsewhere() == []


def test_every_router_of_the_house_is_in_the_table_of_urls() -> None:
    made = [
        module.name
        for module in modules()
        for node in module.tree.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "router" for t in node.targets)
    ]
    web = (HOUSE / "web.py").read_text(encoding="utf-8")
    unlisted = [name for name in made if f"import {name}" not in web and name.rpartition(".")[2] not in web]
    assert made
    assert unlisted == []
    assert len(routers()) == len(set(map(id, routers())))


def test_every_setting_says_what_to_set_it_to() -> None:
    assert [variable.name for variable in variables() if len(variable.description) < len("a word or two")] == []
    assert len(variables()) == len(msgspec.structs.fields(Settings))


def test_the_readme_of_settings_names_no_setting_that_is_gone() -> None:
    known = {variable.name for variable in variables()}
    named = {
        word.strip("`*_,.:;()|=\"'").partition("=")[0]
        for path in [*ROOT.glob("*.md"), *HOUSE.rglob("*.md")]
        for word in path.read_text(encoding="utf-8").split()
        if word.strip("`*_,.:;()|=\"'").startswith("GROWTH_")
    }
    assert [name for name in named if name.removesuffix("_FILE") not in known] == []
