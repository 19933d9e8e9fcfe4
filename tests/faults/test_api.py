"""An api process killed at every step of a claim, of a give-back and of a payment; one that is asked to stop."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from growth.embedded import EmbeddedServers
from growth.mechanics.flash_sale.stock import Stock
from tests.app import PATIENT
from tests.faults import houses
from tests.faults.crowd import CLAIM, CREATED, GIVE_BACK, PAY, Crowd, Shares
from tests.faults.houses import House, Process, faults, until
from tests.faults.launcher import Death
from tests.faults.laws import Watch, judge
from tests.faults.story import MEASURED, together

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

CLAIMS = "growth.mechanics.flash_sale.claim.store"
PAYMENTS = "growth.mechanics.flash_sale.claim.settlement.store"
STOCK = "growth.mechanics.flash_sale.stock:Stock"
AFTER_COMMIT = "growth.plumbing.postgres.database:Tx.run_after_commit"

IN_FLIGHT = 100

# What is asked of the process that is to die, the step at which it dies, and where that is.
STEPS: dict[str, tuple[str, Death]] = {
    "admitted by Redis, not yet with Postgres": (CLAIM, Death(f"{STOCK}.claim", "after", nth=5)),
    "before the claims are written": (CLAIM, Death(f"{CLAIMS}:win", "before", nth=5)),
    "claims written, not committed": (CLAIM, Death(f"{CLAIMS}:win", "after", nth=5)),
    "claims committed, not answered": (CLAIM, Death(AFTER_COMMIT, "before", nth=5, armed_by=f"{CLAIMS}:win")),
    "in the middle of rebuilding Redis": (CLAIM, Death(f"{STOCK}.load", "before")),
    "given back, not committed": (GIVE_BACK, Death(f"{CLAIMS}:release", "after", nth=2)),
    "given back in Postgres, not in Redis": (
        GIVE_BACK,
        Death(f"{STOCK}.settle", "before", nth=2, armed_by=f"{CLAIMS}:release", with_work=True),
    ),
    "a payment noted, nothing else": (PAY, Death("growth.shop.order.store.orders:write", "after", nth=3)),
    "paid, not committed": (PAY, Death(f"{PAYMENTS}:pay", "after", nth=3)),
    "paid and committed, not answered": (PAY, Death(AFTER_COMMIT, "before", nth=3, armed_by=f"{PAYMENTS}:pay")),
    "paid late, units taken again, not committed": (PAY, Death(f"{PAYMENTS}:retake", "after", nth=2)),
    "paid late and committed, not in Redis": (PAY, Death(AFTER_COMMIT, "before", armed_by=f"{PAYMENTS}:retake")),
}


@pytest.fixture(scope="module")
async def house(anyio_backend: Any, mortal_servers: EmbeddedServers) -> AsyncIterator[House]:
    """One healthy api process and a worker. It rebuilds no sale ahead of need: processes that are to die do."""
    idle = faults(does_nothing=["growth.mechanics.flash_sale.claim.periodic:ClaimKeeper.load_ahead"])
    async with houses.house(mortal_servers, apis=[faults()], workers=[idle]) as house:
        yield house


async def survives(house: House, name: str, doomed: Process, asked: str) -> None:
    """A sale goes on over the death of the process that was asked first."""
    crowd = Crowd(
        house,
        # Who pays late finds units; where claims are what it is about, they run out.
        await house.put_sale(units_total=120 if asked == PAY else 50),
        shoppers=70,
        over_seconds=3.0,
        shares=Shares(leave=0.2),
        first={asked: doomed.address},
    )
    watch = Watch(house, crowd.sale.sale_id)
    async with crowd.shopping(), watch.watching():
        await doomed.died_as_planned()
        over_at = time.monotonic()
        served_seconds = await house.be_served(crowd.newcomer)
        await crowd.gone()
        await judge(house, crowd)
        MEASURED.append((f"api killed: {name}", served_seconds, watch.mended_seconds(over_at)))


async def test_an_api_process_killed_at_any_step_loses_no_claim_and_no_payment(house: House) -> None:
    doomed = {name: house.process("serve", faults(death=death)) for name, (_, death) in STEPS.items()}
    await house.ready(list(doomed.values()))
    await together(
        {name: survives(house, name, doomed[name], asked) for name, (asked, _) in STEPS.items()},
    )


async def test_an_api_process_asked_to_stop_answers_everything_under_way(house: House) -> None:
    # What is under way waits for Postgres for as long as it takes to ask this process to stop.
    leaving = house.process("serve", faults(), **PATIENT)
    await house.ready([leaving])
    sale = await house.put_sale(units_total=2 * IN_FLIGHT)
    crowd = Crowd(house, sale, shoppers=0)
    stock = Stock(house.redis)
    async with crowd.shopping():
        # By now its board knows the sale: it asks Postgres no more until claims are to be written.
        await until("the board knows the sale", lambda: crowd.is_shown_by(leaving.address))
        await crowd.ask_once(leaving.address, IN_FLIGHT)
        house.servers.postgres.freeze()
        try:
            asked = [asyncio.create_task(crowd.ask_once(leaving.address, n)) for n in range(IN_FLIGHT)]

            async def all_are_on_their_way() -> bool:
                return (await stock.glance(sale.sale_id, 0)).taken == 1 + IN_FLIGHT

            await until("all claims are on their way to Postgres", all_are_on_their_way)
            leaving.ask_to_stop()

            async def takes_no_more() -> bool:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", leaving.port)
                except ConnectionRefusedError:
                    return True
                writer.close()
                return False

            await until("no new connection is taken", takes_no_more)
        finally:
            house.servers.postgres.thaw()
        answers = await asyncio.gather(*asked)
        assert [answer.status for answer in answers] == [CREATED] * IN_FLIGHT
        assert await leaving.ended() == 0, leaving.log_tail()
        await judge(house, crowd)


async def test_an_api_process_under_load_is_replaced_without_a_loss(house: House) -> None:
    (leaving,) = house.add_apis(faults())
    await house.ready()
    crowd = Crowd(house, await house.put_sale(), first={CLAIM: leaving.address, PAY: leaving.address})
    async with crowd.shopping():
        await crowd.has_won(25)
        house.apis.remove(leaving)
        leaving.ask_to_stop()
        assert await leaving.ended() == 0, leaving.log_tail()
        await crowd.gone()
        await judge(house, crowd)


@pytest.mark.parametrize("kind", ["serve", "worker"])
async def test_a_connection_that_breaks_while_written_to_does_not_end_the_process(house: House, kind: str) -> None:
    process = (house.apis if kind == "serve" else house.workers)[0]
    process.process.send_signal(signal.SIGPIPE)
    async with aiohttp.ClientSession() as session:
        for api in house.apis:
            async with session.get(f"{api.address}/livez") as answer:
                assert answer.status == 200
    assert process.running
