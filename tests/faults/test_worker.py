"""Workers killed at every step of what they do, and the next one goes on; a listener that is slow."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from growth.embedded import EmbeddedServers
from growth.mechanics.flash_sale.model import Protection, Sale
from growth.vocabulary.clock import now
from tests.faults import houses
from tests.faults.crowd import Crowd
from tests.faults.houses import House, Process, faults, until
from tests.faults.launcher import Death
from tests.faults.laws import Watch, judge, uncounted
from tests.faults.story import MEASURED, together, withstands

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

SALES = "growth.mechanics.flash_sale"
AFTER_COMMIT = "growth.plumbing.postgres.database:Tx.run_after_commit"
LAPSED, SETTLE = f"{SALES}.claim.store:release", f"{SALES}.stock:Stock.settle"
DRAWN, DUE = f"{SALES}.claim.draw.store:set_drawn", f"{SALES}.reminder.store:send_due"

STEPS: dict[str, dict[str, Death]] = {
    "flash_sale.end_lapsed_holds": {
        "before holds are ended": Death(LAPSED, "before"),
        "holds ended, not committed": Death(LAPSED, "after", with_work=True),
        "holds ended in Postgres, not in Redis": Death(SETTLE, "before", armed_by=LAPSED, with_work=True),
    },
    "flash_sale.draw": {
        "before the draw": Death(DRAWN, "before"),
        "drawn at, nobody picked": Death(DRAWN, "after", with_work=True),
        "picked, without claims": Death(f"{SALES}.claim.draw.store:pick", "after"),
        "winners have claims, not committed": Death(f"{SALES}.claim.store:win", "after"),
        "drawn in Postgres, not in Redis": Death(AFTER_COMMIT, "before", armed_by=DRAWN, with_work=True),
        "winners told to Redis, not the draw's end": Death(SETTLE, "after", armed_by=DRAWN, with_work=True),
    },
    "flash_sale.remind": {
        "before reminders are sent": Death(DUE, "before"),
        "reminders sent, not committed": Death(DUE, "after", with_work=True),
        "reminders committed": Death(AFTER_COMMIT, "before", armed_by=DUE, with_work=True),
    },
}
DRAWS = 4
"""Two of the workers above draw one sale each before they die: there is one to draw for each of them, and more."""
ENTRIES, UNITS = 40, 15
UNITS_TO_FORGET = 1_000
"""More than can be claimed, one after the other, while workers die."""
REMINDERS = 1_200
"""More than two batches."""


@pytest.fixture(scope="module")
async def house(anyio_backend: Any, mortal_servers: EmbeddedServers) -> AsyncIterator[House]:
    """One api process; workers come and go."""
    async with houses.house(mortal_servers, apis=[faults()]) as house:
        yield house


async def all_dead(doomed: dict[str, Process]) -> None:
    """Wait until each has died at its step; who leads a task goes first, the next leads when its lease has ended."""

    async def all_have_ended() -> bool:
        return not any(process.running for process in doomed.values())

    try:
        await until("all have died", all_have_ended)
    except AssertionError as error:
        alive = {step: process.log_tail() for step, process in doomed.items() if process.running}
        raise AssertionError(f"{error}; alive: {alive}") from None
    for process in doomed.values():
        await process.died_as_planned()


async def holds_lapse(house: House, doomed: dict[str, Process]) -> None:
    """Holds lapse all the while, so that whoever leads has work."""
    crowd = Crowd(house, await house.put_sale(units_total=UNITS_TO_FORGET), shoppers=20)
    watch = Watch(house, crowd.sale.sale_id)
    async with crowd.shopping(), watch.watching():
        deaths = asyncio.create_task(all_dead(doomed))
        while not deaths.done():
            await crowd.forget()
            await asyncio.wait([deaths], timeout=0.1)
        await deaths
        over_at = time.monotonic()
        house.add_workers(faults(tasks=["flash_sale.end_lapsed_holds", "flash_sale.reconcile"]))
        await crowd.gone()
        await judge(house, crowd)
        MEASURED.append(("worker killed: at each step of ending holds", 0.0, watch.mended_seconds(over_at)))


async def draw_is_due(house: House, sale: Sale) -> None:
    """Let the time for entries be over."""
    await house.database.fetchval(
        """
        UPDATE flash_sale.sales
        SET protection = protection || '{"draw_seconds": 1}'
        WHERE sale_id = $1
        """,
        sale.sale_id,
    )


async def are_drawn(house: House, doomed: dict[str, Process]) -> None:
    opened = now() - timedelta(minutes=1)
    protection = Protection(draw_seconds=3600)
    crowds = [
        Crowd(house, await house.put_sale(opens_at=opened, units_total=UNITS, protection=protection), shoppers=0)
        for _ in range(DRAWS)
    ]
    async with crowds[0].shopping(), crowds[1].shopping(), crowds[2].shopping(), crowds[3].shopping():
        for crowd in crowds:
            answers = await asyncio.gather(*[crowd.claim(f"entrant-{n}", 1, "enter") for n in range(ENTRIES)])
            assert [answer.status for answer in answers] == [202] * ENTRIES
            await draw_is_due(house, crowd.sale)
        await all_dead(doomed)
        over_at = time.monotonic()
        house.add_workers(faults(tasks=["flash_sale.draw", "flash_sale.reconcile"]))
        for crowd in crowds:
            await drawn_once(house, crowd)
        MEASURED.append(("worker killed: at each step of a draw", 0.0, time.monotonic() - over_at))
        for crowd in crowds:
            await judge(house, crowd)


async def drawn_once(house: House, crowd: Crowd) -> None:
    """Every unit went to an entrant, each of them at most once, and one event tells of it."""
    sale_id = crowd.sale.sale_id

    async def is_drawn() -> bool:
        drawn_at = await house.database.fetchval("SELECT drawn_at FROM flash_sale.sales WHERE sale_id = $1", sale_id)
        return drawn_at is not None

    await until("the sale is drawn", is_drawn)
    winners = await house.database.fetch(
        "SELECT DISTINCT user_id FROM flash_sale.claims WHERE sale_id = $1 AND state = 'held'", sale_id
    )
    assert len(winners) == UNITS
    assert {row["user_id"] for row in winners} <= set(crowd.entered)
    told = await house.database.fetchval(
        "SELECT count(*) FROM plumbing.outbox WHERE type = 'flash_sale.drawn' AND data ->> 'sale_id' = $1", sale_id
    )
    assert told == 1


async def are_reminded(house: House, doomed: dict[str, Process]) -> None:
    opens_at = now() + timedelta(hours=1)
    sale = await house.put_sale(opens_at=opens_at, reminder_lead_seconds=7200)
    await house.database.fetchval(
        """
        INSERT INTO flash_sale.reminders (sale_id, user_id, asked_at)
        SELECT $1, 'reminded-' || n, now()
        FROM generate_series(1, $2) AS n
        """,
        sale.sale_id,
        REMINDERS,
    )
    await all_dead(doomed)
    over_at = time.monotonic()
    house.add_workers(faults(tasks=["flash_sale.remind"]))

    async def all_are_sent() -> bool:
        waiting = await house.database.fetchval(
            "SELECT count(*) FROM flash_sale.reminders WHERE sale_id = $1 AND sent_at IS NULL", sale.sale_id
        )
        return bool(waiting == 0)

    await until("all are reminded", all_are_sent)
    MEASURED.append(("worker killed: at each step of reminding", 0.0, time.monotonic() - over_at))
    rows = await house.database.fetch(
        "SELECT data ->> 'user_id' AS user_id FROM plumbing.outbox WHERE type = 'flash_sale.reminder_due'"
    )
    assert Counter(row["user_id"] for row in rows) == {f"reminded-{n}": 1 for n in range(1, REMINDERS + 1)}


async def test_a_worker_killed_at_any_step_leaves_nothing_undone_and_nothing_done_twice(house: House) -> None:
    """For each task, one worker for each step at which to die; whichever leads dies, and the next one takes over."""
    doomed = {
        task: {step: house.process("worker", faults(death=death, tasks=[task])) for step, death in steps.items()}
        for task, steps in STEPS.items()
    }
    await together(
        {
            "holds lapse": holds_lapse(house, doomed["flash_sale.end_lapsed_holds"]),
            "sales are drawn": are_drawn(house, doomed["flash_sale.draw"]),
            "shoppers are reminded": are_reminded(house, doomed["flash_sale.remind"]),
        }
    )


async def test_a_listener_that_is_slow_holds_up_nobody_and_misses_nothing(house: House) -> None:
    seconds = 3.0
    for worker in house.workers:
        worker.kill()
    slow = house.process("worker", faults(slow={f"{SALES}.projection:count": seconds}))
    house.workers = [slow]

    async def has_begun(crowd: Crowd) -> None:
        async def is_behind() -> bool:
            return bool(await uncounted(house.database, crowd.sale.sale_id))

        await until("the listener is behind", is_behind)

    crowd = await withstands(house, "a slow listener of the outbox", has_begun)
    assert crowd.slowest_seconds < seconds, "shoppers waited for the listener"
    lines = [json.loads(line) for line in slow.log().splitlines() if line.startswith("{")]
    assert not [line for line in lines if line["event"] == "listener.failed"]
