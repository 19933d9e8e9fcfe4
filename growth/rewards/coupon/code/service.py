"""Printed codes: made in batches by operators, redeemed by shoppers, each once."""

from zoneinfo import ZoneInfo

import msgspec

from growth.kit.campaign.audience import Audiences
from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.http.limits import Limiter
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.redis.client import AnyRedis
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.coupon.code import model, store
from growth.rewards.coupon.code.model import CodeBatch, CodeBatchDraft, MadeCodes
from growth.rewards.coupon.code.store import Found
from growth.rewards.coupon.model import Issue
from growth.rewards.coupon.service import told_issued
from growth.rewards.coupon.store import coupons as coupons_store
from growth.rewards.coupon.take import store as takes_store
from growth.rewards.coupon.take.model import TakeAsk
from growth.rewards.coupon.take.service import TakenCoupon, refused, with_audience, with_lives_before
from growth.rewards.coupon.template import model as templates
from growth.rewards.coupon.template import store as templates_store
from growth.rewards.coupon.template.model import CouponTemplate, refused_by_limit, refused_by_template, term_of
from growth.vocabulary.alike import alike
from growth.vocabulary.ids import derived_id, new_id
from growth.vocabulary.refusals import Refusal

REASON = "coupon.code"

TRIES_PER_SECOND = 1 / 6
MAX_TRIES_AT_ONCE = 10
"""Of one shopper: enough for fat fingers and a drawer full of leaflets."""


class Codes:
    """Everything that is done with printed codes."""

    def __init__(self, database: Database, redis: AnyRedis, zone: ZoneInfo, audiences: Audiences) -> None:
        self._database = database
        self._audiences = audiences
        self._zone = zone
        self._tries = Limiter(
            redis, "coupon_code", per_second=TRIES_PER_SECOND, burst=MAX_TRIES_AT_ONCE, guards_secrets=True
        )

    async def make(
        self, act: Act, template_id: str, draft: CodeBatchDraft, key: str | None, content: bytes
    ) -> Once[MadeCodes]:
        """Make a batch and keep its units. The codes are told now and never again, not even for the same `key`.

        Raises `Refusal` 404 for no such template, 409 for one that has ended or has not as many units left.
        """
        codes = model.new_codes(draft.codes)
        async with self._database.transaction() as tx:

            async def work() -> MadeCodes:
                template = await _lock(tx, template_id)
                if template.state == "ended":
                    raise Refusal(templates.WRONG_STATE, "The template has ended.", state=template.state)
                made = {"batch_id": new_id(act.now), "template_id": template_id, "made_at": act.now}
                batch = alike(CodeBatch, draft, redeemed=0, revoked_at=None, **made)
                if not await store.add_batch(tx, batch, model.hashes_of(codes)):
                    raise Refusal(
                        model.TOO_MANY, f"{template.units_left} units are left.", units_left=template.units_left
                    )
                await audit.record(tx, act, "coupon_codes.make", batch.batch_id, after=batch)
                return MadeCodes(batch=batch, codes=[])

            scope = f"{act.operator.name} POST coupon-templates/{template_id}/code-batches"
            made = await once(tx, scope=scope, key=key, content=content, answer_type=MadeCodes, work=work, now=act.now)
        if made.replayed:
            return made
        told = [model.printed(code) for code in codes]
        return Once(msgspec.structs.replace(made.answer, codes=told), replayed=False)

    async def page(self, template_id: str, before: str | None, limit: int) -> list[CodeBatch]:
        """Return a template's batches, newest first."""
        return await store.page_of_batches(self._database, template_id, before, limit)

    async def revoke(self, act: Act, batch_id: str) -> CodeBatch:
        """Make what is left of a batch worth nothing, and free its units. Raises `Refusal` 404 and 409."""
        async with self._database.transaction() as tx:
            before = await store.find_batch(tx, batch_id)
            if before is None:
                raise Refusal(model.BATCH_NOT_FOUND)
            await _lock(tx, before.template_id)
            after = await store.revoke_batch(tx, batch_id, act.now)
            if after is None:
                raise Refusal(model.BATCH_REVOKED)
            await audit.record(tx, act, "coupon_codes.revoke", batch_id, before=before, after=after)
        return after

    async def redeem(self, text: str, user_id: str) -> TakenCoupon:
        """Turn a code into a coupon; again, by the same shopper, the same coupon.

        Raises `Refusal`: 404 for every code that this shopper cannot redeem, whatever the reason; 409 where the code is
        good and its template is not, or the shopper has as many as are allowed; 429 for too many tries.
        """
        await self._tries.take(user_id)
        code = model.read_code(text)
        if code is None:
            raise Refusal(model.CODE_NOT_FOUND)
        code_hash = model.hash_of(code)
        async with self._database.transaction(people=[user_id]) as tx:
            found = await _find(tx, code_hash)
            template = await _lock(tx, found.template_id)
            # Under the lock: whoever was quicker has committed.
            found = await _find(tx, code_hash)
            coupon_id = derived_id(found.template_id, "code", code_hash.hex())
            seen = await takes_store.look(tx, [TakeAsk(coupon_id, found.template_id, user_id)])
            if found.coupon_id is not None:
                mine = seen.coupons.get(found.coupon_id)
                if mine is None or mine.user_id != user_id:
                    raise Refusal(model.CODE_NOT_FOUND)
                return TakenCoupon(mine, template, seen.now, replayed=True)
            day = seen.now.astimezone(self._zone).date()
            pair = (found.template_id, user_id)
            standings = await with_lives_before(tx, [pair], seen.standings(day), day)
            standing = (await with_audience(tx, self._audiences, {template.template_id: template}, standings))[pair]
            kind = refused_by_template(template, seen.now, by_code=True) or refused_by_limit(template, standing)
            if kind is not None:
                raise refused(kind, template, standing, seen.now)
            wish = Issue(coupon_id=coupon_id, template_id=found.template_id, user_id=user_id, reason=REASON)
            row = coupons_store.row_of(wish, 0, term_of(template, seen.now))
            complete = await store.redeem(tx, code_hash, row, seen.now, day)
            assert complete, "the template is locked, so what was allowed still is"
            await emit(tx, told_issued(row, "code", seen.now))
        return TakenCoupon(coupons_store.new_coupon(row, "code", seen.now), template, seen.now, replayed=False)


async def _find(tx: Tx, code_hash: bytes) -> Found:
    found = await store.find_code(tx, code_hash)
    if found is None or (found.is_revoked and found.coupon_id is None):
        raise Refusal(model.CODE_NOT_FOUND)
    return found


async def _lock(tx: Tx, template_id: str) -> CouponTemplate:
    template = (await templates_store.lock_templates(tx, [template_id])).get(template_id)
    if template is None:
        raise Refusal(templates.NOT_FOUND)
    return template
