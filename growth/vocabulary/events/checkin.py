"""Events of check-ins."""

from datetime import date
from typing import Literal

from msgspec import Struct

from growth.vocabulary.events.base import Event
from growth.vocabulary.facts import Facts
from growth.vocabulary.rewards import Reward


class CheckinProgramEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to a check-in program."""

    program_id: str

    @property
    def subject(self) -> str:
        """The program."""
        return self.program_id


class CheckinProgramPublished(CheckinProgramEvent, frozen=True, kw_only=True, tag="checkin.program_published"):
    """A program goes live on its first day, or at once."""

    from_day: date
    until_day: date | None
    """The last day, if there is one."""


class CheckinProgramPaused(CheckinProgramEvent, frozen=True, kw_only=True, tag="checkin.program_paused"):
    """An operator stopped check-ins for now. No streak breaks meanwhile."""


class CheckinProgramResumed(CheckinProgramEvent, frozen=True, kw_only=True, tag="checkin.program_resumed"):
    """An operator let check-ins go on."""


class CheckinProgramEnded(CheckinProgramEvent, frozen=True, kw_only=True, tag="checkin.program_ended"):
    """The last day is over, or an operator ended the program early."""


class CheckinShopperEvent(Event, frozen=True, kw_only=True):
    """Base of what happens to one shopper's streak."""

    facts = Facts()

    user_id: str

    @property
    def subject(self) -> str:
        """The shopper."""
        return self.user_id


class CheckinReached(Struct, frozen=True):
    """A milestone."""

    days: int
    of: Literal["total", "streak"]
    """Days in all, or days in a row, within the program."""


class CheckinCheckedIn(CheckinShopperEvent, frozen=True, kw_only=True, tag="checkin.checked_in"):
    """A shopper checked in. Once for each shopper and day."""

    facts = Facts(visit="checkin")

    program_id: str
    day: date
    """Of the merchant's zone."""
    streak: int
    """Days in a row, with this one."""
    total: int
    """Days within the program, with this one."""
    rewards: list[Reward]
    """What was given with it, milestones included."""
    milestones: list[CheckinReached]
    """Those reached with it."""


class CheckinMadeUp(CheckinShopperEvent, frozen=True, kw_only=True, tag="checkin.made_up"):
    """A make-up card repaired a missed day. Once for each shopper and day."""

    facts = Facts(visit="checkin")

    program_id: str
    day: date
    """The day that was missed."""
    streak: int
    """Days in a row up to the newest day, after the repair."""
    total: int
    """Days within the program, after the repair."""
    rewards: list[Reward]
    """What was given with it: for the day, for those after it that rose in the table, and for milestones."""
    milestones: list[CheckinReached]
    """Those reached with it."""


class CheckinFrozen(CheckinShopperEvent, frozen=True, kw_only=True, tag="checkin.frozen"):
    """A freeze card was used up on a missed day, and kept the streak. Once for each shopper and day."""

    program_id: str
    day: date
    streak: int
    """What was kept."""


class CheckinStreakAtRisk(CheckinShopperEvent, frozen=True, kw_only=True, tag="checkin.streak_at_risk"):
    """A shopper who asked to be reminded has a streak and has not checked in yet. Once for each shopper and day."""

    program_id: str
    day: date
    streak: int
    """What will be lost when the day ends."""
    hours_left: int
    """Until then, begun hours."""


class CheckinStreakBroken(CheckinShopperEvent, frozen=True, kw_only=True, tag="checkin.streak_broken"):
    """A streak of two days or more is over. Once for each streak."""

    program_id: str
    streak: int
    """What it was."""
    last_day: date
    """Its last day."""
