"""How acts ended, by name."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import pytest

from growth.vocabulary.refusals import Refusal


async def refusal(act: Awaitable[Any]) -> str:
    """The code of the "no" that this act must end in."""
    with pytest.raises(Refusal) as refused:
        await act
    return refused.value.kind.code


async def outcomes(*acts: Awaitable[Any]) -> Counter[str]:
    """How many of these acts, all at once, ended how: by codes, `replayed`, or `done`."""
    counts = Counter[str]()
    for answer in await asyncio.gather(*acts, return_exceptions=True):
        if isinstance(answer, Refusal):
            counts[answer.kind.code] += 1
        elif isinstance(answer, BaseException):
            raise answer
        else:
            counts["replayed" if answer.replayed else "done"] += 1
    return counts
