"""A room declares, as a value, what it adds to the house. Whoever wants to know what wakes a room reads its `room.py`.

The roof makes the rooms from the bottom up, hands each the rooms below it, and at last tells each of all (`joined`): a
room below that needs what a room above knows names a type for it, and the room above declares one (`declares`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from litestar import Router
from msgspec import Struct, field

from growth.kit.campaign import audience
from growth.kit.campaign.audience import AudienceKeeper, Audiences
from growth.kit.campaign.model import CampaignKind
from growth.plumbing.http.short_cut import ShortCut
from growth.plumbing.outbox.outbox import Subscription
from growth.plumbing.person.erasure import Swept
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.redis.client import AnyRedis
from growth.plumbing.settings import Settings
from growth.plumbing.work.periodic import PeriodicTask
from growth.vocabulary.refusals import Kind

T = TypeVar("T")


class Stores(Struct, frozen=True):
    """What every room is made with."""

    settings: Settings
    database: Database
    replica: Database
    """For reports."""
    redis: AnyRedis
    audiences: Audiences = field(default_factory=Audiences)
    """Says who is admitted to campaigns."""

    @property
    def zone(self) -> ZoneInfo:
        """The merchant's, which says what a day is."""
        return ZoneInfo(self.settings.zone)


class Standing(Struct, frozen=True):
    """What runs for as long as a process is up."""

    name: str
    run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]
    """Runs until the event is set, then ends by itself within seconds."""


class Person(Struct, frozen=True, kw_only=True):
    """What a room knows of one shopper (personal data export, erasure, merge), in the caller's transaction."""

    export: Callable[[Reader, str], Awaitable[Any]]
    """Returns what the room knows of a shopper."""
    erase: Callable[[Tx, str, str], Awaitable[None]]
    """Forgets the shopper, or puts the alias in place of the id."""
    merge: Callable[[Tx, str, str, datetime], Awaitable[None]]
    """Makes what the old id has the new one's."""
    refuses: Sequence[Kind] = ()
    """What an erasure or a merge may be refused with."""
    had: Callable[[Reader, str], Awaitable[Sequence[str]]] | None = None
    """Returns what the shopper had of what is given once, or so often, and could be given again: never a page of it.
    What is named n times was had n times."""
    renamed: Callable[[str, str, datetime], Awaitable[object]] | None = None
    """Is told, after the commit, that one id stands for another now, or an alias for a shopper, and since when."""
    united: Callable[[Tx, str, datetime], Awaitable[None]] | None = None
    """Judges again what a person has, in the merge, once all rooms have made two ids one."""


class Room(Struct, frozen=True, kw_only=True):
    """What one room adds to the house."""

    name: str
    """One word: folder, schema, Redis prefix, URL, log prefix."""
    services: Sequence[object] = ()
    """What rooms above may ask for, by its type."""
    gives: Mapping[str, object] = {}
    """What handlers ask for by name."""
    gives_after_shopper: Mapping[str, object] = {}
    """The same, for handlers that ask for the shopper too. Litestar resolves one after the other then: dependencies
    that are resolved at the same time make a task group, which costs more."""
    routers: Sequence[Router] = ()
    short_cuts: Sequence[ShortCut] = ()
    """Plain requests that are served before the routes."""
    tasks: Sequence[PeriodicTask] = ()
    """What the clock wakes, on one worker."""
    subscriptions: Sequence[Subscription] = ()
    """What events wake."""
    api_standing: Sequence[Standing] = ()
    worker_standing: Sequence[Standing] = ()
    persons: Mapping[str, Person] = {}
    """What is known of one shopper, by the name under which it is exported."""
    swept: Sequence[Swept] = ()
    """Tables that events pass through on their way out: an erasure reads them in the background."""
    campaigns: Sequence[CampaignKind[Any, Any]] = ()
    """Its kinds of campaign; of two, first what writes the other, whose lists follow."""
    audience_keepers: Sequence[AudienceKeeper] = ()
    """Conditions of audiences whose facts it keeps."""
    declares: Sequence[tuple[type[Any], Any]] = ()
    """What rooms below asked for: the type that they named, and this room's one of it."""
    joined: Callable[["Rooms"], None] | None = None
    """Is told of all rooms once they are made, before anything runs."""
    drain: Sequence[Callable[[], Awaitable[None]]] = ()
    """At the end: waits until everybody who is under way has an answer."""
    close: Sequence[Callable[[], Awaitable[None]]] = ()
    """After that."""


class Rooms:
    """The rooms there are, from the bottom up."""

    def __init__(self, walk: Sequence[str] = ()) -> None:
        """`walk`: the order in which one transaction goes through rooms, by name; others come first."""
        self._rooms: list[Room] = []
        self._walk = walk

    def __iter__(self) -> Iterator[Room]:
        return iter(self._rooms)

    def add(self, room: Room) -> None:
        """Add a room above all others."""
        self._rooms.append(room)

    def of(self, kind: type[T]) -> T:
        """Return the service of this type."""
        for room in self._rooms:
            for service in room.services:
                if isinstance(service, kind):
                    return service
        raise LookupError(f"no room offers {kind.__name__}")

    def declared(self, kind: type[T]) -> list[T]:
        """Return what rooms declare for a type, in the order of the walk."""
        walked = self._walked(self._rooms, lambda room: room.name)
        return [declared for room in walked for named, declared in room.declares if named is kind]

    def persons(self) -> dict[str, Person]:
        """Return what is known of one shopper, room by room, in the order of the walk; last, lists of campaigns."""
        named = [(name, person) for room in self._rooms for name, person in room.persons.items()]
        kinds = [kind for room in self._rooms for kind in room.campaigns]
        return dict(self._walked(named, lambda one: one[0])) | ({"audiences": _in_lists(kinds)} if kinds else {})

    def _walked(self, what: Sequence[T], name_of: Callable[[T], str]) -> list[T]:
        places = {name: place for place, name in enumerate(self._walk)}
        return sorted(what, key=lambda one: places.get(name_of(one), -1))


def _in_lists(kinds: Sequence[CampaignKind[Any, Any]]) -> Person:
    async def export(reader: Reader, user_id: str) -> list[str]:
        return await audience.lists_of(reader, kinds, user_id)

    async def erase(tx: Tx, user_id: str, _alias: str) -> None:
        await audience.rename(tx, kinds, user_id, None)

    async def merge(tx: Tx, old_user_id: str, user_id: str, _now: datetime) -> None:
        await audience.rename(tx, kinds, old_user_id, user_id)

    return Person(export=export, erase=erase, merge=merge)


def furnished(makers: Sequence[Callable[[Stores, Rooms], Room]], stores: Stores, walk: Sequence[str]) -> Rooms:
    """Make the rooms, bottom up, and tell each of all."""
    rooms = Rooms(walk)
    for make in makers:
        rooms.add(make(stores, rooms))
    if keepers := [keeper for room in rooms for keeper in room.audience_keepers]:
        stores.audiences.join(keepers)
    for room in rooms:
        if room.joined is not None:
            room.joined(rooms)
    return rooms
