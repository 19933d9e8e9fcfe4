"""What a crowd sends in all the wrong places is written down nowhere."""

import re
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from growth.plumbing.http.signatures import sign
from growth.plumbing.watch import telemetry
from growth.rewards.withdrawal.service import Withdrawals
from growth.vocabulary.clock import now
from tests.abuse.attacked import PROBLEM, VICTIM, Attacked, Call
from tests.app import ENVIRONMENT
from tests.one_of_each import ACCOUNT
from tests.shop.order.telling import SECRET

pytestmark = pytest.mark.anyio


AS_WRITTEN: list[Any] = [structlog.processors.format_exc_info, telemetry._hide_secrets]


def secrets(house: Attacked) -> list[str]:
    """What nobody may find in a log: credentials of every kind, codes, and where somebody's money goes."""
    credentials = [house.token(VICTIM), house.admin, SECRET, ENVIRONMENT["GROWTH_JWT_SECRET"]]
    return [*credentials, house.there.code, ACCOUNT]


async def test_secrets_in_all_the_wrong_places_are_not_written_down(
    attacked_house: Attacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What an admin's key opens is done: afterwards the house is another.
    house = attacked_house
    # Every request is slow, so each is told of.
    monkeypatch.setattr(telemetry, "SLOW_SECONDS", -1.0)
    monkeypatch.setattr(telemetry, "MAX_LINES_PER_SECOND", 1_000_000)
    hidden = secrets(house)
    with capture_logs(AS_WRITTEN) as lines:
        for number, call in enumerate(house.calls):
            await _everywhere(house, call, hidden, hidden[number % len(hidden)])
        for secret in hidden:
            await _in_headers_and_hooks(house, secret)
    assert len(lines) > 2 * len(house.calls)
    written = str(lines)
    for secret in hidden:
        assert secret not in written, secret[:12]


async def _everywhere(house: Attacked, call: Call, hidden: list[str], as_token: str) -> None:
    every = " ".join(hidden)
    how: dict[str, Any] = {"token": house.credential(call), "headers": [(b"cookie", b"session=" + every.encode())]}
    await house.ask_call(call, token=as_token)
    if "requestBody" in call.operation:
        await house.ask_call(call, **how, content=msgspec.json.encode({"code": every, every: every}))
    elif call.method == "GET":
        await house.ask("GET", f"{house.url(call)}?cursor={quote(every)}&key={quote(every)}", **how)
    if "{" in call.path and as_token.startswith(("eyJ", "gop_", "whsec_")):
        await house.ask(call.method, re.sub(r"\{\w+\}", quote(as_token, safe=""), call.path), token=as_token)


async def _in_headers_and_hooks(house: Attacked, secret: str) -> None:
    raw = secret.encode()
    headers = [(b"idempotency-key", raw), (b"x-request-id", raw), (b"if-match", raw), (b"user-agent", raw)]
    await house.ask("POST", f"/v1/flash-sales/{house.ids['later_sale_id']}/claims", content=b"{}", headers=headers)
    signed = sign(SECRET, "one", now(), b"[]")
    await house.hook(b"[]", webhook_signature=f"v1,{secret}", webhook_id=signed["webhook-id"])
    await house.hook(msgspec.json.encode([{"id": secret, "type": secret, "data": {secret: secret}}]))


async def test_a_bug_tells_its_trace_and_no_secret(attacked_house: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    house = attacked_house

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"no luck with Bearer {house.admin} and {SECRET}")

    monkeypatch.setattr(type(house.app.growth.of(Withdrawals)), "payee", broken)
    with capture_logs(AS_WRITTEN) as lines:
        answer = await house.ask("GET", "/v1/payee", token=house.token())
    assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
    assert "no luck" not in answer.text
    assert house.leaks(str(lines)) == []
    assert lines
