"""What the sandbox remembers. Never written in production."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from growth.plumbing.postgres.database import Tx


class SandboxPayout(Struct, frozen=True, kw_only=True):
    """A number as the sandbox knows it."""

    number: str
    amount_fen: int
    outcome: Literal["paid", "failed"]
    known_at: datetime
    """Until then it is at work."""
    sends: int
    """How often it arrived; paid once all the same."""
    queries: int


async def count_send(tx: Tx, number: str, amount_fen: int, outcome: str, known_at: datetime) -> SandboxPayout:
    """Pay a number, once however often it is sent; the first amount counts."""
    row = await tx.fetchrow(
        """
        INSERT INTO withdrawal.sandbox_payouts AS known (number, amount_fen, outcome, known_at)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (number) DO UPDATE
        SET sends = known.sends + 1
        RETURNING number, amount_fen, outcome, known_at, sends, queries
        """,
        number,
        amount_fen,
        outcome,
        known_at,
    )
    assert row is not None
    return SandboxPayout(**dict(row))


async def count_query(tx: Tx, number: str) -> SandboxPayout | None:
    """Return what is known of a number."""
    row = await tx.fetchrow(
        """
        UPDATE withdrawal.sandbox_payouts
        SET queries = queries + 1
        WHERE number = $1
        RETURNING number, amount_fen, outcome, known_at, sends, queries
        """,
        number,
    )
    return None if row is None else SandboxPayout(**dict(row))
