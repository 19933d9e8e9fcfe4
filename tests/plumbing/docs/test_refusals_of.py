"""Refusals are found where the code leads, and not where it does not."""

import pytest

from growth.plumbing.docs import refusals_of as reach
from growth.plumbing.docs.refusals_of import kinds_of, names_in
from growth.vocabulary.refusals import Kind, Refusal

HERE = Kind("tea.here", "Here")
DEEP = Kind("tea.deep", "Deep")
LISTED = Kind("tea.listed", "Listed")
MADE = Kind("tea.made", "Made")
PROPERTY = Kind("tea.property", "Property")
CALLED_BACK = Kind("tea.called_back", "Called back")
ELSEWHERE = Kind("tea.elsewhere", "Elsewhere")

BY_NAME = {"full": LISTED}


@pytest.fixture(autouse=True)
def follows_the_code_of_this_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "OURS", __name__)


def deep() -> None:
    raise Refusal(DEEP)


class Pot:
    def boil(self) -> None:
        raise Refusal(MADE)

    def spill(self) -> None:
        raise Refusal(ELSEWHERE)


class Batch:
    def __init__(self, run: object) -> None:
        self.run = run


class Kitchen:
    def __init__(self, pot: Pot) -> None:
        self._pot = pot
        self._batch = Batch(self._run)

    @property
    def is_open(self) -> bool:
        raise Refusal(PROPERTY)

    def serve(self) -> None:
        if self.is_open:
            self._pot.boil()

    def _run(self) -> None:
        raise Refusal(CALLED_BACK)

    def close(self) -> None:
        raise Refusal(ELSEWHERE)


def names_one() -> None:
    def inner() -> None:
        raise Refusal(HERE)

    inner()


def calls_on() -> None:
    deep()


def looks_up(name: str) -> None:
    raise Refusal(BY_NAME[name])


async def asks(kitchen: Kitchen) -> None:
    kitchen.serve()


def test_a_refusal_is_found_in_the_function_and_in_those_within_it() -> None:
    assert kinds_of(names_one) == {HERE}


def test_a_refusal_is_found_behind_a_call_and_in_a_table() -> None:
    assert kinds_of(calls_on) == {DEEP}
    assert kinds_of(looks_up) == {LISTED}


def test_a_refusal_is_found_behind_methods_properties_and_callbacks_of_what_is_given() -> None:
    assert kinds_of(asks) == {MADE, PROPERTY, CALLED_BACK}


def test_names_are_those_used_and_not_those_made() -> None:
    assert "Refusal" in names_in(names_one)
    assert "inner" not in names_in(names_one)
