"""Any sightings, in any order, late, told twice, of accounts merged and erased: beside counting it all anew."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.embedded import EmbeddedServers
from growth.listeners.retention.model import KINDS, MECHANICS
from growth.listeners.retention.report.service import Question
from growth.listeners.retention.sighting import Sighting
from growth.plumbing.postgres.database import connect_postgres
from growth.vocabulary.facts import FunnelStage
from tests import servers as test_servers
from tests.kit.examples import examples
from tests.kit.invariants import violations
from tests.listeners.retention.conftest import Room, a_room
from tests.listeners.retention.simple_model import Matrix, SimpleModel

START = datetime(2026, 3, 6, tzinfo=UTC)
"""Two days before clocks change in New York, three weeks before they do in Berlin."""
ZONES = ["Asia/Shanghai", "America/New_York", "Europe/Berlin", "Pacific/Chatham", "Africa/Casablanca"]
USERS = ["ann", "bob", "cat", "dan", "eve"]
SOURCES = ["", "wechat", "poster"]

moments = st.builds(
    lambda days, minutes: START + timedelta(days=days, minutes=minutes),
    st.one_of(st.integers(0, 10), st.integers(0, 45)),
    st.sampled_from([0, 1, 60 * 4, 60 * 5, 60 * 7, 60 * 16, 60 * 22, 60 * 23 + 59]),
)


@st.composite
def sightings(draw: st.DrawFn) -> Sighting:
    kind = draw(st.sampled_from(["app", "product", "order", "registration", *MECHANICS[1:]]))
    more: dict[str, Any] = {}
    at = draw(moments)
    user_id = draw(st.sampled_from(USERS))
    if kind == "registration":
        source = draw(st.sampled_from(SOURCES))
        # Of two registrations at one instant the smaller number wins, which depends on who was told of first.
        more["source"], at = source, at + timedelta(seconds=SOURCES.index(source), milliseconds=USERS.index(user_id))
    elif kind == "referral":
        inviter = draw(st.sampled_from([*USERS, "zoe"]))
        number = [*USERS, "zoe"].index(inviter)
        more["inviter"], at = inviter, at + timedelta(milliseconds=USERS.index(user_id) * 10 + number)
    elif kind in {"app", "product", "order", "flash_sale"}:
        steps = {"app": [FunnelStage.INVITED], "product": [FunnelStage.VIEWED], "order": [FunnelStage.BOUGHT]}
        more["step"] = draw(st.sampled_from([None, *steps.get(kind, [FunnelStage.CLAIMED, FunnelStage.PAID])]))
    return Sighting(user_id=user_id, at=at, kind=KINDS.index(kind), **more)


happenings = st.one_of(
    st.tuples(st.just("see"), st.lists(sightings(), min_size=1, max_size=12)),
    st.tuples(st.just("see again"), st.integers(0, 5)),
    st.tuples(st.just("merge"), st.tuples(st.sampled_from(USERS), st.sampled_from(USERS))),
    st.tuples(st.just("erase"), st.sampled_from(USERS)),
)


@given(
    zone=st.sampled_from(ZONES),
    story=st.lists(happenings, min_size=1, max_size=8),
    age=st.integers(3, 60),
    cohort=st.sampled_from(["day", "week", "month"]),
    split=st.sampled_from([None, "source", "mechanic", "inviter"]),
    filters=st.fixed_dictionaries(
        {},
        optional={
            "source": st.sampled_from(["unknown", "wechat", "nowhere"]),
            "mechanic": st.sampled_from(["none", "flash_sale", "checkin"]),
            "inviter": st.sampled_from(["any", "none"]),
        },
    ),
    one_inviter=st.sampled_from(USERS),
    day=st.integers(3, 20),
)
@examples(25)
def test_answers_are_those_of_counting_anew(
    servers: EmbeddedServers,
    zone: str,
    story: Sequence[tuple[str, Any]],
    age: int,
    cohort: Any,
    split: Any,
    filters: dict[str, str],
    one_inviter: str,
    day: int,
) -> None:
    async def compare() -> None:
        async with test_servers.database(servers) as dsn:
            database = await connect_postgres(dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)
            try:
                room, simple = a_room(database, zone), SimpleModel(zone)
                await _tell(room, simple, story)
                now = START + timedelta(days=age)
                await _compare_matrices(room, simple, now, cohort, split, filters, one_inviter)
                await _compare_others(room, simple, now, cohort, day)
                assert await violations(database) == []
            finally:
                await database.close()

    asyncio.run(compare())


async def _tell(room: Room, simple: SimpleModel, story: Sequence[tuple[str, Any]]) -> None:
    batches: list[list[Sighting]] = []
    for number, (what, which) in enumerate(story):
        match what:
            case "see":
                batches.append(which)
                await room.see(*which)
                simple.see(which)
            case "see again" if batches:
                again = batches[which % len(batches)]
                await room.see(*again)
                simple.see(again)
            case "merge":
                await room.merge(*which)
                simple.merge(*which)
            case "erase":
                await room.erase(which, f"erased:{number}")
                simple.erase(which, f"erased:{number}")


async def _compare_matrices(
    room: Room, simple: SimpleModel, now: datetime, cohort: Any, split: Any, filters: dict[str, str], inviter: str
) -> None:
    for metric in ("on", "on_or_after"):
        for wanted in ({"split": split, **filters}, {"inviter": inviter}):
            asked: Any = {"cohort": cohort, "metric": metric, "days": 30} | wanted
            answer = await room.reports.matrix(Question(first=START.date() - timedelta(days=9), **asked), now)
            today = now.astimezone(simple.zone).date()
            assert answer.today == today
            found: Matrix = {
                (row.start, row.group): (row.size, {n: cell.count if cell else None for n, cell in row.days.items()})
                for row in answer.cohorts
            }
            expected = simple.matrix(today, **asked)
            # Nobody was asked for who came after today.
            last = answer.to
            assert found == {key: row for key, row in expected.items() if key[0] <= last}, asked


async def _compare_others(room: Room, simple: SimpleModel, now: datetime, cohort: Any, day: int) -> None:
    today, first = now.astimezone(simple.zone).date(), START.date() - timedelta(days=9)
    for metric in ("on", "on_or_after"):
        effects = await room.reports.effects(
            metric=metric,
            day=day,
            within_days=3,
            first=first,
            last=None,
            now=now,
        )
        if effects.from_ == first:
            assert {
                one.mechanic: (one.took_part.size, one.took_part.retained, one.others.size, one.others.retained)
                for one in effects.effects
            } == simple.effects(today, metric=metric, day=day, within=3)
    funnels = await room.reports.funnels(cohort=cohort, within_days=day, first=first, last=None, now=now)
    for funnel in funnels.funnels:
        expected = simple.funnel(today, name=funnel.funnel, cohort=cohort, within=day)
        assert {one.start: [step.count for step in one.steps] for one in funnel.cohorts} == {
            start: counts for start, counts in expected.items() if start <= funnels.to
        }
    actives = await room.reports.actives(first=first, last=today, now=now)
    assert len(actives.days) == (today - first).days + 1
    for one in actives.days:
        assert (one.daily, one.weekly, one.monthly, one.new) == simple.actives(one.day)


@pytest.mark.parametrize("zone", ZONES)
def test_the_model_itself_counts_by_hand(zone: str) -> None:
    simple = SimpleModel(zone)
    noon = datetime(2026, 3, 6, 17, tzinfo=UTC)
    simple.see(Sighting(user_id="ann", at=noon + timedelta(days=days), kind=0) for days in (0, 1, 3))
    simple.see([Sighting(user_id="bob", at=noon, kind=0)])
    start = noon.astimezone(simple.zone).date()
    ((key, (size, days)),) = simple.matrix(start + timedelta(days=3), cohort="day", metric="on", days=3).items()
    assert (key, size, days) == ((start, None), 2, {0: 2, 1: 1, 2: 0, 3: None})
    assert simple.actives(start + timedelta(days=3)) == (1, 2, 2, 0)
    assert isinstance(start, date)
