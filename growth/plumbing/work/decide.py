"""Deciding: asks of many callers are decided in one transaction, and no bad one among them harms its neighbours.

queued ─▶ a batch, each id once ─▶ one transaction ─┬─▶ committed: everybody is told
├─▶ COMMIT of unknown outcome: the same once more, which tells
├─▶ an id changed hands: told so; the others once more
├─▶ guards, a fault or another transaction are in the way of the batch: one by one
└─▶ a store is gone: nothing is written, all are told so
"""

from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from typing import Generic, TypeVar

import structlog

from growth.plumbing.person.memory import PersonChanged, sparing
from growth.plumbing.postgres.database import CommitUnknown, Crossed
from growth.plumbing.work.coalesce import Coalescer
from growth.vocabulary.refusals import Unavailable

log = structlog.get_logger("decide")

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class NotWhole(Exception):
    """Rolls back a batch that its guards do not let in whole."""


class Decisions(Generic[Ask, Answer]):
    """A coalescer in front of one transaction.

    `decide` gets asks of different ids, and decides them in one transaction: answers in their order, of which an
    exception is raised to its own caller alone. The same asks again must find what was written. If it raises `NotWhole`
    for one ask alone, `turned_away` says what that one is told. Asks of one id (`id_of`; without it each is its own):
    the first counts, the others are told `replayed` of its answer, or without that are decided once it is. With
    `keys_of` all are decided in the order in which they were asked, and no two that share a key in one transaction.
    `given_up` is told which were certainly not written since a store was gone or the id changed hands.
    """

    def __init__(
        self,
        name: str,
        decide: Callable[[Sequence[Ask]], Awaitable[Sequence[Answer | BaseException]]],
        *,
        person_of: Callable[[Ask], str],
        id_of: Callable[[Ask], Hashable] = id,
        keys_of: Callable[[Ask], Collection[Hashable]] | None = None,
        replayed: Callable[[Answer], Answer] | None = None,
        turned_away: Callable[[Ask], Awaitable[Answer | BaseException]] | None = None,
        given_up: Callable[[Sequence[Ask]], Awaitable[None]] | None = None,
        max_batch: int,
        max_queue: int,
    ) -> None:
        self._decide = decide
        self._person_of = person_of
        self._id_of = id_of
        self._keys_of = keys_of
        self._replayed = replayed
        self._turned_away = turned_away
        self._given_up = given_up
        self.calls: Coalescer[Ask, Answer] = Coalescer(name, self._run, max_batch=max_batch, max_queue=max_queue)
        """The queue: who asks, waits in it."""

    async def _run(self, asks: Sequence[Ask]) -> Sequence[Answer | BaseException]:
        if self._keys_of is None:
            return await self._apart(asks)
        answers = list[Answer | BaseException]()
        for some in _segments(asks, self._keys_of):
            if answers and _is_gone(answers[-1]):
                # Nobody waits for each of the others to find out the same.
                answers += [answers[-1]] * len(some)
                continue
            try:
                answers += await self._apart(some)
            except Exception as error:  # noqa: BLE001 - it belongs to those who asked, not to who asks behind them
                answers += [error] * len(some)
        return answers

    async def _apart(self, asks: Sequence[Ask]) -> Sequence[Answer | BaseException]:
        first: dict[Hashable, Ask] = {}
        for ask in asks:
            first.setdefault(self._id_of(ask), ask)
        unique = list(first.values())
        answers = await sparing(unique, lambda ask: (self._person_of(ask),), self._together)
        if self._given_up is not None:
            lost = [ask for ask, answer in zip(unique, answers, strict=True) if _is_not_written(answer)]
            if lost:
                await self._given_up(lost)
        if len(unique) == len(asks):
            return answers
        decided = dict(zip(first, answers, strict=True))
        repeats = [ask for ask in asks if first[self._id_of(ask)] is not ask]
        told = iter(
            await self._apart(repeats)
            if self._replayed is None
            else [self._told_again(decided[self._id_of(ask)]) for ask in repeats]
        )
        return [decided[name] if first[name := self._id_of(ask)] is ask else next(told) for ask in asks]

    def _told_again(self, answer: Answer | BaseException) -> Answer | BaseException:
        assert self._replayed is not None
        return answer if isinstance(answer, BaseException) else self._replayed(answer)

    async def _together(self, asks: Sequence[Ask]) -> Sequence[Answer | BaseException]:
        """Decide all at once if that can be, else one by one."""
        try:
            return await self._surely(asks)
        except PersonChanged:
            raise
        except Unavailable as gone:
            if len(asks) == 1 or not isinstance(gone, Crossed):
                return [gone] * len(asks)
            log.warning("decide.one_by_one", decisions=self.calls.name, asks=len(asks), error=repr(gone))
        except Exception as error:
            if len(asks) == 1 and not isinstance(error, NotWhole):
                raise
            log.warning("decide.one_by_one", decisions=self.calls.name, asks=len(asks), error=repr(error))
        return await self._one_by_one(asks)

    async def _surely(self, asks: Sequence[Ask]) -> Sequence[Answer | BaseException]:
        """Decide; where the outcome of COMMIT is unknown, the same asks again tell: what is written is found."""
        try:
            return await self._decide(asks)
        except CommitUnknown:
            log.warning("decide.commit_unknown", decisions=self.calls.name, asks=len(asks))
        try:
            return await self._decide(asks)
        except Unavailable as error:
            raise CommitUnknown("nobody knows what was committed") from error

    async def _one_by_one(self, asks: Sequence[Ask]) -> Sequence[Answer | BaseException]:
        answers: list[Answer | BaseException] = []
        for ask in asks:
            try:
                answers += await self._surely([ask])
            except NotWhole as error:
                answers.append(error if self._turned_away is None else await _caught(self._turned_away(ask)))
            except (PersonChanged, CommitUnknown, Crossed) as error:
                answers.append(error)
            except Unavailable as gone:
                # As above.
                return [*answers, *[gone] * (len(asks) - len(answers))]
            except Exception as error:  # noqa: BLE001 - it belongs to its caller, who is waiting
                answers.append(error)
        return answers


def _segments(asks: Sequence[Ask], keys_of: Callable[[Ask], Collection[Hashable]]) -> list[list[Ask]]:
    """Part asks, in their order, before each that shares a key with one since the last parting."""
    parts, seen = list[list[Ask]](), set[Hashable]()
    for ask in asks:
        keys = keys_of(ask)
        if not parts or not seen.isdisjoint(keys):
            parts.append([])
            seen.clear()
        parts[-1].append(ask)
        seen.update(keys)
    return parts


def _is_gone(answer: object) -> bool:
    """Say whether it tells that a store is gone, not that one ask is in somebody's way."""
    return isinstance(answer, Unavailable) and not isinstance(answer, CommitUnknown | Crossed | PersonChanged)


def _is_not_written(answer: object) -> bool:
    return isinstance(answer, Unavailable) and not isinstance(answer, CommitUnknown)


async def _caught(answer: Awaitable[Answer | BaseException]) -> Answer | BaseException:
    try:
        return await answer
    except Exception as error:  # noqa: BLE001 - it belongs to its caller, who is waiting
        return error
