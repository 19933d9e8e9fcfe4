"""How fast a sale sells: claims won in each second, counted by a listener of the outbox for operators to see."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from growth.mechanics.flash_sale.store import sales as store
from growth.plumbing.outbox.outbox import Envelope, types_of
from growth.plumbing.postgres.database import Tx
from growth.vocabulary.events.flash_sale import FlashSaleClaimHeld

LISTENS_TO = types_of(FlashSaleClaimHeld)


async def count(tx: Tx, envelopes: Sequence[Envelope]) -> None:
    """Add claims just won to their seconds."""
    won: dict[tuple[str, datetime], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for envelope in envelopes:
        event = envelope.event
        assert isinstance(event, FlashSaleClaimHeld)
        key = (event.sale_id, event.at.replace(microsecond=0))
        claims, units = won[key]
        won[key] = (claims + 1, units + event.units)
    await store.add_tempo(tx, won)
