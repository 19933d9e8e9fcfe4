"""Journeys for Locust, for teams that use it: what shoppers do in a shop, with pauses. `growth load spike` hits harder.

    scripts/locust --headless --users 50 --spawn-rate 10 --run-time 1m

Locust is no part of the image: `pip install growth[locust]`. Each user of Locust is a shopper nobody has seen before.
"""

import itertools
import os
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from locust import HttpUser, between, task

from growth.load.service import ServiceTarget, read_dev_json
from growth.load.tokens import hook_headers, shopper_token
from growth.vocabulary.clock import rfc3339

OK, CREATED, ACCEPTED = 200, 201, 202
EXPECTED_NO = (409, 429)
"""Sold out, one per shopper, full, too many at once: answers that shops live with. Anything else is a failure."""
PAUSE_SECONDS = (0.5, 2.0)
EVENTS_A_BATCH = 10
PAYS = 0.8
"""Of those who won a claim."""


def target() -> ServiceTarget:
    """Return what the environment names (BASE_URL, JWT_SECRET, SHOP_SECRET), or `growth dev` (DEV_JSON, `.growth`)."""
    names = ("base_url", "jwt_secret", "shop_secret", "jwt_issuer", "jwt_audience")
    said = {name: os.environ.get(name.upper(), "") for name in names}
    if not said["base_url"]:
        said = read_dev_json(Path(os.environ.get("DEV_JSON", ".growth")))
    return msgspec.convert({"operator_key": "", **said}, ServiceTarget)


TARGET = target()


class LocustShopper(HttpUser):
    """One shopper: looks, claims, pays, checks in, buys with others; and a client that tells what was looked at."""

    host = TARGET.base_url
    wait_time = between(*PAUSE_SECONDS)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.user_id = f"locust-{uuid.uuid4().hex}"
        now, said = datetime.now(UTC), TARGET
        token = shopper_token(said.jwt_secret, self.user_id, now, said.jwt_issuer, said.jwt_audience)
        self.client.headers["authorization"] = f"Bearer {token.decode()}"
        self.told = itertools.count(1)

    @task(6)
    def buy_in_a_sale(self) -> None:
        """Browse sales, claim in one that is open, and have the shop tell that it was paid."""
        sale = self._pick("/v1/flash-sales?limit=20")
        if sale is None:
            return
        with self._asking("GET", f"/v1/flash-sales/{sale['sale_id']}", "/v1/flash-sales/{sale_id}", OK):
            pass
        path = f"/v1/flash-sales/{sale['sale_id']}/claims"
        with self._asking("POST", path, "/v1/flash-sales/{sale_id}/claims", CREATED, {"units": 1}) as claim:
            pass
        if claim and random.random() < PAYS:
            self._pay(claim)

    @task(2)
    def check_in(self) -> None:
        """Check in, and look at the month."""
        with self._asking("POST", "/v1/check-ins", "/v1/check-ins", CREATED, also=OK):
            pass
        with self._asking("GET", "/v1/check-ins", "/v1/check-ins", OK):
            pass

    @task(2)
    def buy_with_others(self) -> None:
        """Join a team that lacks somebody; open one if none does."""
        campaign = self._pick("/v1/group-buys?limit=20")
        if campaign is None:
            return
        path, name = f"/v1/group-buys/{campaign['group_buy_id']}/teams", "/v1/group-buys/{group_buy_id}/teams"
        with self._asking("GET", path, name, OK) as teams:
            pass
        if teams and teams["items"]:
            team_id = random.choice(teams["items"])["team_id"]
            with self._asking("POST", f"/v1/teams/{team_id}/seats", "/v1/teams/{team_id}/seats", CREATED, {}):
                pass
        else:
            with self._asking("POST", path, name, CREATED, {"nickname": "Locust"}):
                pass

    @task(4)
    def tell_events(self) -> None:
        """Tell what was looked at, as clients do: a batch at a time."""
        at = rfc3339(datetime.now(UTC))
        events = [
            {"id": f"{next(self.told)}", "type": "product.viewed", "at": at, "data": {"sku": f"sku-{n}"}}
            for n in range(EVENTS_A_BATCH)
        ]
        with self._asking("POST", "/v1/events", "/v1/events", ACCEPTED, {"events": events}) as said:
            if said and said["rejected"]:
                raise AssertionError(f"rejected: {said['rejected'][0]}")

    def _pick(self, path: str) -> Any:
        """Return one of a list that is open now."""
        with self._asking("GET", path, path, OK) as page:
            found = [one for one in page["items"] if one["state"] == "open"] if page else []
        return random.choice(found) if found else None

    def _pay(self, claim: Any) -> None:
        now, fen = datetime.now(UTC), claim["price_fen"] * claim["units"]
        line = {"line_id": "1", "sku": claim["sku"], "units": claim["units"], "amount_fen": fen}
        paid = {
            "specversion": "1.0",
            "id": f"paid-{claim['claim_id']}",
            "source": "growth/locust",
            "type": "order.paid",
            "time": rfc3339(now),
            "data": {
                "order_id": f"locust-{claim['claim_id']}",
                "user_id": self.user_id,
                "paid_at": rfc3339(now),
                "paid_fen": fen,
                "lines": [line | {"claim_id": claim["claim_id"]}],
            },
        }
        body = msgspec.json.encode([paid])
        headers = hook_headers(TARGET.shop_secret, f"hook-{claim['claim_id']}", now, body)
        with self.client.post("/shop/v1/events", data=body, headers=headers, catch_response=True) as answer:
            if answer.status_code != OK or answer.json()["results"][0]["outcome"] != "applied":
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")

    @contextmanager
    def _asking(
        self, method: str, path: str, name: str, expected: int, body: Any = None, *, also: int | None = None
    ) -> Iterator[Any]:
        """Ask, and give what was answered; None for a no that was to be expected."""
        headers = {"idempotency-key": uuid.uuid4().hex} if method == "POST" and path != "/v1/events" else {}
        asked = self.client.request(method, path, name=name, json=body, headers=headers, catch_response=True)
        with asked as answer:
            if answer.status_code in (expected, also):
                try:
                    yield answer.json()
                except AssertionError as error:
                    answer.failure(str(error))
            else:
                if answer.status_code in EXPECTED_NO:
                    answer.success()
                else:
                    answer.failure(f"{answer.status_code}: {answer.text[:200]}")
                yield None
