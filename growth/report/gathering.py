"""Everything that one report on retention shows, asked at one moment."""

from datetime import datetime, timedelta

from msgspec import Struct

from growth.listeners.retention.report.answers import Actives, CohortUnit, Effects, Funnels, RetentionMatrix
from growth.listeners.retention.report.service import Question, Reports

EFFECT_DAY, EARLY_DAYS, WITHIN_DAYS = 7, 3, 7
ACTIVE_DAYS = 90


class Gathered(Struct, frozen=True, kw_only=True):
    """Answers."""

    made_at: datetime
    matrix: RetentionMatrix
    or_after: RetentionMatrix
    """The same cohorts, on day n or after."""
    by_source: RetentionMatrix
    effects: Effects
    funnels: Funnels
    actives: Actives


async def gather(reports: Reports, now: datetime, cohort: CohortUnit, days: int) -> Gathered:
    """Ask all of it."""
    matrix = await reports.matrix(Question(cohort=cohort, days=days), now)
    return Gathered(
        made_at=now,
        matrix=matrix,
        or_after=await reports.matrix(Question(cohort=cohort, days=days, metric="on_or_after"), now),
        by_source=await reports.matrix(Question(cohort=cohort, days=days, split="source"), now),
        effects=await reports.effects(
            metric="on", day=EFFECT_DAY, within_days=EARLY_DAYS, first=None, last=None, now=now
        ),
        funnels=await reports.funnels(cohort=cohort, within_days=WITHIN_DAYS, first=None, last=None, now=now),
        actives=await reports.actives(
            first=matrix.today - timedelta(days=ACTIVE_DAYS), last=matrix.today - timedelta(days=1), now=now
        ),
    )
