"""Who has not shown who they are is counted by address: on every way in, and before anybody looks at their proof."""

from types import SimpleNamespace

import msgspec
import pytest
from structlog.testing import capture_logs

from growth.mechanics.flash_sale.claim.service import Claims
from growth.mechanics.flash_sale.model import Protection
from growth.plumbing.http import limits
from growth.vocabulary.clock import now
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Unavailable
from tests.abuse.attacked import BYPASSING, PLAIN, refused
from tests.app import RunningApp, running_app
from tests.shop.order import telling
from tests.world import a_draft

pytestmark = pytest.mark.anyio

PROXY = {"GROWTH_TRUSTED_PROXIES": "127.0.0.1/32"}
"""Where the test's own client calls from."""
FEW = {"GROWTH_ADDRESS_REQUESTS_PER_SECOND": "1", "GROWTH_ADDRESS_BURST": "4"}
GROUP = "2001:db8:1:2::"
NOBODYS = str(new_id(now()))


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as a process' own shares can tell: nobody is forgiven because this machine is slow."""
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: 1000.0))


def address(number: int, network: str = GROUP) -> dict[str, str]:
    return {"x-forwarded-for": f"{network}{number:x}"}


WRONG = {
    "a token": ("GET", "/v1/points", {"authorization": "Bearer x.y.z"}),
    "no token": ("GET", "/v1/points", {}),
    "two tokens": ("POST", "/v1/check-ins", {"authorization": "Bearer a"}),
    "an operator's key": ("GET", "/admin/v1/audit", {"authorization": "Bearer gop_" + "x" * 43}),
    "no operator's key": ("GET", "/admin/v1/claims", {}),
    "a hook's signature": (
        "POST",
        "/shop/v1/events",
        {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,eA==", "content-type": PLAIN},
    ),
    "no path": ("GET", "/wp-login.php", {}),
    "a claim": ("POST", f"/v1/flash-sales/{NOBODYS}/claims", {"authorization": "Bearer x", "content-type": PLAIN}),
    "a seat": ("POST", f"/v1/teams/{NOBODYS}/seats", {"authorization": "Bearer x", "content-type": PLAIN}),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_a_failed_proof_is_counted(
    postgres_dsn: str, redis_url: str, wrong: tuple[str, str, dict[str, str]]
) -> None:
    method, path, headers = wrong
    async with running_app(postgres_dsn, redis_url, **PROXY | FEW) as app:
        body = b"{}" if method == "POST" else None
        answers = [
            await app.client.request(method, path, content=body, headers=headers | address(number))
            for number in range(8)
        ]
        statuses = [answer.status_code for answer in answers]
        assert set(statuses[:4]) <= {401, 404}
        assert statuses[-1] == 429
        problem = refused(answers[-1], 429, code="request.too_many")
        assert problem["limit"] == "address"
        assert int(answers[-1].headers["retry-after"]) >= 1
        # Somebody with a good proof from there waits as long; from elsewhere nobody does.
        good = app.shopper_headers("alice")
        assert (await app.client.get("/v1/points", headers=good | address(99))).status_code == 429
        assert (await app.client.get("/v1/points", headers=good | address(1, "2001:db8:1:3::"))).status_code == 200
        assert (await app.client.get("/livez", headers=address(1))).status_code == 200


async def the_sale(app: RunningApp, claims_per_minute_per_address: int | None = None) -> str:
    protection = Protection(claims_per_minute_per_address=claims_per_minute_per_address)
    draft = a_draft(protection=protection)
    sale_id: str = (await app.operator("POST", "/admin/v1/flash-sales", msgspec.to_builtins(draft))).json()["sale_id"]
    assert (await app.operator("POST", f"/admin/v1/flash-sales/{sale_id}/publish")).status_code == 200
    return sale_id


@pytest.mark.parametrize("way", ["claim", "page of a sale", "tap", "events", "inviter"])
async def test_a_short_cut_does_not_pass_by_the_address(postgres_dsn: str, redis_url: str, way: str) -> None:
    settings = {"GROWTH_ADDRESS_REQUESTS_PER_SECOND": "1", "GROWTH_ADDRESS_BURST": "8"}
    async with running_app(postgres_dsn, redis_url, **PROXY | settings) as app:
        sale_id = await the_sale(app)
        asked = {
            "claim": ("POST", f"/v1/flash-sales/{sale_id}/claims", b"{}"),
            "page of a sale": ("GET", f"/v1/flash-sales/{sale_id}", None),
            "tap": ("POST", "/v1/check-ins", b""),
            "events": ("POST", "/v1/events", b'{"events":[]}'),
            "inviter": ("PUT", "/v1/referral/inviter", b'{"code":"ABCDEFGH"}'),
        }
        method, path, body = asked[way]
        statuses = []
        for number in range(20):
            headers = app.shopper_headers(f"u{number}") | address(number) | {"content-type": PLAIN}
            statuses.append((await app.client.request(method, path, content=body, headers=headers)).status_code)
        assert 429 not in statuses[:8]
        assert statuses.count(429) >= 9


@pytest.mark.parametrize("content_type", [PLAIN, BYPASSING], ids=["short cut", "bypassed"])
async def test_a_short_cut_does_not_pass_by_the_shopper(postgres_dsn: str, redis_url: str, content_type: str) -> None:
    settings = {"GROWTH_SHOPPER_REQUESTS_PER_SECOND": "1", "GROWTH_SHOPPER_BURST": "5"}
    async with running_app(postgres_dsn, redis_url, **settings) as app:
        sale_id = await the_sale(app)
        for user_id, path in (("ann", f"/v1/flash-sales/{sale_id}/claims"), ("bob", "/v1/check-ins")):
            headers = app.shopper_headers(user_id) | {"content-type": content_type}
            statuses = [(await app.client.post(path, content=b"{}", headers=headers)).status_code for _ in range(15)]
            assert 429 not in statuses[:5]
            assert statuses.count(429) >= 8


async def test_60_addresses_of_one_subscriber_are_one_in_a_sales_own_pace(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url, **PROXY) as app:
        sale_id = await the_sale(app, claims_per_minute_per_address=1)
        for content_type in (PLAIN, BYPASSING):
            statuses = []
            for number in range(30):
                headers = app.shopper_headers(f"u{len(content_type)}-{number}") | {"content-type": content_type}
                url = f"/v1/flash-sales/{sale_id}/claims"
                statuses.append(
                    (await app.client.post(url, content=b"{}", headers=headers | address(number))).status_code
                )
            assert statuses.count(201) <= 1, statuses


async def test_a_sales_pace_leaves_nothing_behind_in_redis(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url, **PROXY) as app:
        # A pace whose every attempt is due again at once, so that the test need not wait a minute.
        sale_id = await the_sale(app, claims_per_minute_per_address=6_000)
        headers = app.shopper_headers("one-token") | {"content-type": PLAIN}
        for number in range(300):
            from_there = {"x-forwarded-for": f"198.51.{number // 200}.{number % 200}"}
            await app.client.post(f"/v1/flash-sales/{sale_id}/claims", content=b"{}", headers=headers | from_there)
        (key,) = await app.growth.redis.keys("flash_sale:*:due")
        assert await app.growth.redis.zcard(key) < 100


async def test_a_proxy_that_does_not_say_for_whom_it_asks_is_not_taken_for_one_shopper(
    postgres_dsn: str, redis_url: str
) -> None:
    async with running_app(postgres_dsn, redis_url, **PROXY | FEW) as app:
        statuses = [(await app.shopper(f"u{number}", "GET", "/v1/points")).status_code for number in range(10)]
        assert statuses == [200] * 10


async def test_a_good_hook_is_counted_like_any_other(postgres_dsn: str, redis_url: str) -> None:
    async with running_app(postgres_dsn, redis_url, **FEW) as app:
        assert (await app.shop_tells(telling.registered("alice")))[0]["outcome"] == "applied"


async def test_a_claim_that_a_store_does_not_answer_is_logged_with_its_cause(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_app(postgres_dsn, redis_url) as app:
        sale_id = await the_sale(app)

        async def away(*_: object) -> None:
            raise Unavailable("Redis did not answer") from OSError("the line is cut")

        monkeypatch.setattr(app.growth.of(Claims), "claim", away)
        with capture_logs() as lines:
            answer = await app.shopper("alice", "POST", f"/v1/flash-sales/{sale_id}/claims", {})
        assert answer.status_code == 503
        (line,) = [one for one in lines if one["event"] == "request.failed"]
        assert "the line is cut" in line["trouble"]
