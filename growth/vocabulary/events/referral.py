"""Events of referrals: programs, and who brought whom."""

from datetime import datetime

from growth.vocabulary.events.base import Event
from growth.vocabulary.facts import Deed, Facts


class ReferralProgramEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to one referral program."""

    program_id: str

    @property
    def subject(self) -> str:
        """The program."""
        return self.program_id


class ReferralProgramPublished(ReferralProgramEvent, frozen=True, kw_only=True, tag="referral.program_published"):
    """A program went live."""

    levels: int


class ReferralProgramPaused(ReferralProgramEvent, frozen=True, kw_only=True, tag="referral.program_paused"):
    """An operator stopped new relations for now; those there are go on earning."""


class ReferralProgramResumed(ReferralProgramEvent, frozen=True, kw_only=True, tag="referral.program_resumed"):
    """An operator let shoppers be bound again."""


class ReferralProgramEnded(ReferralProgramEvent, frozen=True, kw_only=True, tag="referral.program_ended"):
    """The program closed, or an operator ended it early. Orders paid from now on earn nothing."""


class ReferralRelationEvent(Event, frozen=True, kw_only=True):
    """Base of what happens between one inviter and one invitee."""

    facts = Facts(by="invitee_id", counts_for="inviter_id")

    relation_id: str
    inviter_id: str
    invitee_id: str

    @property
    def subject(self) -> str:
        """The relation."""
        return self.relation_id


class ReferralBound(ReferralRelationEvent, frozen=True, kw_only=True, tag="referral.bound"):
    """A shopper was bound to the one who brought them."""

    facts = Facts(by="invitee_id", counts_for="inviter_id", visit="referral", only="shopper", does=Deed.OPEN)

    program_id: str
    source: str
    """`shopper`, by a code, or `operator`, by hand."""
    ends_at: datetime | None
    """When the relation ends by itself; None for never."""


class ReferralSuspected(ReferralRelationEvent, frozen=True, kw_only=True, tag="referral.suspected"):
    """A relation was made between accounts that may belong to one person. Nothing is stopped by it."""

    signs: list[str]
    """`same_device`, `same_address` as the inviter; `shared_device` with another invitee of the same inviter."""


class ReferralRelationEnded(ReferralRelationEvent, frozen=True, kw_only=True, tag="referral.relation_ended"):
    """An operator ended a relation, or two accounts turned out to be one person's."""

    reason: str
    """`fraud`, `mistake`, `shopper_request`, `other` or `merged`."""


class ReferralOrderEvent(ReferralRelationEvent, frozen=True, kw_only=True):
    """Base of what an invitee's first order does to a relation."""

    order_id: str
    program_id: str


class ReferralInviteeBought(ReferralOrderEvent, frozen=True, kw_only=True, tag="referral.invitee_bought"):
    """An invitee paid a first order."""

    facts = Facts(
        by="invitee_id",
        counts_for="inviter_id",
        does=Deed.PURCHASE,
        undone_by="referral.invitee_lost",
        key="relation_id",
    )


class ReferralInviteeValid(ReferralOrderEvent, frozen=True, kw_only=True, tag="referral.invitee_valid"):
    """An invitee's first order was received: the invitee counts, and rewards are given."""

    facts = Facts(
        by="invitee_id",
        counts_for="inviter_id",
        does=Deed.PURCHASE,
        undone_by="referral.invitee_lost",
        key="relation_id",
    )

    is_rewarded: bool
    """The inviter's caps left room for `inviter_rewards`."""


class ReferralInviteeLost(ReferralOrderEvent, frozen=True, kw_only=True, tag="referral.invitee_lost"):
    """An invitee's first order is one no longer: it was paid back whole, or another fact was told late.

    It no longer counts, and what was given for it is taken back. If another order is the first now, that is told next.
    """


class ReferralMilestoneEvent(ReferralProgramEvent, frozen=True, kw_only=True):
    """Base of what happens to one milestone of one inviter."""

    facts = Facts(by="inviter_id", counts_for="inviter_id")

    inviter_id: str
    invitees: int
    """The milestone: so many valid invitees."""


class ReferralMilestoneReached(ReferralMilestoneEvent, frozen=True, kw_only=True, tag="referral.milestone_reached"):
    """An inviter has as many valid invitees as a milestone asks for."""


class ReferralMilestoneLost(ReferralMilestoneEvent, frozen=True, kw_only=True, tag="referral.milestone_lost"):
    """Orders were paid back, and an inviter has fewer valid invitees than a milestone asks for."""
