"""What the clock does to streaks: once the day is over, and some hours before."""

from datetime import date, timedelta
from math import ceil

import structlog

from growth.mechanics.checkin.model import FIRST_DAY, CheckinProgram
from growth.mechanics.checkin.streak.day_end import store
from growth.mechanics.checkin.streak.day_end.service import Missed, tell_broken, use_cards
from growth.mechanics.checkin.streak.model import ONE_DAY, Almanac
from growth.mechanics.checkin.streak.programs_cache import Almanacs
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Tx
from growth.plumbing.work.periodic import Turn
from growth.vocabulary.events.checkin import CheckinStreakAtRisk
from growth.vocabulary.refusals import Refusal

log = structlog.get_logger("checkin.night")

PAGE_SHOPPERS = 2_000
"""Looked at in one transaction."""
GRACE = timedelta(minutes=1)
"""Taps of before midnight have long been written by then."""
ONE_HOUR = timedelta(hours=1)


class Night:
    """Walks over all shoppers. The clock is Postgres', as it is for taps."""

    def __init__(self, almanacs: Almanacs, page_shoppers: int = PAGE_SHOPPERS) -> None:
        self._almanacs = almanacs
        self._page = page_shoppers

    async def end_days(self, turn: Turn) -> int:
        """Go on with the oldest day that is over: freeze those who missed it, tell of streaks that are broken.

        Returns 0 when every day is done; a day follows the other, however many a worker was away for.
        """
        async with turn.transaction(everyone=True) as tx:
            _, almanac = await self._almanacs.look(tx)
            today = almanac.zone.day(turn.now - GRACE)
            day, after = await store.lock_walk(tx, "night", max(today - ONE_DAY, FIRST_DAY))
            begun = day
            while day < today and not _can_break(almanac, day):
                day, after = day + ONE_DAY, ""
            if day >= today:
                if day > begun:
                    await store.move_walk(tx, "night", day, "")
                return 0
            last, shoppers = await store.end_of_page(tx, after, self._page)
            frozen, broken = await self._end_day(tx, turn, almanac, day, (after, last)) if shoppers else (0, 0)
            is_done = shoppers < self._page
            await store.move_walk(tx, "night", day + ONE_DAY if is_done else day, "" if is_done else last)
        log.info(
            "checkin.day_ended" if is_done else "checkin.day_ending",
            day=day.isoformat(),
            looked_at=shoppers,
            frozen=frozen,
            broken=broken,
        )
        return max(shoppers, 1)

    async def _end_day(self, tx: Tx, turn: Turn, almanac: Almanac, day: date, page: tuple[str, str]) -> tuple[int, int]:
        history = almanac.history
        program = almanac.program_on(day)
        assert program is not None, "a day that breaks streaks is a program's"
        edge = history.edge(day) or FIRST_DAY
        # Whose streak breaks on the oldest of these has been away for as many days as it takes to say so.
        away = history.missed(FIRST_DAY, day + ONE_DAY, program.broken_after_days)
        first_missed = away[-1] if len(away) == program.broken_after_days else None
        gone_from = edge if first_missed is None else history.edge(first_missed) or FIRST_DAY
        lapsing = await store.lock_lapsing(tx, *page, min(edge, gone_from), day)
        missed = [Missed(one, [day]) for one in lapsing if (one.standing.last_day or FIRST_DAY) >= edge]
        kept = await use_cards(tx, missed, almanac, turn.now)
        broken = [
            (one, program)
            for one in lapsing
            if one.user_id not in kept
            and first_missed is not None
            and gone_from <= (one.standing.last_day or FIRST_DAY) < first_missed
        ]
        await tell_broken(tx, broken, turn.now)
        return len(kept), len(broken)

    async def warn(self, turn: Turn) -> int:
        """Tell shoppers who asked for it, some hours before the day's end, that their streak does not have it yet."""
        async with turn.transaction(everyone=True) as tx:
            _, almanac = await self._almanacs.look(tx)
            today = almanac.zone.day(turn.now)
            left = almanac.zone.begins_at(today + ONE_DAY) - turn.now
            program = _open_on(almanac, today)
            if program is None or left > program.warn_hours * ONE_HOUR or not _can_break(almanac, today):
                return 0
            day, after = await store.lock_walk(tx, "warn", today)
            if day < today:
                after = ""
            elif day > today:
                return 0
            last, shoppers = await store.end_of_page_to_remind(tx, after, self._page)
            edge = almanac.history.edge(today) or FIRST_DAY
            warned = await store.at_risk(tx, after, last, edge, today) if shoppers else []
            await emit(
                tx,
                *[
                    CheckinStreakAtRisk(
                        at=turn.now,
                        user_id=one.user_id,
                        program_id=program.program_id,
                        day=today,
                        streak=one.standing.streak,
                        hours_left=ceil(left / ONE_HOUR),
                    )
                    for one in warned
                ],
            )
            is_done = shoppers < self._page
            await store.move_walk(tx, "warn", today + ONE_DAY if is_done else today, "" if is_done else last)
        log.info("checkin.warned", day=today.isoformat(), looked_at=shoppers, warned=len(warned), is_done=is_done)
        return max(shoppers, 1)


def _can_break(almanac: Almanac, day: date) -> bool:
    return almanac.history.edge(day + ONE_DAY) == day


def _open_on(almanac: Almanac, day: date) -> CheckinProgram | None:
    try:
        return almanac.open_on(day)
    except Refusal:
        return None
