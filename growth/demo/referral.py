"""The referral program of the demo shop."""

from growth.bootstrap import Growth
from growth.mechanics.referral.model import InviteMilestone, PercentRule, ReferralDraft
from growth.mechanics.referral.service import ReferralPrograms
from growth.plumbing.watch.audit import Act
from growth.vocabulary.rewards import PointsReward

MAX_OLD = 100


async def put(growth: Growth, act: Act) -> list[str]:
    """Invite somebody: a tenth of what they pay, points for both, more for three and for ten."""
    programs = growth.of(ReferralPrograms)
    for state in ("published", "paused"):
        for old in await programs.page(state=state, before=None, limit=MAX_OLD):
            await programs.end(act, old.program_id)
    made = await programs.create(act, _draft(), None, b"")
    await programs.publish(act, made.answer.program_id, accept_warnings=True)
    return [f"invite        referral program {made.answer.program_id} (10 % of what friends pay, points for both)"]


def _draft() -> ReferralDraft:
    return ReferralDraft(
        title="Bring a friend",
        description="A tenth of what your friend pays, once it was received. 100 points for both of you.",
        level_1=PercentRule(basis_points=1_000),
        invitee_rewards=[PointsReward(points=100)],
        inviter_rewards=[PointsReward(points=100)],
        milestones=[
            InviteMilestone(invitees=3, rewards=[PointsReward(points=300)]),
            InviteMilestone(invitees=10, rewards=[PointsReward(points=2_000)]),
        ],
    )
