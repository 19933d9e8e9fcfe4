"""What the clock does to coupons and templates."""

from datetime import timedelta

import structlog
from prometheus_client import Counter

from growth.kit.campaign.service import end_over
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.work.periodic import Turn
from growth.rewards.coupon.store import expiry as store
from growth.rewards.coupon.template.model import TEMPLATES
from growth.vocabulary.alike import alike
from growth.vocabulary.events.coupon import CouponExpired, CouponExpiring, CouponReturned

log = structlog.get_logger("coupon")

LAPSED = Counter("growth_coupon_locks_lapsed", "Coupons given back by orders that were neither paid nor closed.")

EXPIRE_BATCH = 2_000
"""Coupons ended in one transaction, with an event each: about a tenth of a second."""
TELL_BATCH = 2_000
LAPSE_BATCH = 500
"""Coupons that orders give back in one transaction for nothing more was heard of them."""
END_BATCH = 100
GRACE = timedelta(seconds=10)
"""An order that was placed before the end of its coupon has this long to arrive; later ones find it all the same."""


async def expire_coupons(turn: Turn) -> int:
    """End unused coupons whose time is over; each batch is logged with how far it came."""
    async with turn.transaction(everyone=True) as tx:
        over = await store.expire(tx, turn.now - GRACE, EXPIRE_BATCH)
        await emit(tx, *[alike(CouponExpired, one, at=turn.now) for one in over])
    if over:
        ends = [one.valid_until for one in over]
        log.info("coupon.expired", coupons=len(over), ended_from=min(ends), ended_until=max(ends))
    return len(over)


async def tell_expiring(turn: Turn) -> int:
    """Tell of unused coupons that end soon, each once; of those that ended before they could be told, nothing."""
    async with turn.transaction(everyone=True) as tx:
        soon = await store.mark_expiring(tx, turn.now, TELL_BATCH)
        told = [one for one in soon if one.valid_until > turn.now]
        await emit(tx, *[alike(CouponExpiring, one, at=turn.now) for one in told])
    if soon:
        log.info("coupon.expiring", coupons=len(told), late=len(soon) - len(told))
    return len(soon)


async def lapse_locks(turn: Turn, *, days: int) -> int:
    """Give coupons back that orders keep which were neither paid nor closed within `days`."""
    async with turn.transaction(everyone=True) as tx:
        lapsed = await store.lapse_locks(tx, turn.now - timedelta(days=days), turn.now, LAPSE_BATCH)
        await emit(tx, *[alike(CouponReturned, one, at=turn.now) for one in lapsed])
    if lapsed:
        LAPSED.inc(len(lapsed))
        log.info("coupon.locks_lapsed", coupons=len(lapsed), days=days)
    return len(lapsed)


async def end_stale_templates(turn: Turn) -> int:
    """End templates whose dates of validity are over."""
    async with turn.transaction() as tx:
        return await end_over(tx, TEMPLATES, turn.now, turn.now, END_BATCH)
