"""What a check-in program is, and what is wrong with one: decisions without I/O."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct, field

from growth.kit.campaign.findings import Finding
from growth.kit.campaign.model import CampaignKind, Recipe, State, keep_promises, locked
from growth.plumbing.field_errors import FieldError
from growth.rewards.compliance import Offer, check
from growth.rewards.granting.model import Budget
from growth.vocabulary.audience import Audience
from growth.vocabulary.events.checkin import (
    CheckinProgramEnded,
    CheckinProgramPaused,
    CheckinProgramPublished,
    CheckinProgramResumed,
)
from growth.vocabulary.facts import Deed
from growth.vocabulary.ids import Uuid
from growth.vocabulary.refusals import Kind
from growth.vocabulary.rewards import FreezeCardReward, PointsReward, Reward
from growth.vocabulary.text import Title

MAX_TABLE_DAYS = 366
MAX_REWARDS_A_DAY = 5
MAX_MILESTONES = 50
MAX_MILESTONE_DAYS = 3_660
MAX_PAUSES = 50
MAX_CLOSURES = 400
"""Spells in which a program was closed by an operator; one that is paused more often has to be ended."""
MAX_MAKE_UP_DAYS = 31
MAX_WARN_HOURS = 23
MAX_BROKEN_DAYS = 30
MAX_PROGRAM = timedelta(days=3_660)
FIRST_DAY, LAST_DAY = date(2020, 1, 1), date(2200, 1, 1)
WEEK_DAYS, MONTH_DAYS = 7, 31
DEFAULT_POINTS = (1, 1, 1, 1, 1, 1, 10)

NOT_FOUND = Kind("checkin.program_not_found", "There is no such check-in program.", 404)
WRONG_STATE = Kind("checkin.wrong_state", "The program's state does not allow this.")
LOCKED_FIELD = Kind("checkin.locked_field", "The field can no longer be changed.")
VERSION_MISMATCH = Kind("checkin.version_mismatch", "Somebody else changed the program.", 412)
NOT_COMPLIANT = Kind("checkin.not_compliant", "Rules of platforms or law speak against the program.")
OVERLAP = Kind("checkin.overlap", "Another live program has some of these days.")

Cycle = Literal["weekly", "monthly", "every_n", "endless"]
Rewards = Annotated[list[Reward], Meta(max_length=MAX_REWARDS_A_DAY)]


class CheckinMilestone(Struct, frozen=True, forbid_unknown_fields=True):
    """A reward for so many days; each once for a shopper and program."""

    days: Annotated[int, Meta(ge=1, le=MAX_MILESTONE_DAYS)]
    rewards: Annotated[list[Reward], Meta(min_length=1, max_length=MAX_REWARDS_A_DAY)]
    of: Literal["total", "streak"] = "total"
    """Days in all, or days in a row, both within the program.

    Reached and not yet given is what counts: one that an edit adds is given, with the next check-in, to those who have
    so many days already.
    """


class CheckinPause(Struct, frozen=True, forbid_unknown_fields=True):
    """Days that neither break a streak nor count."""

    from_day: date
    until_day: date
    """The last of them."""


def _default_table() -> list[list[Reward]]:
    table: list[list[Reward]] = [[PointsReward(points=points)] for points in DEFAULT_POINTS]
    return table


class CheckinDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator decides about a check-in program. Days are of the merchant's zone."""

    title: Title
    from_day: date
    until_day: date | None = None
    """The last day; without one the program goes on until an operator ends it."""
    cycle: Cycle = "every_n"
    """When the table starts again: `every_n` after its last row, `weekly` on Mondays, `monthly` on the first, `endless`
    never. Where the table is shorter than the cycle, its last row repeats. After a missed day it starts again too."""
    rewards: Annotated[list[Rewards], Meta(min_length=1, max_length=MAX_TABLE_DAYS)] = field(
        default_factory=_default_table
    )
    """A row for each day in a row: what the check-in earns. If left out, 1 point, and 10 on the seventh day."""
    milestones: Annotated[list[CheckinMilestone], Meta(max_length=MAX_MILESTONES)] = []
    make_up_within_days: Annotated[int, Meta(ge=0, le=MAX_MAKE_UP_DAYS)] = 7
    """How old a missed day may be that a make-up card repairs; 0 for none."""
    make_ups_per_month: Annotated[int, Meta(ge=0, le=MAX_MAKE_UP_DAYS)] = 3
    """In the month of the day on which they are used."""
    uses_freeze_cards: bool = False
    """A missed day uses up one of the shopper's freeze cards by itself, and does not break the streak."""
    pauses: Annotated[list[CheckinPause], Meta(max_length=MAX_PAUSES)] = []
    """Planned, such as holidays: nobody can check in, and nothing breaks."""
    warn_hours: Annotated[int, Meta(ge=0, le=MAX_WARN_HOURS)] = 4
    """How long before the day's end `checkin.streak_at_risk` is told, to those who asked for it; 0 for never."""
    broken_after_days: Annotated[int, Meta(ge=1, le=MAX_BROKEN_DAYS)] = 1
    """After so many missed days `checkin.streak_broken` is told."""
    budget: Budget | None = None
    """What the program may give in all, or each day."""
    audience: Audience = []
    """Who may check in, and make up: all of these must hold then; everybody, if empty."""


class CheckinProgram(CheckinDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program as Postgres knows it."""

    program_id: Uuid
    state: State
    version: int
    terms_id: int | None
    """What the program promises now, as it is remembered for days to come; none before it is published."""
    closures: list[CheckinPause]
    """Days on which it was closed for some of the time: published, paused or ended on them. They break nothing."""
    created_at: datetime
    published_at: datetime | None
    ended_at: datetime | None

    @property
    def last_day(self) -> date:
        """The last day there is."""
        return self.until_day or LAST_DAY

    def has(self, day: date) -> bool:
        """Say whether `day` is one of the program's."""
        return self.published_at is not None and self.from_day <= day <= self.last_day

    def pause_on(self, day: date) -> CheckinPause | None:
        """Return the planned pause, if any, that `day` is in."""
        return next((pause for pause in self.pauses if pause.from_day <= day <= pause.until_day), None)


def shut_days(program: CheckinProgram) -> list[CheckinPause]:
    """Return the days that break nothing, planned and unplanned, as spells in order that do not touch."""
    merged: list[CheckinPause] = []
    for spell in sorted([*program.pauses, *program.closures], key=lambda spell: spell.from_day):
        merged = closed(merged, spell.from_day, spell.until_day)
    return merged


def closed(closures: list[CheckinPause], from_day: date, until_day: date) -> list[CheckinPause]:
    """Add days on which a program was closed for some of the time, none of them before those noted already."""
    if closures and from_day <= closures[-1].until_day + timedelta(days=1):
        return [*closures[:-1], CheckinPause(closures[-1].from_day, max(closures[-1].until_day, until_day))]
    return [*closures, CheckinPause(from_day, until_day)]


def reopened(closures: list[CheckinPause], day: date) -> list[CheckinPause]:
    """End a closure that had no end: the program is open again in the course of `day`."""
    assert closures, "it was closed"
    return [*closures[:-1], CheckinPause(closures[-1].from_day, max(closures[-1].from_day, day))]


def faults(draft: CheckinDraft) -> list[FieldError]:
    """Return what does not fit together in a draft, by field."""
    found = []
    if not FIRST_DAY <= draft.from_day < LAST_DAY:
        found.append(FieldError("from_day", f"Must be from {FIRST_DAY} to before {LAST_DAY}"))
    if draft.until_day is not None and draft.until_day < draft.from_day:
        found.append(FieldError("until_day", "Must not be before from_day"))
    elif draft.until_day is not None and draft.until_day - draft.from_day > MAX_PROGRAM:
        found.append(FieldError("until_day", f"A program has at most {MAX_PROGRAM.days} days; leave it out for no end"))
    longest = {"weekly": WEEK_DAYS, "monthly": MONTH_DAYS}.get(draft.cycle, MAX_TABLE_DAYS)
    if len(draft.rewards) > longest:
        found.append(FieldError("rewards", f"A {draft.cycle} cycle has at most {longest} days"))
    for index, pause in enumerate(draft.pauses):
        if not draft.from_day <= pause.from_day <= pause.until_day <= (draft.until_day or LAST_DAY):
            found.append(FieldError(f"pauses[{index}]", "Must be days of the program, the first before the last"))
    return found + list(_faults_of_milestones(draft))


def _faults_of_milestones(draft: CheckinDraft) -> Iterator[FieldError]:
    seen: set[tuple[str, int]] = set()
    for index, milestone in enumerate(draft.milestones):
        if (milestone.of, milestone.days) in seen:
            yield FieldError(f"milestones[{index}].days", "There is one of that many days already")
        seen.add((milestone.of, milestone.days))


def findings(draft: CheckinDraft) -> list[Finding]:
    """Return what rules of platforms and law say about a program."""
    return check(Offer(deed=Deed.OTHER, texts=(draft.title,)))


def recipes(now: datetime, zone: ZoneInfo) -> list[Recipe[CheckinDraft]]:
    """Return ready drafts, from tomorrow on: one that is published during a day breaks no streak on it."""
    first = now.astimezone(zone).date() + timedelta(days=1)
    freeze = CheckinMilestone(days=7, of="streak", rewards=[FreezeCardReward()])
    month = [CheckinMilestone(days=days, rewards=[PointsReward(points=days * 10)]) for days in (7, 15, 28)]
    return [
        Recipe(
            "seven_days",
            "Seven days, ten points",
            "七天连续签到送积分",
            CheckinDraft(title="七天签到有礼", from_day=first),
        ),
        Recipe(
            "seven_days_and_a_card",
            "Seven days, and a card that keeps the streak",
            "七天签到送保签卡",
            CheckinDraft(title="七天签到送保签卡", from_day=first, milestones=[freeze], uses_freeze_cards=True),
        ),
        Recipe(
            "month",
            "A month with three milestones",
            "月度签到里程碑",
            CheckinDraft(
                title="本月签到有礼",
                from_day=first,
                cycle="monthly",
                rewards=[[PointsReward(points=2)]],
                milestones=month,
            ),
        ),
    ]


PROGRAMS = CampaignKind(
    noun="check-in program",
    nouns="check-in programs",
    path="check-in-programs",
    audited_as="checkin",
    table="checkin.programs",
    id_field="program_id",
    draft=CheckinDraft,
    campaign=CheckinProgram,
    over=None,
    faults=faults,
    findings=findings,
    told={
        "publish": CheckinProgramPublished,
        "pause": CheckinProgramPaused,
        "resume": CheckinProgramResumed,
        "end": CheckinProgramEnded,
    },
    not_found=NOT_FOUND,
    wrong_state=WRONG_STATE,
    version_mismatch=VERSION_MISMATCH,
    not_compliant=NOT_COMPLIANT,
    locked_field=LOCKED_FIELD,
    recipes=recipes,
)


def check_edit(program: CheckinProgram, draft: CheckinDraft, today: date) -> None:
    """Refuse edits that would rewrite history: what days were, which of them broke a streak, and what they earned.

    Drafts, and programs that have not begun, change freely. Rewards, milestones and rules of one that runs change from
    the next check-in on; its first day, and pauses and an end that lie behind, are fixed. Today is still open.
    """
    if program.state == "draft":
        return
    if today < program.from_day:
        if draft.from_day < today:
            raise locked(PROGRAMS, "from_day", "from_day lies in the past.")
        return
    keep_promises(PROGRAMS, program, draft, ["from_day"], "has begun")
    if draft.until_day is not None and draft.until_day < today:
        raise locked(PROGRAMS, "until_day", "until_day lies in the past; end the program instead.")
    if program.until_day is not None and program.until_day < today:
        raise locked(PROGRAMS, "until_day", "The program's last day is over.")
    if _past(program.pauses, today) != _past(draft.pauses, today):
        raise locked(PROGRAMS, "pauses", "Pauses that lie behind are history.")


def _past(pauses: list[CheckinPause], today: date) -> list[CheckinPause]:
    """Return the days before `today` that are in pauses, as spells in order that do not touch."""
    merged: list[CheckinPause] = []
    for pause in sorted(pauses, key=lambda pause: pause.from_day):
        if pause.from_day < today:
            merged = closed(merged, pause.from_day, min(pause.until_day, today - timedelta(days=1)))
    return merged


def day_held(day: date) -> str:
    """Return how it is remembered of an erased shopper that a day counted."""
    return f"checkin:{day}"


def milestone_reached(program_id: str, of: str, days: int) -> str:
    """Return how it is remembered of an erased shopper that a milestone was reached."""
    return f"checkin:{program_id}:{of}-{days}"
