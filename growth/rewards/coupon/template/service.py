"""What operators do with templates. Each write is one transaction with its audit entry."""

from collections.abc import Callable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from msgspec import Struct

from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.coupon.store import listing
from growth.rewards.coupon.take import store as takes_store
from growth.rewards.coupon.take.model import TakenSoFar, refusal_of
from growth.rewards.coupon.template import model, store
from growth.rewards.coupon.template.model import CouponDraft, CouponTemplate, FixedOff, term_of
from growth.vocabulary.events import Event
from growth.vocabulary.events.coupon import (
    CouponTemplateEnded,
    CouponTemplatePaused,
    CouponTemplatePublished,
    CouponTemplateResumed,
)
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Kind, Refusal


class CouponDryRun(Struct, frozen=True, kw_only=True):
    """What taking a coupon would get, without doing it."""

    would: str
    """`take` or `refuse`."""
    code: str | None
    because: str
    at: datetime
    state: model.PageState
    units_left: int
    taken_by_shopper: int
    valid_from: datetime | None
    """Of the coupon that would be issued then; null if it would be over already."""
    valid_until: datetime | None
    would_be_granted: bool
    """Whether a campaign that grants one then would get it; limits and window aside."""


class CouponStats(Struct, frozen=True, kw_only=True):
    """Coupons of one template in numbers, as they stand."""

    template_id: str
    state: model.PageState
    units_total: int
    units_left: int
    codes_left: int
    """Units kept for printed codes that nobody has redeemed yet."""
    issued: int
    """Coupons there ever were: the sum of the five below."""
    outstanding: int
    """Unused, in shoppers' hands."""
    locked: int
    used: int
    expired: int
    voided: int
    use_rate: float | None
    """Used among issued, 0 to 1, three digits; null before any was issued."""
    paid_fen: int
    """Paid for the lines that coupons were used on, after the discount."""
    outstanding_max_fen: int | None
    """What outstanding and locked coupons can take off at most; null where a share is taken off without a bound."""
    discount_max_fen: int | None
    """What used coupons took off at most; the shop alone knows exactly. Null as above."""
    server_time: datetime


class Templates:
    """The operators' side of coupons."""

    def __init__(self, database: Database, zone: ZoneInfo) -> None:
        self._database = database
        self._zone = zone

    async def create(self, act: Act, draft: CouponDraft, key: str | None, content: bytes) -> Once[CouponTemplate]:
        """Make a draft. Raises `Refusal` 400 for fields that do not fit together."""
        _check(draft)

        async with self._database.transaction() as tx:

            async def work() -> CouponTemplate:
                template = await store.add_template(tx, new_id(act.now), draft, act.now)
                await _audit(tx, act, "create", None, template)
                return template

            scope = f"{act.operator.name} POST coupon-templates"
            return await once(
                tx, scope=scope, key=key, content=content, answer_type=CouponTemplate, work=work, now=act.now
            )

    async def find(self, template_id: str) -> CouponTemplate:
        """Return a template in any state. Raises `Refusal` 404."""
        template = (await store.find_templates(self._database, [template_id])).get(template_id)
        if template is None:
            raise Refusal(model.NOT_FOUND)
        return template

    async def page(self, *, state: str | None, before: str | None, limit: int) -> list[CouponTemplate]:
        """Return templates, newest first."""
        return await store.page_of_templates(self._database, state=state, before=before, limit=limit)

    async def change(self, act: Act, template_id: str, version: int, draft: CouponDraft) -> CouponTemplate:
        """Edit a template still at `version`. Raises `Refusal`: 412 for an older one, 409 for a locked field."""
        _check(draft)
        async with self._database.transaction() as tx:
            before = await _lock(tx, template_id)
            if before.version != version:
                raise Refusal(model.VERSION_MISMATCH, f"It is at version {before.version}.", version=before.version)
            model.check_edit(before, draft)
            after = await store.change_template(tx, template_id, version, draft)
            assert after is not None, "locked, so nobody else changed it"
            await _audit(tx, act, "change", before, after)
        return after

    async def publish(self, act: Act, template_id: str) -> CouponTemplate:
        """Let coupons of a draft be given. Raises `Refusal` 409 if they would be over already."""

        def published(after: CouponTemplate) -> Event:
            if term_of(after, act.now) is None:
                raise Refusal(model.WRONG_STATE, "Its dates are over; change validity first.")
            return CouponTemplatePublished(
                at=act.now, template_id=template_id, title=after.title, claimable=after.claimable
            )

        return await self._move(act, template_id, ("draft",), "published", "publish", published)

    async def pause(self, act: Act, template_id: str) -> CouponTemplate:
        """Stop new coupons at once, also those that campaigns grant; what shoppers have is as good as before."""
        event = CouponTemplatePaused(at=act.now, template_id=template_id)
        return await self._move(act, template_id, ("published",), "paused", "pause", lambda _: event)

    async def resume(self, act: Act, template_id: str) -> CouponTemplate:
        """Let coupons be given again."""
        event = CouponTemplateResumed(at=act.now, template_id=template_id)
        return await self._move(act, template_id, ("paused",), "published", "resume", lambda _: event)

    async def end(self, act: Act, template_id: str) -> CouponTemplate:
        """End a template for good: no new coupons. What shoppers have is as good as before."""
        states = ("draft", "published", "paused")
        return await self._move(act, template_id, states, "ended", "end", lambda after: template_ended(after, act.now))

    async def _move(
        self,
        act: Act,
        template_id: str,
        from_states: Sequence[str],
        to_state: str,
        action: str,
        told: Callable[[CouponTemplate], Event],
    ) -> CouponTemplate:
        """Take a step, and tell of the template as it is then: locked, so nobody edits it meanwhile."""
        async with self._database.transaction() as tx:
            before = await _lock(tx, template_id)
            after = await store.move_template(tx, template_id, from_states, to_state, act.now)
            if after is None:
                detail = f"Cannot {action} a template that is {before.state}."
                raise Refusal(model.WRONG_STATE, detail, state=before.state)
            await _audit(tx, act, action, before, after)
            await emit(tx, told(after))
        return after

    async def dry_run(self, template_id: str, user_id: str, at: datetime) -> CouponDryRun:
        """Say what taking one at `at` would get, with today's quota, and why; nothing is changed."""
        user_id = await self._database.people.today(self._database, user_id)
        template = await self.find(template_id)
        day = at.astimezone(self._zone).date()
        standing = (await takes_store.standings(self._database, [template_id], user_id, day)).get(
            template_id, TakenSoFar()
        )
        kind = refusal_of(template, standing, at, day)
        term = term_of(template, at)
        return CouponDryRun(
            would="refuse" if kind else "take",
            code=None if kind is None else kind.code,
            because=_because(template, standing, kind),
            at=at,
            state=model.page_state(template, at),
            units_left=template.units_left,
            taken_by_shopper=standing.taken,
            valid_from=None if term is None else term.valid_from,
            valid_until=None if term is None else term.valid_until,
            would_be_granted=template.state == "published" and template.units_left > 0 and term is not None,
        )

    async def stats(self, template_id: str, now: datetime) -> CouponStats:
        """Return a template's coupons in numbers."""
        template = await self.find(template_id)
        counts = await listing.count_coupons(self._database, template_id)

        def count(state: str) -> int:
            return counts.get(state, (0, 0))[0]

        issued = sum(number for number, _ in counts.values())
        each_fen = _max_off_fen(template)
        return CouponStats(
            template_id=template_id,
            state=model.page_state(template, now),
            units_total=template.units_total,
            units_left=template.units_left,
            codes_left=template.codes_left,
            issued=issued,
            outstanding=count("issued"),
            locked=count("locked"),
            used=count("used"),
            expired=count("expired"),
            voided=count("voided"),
            use_rate=round(count("used") / issued, 3) if issued else None,
            paid_fen=counts.get("used", (0, 0))[1],
            outstanding_max_fen=None if each_fen is None else each_fen * (count("issued") + count("locked")),
            discount_max_fen=None if each_fen is None else each_fen * count("used"),
            server_time=now,
        )


def _max_off_fen(template: CouponTemplate) -> int | None:
    discount = template.discount
    return discount.off_fen if isinstance(discount, FixedOff) else discount.max_off_fen


def template_ended(template: CouponTemplate, now: datetime) -> CouponTemplateEnded:
    """Tell that no more coupons come of a template."""
    return CouponTemplateEnded(
        at=now, template_id=template.template_id, units_total=template.units_total, issued=template.issued
    )


def _because(template: CouponTemplate, standing: TakenSoFar, kind: Kind | None) -> str:
    why = "A coupon would be issued." if kind is None else kind.title
    return (
        f"{why} {template.units_left} of {template.units_total} units are left; "
        f"the shopper took {standing.taken} of {template.max_per_shopper} allowed."
    )


def _check(draft: CouponDraft) -> None:
    if found := model.faults(draft):
        raise invalid(*found)


async def _lock(tx: Tx, template_id: str) -> CouponTemplate:
    template = (await store.lock_templates(tx, [template_id])).get(template_id)
    if template is None:
        raise Refusal(model.NOT_FOUND)
    return template


async def _audit(tx: Tx, act: Act, action: str, before: CouponTemplate | None, after: CouponTemplate) -> None:
    await audit.record(
        tx,
        act,
        f"coupon_template.{action}",
        after.template_id,
        before=before,
        after=after,
    )
