"""Shoppers: TABLE of the rooms that know one; tells all that is known, erases it, and makes two ids one."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Protocol

from litestar import Request, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct
from msgspec.structs import replace

import growth.listeners.retention.person
import growth.mechanics.checkin.person
import growth.mechanics.flash_sale.person
import growth.mechanics.group_buy.person
import growth.mechanics.referral.commission.person
import growth.mechanics.referral.person
import growth.mechanics.task.person
import growth.rewards.coupon.person
import growth.rewards.granting.person
import growth.rewards.ledger.person
import growth.rewards.pack.person
import growth.rewards.withdrawal.person
import growth.shop.order.person
import growth.shopper.activity.person
from growth.plumbing.http import idempotency
from growth.plumbing.http.answers import PathUserId
from growth.plumbing.http.discretion import discreet
from growth.plumbing.http.operators import act_of, requires
from growth.plumbing.person import erasure
from growth.plumbing.person import store as person
from growth.plumbing.person.erasure import Swept
from growth.plumbing.person.memory import ERASED, PersonChanged
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.strict_json import plain
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import ShopperId, is_alias, new_alias, new_id
from growth.vocabulary.refusals import Kind, Refusal
from growth.vocabulary.text import LINE_PATTERN, Reason

SAME = Kind("shopper.same", "An id cannot be merged into itself.")
MERGED = Kind("shopper.merged", "This id was merged into another.")


class PersonRoom(Protocol):
    """What each room offers, as a module."""

    def told(self, reader: Reader, user_id: str, /) -> Awaitable[Any]:
        """Tell what the room knows."""

    def erase(self, tx: Tx, user_id: str, alias: str, /) -> Awaitable[None]:
        """Forget, or put the alias in place of the id."""

    def merge(self, tx: Tx, old_user_id: str, user_id: str, now: datetime, /) -> Awaitable[None]:
        """Make what the old id has the new one's."""


Renamed = Callable[[str, str, datetime], Awaitable[object]]
"""Is told of the former id, the one that stands in its place, and when. What is told is compared later as well."""
United = Callable[[Tx, str, datetime], Awaitable[None]]

ROOMS: Mapping[str, PersonRoom] = {
    # In this order: who may refuse comes first, and money comes after what it hangs on.
    "flash_sale": growth.mechanics.flash_sale.person,
    "group_buy": growth.mechanics.group_buy.person,
    "withdrawal": growth.rewards.withdrawal.person,
    "referral": growth.mechanics.referral.person,
    "commission": growth.mechanics.referral.commission.person,
    "shop": growth.shop.order.person,
    "checkin": growth.mechanics.checkin.person,
    "task": growth.mechanics.task.person,
    "coupon": growth.rewards.coupon.person,
    "pack": growth.rewards.pack.person,
    "granting": growth.rewards.granting.person,
    "ledger": growth.rewards.ledger.person,
    "events": growth.shopper.activity.person,
    "retention": growth.listeners.retention.person,
}

GIVEN_ONCE = (
    growth.rewards.pack.person.had,
    growth.shop.order.person.had,
    growth.mechanics.referral.person.had,
    growth.mechanics.task.person.had,
    growth.mechanics.checkin.person.had,
    growth.rewards.coupon.person.had,
)
"""What asks rooms what a shopper had of what is given once, or so often, and could be given again: never a page of it.
What is named n times was had n times."""

SWEPT = (Swept("shop.webhook_deliveries", "body", "text"),)
"""What events pass through on their way out."""


class ShopperKnown(Struct, frozen=True):
    """All that is known of a shopper, room by room."""

    user_id: str
    rooms: dict[str, Any]


class ShopperErased(Struct, frozen=True):
    """What stands in the shopper's place now, where something had to stay."""

    alias: str
    remembered_until: datetime | None
    """Until then a hash of the id is kept, which leads to nothing: should the id come back, it gets nothing a second
    time that is given once. Null if that is switched off."""


class MergeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The id that stays, and why the two are one person; kept in the audit."""

    into: ShopperId
    reason: Reason


class ShopperMerged(Struct, frozen=True):
    """The id that stays."""

    user_id: str


class Shoppers:
    """All rooms at once, each in the same transaction."""

    def __init__(
        self,
        database: Database,
        erased_memory_days: int,
        renamed: Sequence[Renamed] = (),
        united: Sequence[United] = (),
    ) -> None:
        """`erased_memory_days`: so long it is remembered what an erased shopper had of what is given once.

        `renamed`: who is told, after the commit, that one id stands for another now, or an alias for a shopper.
        `united`: who judges again what a person has, in the merge, once all rooms have made two ids one.
        """
        self._database = database
        self._memory = timedelta(days=erased_memory_days)
        self._renamed = renamed
        self._united = united

    async def told(self, user_id: str) -> ShopperKnown:
        """Return all that is known of a shopper; of a former id, what is known of its survivor."""
        (user_id,) = await self._now(self._database, [user_id])
        return ShopperKnown(
            user_id, {name: plain(await room.told(self._database, user_id)) for name, room in ROOMS.items()}
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
            had = [what for had in GIVEN_ONCE for what in await had(tx, user_id)] if self._memory else []
            for room in ROOMS.values():
                await room.erase(tx, user_id, alias)
            erased_at = await person.time_of_erasure(tx, act.now)
            await person.note_erasure(tx, user_id, had, erased_at)
            for one in [user_id, *await erasure.former_ids(tx, user_id)]:
                await erasure.ask(tx, new_id(act.now), one, alias, act.now)
            await _record(tx, act, "shopper.erase", alias)
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
                for room in ROOMS.values():
                    await room.merge(tx, old_now, user_now, act.now)
                for judge_again in self._united:
                    await judge_again(tx, user_now, act.now)
                await idempotency.rename_person(tx, old_now, user_now)
                await person.note_merge(tx, old_now, user_now)
                self._tell(tx, old_now, user_now, act.now)
            # Each id is named by the merge that ended it: by that an erasure finds all that a shopper ever had.
            ended = old_now if old_now != user_now else old_user_id
            await _record(tx, act, "shopper.merge", user_now, {"old_user_id": ended})
        return ShopperMerged(user_now)

    async def _now(self, reader: Reader, user_ids: Sequence[str]) -> list[str]:
        """Return who each id is now."""
        found = await self._database.people.standings(reader, user_ids)
        return [one.survivor or user_id if (one := found.get(user_id)) else user_id for user_id in user_ids]

    def _tell(self, tx: Tx, user_id: str, other_id: str, now: datetime) -> None:
        for tell in self._renamed:
            tx.after_commit(partial(tell, user_id, other_id, now))


async def _record(tx: Tx, act: Act, action: str, subject: str, before: object = None) -> None:
    await audit.record(
        tx,
        act,
        action,
        subject,
        before=before,
    )


@get(
    "/{user_id:str}",
    operation_id="admin_shoppers_get",
    summary="All that is known of a shopper",
    guards=[requires(Role.VIEWER)],
)
async def get_shopper(
    user_id: PathUserId, operator: NamedDependency[Operator], shoppers: NamedDependency[Shoppers]
) -> ShopperKnown:
    """Room by room, the newest of each; empty for a shopper nobody has heard of.

    The account that money goes to, device and address are shown to admins only.
    """
    known = await shoppers.told(user_id)
    return replace(known, rooms=discreet(known.rooms, operator.role))


@delete(
    "/{user_id:str}",
    status_code=200,
    operation_id="admin_shoppers_erase",
    summary="Erase a shopper",
    guards=[requires(Role.ADMIN)],
)
async def erase_shopper(
    user_id: PathUserId,
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    shoppers: NamedDependency[Shoppers],
    reason: Annotated[
        str, QueryParameter(min_length=1, max_length=500, pattern=LINE_PATTERN, description="Kept in the audit.")
    ],
) -> ShopperErased:
    """Everywhere, for good. Books and counts stay, under an alias that leads nowhere.

    Answers kept for a day go at once, events on their way within minutes. Erasing is no way to a second welcome:
    until `remembered_until` the id, should it come back, gets nothing again that is given once.

    409 `….shopper_busy` while the shopper holds
    units, sits in a team that is not over, or has money on its way; 409 `shopper.merged` for an id that was merged into
    another (`into`).
    """
    return await shoppers.erase(act_of(request, operator, reason), user_id)


@post(
    "/{user_id:str}/merge",
    status_code=200,
    operation_id="admin_shoppers_merge",
    summary="Make two ids of one person one",
    guards=[requires(Role.ADMIN)],
)
async def merge_shopper(
    user_id: PathUserId,
    data: JSONBody[MergeRequest],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    shoppers: NamedDependency[Shoppers],
) -> ShopperMerged:
    """What the id in the path has becomes that of `into`: nothing lost, nothing doubled."""
    return await shoppers.merge(act_of(request, operator, data.reason), user_id, data.into)


router = Router(
    path="/admin/v1/shoppers",
    route_handlers=[get_shopper, erase_shopper, merge_shopper],
    tags=["Operators: shoppers"],
)
