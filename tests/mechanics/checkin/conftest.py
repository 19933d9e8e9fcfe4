"""The room of check-ins on a database of its own, on days of the test's choice.

Postgres' clock decides in earnest; here it says what `room.moment` says.
"""

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from msgspec import Struct

from growth.kit.campaign.audience import Audiences
from growth.mechanics.checkin.model import CheckinDraft, CheckinProgram
from growth.mechanics.checkin.service import CheckinPrograms
from growth.mechanics.checkin.streak import store
from growth.mechanics.checkin.streak.calendar.service import Calendars
from growth.mechanics.checkin.streak.day_end.periodic import Night
from growth.mechanics.checkin.streak.model import Almanac, Day, replay
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.mechanics.checkin.streak.repair.model import MadeUp
from growth.mechanics.checkin.streak.repair.service import Repairs
from growth.mechanics.checkin.streak.service import CheckIns, TapAnswer
from growth.mechanics.checkin.streak.store import TapGlance
from growth.plumbing.postgres.database import Database, Reader, connect_postgres
from growth.plumbing.watch.audit import Act
from growth.plumbing.watch.invariants import all_invariants
from growth.plumbing.work.periodic import Turn
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Grant
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency
from growth.vocabulary.actors import Operator, Role
from growth.vocabulary.ids import new_id
from growth.vocabulary.rewards import FreezeCardReward, MakeUpCardReward, PointsReward, Reward
from tests.kit.invariants import violations
from tests.kit.turn import turn_at

ZONE = "Asia/Shanghai"


def today() -> date:
    """The merchant's day, so that invariants look at what the test does."""
    return datetime.now(UTC).astimezone(Almanacs(ZONE).zone._info).date()


FIRST = today() - timedelta(days=20)
"""The first day of a test's program."""


INVARIANTS = tuple(one for one in all_invariants() if one.room in {"checkin", "ledger", "lot", "granting"})


def points(number: int) -> list[Reward]:
    return [PointsReward(points=number)]


class GivenTime(Almanacs):
    """Almanacs whose clock is the test's."""

    def __init__(self, zone: str = ZONE) -> None:
        super().__init__(zone)
        self.moment: datetime | None = None

    async def look(self, reader: Reader) -> tuple[TapGlance, Almanac]:
        glance, almanac = await super().look(reader)
        if self.moment is None:
            return glance, almanac
        return TapGlance(self.moment, glance.revision, glance.night_day, glance.night_after), almanac


class Room(Struct):
    """What one process has of the room."""

    database: Database
    almanacs: GivenTime
    programs: CheckinPrograms
    repairs: Repairs
    check_ins: CheckIns
    calendars: Calendars
    night: Night

    @property
    def moment(self) -> datetime:
        return self.almanacs.moment or datetime.now(UTC)

    def at(self, day: date, hours: float = 12) -> None:
        """Let it be so many hours into a day of the merchant's."""
        self.almanacs.moment = self.almanacs.zone.begins_at(day) + timedelta(hours=hours)

    def act(self, reason: str = "") -> Act:
        return Act(Operator("olga", Role.EDITOR), self.moment, "request", reason)

    async def program(self, **changes: Any) -> CheckinProgram:
        """A program that has been live since before its first day."""
        draft = a_draft(**changes)
        kept = self.almanacs.moment
        self.at(draft.from_day - timedelta(days=1))
        made = await self.programs.create(self.act(), draft, None, b"")
        program = await self.programs.publish(self.act(), made.answer.program_id)
        self.almanacs.moment = kept
        return program

    async def taps(self, user_id: str, day: date, hours: float = 12) -> TapAnswer:
        self.at(day, hours)
        return await self.check_ins.check_in(user_id)

    async def taps_daily(self, user_id: str, *numbers: int) -> TapAnswer:
        """Taps on days of the program, counted from 1."""
        told = None
        for number in numbers:
            told = await self.taps(user_id, nth(number))
        assert told is not None
        return told

    async def makes_up(self, user_id: str, day: date, key: str | None = None) -> MadeUp:
        return (await self.repairs.make_up(user_id, day, key)).answer

    async def gives(self, user_id: str, *rewards: Reward) -> None:
        async with self.database.transaction() as tx:
            await granting.grant(
                tx,
                [
                    Grant(user_id=user_id, reward=reward, reason="test.given", key=new_id(self.moment))
                    for reward in rewards
                ],
                self.moment,
            )

    async def has(self, user_id: str) -> dict[str, int]:
        """What the shopper can spend, nothing left out that is not 0."""
        balances = await ledger.balances(self.database, user_id)
        return {str(currency): one.available for currency, one in balances.items() if one.available}

    async def points(self, user_id: str) -> int:
        return (await ledger.balances(self.database, user_id))[Currency.POINTS].available

    async def cards(self, user_id: str, *, make_up: int = 0, freeze: int = 0) -> None:
        if make_up:
            await self.gives(user_id, MakeUpCardReward(cards=make_up))
        if freeze:
            await self.gives(user_id, FreezeCardReward(cards=freeze))

    def turn(self) -> Turn:
        return turn_at(self.database, self.moment)

    async def nights(self) -> int:
        """Let the night's walk go to its end; how many transactions that took."""
        turns = 0
        while await self.night.end_days(self.turn()):
            turns += 1
        return turns

    async def days(self, user_id: str) -> list[Day]:
        return await store.find_days(self.database, user_id, date(2000, 1, 1), date(2300, 1, 1))

    async def events(self, type_: str) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "SELECT data::text FROM plumbing.outbox WHERE type = $1 ORDER BY position", f"checkin.{type_}"
        )
        return [json.loads(row["data"]) for row in rows]

    async def is_what_days_say(self) -> None:
        """Every shopper's state is what folding all of the shopper's days anew gives."""
        _, almanac = await self.almanacs.look(self.database)
        for row in await self.database.fetch("SELECT user_id FROM checkin.states"):
            shopper = await store.find_shopper(self.database, row["user_id"])
            assert shopper is not None
            days = await self.days(shopper.user_id)
            terms = await store.find_terms(self.database, [day.terms_id for day in days])
            standing, told = replay(days, terms, almanac.history)
            assert standing == shopper.standing, shopper.user_id
            assert told == days, shopper.user_id


def nth(number: int) -> date:
    """The n-th day of a test's program."""
    return FIRST + timedelta(days=number - 1)


def a_draft(**changes: Any) -> CheckinDraft:
    plain: dict[str, Any] = {
        "title": "Every day",
        "from_day": FIRST,
        "rewards": [points(number) for number in (1, 2, 3, 4, 5, 6, 70)],
    }
    return CheckinDraft(**plain | changes)


def assemble(database: Database, almanacs: GivenTime | None = None) -> Room:
    """One more process on the same stores."""
    almanacs = almanacs or GivenTime()
    repairs = Repairs(database, almanacs, Audiences())
    return Room(
        database=database,
        almanacs=almanacs,
        programs=CheckinPrograms(database, almanacs, Audiences()),
        repairs=repairs,
        check_ins=CheckIns(database, almanacs, repairs, Audiences()),
        calendars=Calendars(database, almanacs, Audiences()),
        night=Night(almanacs),
    )


@pytest.fixture
async def room(postgres_dsn: str) -> AsyncIterator[Room]:
    """A process of its own, with an empty database."""
    database = await connect_postgres(postgres_dsn, max_connections=8, acquire_seconds=60, statement_seconds=60)
    room = assemble(database)
    yield room
    await room.check_ins.drain()
    broken = await violations(database, INVARIANTS)
    await room.is_what_days_say()
    await database.close()
    assert not broken
