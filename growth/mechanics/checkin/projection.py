"""What programs give and how many check in, counted by a listener of the outbox for operators to see."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date

from growth.mechanics.checkin import store
from growth.plumbing.outbox.outbox import Envelope, types_of
from growth.plumbing.postgres.database import Tx
from growth.rewards.granting.model import value_of
from growth.vocabulary.events.checkin import (
    CheckinCheckedIn,
    CheckinFrozen,
    CheckinMadeUp,
    CheckinStreakAtRisk,
    CheckinStreakBroken,
)
from growth.vocabulary.rewards import CouponReward, Reward

LISTENS_TO = types_of(CheckinCheckedIn, CheckinMadeUp, CheckinFrozen, CheckinStreakBroken, CheckinStreakAtRisk)

Counted = dict[tuple[str, date, str], tuple[int, int]]


async def count(tx: Tx, envelopes: Sequence[Envelope]) -> None:
    """Add what happened to its day; a streak is broken on its last one."""
    counted: Counted = defaultdict(lambda: (0, 0))
    for envelope in envelopes:
        match envelope.event:
            case CheckinCheckedIn() as event:
                _add(counted, event.program_id, event.day, "checked_in")
                _add_rewards(counted, event.program_id, event.day, event.rewards)
            case CheckinMadeUp() as event:
                _add(counted, event.program_id, event.day, "made_up")
                _add_rewards(counted, event.program_id, event.day, event.rewards)
            case CheckinFrozen() as event:
                _add(counted, event.program_id, event.day, "frozen")
            case CheckinStreakBroken() as event:
                _add(counted, event.program_id, event.last_day, "broken", event.streak)
            case CheckinStreakAtRisk() as event:
                _add(counted, event.program_id, event.day, "warned")
            case event:
                raise AssertionError(event)
    await store.add_tally(tx, counted)


def _add_rewards(counted: Counted, program_id: str, day: date, rewards: Sequence[Reward]) -> None:
    for reward in rewards:
        kind = str(reward.__struct_config__.tag)
        what = f"{kind}:{reward.template_id}" if isinstance(reward, CouponReward) else kind
        _add(counted, program_id, day, f"reward:{what}", value_of(reward))


def _add(counted: Counted, program_id: str, day: date, what: str, amount: int = 1) -> None:
    times, before = counted[program_id, day, what]
    counted[program_id, day, what] = (times + 1, before + amount)
