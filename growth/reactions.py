"""TABLE: event → who reacts. Each reads the outbox with a cursor of its own and handles every event exactly once."""

from collections.abc import Sequence

from growth.bootstrap import Growth
from growth.mechanics.flash_sale import tempo
from growth.plumbing.outbox import Subscription


def reactions(_growth: Growth) -> Sequence[Subscription]:
    """Return every subscription there is."""
    return [
        Subscription("flash_sale.tempo", tempo.LISTENS_TO, tempo.count),
    ]
