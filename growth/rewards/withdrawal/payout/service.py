"""The payout services there are."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Literal

from msgspec.structs import replace

from growth.plumbing.postgres.database import Database
from growth.rewards.withdrawal.model import Said
from growth.rewards.withdrawal.payout import store
from growth.rewards.withdrawal.payout.model import Payout, PayoutOrder, SandboxScript, script_of
from growth.rewards.withdrawal.payout.store import SandboxPayout
from growth.vocabulary.clock import Clock


class Manual:
    """A person pays, and says so."""

    name: Literal["manual"] = "manual"
    is_by_hand = True

    async def send(self, order: PayoutOrder) -> Said:
        """Say that it is in somebody's hands."""
        return Said(number=order.number, state="working")

    async def query(self, number: str) -> Said:
        """Say that it is in somebody's hands."""
        return Said(number=number, state="working")


class Sandbox:
    """Stands in for a platform. What it was asked stays in Postgres, apart from the caller's transactions."""

    name: Literal["sandbox"] = "sandbox"
    is_by_hand = False

    def __init__(self, database: Database, clock: Clock, script: Callable[[int], SandboxScript] = script_of) -> None:
        self._database = database
        self._clock = clock
        self._script = script
        self._lost = Counter[str]()
        """Sends that never arrived, by number: the network's memory, not the service's."""
        self._silent = Counter[str]()

    async def send(self, order: PayoutOrder) -> Said:
        """Pay by the script of the amount."""
        script = self._script(order.amount_fen)
        if self._lost[order.number] < script.loses_sends:
            self._lost[order.number] += 1
            raise TimeoutError
        known_at = self._clock() + timedelta(seconds=script.late_seconds)
        async with self._database.transaction() as tx:
            known = await store.count_send(tx, order.number, order.amount_fen, script.outcome, known_at)
        if script.silent_sends:
            raise TimeoutError
        if script.lies_on_send:
            return Said(number=order.number, state="failed", code="GATEWAY_ERROR")
        said = self._said(known)
        if script.wrong_amount_on_send:
            return Said(number=said.number, state="paid", amount_fen=order.amount_fen + 1, reference="wrong")
        if script.wrong_number_on_send:
            return replace(said, number="00000000-0000-7000-8000-000000000000", reference=None, code="OTHER")
        return said

    async def query(self, number: str) -> Said:
        """Say what became of a number."""
        async with self._database.transaction() as tx:
            known = await store.count_query(tx, number)
        if known is None:
            return Said(number=number, state="never_heard")
        if self._silent[number] < self._script(known.amount_fen).silent_queries:
            self._silent[number] += 1
            raise TimeoutError
        return self._said(known)

    def _said(self, known: SandboxPayout) -> Said:
        if self._clock() < known.known_at:
            return Said(number=known.number, state="working")
        if known.outcome == "failed":
            return Said(number=known.number, state="failed", code="NAME_MISMATCH")
        return Said(
            number=known.number, state="paid", amount_fen=known.amount_fen, reference=f"sandbox-{known.number[:8]}"
        )


def payout_of(name: Literal["manual", "sandbox"], database: Database, clock: Clock) -> Payout:
    """Return the payout service of a name."""
    return Manual() if name == "manual" else Sandbox(database, clock)
