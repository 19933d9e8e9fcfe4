"""Coupons as other rooms of the house give and take them back; and as their shoppers and operators see them."""

from collections.abc import Sequence
from datetime import datetime

from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.coupon.model import (
    COUPON_NOT_FOUND,
    NOT_VOIDABLE,
    Coupon,
    CouponFilter,
    CouponPage,
    Issue,
    Issued,
    Source,
    Voided,
    show,
)
from growth.rewards.coupon.store import coupons as store
from growth.rewards.coupon.store import listing
from growth.rewards.coupon.store.coupons import Row
from growth.rewards.coupon.template import store as templates_store
from growth.rewards.coupon.template.model import term_of
from growth.vocabulary.alike import alike
from growth.vocabulary.events.coupon import CouponIssued, CouponVoided
from growth.vocabulary.refusals import Refusal

MAX_ISSUES_AT_ONCE = 1_000
"""What one transaction holds the templates locked for."""


async def issue(tx: Tx, issues: Sequence[Issue], now: datetime) -> list[Issued]:
    """Issue coupons for campaigns, each once; say what became of each, in order. Three statements however many.

    The templates stay locked until `tx` ends, so issue last. Whether shoppers may take it, its window and their limits
    are not asked; the quota is, in the order of `issues`.
    """
    if not issues:
        return []
    assert len(issues) <= MAX_ISSUES_AT_ONCE
    templates = await templates_store.lock_templates(tx, sorted({one.template_id for one in issues}))
    terms = {
        template_id: term_of(template, now)
        for template_id, template in templates.items()
        if template.state == "published"
    }
    rows: dict[str, Row] = {}
    for place, one in enumerate(issues):
        rows.setdefault(one.coupon_id, store.row_of(one, place, terms.get(one.template_id)))
    outcomes = await store.issue(tx, list(rows.values()), "granted", now)
    await emit(tx, *[told_issued(row, "granted", now) for row in rows.values() if outcomes[row.coupon_id] == "issued"])
    return [
        # Named twice in one call: the second is answered as a second call would be.
        Issued(one.coupon_id, "already")
        if outcomes[one.coupon_id] == "issued" and rows[one.coupon_id].place != place
        else Issued(one.coupon_id, outcomes[one.coupon_id])
        for place, one in enumerate(issues)
    ]


def told_issued(row: Row, source: Source, now: datetime) -> CouponIssued:
    """Tell that a coupon was issued."""
    assert row.may, "of one that is only asked for nothing is told"
    return alike(CouponIssued, row, at=now, source=source)


async def templates_gone(reader: Reader, template_ids: Sequence[str]) -> frozenset[str]:
    """Return those of `template_ids` that are not there, or have ended: a campaign cannot promise their coupons."""
    if not template_ids:
        return frozenset()
    found = await templates_store.find_templates(reader, template_ids)
    return frozenset(template_ids) - {one.template_id for one in found.values() if one.state != "ended"}


async def void(tx: Tx, coupon_ids: Sequence[str], now: datetime) -> list[Voided]:
    """Take coupons back; say what became of each, in order. One that an order has is voided if the order returns it."""
    if not coupon_ids:
        return []
    before = await store.void(tx, sorted(set(coupon_ids)), now)
    await emit(
        tx,
        *[alike(CouponVoided, one, at=now) for one in before.values() if one.state == "issued"],
    )
    answers = []
    told: set[str] = set()
    for coupon_id in coupon_ids:
        one = before.get(coupon_id)
        if one is None:
            answers.append(Voided(coupon_id, "not_found"))
        elif one.state == "voided" or (one.state == "issued" and coupon_id in told):
            answers.append(Voided(coupon_id, "already"))
        else:
            answers.append(Voided(coupon_id, "voided" if one.state == "issued" else one.state))
        told.add(coupon_id)
    return answers


class Coupons:
    """Coupons in the hands of shoppers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def mine(
        self, user_id: str, state: str | None, before: tuple[datetime, str] | None, limit: int, now: datetime
    ) -> list[CouponPage]:
        """Return a shopper's coupons, newest first."""
        found = await listing.coupons_of_shopper(self._database, user_id, limit, state=state, now=now, before=before)
        return await self._shown(found, now)

    async def find(self, coupon_id: str, user_id: str, now: datetime) -> CouponPage:
        """Return a shopper's coupon. Raises `Refusal` (404), alike for what is not there and not theirs."""
        coupon = (await store.find_coupons(self._database, [coupon_id])).get(coupon_id)
        if coupon is None or coupon.user_id != user_id:
            raise Refusal(COUPON_NOT_FOUND)
        (page,) = await self._shown([coupon], now)
        return page

    async def _shown(self, coupons: Sequence[Coupon], now: datetime) -> list[CouponPage]:
        template_ids = sorted({one.template_id for one in coupons})
        templates = await templates_store.find_templates(self._database, template_ids) if template_ids else {}
        return [show(one, templates[one.template_id], now) for one in coupons]

    async def page(self, which: CouponFilter, after: str | None, limit: int) -> list[Coupon]:
        """Return operators' coupons in the order of their ids, each way of asking by an index of its own."""
        if which.user_id is not None:
            return await listing.page_by_shopper(self._database, which, after, limit)
        if which.order_id is not None:
            return await listing.page_by_order(self._database, which, after, limit)
        if which.template_id is None and which.state is None:
            return await listing.page_of_all(self._database, after, limit)
        return await listing.page_by_template(self._database, which, after, limit)

    async def void(self, act: Act, coupon_id: str) -> Coupon:
        """Take a coupon back; one that an order has is voided if the order returns it. Raises `Refusal` 404 and 409."""
        async with self._database.transaction(everyone=True) as tx:
            before = (await store.find_coupons(tx, [coupon_id])).get(coupon_id)
            (voided,) = await void(tx, [coupon_id], act.now)
            if before is None or voided.outcome == "not_found":
                raise Refusal(COUPON_NOT_FOUND)
            if voided.outcome == "expired":
                raise Refusal(NOT_VOIDABLE, "It has expired.")
            after = (await store.find_coupons(tx, [coupon_id]))[coupon_id]
            if voided.outcome != "already":
                await audit.record(tx, act, "coupon.void", coupon_id, before=before, after=after)
        return after
