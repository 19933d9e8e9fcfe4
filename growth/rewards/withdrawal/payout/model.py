"""What a payout service is asked, and what it may say. No I/O."""

from typing import Literal, Protocol

from msgspec import Struct

from growth.rewards.withdrawal.model import Said


class PayoutOrder(Struct, frozen=True, kw_only=True):
    """Money to bring to a shopper."""

    number: str
    """The withdrawal's id, the same each time it is asked for."""
    user_id: str
    account: tuple[str, str, str] | None
    """Kind, account and holder; None where the shopper named none."""
    amount_fen: int


class Payout(Protocol):
    """A payout service. It must pay one number once at most, however often it is sent; nothing else is relied on.

    Calls may raise anything and take any time: whoever calls gives up waiting, and asks for the number later.
    """

    @property
    def name(self) -> Literal["manual", "sandbox"]:
        """Written down with each withdrawal that it is to pay."""
        ...

    @property
    def is_by_hand(self) -> bool:
        """Whether a person pays: then nothing is sent or queried."""
        ...

    async def send(self, order: PayoutOrder) -> Said:
        """Pay, or say how it stands if the number is known already."""
        ...

    async def query(self, number: str) -> Said:
        """Say what became of a number."""
        ...


class SandboxScript(Struct, frozen=True):
    """How the sandbox behaves about one number."""

    outcome: Literal["paid", "failed"] = "paid"
    late_seconds: int = 0
    """So long it says that it is at work."""
    loses_sends: int = 0
    """So many sends time out and never arrive."""
    silent_sends: bool = False
    """Sends arrive, and time out all the same."""
    silent_queries: int = 0
    """So many queries time out."""
    lies_on_send: bool = False
    """Sends are answered `failed`, whatever the outcome."""
    wrong_amount_on_send: bool = False
    wrong_number_on_send: bool = False


LATE_SECONDS = 30
SCRIPTS = {
    1: SandboxScript(silent_sends=True),
    2: SandboxScript(loses_sends=1),
    3: SandboxScript(late_seconds=LATE_SECONDS),
    4: SandboxScript(outcome="failed"),
    5: SandboxScript(lies_on_send=True),
    6: SandboxScript(wrong_amount_on_send=True),
    7: SandboxScript(silent_sends=True, silent_queries=2),
    8: SandboxScript(outcome="failed", silent_sends=True),
    9: SandboxScript(wrong_number_on_send=True),
}
"""By the last two digits of what the shopper is to get, in fen; other amounts are paid at once."""


def script_of(amount_fen: int) -> SandboxScript:
    """Return how the sandbox behaves about an amount."""
    return SCRIPTS.get(amount_fen % 100, SandboxScript())
