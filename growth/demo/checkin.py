"""The check-in program of the demo shop."""

from growth.bootstrap import Growth
from growth.demo.coupon import TITLE as COUPON_TITLE
from growth.mechanics.checkin.model import CheckinDraft, CheckinMilestone
from growth.mechanics.checkin.service import CheckinPrograms
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.plumbing.watch.audit import Act
from growth.rewards.coupon.template.service import Templates
from growth.vocabulary.rewards import CouponReward, MakeUpCardReward, PointsReward, Reward

TITLE = "Tea every day"


async def put(growth: Growth, act: Act) -> list[str]:
    """Seven days: a point each, and the demo's coupon on the seventh."""
    programs = growth.of(CheckinPrograms)
    states = ("published", "paused")
    live = [one for state in states for one in await programs.page(state=state, before=None, limit=100)]
    if any(one.title != TITLE for one in live):
        return ["every day     a check-in program of yours is live"]
    for old in live:
        await programs.end(act, old.program_id)
    coupons = await growth.of(Templates).page(state="published", before=None, limit=100)
    template_id = next((one.template_id for one in coupons if one.title == COUPON_TITLE), None)
    made = await programs.create(act, _draft(growth, act, template_id), None, b"")
    await programs.publish(act, made.answer.program_id)
    return [f"every day     check-in program {made.answer.program_id} (a point a day, ¥10 off on the seventh)"]


def _draft(growth: Growth, act: Act, template_id: str | None) -> CheckinDraft:
    seventh: Reward = PointsReward(points=10) if template_id is None else CouponReward(template_id=template_id)
    row: list[Reward] = [PointsReward(points=1)]
    return CheckinDraft(
        title=TITLE,
        from_day=growth.of(Almanacs).zone.day(act.now),
        rewards=[*[row] * 6, [seventh]],
        milestones=[CheckinMilestone(3, [MakeUpCardReward(cards=1)])],
        uses_freeze_cards=True,
    )
