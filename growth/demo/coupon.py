"""Coupons of the demo shop."""

from growth.bootstrap import Growth
from growth.plumbing.watch.audit import Act
from growth.rewards.coupon.template.model import CouponDraft, FixedOff, ValidForDays
from growth.rewards.coupon.template.service import Templates

TITLE = "Ten yuan off tea"


async def put(growth: Growth, act: Act) -> list[str]:
    """A template that shoppers take from."""
    templates = growth.of(Templates)
    for old in await templates.page(state="published", before=None, limit=100):
        if old.title == TITLE:
            await templates.end(act, old.template_id)
    made = await templates.create(act, _draft(), None, b"")
    await templates.publish(act, made.answer.template_id)
    return [f"to take       coupon template {made.answer.template_id} (¥10 off from ¥50, thirty days)"]


def _draft() -> CouponDraft:
    return CouponDraft(
        title=TITLE,
        discount=FixedOff(off_fen=1000),
        threshold_fen=5000,
        validity=ValidForDays(days=30),
        units_total=1000,
        claimable=True,
    )
