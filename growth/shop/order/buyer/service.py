"""Asks whose an id is that a hook names, and holds it to that."""

from growth.plumbing.person.memory import People, PersonChanged, Reads
from growth.plumbing.postgres.database import Tx
from growth.shop.order.buyer.model import Whose


async def whose(people: People, reads: Reads, user_id: str | None) -> Whose:
    """Return who `user_id` is. It asks Postgres for those only that ever changed hands, as far as is known here."""
    if user_id is None or not await people.ever_changed(reads, user_id):
        return Whose(user_id)
    return Whose(user_id, (await people.standings(reads, [user_id])).get(user_id))


async def hold(tx: Tx, known: Whose) -> None:
    """Look again, now that nobody changes hands. Raises `PersonChanged` where the id is another's by now."""
    if known.named is not None and await whose(tx.people, tx, known.named) != known:
        raise PersonChanged([known.named, *known.people])
