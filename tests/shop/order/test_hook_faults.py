"""When something fails under a hook, nothing acknowledged is lost and the shop is asked to deliver again."""

from collections.abc import Sequence

import pytest

from growth.plumbing.postgres.database import CommitUnknown, Database, Tx, connect_postgres
from growth.shop.order import service as shop_service
from growth.shop.order.service import ShopService
from growth.vocabulary.orders import LineOutcome, Order
from growth.vocabulary.refusals import Kind, Refusal, Unavailable
from tests.plumbing.postgres_proxy import PostgresProxy
from tests.shop.order.hooking import Shop, refused
from tests.shop.order.telling import SECRET, Recorder, closed, paid, raw_of, stored, tell

pytestmark = pytest.mark.anyio


async def test_while_postgres_is_gone_the_shop_is_asked_to_come_back(shop: Shop, recorder: Recorder) -> None:
    is_gone = True

    async def settle(_tx: Tx, order: Order) -> Sequence[LineOutcome]:
        if order.order_id == "o2" and is_gone:
            raise Unavailable("Postgres did not answer", retry_after_seconds=3)
        return ()

    recorder.settle_by = settle
    told = [closed("o1"), closed("o2"), closed("o3")]
    response = await shop.send(raw_of(*told))
    refused(response, 503, "unavailable")
    assert response.headers["retry-after"] == "3"
    is_gone = False
    assert [one["outcome"] for one in await shop.tells(*told)] == ["applied", "applied", "applied"]


async def test_a_connection_cut_within_an_event_is_mended_by_delivering_again(
    shop: Shop, recorder: Recorder, database: Database
) -> None:
    cuts = 1

    async def settle(tx: Tx, order: Order) -> Sequence[LineOutcome]:
        nonlocal cuts
        if order.order_id == "o2" and cuts:
            cuts -= 1
            await database.fetchval("SELECT pg_terminate_backend($1)", await tx.fetchval("SELECT pg_backend_pid()"))
        await tx.fetchval("SELECT 1")
        return ()

    recorder.settle_by = settle
    told = [paid("o1"), paid("o2")]
    refused(await shop.send(raw_of(*told)), 503, "unavailable")
    assert [row[0] for row in (await stored(database))["orders"]] == ["o1"]
    assert [one["outcome"] for one in await shop.tells(*told)] == ["duplicate", "applied"]


@pytest.mark.parametrize(("cut", "again"), [("cut_after_commit", "duplicate"), ("cut_before_commit", "applied")])
async def test_a_connection_cut_at_commit_is_mended_by_delivering_again(
    postgres_dsn: str, recorder: Recorder, cut: str, again: str
) -> None:
    async with PostgresProxy(postgres_dsn) as proxy:
        database = await connect_postgres(proxy.dsn, max_connections=2, acquire_seconds=60, statement_seconds=60)
        service = ShopService(database, [recorder], [SECRET])
        setattr(proxy, cut, True)
        with pytest.raises(CommitUnknown):
            await tell(service, paid())
        setattr(proxy, cut, False)
        (result,) = await tell(service, paid())
        assert result.outcome == again
        await database.close()


@pytest.mark.parametrize("bug", [LookupError("x"), Refusal(Kind("coupon.used", "No"))])
async def test_a_bug_that_one_event_meets_does_not_keep_its_neighbours(
    shop: Shop, database: Database, recorder: Recorder, bug: Exception
) -> None:
    async def settle(_tx: Tx, order: Order) -> Sequence[LineOutcome]:
        if order.order_id == "o1":
            raise bug
        return ()

    recorder.settle_by = settle
    refused(await shop.send(raw_of(closed("o1"), closed("o2"))), 500, "internal")
    assert [row[0] for row in (await stored(database))["orders"]] == ["o2"]


async def test_a_crowd_of_hooks_is_asked_to_come_back_rather_than_kept(
    shop: Shop, database: Database, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop_service, "MAX_QUEUE_EVENTS", 2)
    service = ShopService(database, [recorder], [SECRET])
    shop = shop.beside(service)
    refused(await shop.send(raw_of(closed("o1"), closed("o2"), closed("o3"))), 503, "unavailable")
    await service.drain()
    response = await shop.send(raw_of(closed("o1"), closed("o2")))
    assert response.status_code == 200, response.text


async def test_no_secret_reaches_the_log_or_the_answer(
    shop: Shop, capsys: pytest.CaptureFixture[str], recorder: Recorder
) -> None:
    async def stumble(_tx: Tx, _order: Order) -> Sequence[LineOutcome]:
        raise LookupError

    recorder.settle_by = stumble
    response = await shop.send(raw_of(paid(id_="told")))
    captured = capsys.readouterr()
    shown = response.text + captured.out + captured.err
    assert "told" in shown
    assert SECRET not in shown
    assert SECRET.removeprefix("whsec_") not in shown
