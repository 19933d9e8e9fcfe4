"""What must always hold, asked after a test: all of it at one moment, and in one trip."""

from typing import Any

from growth.plumbing.postgres.database import Reader
from growth.plumbing.watch.invariants import Invariant, Violation, all_invariants

MAX_ROWS = 5


async def violations(reader: Reader, invariants: tuple[Invariant, ...] | None = None) -> list[Violation]:
    """Return what does not hold now. A statement for each would be planned for each test, a hundred times."""
    asked = all_invariants() if invariants is None else invariants
    parts = [
        f"(SELECT {number} AS number, to_jsonb(found) AS found FROM ({one.sql}) AS found LIMIT {MAX_ROWS})"
        for number, one in enumerate(asked)
    ]
    broken: dict[int, list[dict[str, Any]]] = {}
    for row in await reader.fetch("\nUNION ALL\n".join(parts)) if parts else []:
        broken.setdefault(row["number"], []).append(row["found"])
    return [Violation(asked[number].room, asked[number].name, rows) for number, rows in broken.items()]
