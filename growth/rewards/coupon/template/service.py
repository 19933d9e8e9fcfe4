"""What operators do with templates. Each write is one transaction with its audit entry."""

from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from growth.kit.campaign.audience import Audiences
from growth.kit.campaign.service import Campaigns
from growth.plumbing.field_errors import FieldError
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch.audit import Act
from growth.rewards.coupon.template import model, store
from growth.rewards.coupon.template.model import (
    TEMPLATES,
    CouponDraft,
    CouponTemplate,
    FixedOff,
    TakenSoFar,
    refusal_of,
    term_of,
)
from growth.vocabulary.alike import alike
from growth.vocabulary.refusals import Kind


class CouponDryRun(Struct, frozen=True, kw_only=True):
    """What taking a coupon would get, without doing it."""

    would: Literal["take", "refuse"]
    code: str | None
    because: str
    at: datetime
    state: model.PageState
    units_left: int
    taken_by_shopper: int
    valid_from: datetime | None = None
    """Of the coupon that would be issued then; null if it would be over already."""
    valid_until: datetime | None = None
    would_be_granted: bool
    """Whether a campaign that grants one then would get it; limits and window aside."""


class CouponStats(Struct, frozen=True, kw_only=True):
    """Coupons of one template in numbers, as they stand."""

    template_id: str
    state: model.PageState
    units_total: int
    units_left: int
    codes_left: int
    """Units kept for printed codes that nobody has redeemed yet."""
    issued: int
    """Coupons there ever were: the sum of the five below."""
    outstanding: int
    """Unused, in shoppers' hands."""
    locked: int
    used: int
    expired: int
    voided: int
    use_rate: float | None
    """Used among issued, 0 to 1, three digits; null before any was issued."""
    paid_fen: int
    """Paid for the lines that coupons were used on, after the discount."""
    outstanding_max_fen: int | None
    """What outstanding and locked coupons can take off at most; null where a share is taken off without a bound."""
    discount_max_fen: int | None
    """What used coupons took off at most; the shop alone knows exactly. Null as above."""
    server_time: datetime


class Templates(Campaigns[CouponDraft, CouponTemplate]):
    """The operators' side of coupons."""

    kind = TEMPLATES

    def __init__(self, database: Database, zone: ZoneInfo, audiences: Audiences) -> None:
        super().__init__(database)
        self._zone = zone
        self._audiences = audiences

    def late(self, draft: CouponDraft, now: datetime) -> FieldError | None:
        """Say that coupons would be over already."""
        return FieldError("validity", "Its dates are over; change validity first.") if not term_of(draft, now) else None

    async def before_change(self, _tx: Tx, _act: Act, before: CouponTemplate, draft: CouponDraft) -> None:
        """Keep what was promised, and the quota above what is given."""
        model.check_edit(before, draft)

    async def dry_run(self, template_id: str, user_id: str, at: datetime) -> CouponDryRun:
        """Say what taking one at `at` would get, with today's quota, and why; nothing is changed."""
        user_id = await self._database.people.today(self._database, user_id)
        template = await self.find(template_id)
        day = at.astimezone(self._zone).date()
        standing = (await store.standings(self._database, [template_id], user_id, day)).get(template_id, TakenSoFar())
        standing = msgspec.structs.replace(
            standing, missed=await self._audiences.missed(self._database, template.audience, user_id)
        )
        kind = refusal_of(template, standing, at, day)
        term = term_of(template, at)
        return alike(
            CouponDryRun,
            template,
            term,
            would="refuse" if kind else "take",
            code=None if kind is None else kind.code,
            because=_because(template, standing, kind),
            at=at,
            state=model.page_state(template, at),
            taken_by_shopper=standing.taken,
            would_be_granted=template.state == "published" and template.units_left > 0 and term is not None,
        )

    async def stats(self, template_id: str, now: datetime) -> CouponStats:
        """Return a template's coupons in numbers."""
        template = await self.find(template_id)
        counts = await store.count_coupons(self._database, template_id)

        def count(state: str) -> int:
            return counts.get(state, (0, 0))[0]

        issued = sum(number for number, _ in counts.values())
        each_fen = _max_off_fen(template)
        return alike(
            CouponStats,
            template,
            state=model.page_state(template, now),
            issued=issued,
            outstanding=count("issued"),
            locked=count("locked"),
            used=count("used"),
            expired=count("expired"),
            voided=count("voided"),
            use_rate=round(count("used") / issued, 3) if issued else None,
            paid_fen=counts.get("used", (0, 0))[1],
            outstanding_max_fen=None if each_fen is None else each_fen * (count("issued") + count("locked")),
            discount_max_fen=None if each_fen is None else each_fen * count("used"),
            server_time=now,
        )


def _max_off_fen(template: CouponTemplate) -> int | None:
    discount = template.discount
    return discount.off_fen if isinstance(discount, FixedOff) else discount.max_off_fen


def _because(template: CouponTemplate, standing: TakenSoFar, kind: Kind | None) -> str:
    why = "A coupon would be issued." if kind is None else kind.title
    why += "" if standing.missed is None else f" The shopper does not meet {standing.missed}."
    return (
        f"{why} {template.units_left} of {template.units_total} units are left; "
        f"the shopper took {standing.taken} of {template.max_per_shopper} allowed."
    )
