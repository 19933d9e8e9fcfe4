"""The three tables that wake the code: every entry has a name of its own, led by its room's word."""

import ast
from collections.abc import Iterable, Iterator

import msgspec

from growth.house import ROOMS
from growth.plumbing.settings import Settings, variables
from tests.architecture.source import HOUSE, ROOT, Module, called, calls, imports, modules

PLUMBING_WORDS = {"outbox", "idempotency", "invariants", "erasure"}

ENTRIES = ("PeriodicTask", "Subscription", "Standing")
"""What wakes code. Only a room's declaration makes one, the roof's own, and what makes load: a program of its own."""

ROOF = ("tables.py", "pipes.py")


def names_in(module: Module) -> Iterator[str]:
    """The names of the entries that a module makes, in order."""
    for call in calls(module):
        if called(call) in ENTRIES:
            first = call.args[0] if call.args else None
            yield str(first.value) if isinstance(first, ast.Constant) else f"{module.at(call)} has no literal name"


def name_faults(names: list[str], words: set[str]) -> list[str]:
    twice = [name for name in set(names) if names.count(name) > 1]
    return twice + [name for name in names if name.partition(".")[0] not in words]


def room_words() -> set[str]:
    rooms = [path.parent for path in HOUSE.rglob("room.py") if path.parent.name != "kit"]
    return {path.name for path in rooms} | PLUMBING_WORDS | {"shop", "events", "person"}


def made_elsewhere(house: Iterable[Module]) -> list[str]:
    """What is woken is declared by a room; an entry made anywhere else would be missed by whoever reads the rooms."""
    return [
        module.at(call)
        for module in house
        if module.file != "room.py" and module.path not in ROOF
        for call in calls(module)
        if called(call) in ENTRIES
    ]


def unlisted(house: Iterable[Module], kind: str) -> list[str]:
    """Routers that no room declares: `<module>.router` stands in the `room.py` of a folder above, by its alias."""
    found = []
    rooms = {module.folder: module for module in house if module.file == "room.py"}
    for module in house:
        if not any(_assigns(node, kind) for node in module.tree.body):
            continue
        above = [room for folder, room in rooms.items() if module.path.startswith(f"{folder}/")]
        if not any(module.name in imports(room) for room in above) and module.path not in ROOTS_OWN:
            found.append(module.path)
    return found


ROOTS_OWN = {"plumbing/admin.py", "plumbing/docs/page.py"}
"""Routers that the roof itself declares."""


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets)


def test_every_entry_has_a_name_of_its_own() -> None:
    names = [name for module in modules() if not module.path.startswith("load/") for name in names_in(module)]
    assert len(names) > 50
    assert name_faults(names, room_words()) == []


def test_a_name_used_twice_or_of_no_room_is_seen() -> None:
    words = {"tea"}
    assert name_faults(["tea.boil", "tea.boil"], words) == ["tea.boil"]
    assert name_faults(["pot.boil"], words) == ["pot.boil"]
    assert name_faults(list(names_in(Module("mechanics/tea/room.py", "PeriodicTask(name, 1)"))), words)


def test_only_what_a_room_declares_can_start_work() -> None:
    assert made_elsewhere(modules()) == []
    assert made_elsewhere([Module("mechanics/tea/service.py", "PeriodicTask('tea.boil', 1, boil)")])


def test_every_router_is_declared_by_its_room() -> None:
    assert unlisted(modules(), "router") == []
    house = [Module("mechanics/tea/room.py", "import os"), Module("mechanics/tea/admin.py", "router = Router()")]
    assert unlisted(house, "router") == ["mechanics/tea/admin.py"]


def test_every_room_is_in_the_house() -> None:
    house = next(module for module in modules() if module.path == "house.py")
    made = {module.name for module in modules() if module.file == "room.py"} - {"growth.kit.room"}
    assert {name for name in imports(house) if name in made} == made
    assert len(ROOMS) == len(made)


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
