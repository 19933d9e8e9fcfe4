"""Decisions: a batch is decided in one transaction, and nobody is harmed by a neighbour or by a lost line."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Struct

from growth.plumbing.person.memory import PersonChanged
from growth.plumbing.postgres.database import CommitUnknown, Crossed
from growth.plumbing.work.decide import Decisions, NotWhole
from growth.vocabulary.refusals import Unavailable

pytestmark = pytest.mark.anyio


class Wish(Struct, frozen=True):
    name: str
    who: str = "ann"


class Told(Struct, frozen=True):
    name: str
    replayed: bool = False


class Shelf:
    """A store of few places: what was written, and what becomes of its next transactions."""

    def __init__(self, places: int = 100) -> None:
        self.written: list[str] = []
        self.batches: list[list[str]] = []
        self.given_up: list[str] = []
        self.changed: set[str] = set()
        self.lines: list[str] = []
        """How the next transactions end: "ok", "lost after" or "lost before" COMMIT, "gone", "crossed"."""
        self.places = places
        self.decisions: Decisions[Wish, Told] = Decisions(
            "shelf",
            self.write,
            person_of=lambda wish: wish.who,
            id_of=lambda wish: wish.name,
            replayed=lambda told: Told(told.name, replayed=True),
            turned_away=self.turn_away,
            given_up=self.give_up,
            max_batch=16,
            max_queue=64,
        )

    async def write(self, wishes: Sequence[Wish]) -> list[Told]:
        await asyncio.sleep(0)
        self.batches.append([wish.name for wish in wishes])
        if gone := {wish.who for wish in wishes} & self.changed:
            raise PersonChanged(gone)
        line = self.lines.pop(0) if self.lines else "ok"
        if line == "gone":
            raise Unavailable("the shelf does not answer")
        if line == "crossed":
            raise Crossed("another was in the way")
        if line == "lost before":
            raise CommitUnknown("lost")
        if any(wish.name == "poison" for wish in wishes):
            raise ValueError("poison")
        fresh = [wish.name for wish in wishes if wish.name not in self.written]
        if len(self.written) + len(fresh) > self.places:
            raise NotWhole
        answers = [Told(wish.name, replayed=wish.name in self.written) for wish in wishes]
        self.written += fresh
        if line == "lost after":
            raise CommitUnknown("lost")
        return answers

    async def turn_away(self, wish: Wish) -> Told | BaseException:
        return LookupError(f"no place for {wish.name}")

    async def give_up(self, wishes: Sequence[Wish]) -> None:
        self.given_up += [wish.name for wish in wishes]

    async def ask(self, *wishes: Wish | str) -> list[Any]:
        """What each is told who asks at the same moment: the answer, or the kind of exception."""
        calls = [self.decisions.calls(Wish(one) if isinstance(one, str) else one) for one in wishes]
        told = await asyncio.gather(*calls, return_exceptions=True)
        return [type(one) if isinstance(one, BaseException) else one for one in told]


async def test_who_asks_at_once_is_decided_together() -> None:
    shelf = Shelf()
    assert await shelf.ask("a", "b", "c") == [Told("a"), Told("b"), Told("c")]
    assert shelf.batches == [["a", "b", "c"]]


async def test_of_those_who_ask_the_same_one_is_new_and_the_others_are_told_replayed() -> None:
    shelf = Shelf()
    assert await shelf.ask("a", "b", "a", "a") == [Told("a"), Told("b"), Told("a", True), Told("a", True)]
    assert shelf.batches == [["a", "b"]]


async def test_without_a_word_for_it_who_asks_the_same_is_decided_after_the_first() -> None:
    shelf = Shelf()
    shelf.decisions._replayed = None
    assert await shelf.ask("a", "b", "a", "a") == [Told("a"), Told("b"), Told("a", True), Told("a", True)]
    assert shelf.batches == [["a", "b"], ["a"], ["a"]]


@pytest.mark.parametrize("line", ["lost before", "lost after"])
async def test_a_commit_of_unknown_outcome_is_asked_about_once_more(line: str) -> None:
    shelf = Shelf()
    shelf.lines = [line]
    told = await shelf.ask("a", "b")
    assert told == [Told(name, replayed=line == "lost after") for name in ("a", "b")]
    assert shelf.written == ["a", "b"]


@pytest.mark.parametrize("then", ["lost before", "gone"])
async def test_what_nobody_knows_after_a_second_look_is_not_given_up(then: str) -> None:
    shelf = Shelf()
    shelf.lines = ["lost after", then]
    assert await shelf.ask("a") == [CommitUnknown]
    assert shelf.given_up == []


async def test_what_a_store_that_is_gone_did_not_take_is_given_up() -> None:
    shelf = Shelf()
    shelf.lines = ["gone"]
    assert await shelf.ask("a", "b") == [Unavailable, Unavailable]
    assert shelf.given_up == ["a", "b"]


async def test_a_bad_input_harms_none_of_its_neighbours() -> None:
    shelf = Shelf()
    assert await shelf.ask("a", "poison", "b") == [Told("a"), ValueError, Told("b")]
    assert shelf.written == ["a", "b"]
    assert await shelf.ask("poison") == [ValueError]


async def test_a_batch_that_another_transaction_was_in_the_way_of_goes_one_by_one() -> None:
    shelf = Shelf()
    shelf.lines = ["crossed"]
    assert await shelf.ask("a", "b") == [Told("a"), Told("b")]
    assert shelf.batches == [["a", "b"], ["a"], ["b"]]
    shelf.lines = ["crossed"]
    assert await shelf.ask("c") == [Crossed]


async def test_those_who_share_a_key_are_decided_in_their_order_and_never_together() -> None:
    shelf = Shelf()
    shelf.decisions._keys_of = lambda wish: {wish.who}
    asked = [Wish("a", "ann"), Wish("b", "bob"), Wish("c", "ann"), Wish("d", "cat"), Wish("e", "cat")]
    assert await shelf.ask(*asked) == [Told(wish.name) for wish in asked]
    assert shelf.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_whom_the_guards_refuse_is_told_why_and_the_others_are_let_in() -> None:
    shelf = Shelf(places=2)
    assert await shelf.ask("a", "b", "c") == [Told("a"), Told("b"), LookupError]
    assert shelf.given_up == []


async def test_one_by_one_ends_where_the_store_is_gone() -> None:
    shelf = Shelf()
    shelf.lines = ["ok", "ok", "gone"]
    assert await shelf.ask("poison", "a", "b", "c") == [ValueError, Unavailable, Unavailable, Unavailable]
    assert shelf.given_up == ["a", "b", "c"]
    assert len(shelf.batches) == 3


async def test_whose_id_changed_hands_is_told_so_and_the_others_are_none_the_worse() -> None:
    shelf = Shelf()
    shelf.changed = {"bob"}
    assert await shelf.ask("a", Wish("b", "bob"), "c") == [Told("a"), PersonChanged, Told("c")]
    assert shelf.given_up == ["b"]


# --- negative controls ------------------------------------------------------------------------------------------------


async def test_without_going_one_by_one_a_neighbour_is_harmed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def all_or_nothing(self: Any, asks: Any) -> Any:
        return await self._surely(asks)

    monkeypatch.setattr(Decisions, "_together", all_or_nothing)
    shelf = Shelf()
    assert await shelf.ask("a", "poison", "b") == [ValueError] * 3
    assert shelf.written == []


async def test_without_the_second_look_an_unknown_commit_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def once(self: Any, asks: Any) -> Any:
        return await self._decide(asks)

    monkeypatch.setattr(Decisions, "_surely", once)
    shelf = Shelf()
    shelf.lines = ["lost after"]
    assert await shelf.ask("a") == [CommitUnknown]
    assert shelf.written == ["a"], "it was written, and who asked was not told"
