"""The negative controls of the judge: a service that breaks a law is caught, by that law's name."""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest

from growth.load.arrivals import due_offsets, flat, total_seconds
from growth.load.crowd import LoadCrowd
from growth.load.engine import Engine
from growth.load.http_client import ServiceEndpoint
from growth.load.laws import Evidence, Law, judge, most_at_once
from growth.load.messages import Play, Played, SeenWin, Shares
from growth.load.recorder import Recorder
from growth.load.service import SalePlan, Service, ServiceTarget
from growth.load.tokens import bad_tokens, shopper_token
from tests.load.fake_service import JWT_SECRET, OPERATOR_KEY, SHOP_SECRET, FakeService, Lies

pytestmark = pytest.mark.anyio

UNITS, SHOPPERS, RATE = 40, 60, 500
BEFORE, AFTER = 0.25, 0.9


async def sale_by(service: FakeService, *, lose_claims: bool = False) -> list[Law]:
    """Play a small sale in this process and return the verdict."""
    target = ServiceTarget(
        base_url=service.url, operator_key=OPERATOR_KEY, jwt_secret=JWT_SECRET, shop_secret=SHOP_SECRET
    )
    now = datetime.now(UTC)
    users = [f"shopper.{number}" for number in range(SHOPPERS)]
    async with Service(target) as client:
        opens_in = 0.3 + BEFORE
        plan = SalePlan(title="Test", sku="test-1", units_total=UNITS)
        sale_id = await client.make_sale(plan, now + timedelta(seconds=opens_in))
        opens_at = monotonic() + opens_in - (time.time() - now.timestamp())
        play = Play(
            sale_id=sale_id,
            units_total=UNITS,
            max_per_shopper=1,
            opens_at=opens_at,
            early_by=0.01,
            start_at=opens_at - BEFORE,
            stretches=[flat(BEFORE + AFTER, RATE)],
            mix=Shares(page=0.1, retry=0.15, over_limit=0.1, bad_token=0.05),
        )
        seconds = total_seconds(play.stretches)
        crowd = LoadCrowd(
            play,
            ServiceEndpoint(service.url),
            Recorder(play.start_at, seconds),
            users,
            [shopper_token(JWT_SECRET, user, now) for user in users],
            bad_tokens(JWT_SECRET, now, 8),
            random.Random(1),
        )
        engine = Engine(ServiceEndpoint(service.url), 16, crowd)
        await engine.open()
        dues = due_offsets(play.stretches, random.Random(2))
        playing = asyncio.create_task(engine.play_open(dues, play.start_at, play.start_at + seconds))
        await asyncio.sleep(opens_at + AFTER / 2 - monotonic())
        paid, unapplied = await _pay_and_let_go(client, crowd, engine)
        kept_up = await playing
        await engine.close()
        if lose_claims:
            service.lose_claims()
        played = Played(
            offered=engine.offered,
            answered=engine.answered_count,
            answered_in_time=engine.answered_in_time,
            seconds=seconds,
            kept_up=kept_up,
            recording=crowd.recorder.recording(),
            wins=list(crowd.wins.values()),
            books=crowd.books,
            first_sold_out_at=crowd.first_sold_out_at,
            generator_cpu_seconds=0,
        )
        evidence = Evidence(
            play=play,
            played=played,
            paid_claims=paid,
            unapplied=unapplied,
            seen={win.claim_id: await client.claim(win) for win in played.wins},
            stats=await client.stats(sale_id),
            invariants=await client.invariants(),
        )
    return judge(evidence)


async def _pay_and_let_go(client: Service, crowd: LoadCrowd, engine: Engine) -> tuple[set[str], list[str]]:
    winners = list(crowd.wins.values())
    payers, leavers = winners[: len(winners) // 2], winners[len(winners) // 2 :]
    outcomes = await client.pay("test-1", payers) if payers else []
    engine.add(crowd.let_go([win.claim_id for win in leavers], monotonic(), 0.05))
    answered = list(zip(payers, outcomes, strict=True))
    paid = {win.claim_id for win, outcome in answered if outcome == "applied"}
    return paid, [outcome for _, outcome in answered if outcome != "applied"]


def broken(laws: list[Law]) -> set[str]:
    return {law.sentence for law in laws if law.held is False}


async def test_an_honest_service_breaks_no_law() -> None:
    async with FakeService() as service:
        laws = await sale_by(service)
    assert not broken(laws)
    assert all(law.held for law in laws)


@pytest.mark.parametrize(
    ("lies", "law"),
    [
        (Lies(oversells_by=1), "No unit was given twice"),
        (Lies(oversells_by=-1), "Every unit was won in the end"),
        (Lies(forgets_limit=True), "No shopper held more than 1"),
        (Lies(forgets_keys=True), "The same request again gave the same claim"),
        (Lies(refuses_replays=True), "The same request again gave the same claim"),
        (Lies(opens_early=True), "Nobody won before the opening"),
        (Lies(takes_any_token=True), "No bad token passed"),
        (Lies(loses_every_tenth=True), "No claim that was confirmed is lost"),
        (Lies(pays_nothing=True), "Every order that was paid was taken"),
        (Lies(stores_differ=True), "Redis and Postgres hold the same claims"),
        (Lies(invariant_broken=True), "Every invariant of the service holds"),
        (Lies(fails_every=50), "Every request had an answer that was no failure"),
    ],
)
async def test_a_service_that_breaks_a_law_is_caught(lies: Lies, law: str) -> None:
    async with FakeService(lies) as service:
        assert law in broken(await sale_by(service))


async def test_a_store_that_lost_everything_is_caught() -> None:
    async with FakeService() as service:
        laws = broken(await sale_by(service, lose_claims=True))
    assert {"No claim that was confirmed is lost", "The service's own books say the same"} <= laws


def test_units_given_back_may_be_held_by_the_next() -> None:
    wins = [SeenWin("a", "u", 0, 1, at=1.0, let_go_at=2.0), SeenWin("b", "v", 1, 1, at=2.0)]
    assert most_at_once(wins, lambda win: win.let_go_at) == 1
    assert most_at_once([*wins, SeenWin("c", "w", 2, 1, at=1.5)], lambda win: win.let_go_at) == 2
