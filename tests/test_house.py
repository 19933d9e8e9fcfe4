"""The house says what wakes its code, and what it says is what rooms declare."""

from pathlib import Path

import pytest

from growth import tables
from growth.kit.room import Person, Room, Rooms, Stores, furnished
from growth.plumbing.work.periodic import PeriodicTask, Turn

PAGE = Path(tables.__file__).with_name("TABLES.md")


async def test_the_page_of_tables_is_what_the_rooms_declare() -> None:
    assert PAGE.read_text(encoding="utf-8") == await tables.page(), "growth house > growth/TABLES.md"


async def nothing(*_: object) -> None:
    """What a room that does nothing does."""


def a_room(name: str, *services: object, **more: object) -> Room:
    person = Person(export=nothing, erase=nothing, merge=nothing)
    return Room(name=name, services=services, persons={name: person}, **more)  # type: ignore[arg-type]


def test_a_room_is_made_with_what_rooms_below_offer() -> None:
    def above(_stores: Stores, below: Rooms) -> Room:
        return a_room("above", below.of(int) + 1)

    rooms = furnished([lambda _s, _b: a_room("below", 1), above], None, ())  # type: ignore[arg-type]

    assert [room.services for room in rooms] == [(1,), (2,)]
    with pytest.raises(LookupError, match="str"):
        rooms.of(str)


def test_what_rooms_above_declare_is_handed_down_once_all_are_made() -> None:
    heard: list[list[int]] = []

    def asks(_stores: Stores, _below: Rooms) -> Room:
        return a_room("asks", joined=lambda rooms: heard.append(rooms.declared(int)))

    made = [asks, lambda _s, _b: a_room("one", declares=[(int, 1)]), lambda _s, _b: a_room("two", declares=[(int, 2)])]
    furnished(made, None, ("two", "one"))  # type: ignore[arg-type]

    assert heard == [[2, 1]]


def test_a_room_that_the_walk_does_not_name_comes_first() -> None:
    rooms = Rooms(("b", "a"))
    for name in ("a", "b", "new"):
        rooms.add(a_room(name))

    assert list(rooms.persons()) == ["new", "b", "a"]


async def test_a_task_of_a_room_is_on_the_schedule() -> None:
    async def boil(_turn: Turn) -> int:
        return 0

    task = PeriodicTask("tea.boil", 1, boil)

    assert a_room("tea", tasks=[task]).tasks == [task]
