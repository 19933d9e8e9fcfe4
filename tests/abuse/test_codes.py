"""Codes cannot be found by trying: what is no good is answered alike, and who tries often waits."""

import pytest

from tests import one_of_each as everything
from tests.abuse.attacked import refused
from tests.app import RunningApp, running_app
from tests.one_of_each import Everything

pytestmark = pytest.mark.anyio

TRIES = 40


async def tries(app: RunningApp, user_id: str, path: str, codes: list[str]) -> list[tuple[int, str]]:
    """What a shopper is told who tries these codes one after the other."""
    found = []
    for code in codes:
        method = "POST" if path.endswith("redeem") else "PUT"
        answer = await app.shopper(user_id, method, path, {"code": code})
        problem = refused(answer, 400, 404, 409, 429)
        found.append((answer.status_code, problem["code"] + problem.get("detail", "") + problem["title"]))
    return found


async def test_a_coupon_code_that_was_used_or_revoked_is_told_as_one_that_never_was(
    postgres_dsn: str, redis_url: str
) -> None:
    async with running_app(postgres_dsn, redis_url, **everything.ENVIRONMENT) as app:
        there = Everything(app, "victim", "friend")
        await there.put()
        batches = f"/admin/v1/coupon-templates/{there.ids['template_id']}/code-batches"
        revoked = (await app.operator("POST", batches, {"name": "Gone", "codes": 1})).json()
        gone = await app.operator(
            "POST", f"/admin/v1/code-batches/{revoked['batch']['batch_id']}/revoke", {"reason": "lost"}
        )
        assert gone.status_code == 200, gone.text
        assert (await app.shopper("finder", "POST", "/v1/coupons/redeem", {"code": there.code})).status_code == 200
        codes = [there.code, revoked["codes"][0], "KDWV-02CD-F9TC-0000", "x", "' OR 1=1 --", "{a}:*", "张三"]
        told = await tries(app, "attacker", "/v1/coupons/redeem", codes)
        assert [status for status, _ in told] == [404] * len(codes)
        assert len(set(told)) == 1, told


@pytest.mark.parametrize("path", ["/v1/coupons/redeem", "/v1/referral/inviter"])
async def test_who_tries_codes_is_told_to_wait(postgres_dsn: str, redis_url: str, path: str) -> None:
    async with running_app(postgres_dsn, redis_url, **everything.ENVIRONMENT) as app:
        await Everything(app, "victim", "friend").put()
        told = await tries(app, "attacker", path, [f"ABCDEFGH{number:04}"[:13] for number in range(TRIES)])
        statuses = [status for status, _ in told]
        assert statuses[0] == 404
        assert statuses.count(429) >= TRIES // 2
        # Somebody else is not held up by it.
        assert (await tries(app, "another", path, ["ABCDEFGH9999"]))[0][0] == 404
