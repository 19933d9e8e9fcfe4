"""The one door through which the shop learns that money must be paid back."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.shop.order.owed import model, store
from growth.shop.order.owed.model import Owed, OwedState, RefundFinding, RefundRequired
from growth.vocabulary.events.shop import ShopRefundRequired
from growth.vocabulary.orders import LineOutcome, Order, OrderLine, Outcome


async def judge(tx: Tx, order: Order, said: Sequence[LineOutcome], now: datetime) -> list[LineOutcome]:
    """Bring what is owed of the lines of a paid order to what all its participants `said`, and tell what is new.

    Returns what they said, each with what its line must still be paid back. Under the order's lock, after them all.
    """
    assert order.user_id is not None
    lines = {line.line_id: line for line in order.lines}
    found = {line_id: model.reasons_found(line, said) for line_id, line in lines.items() if not line.is_refunded}
    if owing := [(order.order_id, line_id) for line_id, reasons in found.items() if reasons]:
        await store.begin(tx, owing, now)
    known = await store.lock_of_order(tx, order.order_id)
    rows = {
        line_id: model.judged(row, lines[line_id], found.get(line_id, {}), now)
        for line_id, row in known.items()
        if line_id in lines
    }
    if changed := [row for line_id, row in rows.items() if row != known[line_id]]:
        await store.write(tx, changed)
    news = [row for row in changed if model.is_news(known[row.line_id], row)]
    await emit(tx, *[_event(row, order.user_id, lines[row.line_id], now) for row in news])
    return model.with_owed(order, rows, said)


def may_owe(order: Order, said: Sequence[LineOutcome]) -> bool:
    """Say whether an order that was just paid can owe anything, or have owed it: where not, nobody need look."""
    return any(one.outcome is Outcome.REFUND_REQUIRED or one.owed_fen for one in said) or any(
        line.refunded_units or line.refunded_fen for line in order.lines
    )


async def owe(tx: Tx, findings: Sequence[RefundFinding], now: datetime) -> None:
    """Add what a room found out by itself to what is owed of lines, of whatever orders, and tell what is new.

    The caller holds the lock of what it found out about; orders are not locked.
    """
    if not findings:
        return
    by_line = defaultdict[store.Key, list[RefundFinding]](list)
    for one in findings:
        by_line[one.order_id, one.line_id].append(one)
    lines = await store.lines(tx, by_line)
    await store.begin(tx, lines, now)
    known = await store.lock(tx, lines)
    rows = {}
    for key, (_, line) in lines.items():
        found = {one.reason: line.amount_fen if one.part_fen is None else one.part_fen for one in by_line[key]}
        rows[key] = model.judged(known[key], line, known[key].reasons | found, now)
    await store.write(tx, list(rows.values()))
    news = [key for key in sorted(rows) if model.is_news(known[key], rows[key])]
    await emit(tx, *[_event(rows[key], *lines[key], now) for key in news])


def _event(owed: Owed, user_id: str, line: OrderLine, now: datetime) -> ShopRefundRequired:
    return ShopRefundRequired(
        at=now,
        order_id=owed.order_id,
        line_id=owed.line_id,
        user_id=user_id,
        amount_fen=model.still_owed_fen(owed, line),
        reasons=list(owed.reasons),
    )


class RefundsRequired:
    """What operators ask of what is owed back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        *,
        state: OwedState | None,
        order_id: str | None,
        user_id: str | None,
        before: tuple[datetime, str, str] | None,
        limit: int,
    ) -> list[RefundRequired]:
        """Return what is owed back, found last first."""
        return await store.page(
            self._database, state=state, order_id=order_id, user_id=user_id, before=before, limit=limit
        )
