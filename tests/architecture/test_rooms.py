"""Rooms: the same furniture everywhere, floors that import only what lies below, edges that ask the service."""

import ast
import tomllib
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

import pytest

from tests.architecture.source import HOUSE, ROOT, Module, imports, modules, path_of

FURNITURE = {
    "__init__.py",
    "room.py",
    "words.toml",
    "model.py",
    "store.py",
    "service.py",
    "routes.py",
    "admin.py",
    "invariants.sql",
}

SHARED_NOUNS: Mapping[str, str] = {
    "periodic.py": "what the clock does to the room",
    "settlement.py": "what orders do to the room",
    "person.py": "what the room knows of one shopper: told, erased, merged",
    "short_cut.py": "plain requests that are served before the routes",
    "projection.py": "a listener's counts for operators to see",
    "dry_run.py": "what a campaign would do",
}

NOUNS: Mapping[str, str] = {
    # A room's own nouns, each with what it is. A file of another name is a noun that was not thought about.
    "shop/order/hooks.py": "what the shop tells, as Structs",
    "webhook/addresses.py": "whom we may call",
    "webhook/delivery/courier.py": "one request to one receiver",
    "webhook/delivery/queue.py": "the projection that queues",
    "webhook/delivery/sender.py": "sends what is due, on every worker",
    "rewards/compliance.py": "what platforms and law forbid a campaign to reward",
    "mechanics/checkin/streak/programs_cache.py": "what this process remembers of programs",
    "mechanics/checkin/streak/rewards.py": "gives what days and milestones earn, through the one door",
    "shop/order/batch.py": "applies events of hooks together, in one transaction",
    "shop/order/reading.py": "reads hooks event by event, and orders line by line",
    "listeners/retention/sighting.py": "what counts as a shopper being active",
    "listeners/retention/report/answers.py": "what reports say, as Structs",
    "mechanics/flash_sale/board.py": "what this process remembers of the sales",
    "mechanics/flash_sale/names.py": "the face of Redis, by shoppers' names",
    "mechanics/flash_sale/stock.py": "the face of Redis",
    "mechanics/flash_sale/claim/aftermath.py": "who is told when claims end or change",
    "mechanics/flash_sale/claim/gate.py": "one sale's way in",
    "mechanics/flash_sale/claim/redis_sync.py": "rebuilds Redis from Postgres",
    "mechanics/group_buy/team/board.py": "what this process remembers of campaigns and teams",
    "mechanics/task/board.py": "what this process remembers of the tasks that are shown",
    "mechanics/task/countable.py": "the events that tasks can count, and their fields",
    "rewards/withdrawal/payout/calls.py": "asks the payout service, and draws the conclusion",
    "mechanics/flash_sale/series/timetable.py": "when the rounds of a series are",
}

ROOM_FLOORS = ("shop", "shopper", "rewards", "webhook", "mechanics", "listeners", "privacy")

ROOM_DEPTH = {floor: 1 if floor in {"webhook", "privacy"} else 2 for floor in ROOM_FLOORS}
"""How many words of a module's name come before its room's: `growth.shop` before `order`."""

FLOORS = (
    {"vocabulary"},
    {"plumbing"},
    {"kit"},
    {"shop"},
    {"shopper"},
    {"rewards"},
    {"webhook"},
    {"mechanics"},
    {"listeners"},
    {"privacy"},
    {"console"},
)
"""From the ground up. What is on none of them is the roof, which may import everything."""


def is_in_room(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return parts[0] in ROOM_FLOORS and path != f"{parts[0]}/__init__.py"


def strange_furniture(paths: Iterable[str]) -> list[str]:
    return [
        path
        for path in paths
        if is_in_room(path)
        and PurePosixPath(path).name not in FURNITURE | SHARED_NOUNS.keys()
        and PurePosixPath(path).parent.name != "store"
        and PurePosixPath(path).suffix != ".lua"
        and path not in NOUNS
    ]


def rooms_without_a_word(modules: Iterable[Module]) -> list[str]:
    """A room's `__init__.py` says what the room is, and does nothing."""
    faults = []
    for module in modules:
        if module.file == "__init__.py" and module.path != "__init__.py":
            is_docstring_only = len(module.tree.body) == 1 and ast.get_docstring(module.tree) is not None
            if not is_docstring_only and is_in_room(module.path):
                faults.append(module.path)
    return faults


def floor_of(name: str) -> int:
    first = name.removeprefix("growth.").partition(".")[0]
    return next((number for number, rooms in enumerate(FLOORS) if first in rooms), len(FLOORS))


def upward_imports(modules: Iterable[Module]) -> list[str]:
    return [
        f"{module.name} imports {name}"
        for module in modules
        for name in imports(module)
        if name.startswith("growth.") and floor_of(module.name) < floor_of(name)
    ]


def mechanic_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[2] if len(parts) > 2 and parts[:2] == ["growth", "mechanics"] else None


def sideways_imports(modules: Iterable[Module]) -> list[str]:
    return [
        f"{module.name} imports {name}"
        for module in modules
        for name in imports(module)
        if (ours := mechanic_of(module.name)) and (theirs := mechanic_of(name)) and ours != theirs
    ]


def edges_past_the_service(modules: Iterable[Module]) -> list[str]:
    """routes and admin call the service; the service calls the store; a store calls nobody in the room."""
    faults = []
    for module in modules:
        ours = [name for name in imports(module) if name.startswith("growth.")]
        last = {name.rpartition(".")[2] for name in ours}
        asks_a_store = any("store" in name.split(".") for name in ours)
        if module.file in {"routes.py", "admin.py"} and is_in_room(module.path) and asks_a_store:
            faults.append(f"{module.path} imports a store")
        if module.is_store and last & {"service", "routes", "admin"}:
            faults.append(f"{module.path} imports what stands above it")
    return faults


def circles(modules: Iterable[Module]) -> list[str]:
    """Folders whose parts point at each other: each file of a folder is a part, and each folder in it is one."""
    house = [module for module in modules if is_in_room(module.path)]
    names = {module.name for module in house}
    arrows: dict[str, dict[str, set[str]]] = {}
    for module in house:
        for name in imports(module):
            ours, theirs = module.name.split("."), name.split(".")
            shared = next((n for n, pair in enumerate(zip(ours, theirs, strict=False)) if len(set(pair)) > 1), 0)
            # A floor has its own order; and of what is imported, a name that is no module stands in one that is.
            if shared > ROOM_DEPTH[ours[1]] and name in names:
                folder = arrows.setdefault(".".join(ours[:shared]), {})
                folder.setdefault(ours[shared], set()).add(theirs[shared])
    return [f"{folder}: {circle}" for folder, parts in arrows.items() if (circle := circle_of(parts))]


def circle_of(parts: Mapping[str, set[str]]) -> str:
    try:
        TopologicalSorter(parts).prepare()
    except CycleError as error:
        return " <- ".join(error.args[1])
    return ""


def test_rooms_have_the_usual_furniture() -> None:
    files = [path_of(path) for path in HOUSE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert strange_furniture(files) == []
    assert [path for path in NOUNS if path not in files] == []


@pytest.mark.parametrize("path", ["shop/utils.py", "mechanics/tea/helpers.py", "mechanics/tea/pot/stores.py"])
def test_other_furniture_is_seen(path: str) -> None:
    assert strange_furniture([path]) == [path]


def test_rooms_say_what_they_are() -> None:
    assert rooms_without_a_word(modules()) == []


@pytest.mark.parametrize("text", ["", "import os\n", '"""Tea."""\nX = 1\n', "X = 1\n"])
def test_a_room_that_says_nothing_or_does_something_is_seen(text: str) -> None:
    module = Module("mechanics/tea/__init__.py", text)
    assert rooms_without_a_word([module]) == [module.path]


def test_floors_import_only_what_lies_below() -> None:
    assert upward_imports(modules()) == []
    assert sideways_imports(modules()) == []


@pytest.mark.parametrize(
    ("path", "imported"),
    [
        ("vocabulary/tea.py", "growth.plumbing.postgres.database"),
        ("plumbing/tea.py", "growth.shop.order.service"),
        ("shop/order/service.py", "growth.mechanics.flash_sale.service"),
        ("mechanics/tea/service.py", "growth.bootstrap"),
        ("plumbing/tea.py", "growth.bootstrap"),
    ],
)
def test_an_import_upwards_is_seen(path: str, imported: str) -> None:
    assert upward_imports([Module(path, f"import {imported}\n")])


def test_an_import_of_another_mechanic_is_seen() -> None:
    module = Module("mechanics/tea/service.py", "from growth.mechanics.flash_sale import store\n")
    assert sideways_imports([module])


def test_edges_ask_the_service() -> None:
    assert edges_past_the_service(modules()) == []


def test_an_edge_past_the_service_is_seen() -> None:
    assert edges_past_the_service([Module("mechanics/tea/routes.py", "from growth.mechanics.tea import store\n")])
    in_a_drawer = "from growth.mechanics.tea.store import cups\n"
    assert edges_past_the_service([Module("mechanics/tea/routes.py", in_a_drawer)])
    assert edges_past_the_service([Module("mechanics/tea/store.py", "from growth.mechanics.tea.service import X\n")])


def test_inside_a_room_folders_point_one_way() -> None:
    assert circles(modules()) == []


def example_of_two(*, cup: str, lid: str, folder: str = "mechanics/tea") -> list[Module]:
    """A room with two folders, `pot` and `cup`; the room's own file `lid` beside them."""
    return [
        Module(f"{folder}/lid.py", lid),
        Module(f"{folder}/cup/model.py", ""),
        Module(f"{folder}/cup/service.py", cup),
        Module(f"{folder}/pot/store.py", f"from growth.{folder.replace('/', '.')}.cup import model\n"),
        Module(f"{folder}/pot/model.py", ""),
    ]


@pytest.mark.parametrize("folder", ["mechanics/tea", "webhook", "shop/order", "mechanics/tea/kettle"])
def test_two_folders_that_point_at_each_other_are_seen(folder: str) -> None:
    here = f"growth.{folder.replace('/', '.')}"
    assert circles(example_of_two(cup="", lid="", folder=folder)) == []
    # File by file there is no circle.
    assert circles(example_of_two(cup=f"from {here}.pot import model\n", lid="", folder=folder))


def test_a_file_of_the_room_and_a_folder_that_point_at_each_other_are_seen() -> None:
    from_above = "from growth.mechanics.tea.pot.store import pour\n"
    assert circles(example_of_two(cup="", lid=from_above)) == []
    assert circles(example_of_two(cup="from growth.mechanics.tea.lid import close\n", lid=from_above))


def test_import_linter_holds_the_same_floors() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract for contract in contracts if contract["type"] == "layers")
    assert layers["exhaustive"] is True
    # The first is the roof.
    told = [set(layer.replace("(", "").replace(")", "").replace(":", "|").split("|")) for layer in layers["layers"][1:]]
    assert [{name.strip() for name in layer} for layer in reversed(told)] == [set(floor) for floor in FLOORS]
    assert {contract["type"] for contract in contracts} >= {"layers", "independence", "forbidden"}
    assert "lint-imports" in (ROOT / "scripts" / "test").read_text(encoding="utf-8")
