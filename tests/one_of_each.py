"""A house with one of everything in it, made over HTTP: something for each id that a path can name."""

import re
from datetime import timedelta
from typing import Any

from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now, rfc3339
from tests.app import JSON, RunningApp
from tests.shop.order import telling

OK = (200, 201)
ACCOUNT = "6222020200112233445"
"""Where the owner's money goes."""

ENVIRONMENT = {"GROWTH_WEBHOOK_ALLOWED_HOSTS": "127.0.0.1"}
"""Settings that it needs: its endpoint is a port here at which nobody answers."""

IDS_OF = {"check-in-programs": "checkin_program_id", "referral-programs": "referral_program_id"}
"""Where two rooms have the same word for the ids of theirs: the path's word before it tells which."""


class Everything:
    """One of everything, each belonging to `owner` where it belongs to a shopper."""

    def __init__(self, app: RunningApp, owner: str, friend: str, title: str = "Tea") -> None:
        self.app, self.owner, self.friend, self.title = app, owner, friend, title
        self.ids: dict[str, str] = {"user_id": owner, "currency": "points"}
        self.code = self.referral_code = ""

    def id_of(self, path: str, name: str) -> str:
        """Return the id that stands for `{name}` in this path."""
        before = re.search(rf"([a-z-]+)/\{{{name}\}}", path)
        return self.ids[IDS_OF.get(before[1] if before else "", name)]

    def url(self, path: str, **ids: str) -> str:
        """Return a path with the ids of what is really there."""
        return re.sub(r"\{(\w+)\}", lambda match: ids.get(match[1]) or self.id_of(path, match[1]), path)

    async def put(self) -> None:
        """Make it all."""
        await self._campaigns()
        await self._held()
        await self._coupons()
        await self._money()
        await self._dead_letter()

    async def published(self, room: str, draft: JSON, query: str = "") -> str:
        """Make a campaign and publish it; return its id."""
        made = await self._does("POST", f"/admin/v1/{room}", draft)
        (made_id,) = [made[name] for name in _CAMPAIGN_IDS if name in made and name != "series_id"]
        await self._does("POST", f"/admin/v1/{room}/{made_id}/publish{query}")
        return str(made_id)

    async def _campaigns(self) -> None:
        opens_at = now() - timedelta(minutes=1)
        times = {"opens_at": rfc3339(opens_at), "closes_at": rfc3339(opens_at + timedelta(days=2))}
        later = {"opens_at": rfc3339(opens_at + timedelta(hours=9)), "closes_at": times["closes_at"]}
        sold = {"title": self.title, "sku": "tea", "price_fen": 5000, "list_price_fen": 9900, "units_total": 300}
        self.ids["sale_id"] = await self.published("flash-sales", sold | times)
        self.ids["later_sale_id"] = await self.published("flash-sales", sold | later | {"sku": "later"})
        self.ids["group_buy_id"] = await self.published("group-buys", sold | times | {"team_size": 3})
        series = await self._does("POST", "/admin/v1/flash-sale-series", _series(sold | {"sku": "noon"}))
        self.ids["series_id"] = series["series_id"]
        task = {"title": self.title, "event_type": "product.viewed", "reward": [{"type": "points", "points": 10}]}
        self.ids["task_id"] = await self.published("tasks", task | times)
        checkin = {"title": self.title, "from_day": str(self.app.growth.of(Almanacs).zone.day(now()))}
        self.ids["checkin_program_id"] = await self.published("check-in-programs", checkin)
        referral = {
            "title": self.title,
            "level_1": {"type": "percent", "basis_points": 1000},
            "inviter_rewards": [{"type": "points", "points": 100}],
        }
        referral_id = await self.published("referral-programs", referral, "?accept_warnings=true")
        self.ids["referral_program_id"] = referral_id
        hook = {"url": "http://127.0.0.1:9/growth", "event_types": ["*"]}
        self.ids["endpoint_id"] = (await self._does("POST", "/admin/v1/webhooks", hook))["endpoint_id"]

    async def _held(self) -> None:
        sale, group_buy = self.ids["sale_id"], self.ids["group_buy_id"]
        claim = await self._asks("POST", f"/v1/flash-sales/{sale}/claims", {}, idempotency_key="victims-key")
        team = await self._asks("POST", f"/v1/group-buys/{group_buy}/teams", {"nickname": self.title})
        self.ids["claim_id"] = claim["claim_id"]
        self.ids["team_id"], self.ids["seat_id"] = team["team"]["team_id"], team["seat"]["seat_id"]
        await self._asks("POST", "/v1/check-ins")

    async def _coupons(self) -> None:
        draft = {
            "title": self.title,
            "discount": {"type": "fixed", "off_fen": 1000},
            "threshold_fen": 3000,
            "validity": {"type": "days", "days": 30},
            "units_total": 1000,
            "claimable": True,
        }
        template_id = self.ids["template_id"] = await self.published("coupon-templates", draft)
        batches = f"/admin/v1/coupon-templates/{template_id}/code-batches"
        made = await self._does("POST", batches, {"name": self.title, "codes": 5})
        self.ids["batch_id"], self.code = made["batch"]["batch_id"], made["codes"][0]
        coupon = await self._asks("POST", f"/v1/coupon-templates/{template_id}/coupons")
        self.ids["coupon_id"] = coupon["coupon_id"]

    async def _money(self) -> None:
        self.referral_code = (await self._asks("GET", "/v1/referral"))["code"]
        bound = await self.app.shopper(
            self.friend, "PUT", "/v1/referral/inviter", {"code": self.referral_code, "nickname": self.title}
        )
        assert bound.status_code in OK, bound.text
        relations = await self.app.operator("GET", "/admin/v1/referral-relations")
        self.ids["relation_id"] = relations.json()["items"][0]["relation_id"]
        line = telling.line("1", units=1, amount_fen=50_000)
        paid = telling.paid("order-of-friend", line, user_id=self.friend, paid_fen=50_000)
        paid["data"]["paid_at"] = now().isoformat()
        results = await self.app.shop_tells(paid)
        assert {one["outcome"] for one in results} == {"applied"}, results
        commissions = await self.app.operator("GET", "/admin/v1/commissions")
        self.ids["commission_id"] = commissions.json()["items"][0]["commission_id"]
        gift = {"reward": {"type": "commission", "amount_fen": 50_000}, "reason": self.title}
        grant = await self._does("POST", f"/admin/v1/shoppers/{self.owner}/grants", gift)
        self.ids["grant_id"] = grant["grant_id"]
        await self._asks("PUT", "/v1/payee", {"kind": "alipay", "account": ACCOUNT, "name": self.title})
        withdrawal = await self._asks("POST", "/v1/withdrawals", {"amount_fen": 1000})
        self.ids["withdrawal_id"] = withdrawal["withdrawal_id"]

    async def _dead_letter(self) -> None:
        """An event of a release to come, which no reader here could read."""
        letter = await self.app.growth.database.fetchval(
            """
            INSERT INTO plumbing.dead_letters (
                subscription, log, xid, position, event_id, type, subject, at, data, reason, error, parked_at, tried_at
            )
            VALUES ('checkin.tally', 'plumbing.outbox', '1', 1, 'e', 'tea.served', 'tea', now(), '{}', 'unread',
                    'UnknownEvent', now(), now())
            RETURNING letter
            """
        )
        self.ids["letter"] = str(letter)

    async def _asks(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        answer = await self.app.shopper(self.owner, method, path, body, **headers)
        assert answer.status_code in OK, (path, answer.text)
        return answer.json()

    async def _does(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.app.operator(method, path, body, role=Role.ADMIN)
        assert answer.status_code in OK, (path, answer.text)
        return answer.json()


_CAMPAIGN_IDS = ("sale_id", "group_buy_id", "program_id", "task_id", "template_id", "series_id")


def _series(item: JSON) -> JSON:
    times = {"zone": "Asia/Shanghai", "days_of_week": ["mon"], "start_time": "12:00", "duration_minutes": 30}
    return {"title": "Noon", "items": [item], "from_day": "2026-11-23", **times}
