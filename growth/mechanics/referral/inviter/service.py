"""Shows inviters where they stand."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

from growth.kit.campaign.audience import Audiences
from growth.mechanics.referral import store as programs
from growth.mechanics.referral.inviter import store
from growth.mechanics.referral.inviter.model import (
    MAX_RANK,
    By,
    InviteeCard,
    Leader,
    Leaderboard,
    MyRank,
    ReferralPage,
    ReferralTotals,
    show_milestones,
    show_terms,
)
from growth.mechanics.referral.model import WithdrawalTerms
from growth.mechanics.referral.relation.model import MyInviter, mask_id, scene_of
from growth.mechanics.referral.relation.service import Relations
from growth.plumbing.postgres.database import Database
from growth.rewards.withdrawal.service import rules_of


class Standings:
    """Everything that inviters look at."""

    def __init__(self, database: Database, relations: Relations, zone: str, audiences: Audiences) -> None:
        """`zone` is the merchant's, whose months count."""
        self._database = database
        self._relations = relations
        self._audiences = audiences
        self._zone = ZoneInfo(zone)

    async def page(self, user_id: str, now: datetime) -> ReferralPage:
        """Return a shopper's page; the code is made when first looked at."""
        terms, is_open = await programs.live_terms(self._database, now) or (None, False)
        found = await store.totals(self._database, user_id, None if terms is None else terms.program_id, now)
        code = found.code or await self._relations.code(user_id, now)
        program = None
        if terms is not None:
            rules = await rules_of(self._database)
            withdrawal = WithdrawalTerms(min_fen=rules.min_fen, fee_fen=rules.fee_fen)
            missed = await self._audiences.missed(self._database, terms.draft.audience, user_id)
            program = show_terms(terms, withdrawal, is_open=is_open, is_admitted=missed is None)
        milestones = [] if terms is None else terms.draft.milestones
        shown = show_milestones(milestones, found.in_program, frozenset(found.held))
        return ReferralPage(
            code=code,
            scene=scene_of(code),
            program=program,
            totals=ReferralTotals(
                bound=found.invited - found.bought, bought=found.bought - found.valid, valid=found.valid
            ),
            valid_in_program=found.in_program,
            milestones=shown,
            next_milestone=next((one for one in shown if one.missing), None),
            inviter=None
            if found.inviter_id is None or found.bound_at is None
            else MyInviter(
                inviter=mask_id(found.inviter_id), bound_at=found.bound_at, ends_at=found.ends_at, server_time=now
            ),
            server_time=now,
        )

    async def invitees(self, user_id: str, before: str | None, limit: int) -> list[InviteeCard]:
        """Return whom a shopper brought, newest first."""
        return await store.invitees(self._database, user_id, before, limit)

    def month_of(self, now: datetime) -> date:
        """Return the first day of the merchant's month."""
        return now.astimezone(self._zone).date().replace(day=1)

    async def leaderboard(self, user_id: str, by: By, month: date, limit: int, now: datetime) -> Leaderboard:
        """Return the first of a month, and the shopper's own place."""
        leaders = store.leaders_by_people if by == "people" else store.leaders_by_money
        rows = await leaders(self._database, month, limit)
        column = "people" if by == "people" else "money_fen"
        items: list[Leader] = []
        for number, row in enumerate(rows, start=1):
            ties = items and rows[number - 2][column] == row[column]
            items.append(
                Leader(
                    rank=items[-1].rank if ties else number,
                    inviter=mask_id(row["inviter_id"]),
                    people=row["people"],
                    money_fen=max(0, row["money_fen"]),
                    is_me=row["inviter_id"] == user_id,
                )
            )
        return Leaderboard(
            month=f"{month:%Y-%m}", by=by, items=items, me=await self._rank(user_id, by, month), server_time=now
        )

    async def _rank(self, user_id: str, by: By, month: date) -> MyRank:
        mine = await store.standing_of(self._database, user_id, month)
        if mine is None:
            return MyRank(rank=None, people=0, money_fen=0)
        have, before = (
            (mine["people"], mine["people_before"]) if by == "people" else (mine["money_fen"], mine["money_before"])
        )
        rank = before + 1 if have > 0 and before < MAX_RANK else None
        return MyRank(rank=rank, people=mine["people"], money_fen=max(0, mine["money_fen"]))
