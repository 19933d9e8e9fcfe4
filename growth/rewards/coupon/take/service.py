"""Shoppers take coupons: who asks at the same time is decided in one transaction, under the locks of the templates."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct
from prometheus_client import Counter

from growth.kit.campaign.audience import Audiences, Candidate
from growth.plumbing.http.idempotency import OTHER_CONTENT, is_kept, later_names
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Reader
from growth.plumbing.work.decide import Decisions
from growth.rewards.coupon.model import Coupon, Issue
from growth.rewards.coupon.service import told_issued
from growth.rewards.coupon.store import coupons as coupons_store
from growth.rewards.coupon.store.coupons import Row
from growth.rewards.coupon.take import store
from growth.rewards.coupon.take.model import (
    TakeAsk,
    TemplatePage,
    show_template,
    taken_of,
    taken_on,
)
from growth.rewards.coupon.take.store import TakeBatch
from growth.rewards.coupon.template import model as templates
from growth.rewards.coupon.template import store as templates_store
from growth.rewards.coupon.template.model import CouponTemplate, TakenSoFar, refusal_of, term_of
from growth.vocabulary.audience import NOT_IN_AUDIENCE
from growth.vocabulary.ids import child_id, derived_id
from growth.vocabulary.refusals import Kind, Refusal

MAX_BATCH_ASKS = 256
MAX_QUEUE_ASKS = 4_096
"""What a process decides in about a second. More waiting would only be late."""

REASON = "coupon.taken"

TAKEN = Counter("growth_coupon_taken_total", "Coupons that shoppers took")
REFUSED = Counter("growth_coupon_refused", "Coupons refused, by reason", ["reason"])


class TakenCoupon(Struct, frozen=True):
    """A coupon that Postgres has."""

    coupon: Coupon
    template: CouponTemplate
    at: datetime
    replayed: bool
    """It had been given before, under the same Idempotency-Key."""


class Takes:
    """What shoppers may take, and taking it."""

    def __init__(self, database: Database, zone: ZoneInfo, audiences: Audiences) -> None:
        self._database = database
        self._zone = zone
        self._audiences = audiences
        self._takes: Decisions[TakeAsk, TakenCoupon] = Decisions(
            "coupon.takes",
            self._commit,
            person_of=lambda ask: ask.user_id,
            id_of=lambda ask: ask.coupon_id,
            replayed=lambda taken: msgspec.structs.replace(taken, replayed=True),
            max_batch=MAX_BATCH_ASKS,
            max_queue=MAX_QUEUE_ASKS,
        )

    async def drain(self) -> None:
        """Wait until everyone who asked has an answer."""
        await self._takes.calls.drain()

    def day_of(self, now: datetime) -> date:
        """Return the merchant's day."""
        return now.astimezone(self._zone).date()

    async def take(self, template_id: str, user_id: str, key: str | None, token_id: str | None = None) -> TakenCoupon:
        """Take a coupon; when this returns, it is committed.

        The same `key` (Idempotency-Key) names the same coupon for a day, under the id that the shopper's token names
        (`token_id`), also when that has been merged since. Raises `Refusal` with the reason, and `Unavailable` when
        Postgres does not answer: asking again with the same key is safe.
        """
        asked_as = await self._database.people.life(self._database, token_id or user_id) if key else ""
        coupon_id = derived_id(template_id, asked_as, key) if key else child_id(template_id)
        try:
            taken = await self._takes.calls(TakeAsk(coupon_id, template_id, user_id))
            if key and (names := later_names(key, taken.coupon.issued_at, taken.at)):
                before, today = (derived_id(template_id, asked_as, name) for name in names)
                known = (await coupons_store.find_coupons(self._database, [before])).get(before)
                kept = known is not None and is_kept(known.issued_at, taken.at)
                taken = await self._takes.calls(TakeAsk(before if kept else today, template_id, user_id))
        except Refusal as refusal:
            REFUSED.labels(refusal.kind.code).inc()
            raise
        TAKEN.inc(not taken.replayed)
        return taken

    async def on_offer(self, user_id: str, now: datetime) -> list[TemplatePage]:
        """Return what shoppers may take, now or soon, as this one sees it; newest first."""
        found = await templates_store.claimable_templates(self._database, now)
        day = self.day_of(now)
        mine = await self._standings({one.template_id: one for one in found}, user_id, day)
        pages = [show_template(one, mine[one.template_id], now, day) for one in found]
        return [page for page in pages if page.state != "ended"]

    async def find(self, template_id: str, user_id: str, now: datetime) -> TemplatePage:
        """Return one template as a shopper sees it. Raises `Refusal` 404 for drafts, and for what cannot be taken."""
        found = (await templates_store.find_templates(self._database, [template_id])).get(template_id)
        if found is None or found.published_at is None or not found.claimable:
            raise Refusal(templates.NOT_FOUND)
        day = self.day_of(now)
        mine = await self._standings({template_id: found}, user_id, day)
        return show_template(found, mine[template_id], now, day)

    async def _standings(self, found: Mapping[str, CouponTemplate], user_id: str, day: date) -> dict[str, TakenSoFar]:
        known = await templates_store.standings(self._database, list(found), user_id, day)
        taken = {(template_id, user_id): known.get(template_id, TakenSoFar()) for template_id in found}
        mine = await with_lives_before(self._database, taken, taken, day)
        mine = await with_audience(self._database, self._audiences, found, mine)
        return {template_id: standing for (template_id, _), standing in mine.items()}

    # --- a batch of asks ----------------------------------------------------------------------------------------------

    async def _commit(self, asks: Sequence[TakeAsk]) -> Sequence[TakenCoupon | BaseException]:
        async with self._database.transaction(people={ask.user_id for ask in asks}) as tx:
            found = await templates_store.lock_templates(tx, sorted({ask.template_id for ask in asks}))
            seen = await store.look(tx, asks)
            day = self.day_of(seen.now)
            pairs = {(ask.template_id, ask.user_id) for ask in asks}
            standings = await with_lives_before(tx, pairs, seen.standings(day), day)
            standings = await with_audience(tx, self._audiences, found, standings)
            answers, rows = judge(asks, found, seen, standings, day)
            if rows:
                complete = await store.take(tx, rows, seen.now, day)
                assert complete, "the templates are locked, so what was free still is"
                asked_by = {ask.coupon_id: self._takes.calls.request_id_of(ask) for ask in asks}
                await emit(
                    tx,
                    *[told_issued(row, "taken", seen.now) for row in rows],
                    request_ids=[asked_by[row.coupon_id] for row in rows],
                )
        return [answers[ask.coupon_id] for ask in asks]


async def with_lives_before(
    reader: Reader, pairs: Iterable[tuple[str, str]], taken: Mapping[tuple[str, str], TakenSoFar], day: date
) -> dict[tuple[str, str], TakenSoFar]:
    """Return what was taken by pairs of template and shopper, with what a shopper took who was erased and is back."""
    asked = {
        (template_id, user_id): ((user_id, taken_of(template_id)), (user_id, taken_on(template_id, day)))
        for template_id, user_id in pairs
    }
    had = await reader.people.units_had(reader, [what for whats in asked.values() for what in whats])
    standings = {pair: taken.get(pair, TakenSoFar()) for pair in asked}
    for pair, (in_all, on_day) in asked.items() if had else ():
        mine = standings[pair]
        standings[pair] = TakenSoFar(mine.taken + had.get(in_all, 0), mine.taken_today + had.get(on_day, 0))
    return standings


async def with_audience(
    reader: Reader,
    audiences: Audiences,
    found: Mapping[str, CouponTemplate],
    standings: dict[tuple[str, str], TakenSoFar],
) -> dict[tuple[str, str], TakenSoFar]:
    """Return standings by template and shopper, with what of its audience each does not meet."""
    audience = {template_id: one.audience for template_id, one in found.items() if one.audience}
    if not audience:
        return standings
    asked = {pair: Candidate(audience[pair[0]], pair[1]) for pair in standings if pair[0] in audience}
    missed = await audiences.outside(reader, asked)
    return {pair: msgspec.structs.replace(one, missed=missed.get(pair)) for pair, one in standings.items()}


def judge(
    asks: Sequence[TakeAsk],
    found: dict[str, CouponTemplate],
    seen: TakeBatch,
    standings: Mapping[tuple[str, str], TakenSoFar],
    day: date,
) -> tuple[dict[str, TakenCoupon | BaseException], list[Row]]:
    """Say what each ask gets, one after the other, and what is to be written for those that get a coupon."""
    answers: dict[str, TakenCoupon | BaseException] = {}
    standing = dict(standings)
    now_of = dict(found)
    rows: list[Row] = []
    for place, ask in enumerate(asks):
        template, pair = now_of.get(ask.template_id), (ask.template_id, ask.user_id)
        known = seen.coupons.get(ask.coupon_id)
        if template is None or template.state == "draft":
            answers[ask.coupon_id] = Refusal(templates.NOT_FOUND)
            continue
        if known is not None:
            answers[ask.coupon_id] = (
                TakenCoupon(known, template, seen.now, replayed=True)
                if known.user_id == ask.user_id
                # An erased shopper's, whose id this one has now.
                else Refusal(OTHER_CONTENT)
            )
            continue
        mine = standing[pair]
        kind = refusal_of(template, mine, seen.now, day)
        if kind is not None:
            answers[ask.coupon_id] = refused(kind, template, mine, seen.now)
            continue
        standing[pair] = TakenSoFar(mine.taken + 1, mine.taken_today + 1)
        now_of[ask.template_id] = msgspec.structs.replace(
            template, issued=template.issued + 1, taken_day=day, taken_on_day=template.taken_on(day) + 1
        )
        wish = Issue(coupon_id=ask.coupon_id, template_id=ask.template_id, user_id=ask.user_id, reason=REASON)
        row = coupons_store.row_of(wish, place, term_of(template, seen.now))
        rows.append(row)
        coupon = coupons_store.new_coupon(row, "taken", seen.now)
        answers[ask.coupon_id] = TakenCoupon(coupon, template, seen.now, replayed=False)
    return answers, rows


def refused(kind: Kind, template: CouponTemplate, standing: TakenSoFar, now: datetime) -> Refusal:
    """Return (to be raised or told) a refusal with what helps to understand it."""
    refusal = Refusal(kind, server_time=now)
    if kind is templates.NOT_OPEN:
        refusal.members["opens_at"] = template.opens_at
    elif kind is templates.LIMIT_REACHED:
        refusal.members |= {"max_per_shopper": template.max_per_shopper, "taken": standing.taken}
    elif kind is NOT_IN_AUDIENCE:
        refusal.members["condition"] = standing.missed
    elif kind is templates.LIMIT_REACHED_TODAY:
        refusal.members["max_per_shopper_per_day"] = template.max_per_shopper_per_day
    return refusal
