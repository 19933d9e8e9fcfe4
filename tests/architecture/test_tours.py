"""What tours say is in their commands, and every code is real; tests/demo/test_tours.py walks them."""

import re

import pytest

from tests.architecture.source import HOUSE

SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted(HOUSE.rglob("*.py")))
PEOPLE = {"Ann", "Bob", "Ben", "Cat", "Dan", "Eve", "Fay", "Gus", "Hal", "Ivy", "Kim"}
"""Whom a tour may tell of; the shopper of that name in small letters is theirs."""
COMMANDS = re.compile(r"```sh\n(.*?)```", re.DOTALL)
ORDER = re.compile(r"`?\b((?:[a-z]{1,2}-)?[a-z]-?\d)\b`? back\b")


TOURS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((HOUSE / "demo" / "tours").glob("*.md"))}


def prose_of(tour: str) -> str:
    """What a tour says: its words, and the comments of its commands."""
    comments = "\n".join(re.findall(r"#\s(.*)", "\n".join(COMMANDS.findall(tour))))
    return COMMANDS.sub("", tour) + comments


def people_without_a_part(tour: str) -> set[str]:
    """Who is told of in a tour, and neither asks nor is named in a command."""
    commands = re.sub(r"#\s.*", "", "\n".join(COMMANDS.findall(tour)))
    told = {name for name in PEOPLE if re.search(rf"\b{name}\b", prose_of(tour))}
    return {name for name in told if not re.search(rf"\b{name.lower()}\b", commands)}


def orders_without_a_part(tour: str) -> set[str]:
    """Orders that are to be paid back, and that no command has."""
    commands = "\n".join(COMMANDS.findall(tour))
    return {order for order in ORDER.findall(prose_of(tour)) if f'"{order}"' not in commands}


def test_there_are_tours() -> None:
    assert len(TOURS) >= 8


@pytest.mark.parametrize("name", TOURS)
def test_a_tour_names_nobody_who_is_not_in_it(name: str) -> None:
    assert people_without_a_part(TOURS[name]) == set()
    assert orders_without_a_part(TOURS[name]) == set()


def test_who_does_not_exist_is_found() -> None:
    tour = "## Money\n```sh\nas ben $URL/v1/x   # he pays\n```\nLet Bob say it, pay b-1 back whole.\n"
    assert people_without_a_part(tour) == {"Bob"}
    assert orders_without_a_part(tour) == {"b-1"}


@pytest.mark.parametrize("name", TOURS)
def test_every_code_of_a_tour_is_real(name: str) -> None:
    for code in re.findall(r'`4\d\d ([a-z_]+\.[a-z_]+)`|"code":"([a-z_]+\.[a-z_]+)"', TOURS[name]):
        assert f'"{code[0] or code[1]}"' in SOURCE, code
