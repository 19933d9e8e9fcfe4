"""What operators do with campaigns. Each write is one transaction with its audit entry."""

from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec import Struct

from growth.mechanics.group_buy import model
from growth.mechanics.group_buy.board import GroupBuyBoard
from growth.mechanics.group_buy.model import GroupBuy, GroupBuyDraft
from growth.mechanics.group_buy.store import campaigns as store
from growth.mechanics.group_buy.team import model as teams
from growth.mechanics.group_buy.team.service import standings
from growth.mechanics.group_buy.team.store import listing
from growth.mechanics.group_buy.team.store import teams as teams_store
from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.vocabulary.events import Event
from growth.vocabulary.events.group_buy import GroupBuyEnded, GroupBuyPaused, GroupBuyPublished, GroupBuyResumed
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Kind, Refusal


class SeatDryRun(Struct, frozen=True, kw_only=True):
    """What asking for a seat would get, without doing it."""

    would: str
    """`open`, `join` or `refuse`."""
    code: str | None
    because: str
    at: datetime
    state: model.PageState
    units_left: int
    price_fen: int
    """What the seat would cost."""
    shopper_seats: int
    """Seats the shopper occupies in this campaign now."""
    is_newcomer: bool
    """Whether the shopper never bought; looked at only where newcomers count."""


class TeamCount(Struct, frozen=True):
    """How many teams, and their paid members."""

    teams: int
    paid_seats: int


class SeatCount(Struct, frozen=True):
    """How many seats, and what was paid for them."""

    seats: int
    paid_fen: int


class GroupBuyStats(Struct, frozen=True, kw_only=True):
    """A campaign in numbers, as it stands."""

    group_buy_id: str
    state: model.PageState
    units_total: int
    taken: int
    units_left: int
    forming: TeamCount
    complete_full: TeamCount
    complete_by_threshold: TeamCount
    complete_by_operator: TeamCount
    failed_expired: TeamCount
    failed_leader_left: TeamCount
    failed_by_operator: TeamCount
    completion_rate: float | None
    """Complete teams among those that ended, 0 to 1, three digits; None before any did."""
    seats_held: SeatCount
    seats_paid: SeatCount
    seats_confirmed: SeatCount
    seats_refund_due: SeatCount
    """Paid seats of failed teams that the shop has not paid back yet."""
    seats_refunded: SeatCount
    seats_lapsed: SeatCount
    seats_given_back: SeatCount
    """By shoppers and closed orders together."""
    server_time: datetime


class GroupBuys:
    """The operators' side of group buys."""

    def __init__(self, database: Database, board: GroupBuyBoard) -> None:
        self._database = database
        self._board = board

    async def create(self, act: Act, draft: GroupBuyDraft, key: str | None, content: bytes) -> Once[GroupBuy]:
        """Make a draft. Raises `Refusal` 400 for fields that do not fit together."""
        _check(draft)

        async with self._database.transaction() as tx:

            async def work() -> GroupBuy:
                campaign = await store.add_campaign(tx, new_id(act.now), draft, act.now)
                await _audit(tx, act, "create", None, campaign)
                return campaign

            scope = f"{act.operator.name} POST group-buys"
            return await once(tx, scope=scope, key=key, content=content, answer_type=GroupBuy, work=work, now=act.now)

    async def find(self, group_buy_id: str) -> GroupBuy:
        """Return a campaign in any state. Raises `Refusal` 404."""
        campaign = (await store.find_campaigns(self._database, [group_buy_id])).get(group_buy_id)
        if campaign is None:
            raise Refusal(model.NOT_FOUND)
        return campaign

    async def page(self, *, state: str | None, before: str | None, limit: int) -> list[GroupBuy]:
        """Return campaigns, newest first."""
        return await store.page_of_campaigns(self._database, state=state, before=before, limit=limit)

    async def change(self, act: Act, group_buy_id: str, version: int, draft: GroupBuyDraft) -> GroupBuy:
        """Edit a campaign still at `version`. Raises `Refusal`: 412 for an older one, 409 for a locked field."""
        _check(draft)
        async with self._database.transaction() as tx:
            before = await _lock(tx, group_buy_id)
            if before.version != version:
                raise Refusal(model.VERSION_MISMATCH, f"It is at version {before.version}.", version=before.version)
            model.check_edit(before, draft, act.now)
            after = await store.change_campaign(tx, group_buy_id, version, draft)
            assert after is not None, "locked, so nobody else changed it"
            await _audit(tx, act, "change", before, after)
        await self._board.forget()
        return after

    async def publish(self, act: Act, group_buy_id: str) -> GroupBuy:
        """Show a draft to shoppers. Raises `Refusal` 409 if its window is over."""

        def published(after: GroupBuy) -> Event:
            if after.closes_at <= act.now:
                raise Refusal(model.WRONG_STATE, "The window is over; change closes_at first.")
            return GroupBuyPublished(
                at=act.now,
                group_buy_id=group_buy_id,
                sku=after.sku,
                opens_at=after.opens_at,
                closes_at=after.closes_at,
            )

        return await self._move(act, group_buy_id, ("draft",), "published", "publish", published)

    async def pause(self, act: Act, group_buy_id: str) -> GroupBuy:
        """Stop new seats at once; what is held stays held and can be paid, and teams go on."""
        event = GroupBuyPaused(at=act.now, group_buy_id=group_buy_id)
        return await self._move(act, group_buy_id, ("published",), "paused", "pause", lambda _: event)

    async def resume(self, act: Act, group_buy_id: str) -> GroupBuy:
        """Let seats be taken again."""
        event = GroupBuyResumed(at=act.now, group_buy_id=group_buy_id)
        return await self._move(act, group_buy_id, ("paused",), "published", "resume", lambda _: event)

    async def end(self, act: Act, group_buy_id: str) -> GroupBuy:
        """End a campaign for good: no new seats. Teams end at their own time, with the seats that are held or paid."""
        states = ("draft", "published", "paused")
        return await self._move(act, group_buy_id, states, "ended", "end", lambda after: ended(after, act.now))

    async def _move(
        self,
        act: Act,
        group_buy_id: str,
        from_states: Sequence[str],
        to_state: str,
        action: str,
        told: Callable[[GroupBuy], Event],
    ) -> GroupBuy:
        """Take a step, and tell of the campaign as it is then: locked, so nobody edits it meanwhile."""
        async with self._database.transaction() as tx:
            before = await _lock(tx, group_buy_id)
            after = await store.move_campaign(tx, group_buy_id, from_states, to_state, act.now)
            if after is None:
                detail = f"Cannot {action} a group buy that is {before.state}."
                raise Refusal(model.WRONG_STATE, detail, state=before.state)
            await _audit(tx, act, action, before, after)
            await emit(tx, told(after))
        await self._board.forget()
        return after

    async def dry_run(self, group_buy_id: str, user_id: str, team_id: str | None, at: datetime) -> SeatDryRun:
        """Say what asking for a seat at `at` would get, with today's stock, and why; nothing is changed."""
        user_id = await self._database.people.today(self._database, user_id)
        campaign = await self.find(group_buy_id)
        team = None
        if team_id is not None:
            team = (await teams_store.find_teams(self._database, [team_id])).get(team_id)
            if team is None or team.group_buy_id != group_buy_id:
                raise Refusal(teams.TEAM_NOT_FOUND)
        pair = (group_buy_id, user_id)
        standing = (await standings(self._database, [pair], {group_buy_id: campaign}))[pair]
        kind = teams.refusal_of(campaign, team, standing, at)
        return SeatDryRun(
            would="refuse" if kind else "open" if team is None else "join",
            code=None if kind is None else kind.code,
            because=_because(campaign, team, standing, kind),
            at=at,
            state=model.page_state(campaign, at),
            units_left=campaign.units_left,
            price_fen=campaign.leader_pays_fen if team is None else campaign.price_fen,
            shopper_seats=standing.seats,
            is_newcomer=standing.is_newcomer,
        )

    async def stats(self, group_buy_id: str, now: datetime) -> GroupBuyStats:
        """Return a campaign in numbers."""
        campaign = await self.find(group_buy_id)
        by_team = await listing.count_teams(self._database, group_buy_id)
        by_seat = await listing.count_seats(self._database, group_buy_id)

        def count(state: str, reason: str | None) -> TeamCount:
            return TeamCount(*by_team.get((state, reason), (0, 0)))

        def seats(*states: str) -> SeatCount:
            found = [by_seat.get(state, (0, 0)) for state in states]
            return SeatCount(sum(number for number, _ in found), sum(paid for _, paid in found))

        complete = sum(number for (state, _), (number, _) in by_team.items() if state == "complete")
        over = sum(number for (state, _), (number, _) in by_team.items() if state != "forming")
        return GroupBuyStats(
            group_buy_id=group_buy_id,
            state=model.page_state(campaign, now),
            units_total=campaign.units_total,
            taken=campaign.taken,
            units_left=campaign.units_left,
            forming=count("forming", None),
            complete_full=count("complete", "full"),
            complete_by_threshold=count("complete", "threshold"),
            complete_by_operator=count("complete", "operator"),
            failed_expired=count("failed", "expired"),
            failed_leader_left=count("failed", "leader_left"),
            failed_by_operator=count("failed", "operator"),
            completion_rate=round(complete / over, 3) if over else None,
            seats_held=seats("held"),
            seats_paid=seats("paid"),
            seats_confirmed=seats("confirmed"),
            seats_refund_due=seats("refund_due"),
            seats_refunded=seats("refunded"),
            seats_lapsed=seats("lapsed"),
            seats_given_back=seats("shopper", "order_closed"),
            server_time=now,
        )


def ended(campaign: GroupBuy, now: datetime) -> GroupBuyEnded:
    """Tell that a campaign is over."""
    return GroupBuyEnded(
        at=now, group_buy_id=campaign.group_buy_id, units_total=campaign.units_total, units_taken=campaign.taken
    )


def _because(campaign: GroupBuy, team: teams.Team | None, standing: teams.ShopperInCampaign, kind: Kind | None) -> str:
    have = f"{campaign.units_left} of {campaign.units_total} units are left; the shopper has {standing.seats} seats"
    of_team = "" if team is None else f"; {team.seats_taken} of {team.team_size} seats of the team are taken"
    why = "A seat would be held." if kind is None else kind.title
    return f"{why} {have} of {campaign.max_per_shopper} allowed{of_team}."


def _check(draft: GroupBuyDraft) -> None:
    if found := model.faults(draft):
        raise invalid(*found)


async def _lock(tx: Tx, group_buy_id: str) -> GroupBuy:
    campaign = await store.lock_campaign(tx, group_buy_id)
    if campaign is None:
        raise Refusal(model.NOT_FOUND)
    return campaign


async def _audit(tx: Tx, act: Act, action: str, before: GroupBuy | None, after: GroupBuy) -> None:
    await audit.record(
        tx,
        act,
        f"group_buy.{action}",
        after.group_buy_id,
        before=before,
        after=after,
    )
