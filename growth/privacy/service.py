"""What is done with a shopper in all rooms at once."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from growth.kit.room import Person
from growth.plumbing.http import idempotency
from growth.plumbing.person import erasure
from growth.plumbing.person import store as person
from growth.plumbing.person.memory import ERASED, PersonChanged
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.strict_json import plain
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.privacy.model import MERGED, SAME, ShopperErased, ShopperKnown, ShopperMerged
from growth.vocabulary.ids import is_alias, new_alias, new_id
from growth.vocabulary.refusals import Refusal


class Shoppers:
    """All rooms at once, each in the same transaction."""

    def __init__(self, database: Database, erased_memory_days: int, persons: Mapping[str, Person]) -> None:
        """`erased_memory_days`: so long it is remembered what an erased shopper had of what is given once.

        `persons`: what each room knows of a shopper, in the order in which a transaction walks them.
        """
        self._database = database
        self._memory = timedelta(days=erased_memory_days)
        self._persons = persons

    async def export(self, user_id: str) -> ShopperKnown:
        """Return all that is known of a shopper; of a former id, what is known of its survivor."""
        (user_id,) = await self._now(self._database, [user_id])
        return ShopperKnown(
            user_id, {name: plain(await one.export(self._database, user_id)) for name, one in self._persons.items()}
        )

    async def erase(self, act: Act, user_id: str) -> ShopperErased:
        """Forget a shopper, everywhere or not at all; what passes by is swept in the background.

        Raises `Refusal` `….shopper_busy` while something is under way that needs the shopper.
        """
        alias = new_alias()
        async with self._database.transaction(people=[user_id], alone=True) as tx:
            standing = (await tx.people.standings(tx, [user_id])).get(user_id)
            if standing is not None and standing.survivor is not None:
                raise Refusal(MERGED, f"This id is {standing.survivor} now. Erase that one.", into=standing.survivor)
            had = await self._had(tx, user_id) if self._memory else []
            for one in self._persons.values():
                await one.erase(tx, user_id, alias)
            erased_at = await person.time_of_erasure(tx, act.now)
            await person.note_erasure(tx, user_id, had, erased_at)
            for named in [user_id, *await erasure.former_ids(tx, user_id)]:
                await erasure.ask(tx, new_id(act.now), named, alias, act.now)
            await audit.record(tx, act, "shopper.erase", alias)
            self._tell(tx, user_id, alias, act.now)
        return ShopperErased(alias, erased_at + self._memory if self._memory else None)

    async def merge(self, act: Act, old_user_id: str, user_id: str) -> ShopperMerged:
        """Make two ids of one person one, in every room or in none. Twice is as good as once.

        A former id is its survivor. Returns the id that stays.
        """
        if old_user_id == user_id:
            raise Refusal(SAME)
        if is_alias(old_user_id):
            raise Refusal(ERASED, "An alias stands for what was erased, which is nobody's any more.")
        told = [old_user_id, user_id]
        # The survivors' locks too; who they are is looked up once more under the locks.
        expected = await self._now(self._database, told)
        async with self._database.transaction(people={*told, *expected}, alone=True) as tx:
            old_now, user_now = await self._now(tx, told)
            if [old_now, user_now] != expected:
                raise PersonChanged(told)
            if old_now != user_now:
                await person.note_return(tx, user_now, act.now)
                for one in self._persons.values():
                    await one.merge(tx, old_now, user_now, act.now)
                for one in self._persons.values():
                    if one.united is not None:
                        await one.united(tx, user_now, act.now)
                await idempotency.rename_person(tx, old_now, user_now)
                await person.note_merge(tx, old_now, user_now)
                self._tell(tx, old_now, user_now, act.now)
            # Each id is named by the merge that ended it: by that an erasure finds all that a shopper ever had.
            ended = old_now if old_now != user_now else old_user_id
            await audit.record(tx, act, "shopper.merge", user_now, before={"old_user_id": ended})
        return ShopperMerged(user_now)

    async def _had(self, tx: Tx, user_id: str) -> list[str]:
        return [what for one in self._persons.values() if one.had is not None for what in await one.had(tx, user_id)]

    async def _now(self, reader: Reader, user_ids: Sequence[str]) -> list[str]:
        """Return who each id is now."""
        found = await self._database.people.standings(reader, user_ids)
        return [one.survivor or user_id if (one := found.get(user_id)) else user_id for user_id in user_ids]

    def _tell(self, tx: Tx, user_id: str, other_id: str, now: datetime) -> None:
        for one in self._persons.values():
            if one.renamed is not None:
                tx.after_commit(partial(one.renamed, user_id, other_id, now))
