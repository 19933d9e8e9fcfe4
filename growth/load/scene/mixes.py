"""What shoppers ask in each scene, and what must hold of the answers."""

import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from msgspec import Struct

from growth.load.conductor import LoadError
from growth.load.laws import Law
from growth.load.service import Service
from growth.vocabulary.clock import rfc3339

CREATED, OK, ACCEPTED = 201, 200, 202
EVENTS_A_BATCH = 100
MAX_TEAMS_KNOWN = 2_000
MAX_BATCHES_KNOWN = 200


class SceneRequest(Struct, frozen=True):
    """One request: `kind` is what figures are told by."""

    kind: str
    shopper: int
    method: str
    path: str
    body: bytes = b""
    key: str = ""


class Scene(Protocol):
    """A scene: what to ask next, and what to make of answers."""

    async def prepare(self, service: Service) -> None:
        """Look at what the service has, before the first request."""

    def ask(self, dice: random.Random, shopper: int) -> SceneRequest:
        """Return what this shopper asks."""

    def hear(self, asked: SceneRequest, status: int, body: bytes) -> None:
        """Take an answer."""

    def laws(self) -> list[Law]:
        """Say what held."""


class CheckInRush:
    """Midnight: everybody checks in at once, some of them twice, and looks at the calendar."""

    def __init__(self) -> None:
        self._first: Counter[int] = Counter()
        self._again = 0
        self._others: Counter[int] = Counter()

    async def prepare(self, service: Service) -> None:
        """There must be a program."""
        status, answer = await service.ask("nobody.load", "GET", "/v1/check-ins")
        if status != OK or b'"program_id":null' in answer.replace(b" ", b""):
            raise LoadError("There is no check-in program that goes on: publish one first.")

    def ask(self, dice: random.Random, shopper: int) -> SceneRequest:
        """Nine taps to one look."""
        if dice.random() < 0.1:  # noqa: PLR2004 - one in ten
            return SceneRequest("calendar", shopper, "GET", "/v1/check-ins")
        return SceneRequest("check in", shopper, "POST", "/v1/check-ins")

    def hear(self, asked: SceneRequest, status: int, body: bytes) -> None:  # noqa: ARG002 - the status says it
        """Count who was first, and who was told the same again."""
        if asked.kind == "check in":
            if status == CREATED:
                self._first[asked.shopper] += 1
            elif status == OK:
                self._again += 1
            else:
                self._others[status] += 1

    def laws(self) -> list[Law]:
        """A day each."""
        twice = [shopper for shopper, times in self._first.items() if times > 1]
        return [
            Law(
                "Every shopper has one day, however often they tapped",
                not twice,
                f"{len(self._first):,} first taps, {self._again:,} told the same again, {len(twice)} twice new",
            ),
            Law("Nobody was refused", not self._others, str(dict(self._others)) if self._others else "nobody"),
        ]


class EventFirehose:
    """Batches of a hundred events, one in twenty of them sent again."""

    def __init__(self) -> None:
        self._sent: list[SceneRequest] = []
        self._number = 0
        self._told: Counter[str] = Counter()
        self._wrong: list[str] = []

    async def prepare(self, service: Service) -> None:
        """Nothing is needed."""

    def ask(self, dice: random.Random, shopper: int) -> SceneRequest:
        """Return a new batch, or one that was acknowledged before."""
        if self._sent and dice.random() < 0.05:  # noqa: PLR2004 - one in twenty
            again = dice.choice(self._sent)
            return SceneRequest("batch again", again.shopper, again.method, again.path, again.body)
        at = rfc3339(datetime.now(UTC))
        self._number += 1
        events = [
            {
                "id": f"{self._number}-{n}",
                "type": dice.choice(("product.viewed", "page.viewed", "app.opened")),
                "at": at,
                "data": {"sku": f"sku-{dice.randrange(500)}"},
            }
            for n in range(EVENTS_A_BATCH)
        ]
        return SceneRequest("batch", shopper, "POST", "/v1/events", msgspec.json.encode({"events": events}))

    def hear(self, asked: SceneRequest, status: int, body: bytes) -> None:
        """Add up what was said of the events."""
        if status != ACCEPTED:
            return
        said = msgspec.json.decode(body)
        self._told["accepted"] += said["accepted"]
        self._told["duplicate"] += said["duplicate"]
        self._told["rejected"] += len(said["rejected"])
        if asked.kind == "batch again" and said["duplicate"] != EVENTS_A_BATCH:
            self._wrong.append(str(said)[:80])
        if asked.kind == "batch" and said["accepted"] != EVENTS_A_BATCH:
            self._wrong.append(str(said)[:80])
        if asked.kind == "batch":
            self._sent.append(asked)
            del self._sent[:-MAX_BATCHES_KNOWN]

    def laws(self) -> list[Law]:
        """Each event once."""
        told = ", ".join(f"{count:,} {what}" for what, count in self._told.items())
        wrong = f"; not so: {self._wrong[:3]}" if self._wrong else ""
        return [Law("A new batch is accepted whole, one sent again is all duplicates", not self._wrong, told + wrong)]


class GroupBuyEvening:
    """Teams are opened, looked at, and joined."""

    def __init__(self) -> None:
        self._group_buy_id = ""
        self._size = 0
        self._teams: list[str] = []
        self._seats: dict[str, set[str]] = {}

    async def prepare(self, service: Service) -> None:
        """Find a campaign that is open."""
        _, answer = await service.ask("nobody.load", "GET", "/v1/group-buys?state=open")
        found = msgspec.json.decode(answer).get("items", [])
        if not found:
            raise LoadError("There is no group buy that is open: publish one first.")
        self._group_buy_id, self._size = found[0]["group_buy_id"], found[0]["team_size"]

    def ask(self, dice: random.Random, shopper: int) -> SceneRequest:
        """One opens, three look, three join."""
        dots = dice.random()
        if not self._teams or dots < 0.15:  # noqa: PLR2004
            path = f"/v1/group-buys/{self._group_buy_id}/teams"
            return SceneRequest("open a team", shopper, "POST", path, b'{"nickname":"Load"}', key=f"open-{shopper}")
        if dots < 0.55:  # noqa: PLR2004
            return SceneRequest("look", shopper, "GET", f"/v1/group-buys/{self._group_buy_id}/teams")
        team = dice.choice(self._teams)
        return SceneRequest(
            "join", shopper, "POST", f"/v1/teams/{team}/seats", b'{"nickname":"Load"}', key=f"join-{shopper}"
        )

    def hear(self, asked: SceneRequest, status: int, body: bytes) -> None:
        """Count the seats of each team."""
        if status != CREATED:
            return
        said = msgspec.json.decode(body)
        seat = said.get("seat", said)
        seats = self._seats.setdefault(seat["team_id"], set())
        seats.add(seat["seat_id"])
        if asked.kind == "open a team" and len(seats) == 1 and len(self._teams) < MAX_TEAMS_KNOWN:
            self._teams.append(seat["team_id"])

    def laws(self) -> list[Law]:
        """No team too large."""
        above = [team for team, seats in self._seats.items() if len(seats) > self._size]
        told = f"{sum(map(len, self._seats.values())):,} seats in {len(self._seats):,} teams of {self._size}"
        return [Law("No team has more seats than its size", not above, told)]


class MixedWeek:
    """What mini-programs ask on any day, all of it, in a plausible mix."""

    def __init__(self) -> None:
        self._sale_ids: list[str] = []
        self._parts: list[Scene] = [CheckInRush(), EventFirehose()]
        self._looks: Mapping[str, str] = {
            "sales": "/v1/flash-sales",
            "group buys": "/v1/group-buys",
            "points": "/v1/points",
            "coupons": "/v1/coupons",
            "tasks": "/v1/tasks",
            "referral": "/v1/referral",
            "calendar": "/v1/check-ins",
            "entries": "/v1/points/entries",
        }

    async def prepare(self, service: Service) -> None:
        """Find what there is to look at."""
        _, answer = await service.ask("nobody.load", "GET", "/v1/flash-sales?state=open")
        self._sale_ids = [sale["sale_id"] for sale in msgspec.json.decode(answer).get("items", [])]
        for part in self._parts:
            await part.prepare(service)

    def ask(self, dice: random.Random, shopper: int) -> SceneRequest:
        """Half looks; the rest are claims, taps and small batches of events."""
        dots = dice.random()
        if dots < 0.5:  # noqa: PLR2004
            kind = dice.choice(list(self._looks))
            return SceneRequest(kind, shopper, "GET", self._looks[kind])
        if dots < 0.7 and self._sale_ids:  # noqa: PLR2004
            return SceneRequest("sale", shopper, "GET", f"/v1/flash-sales/{dice.choice(self._sale_ids)}")
        if dots < 0.8 and self._sale_ids:  # noqa: PLR2004
            path = f"/v1/flash-sales/{self._sale_ids[0]}/claims"
            return SceneRequest("claim", shopper, "POST", path, b'{"units":1}', key=f"claim-{shopper}")
        return self._parts[0 if dots < 0.95 else 1].ask(dice, shopper)  # noqa: PLR2004

    def hear(self, asked: SceneRequest, status: int, body: bytes) -> None:
        """Each part hears its own."""
        if asked.kind == "check in":
            self._parts[0].hear(asked, status, body)
        elif asked.kind.startswith("batch"):
            self._parts[1].hear(asked, status, body)

    def laws(self) -> list[Law]:
        """Those of its parts."""
        return [law for part in self._parts for law in part.laws()]


MIXES: Mapping[str, type[Scene]] = {
    "check-in-rush": CheckInRush,
    "event-firehose": EventFirehose,
    "group-buy-evening": GroupBuyEvening,
    "mixed-week": MixedWeek,
}
