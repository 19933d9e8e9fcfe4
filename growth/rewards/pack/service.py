"""Gives the pack to whoever registers, and lets operators say what is in it."""

from collections import Counter
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from growth.plumbing.outbox.outbox import Envelope, types_of
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.coupon.service import templates_gone
from growth.rewards.granting import service as granting
from growth.rewards.granting.service import require_admin_for_money
from growth.rewards.pack import model, store
from growth.rewards.pack.model import Pack, PackDraft, PackPage, grants_of, is_new
from growth.vocabulary.events.shop import ShopRegistrationCorrected, ShopShopperRegistered
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal

PACK = "pack"
"""What is remembered of an erased shopper who had it."""
LISTENS_TO = types_of(ShopShopperRegistered, ShopRegistrationCorrected)


class Packs:
    """The new-shopper pack."""

    def __init__(self, database: Database, zone: ZoneInfo) -> None:
        self._database = database
        self._zone = zone

    async def give(self, tx: Tx, envelopes: Sequence[Envelope]) -> None:
        """Give the pack to those who just registered, each once. Handles what the outbox tells, exactly once."""
        pack = await store.find(tx)
        if not pack.enabled:
            return
        told = [
            one.event for one in envelopes if isinstance(one.event, ShopShopperRegistered | ShopRegistrationCorrected)
        ]
        # By the time at which the shop told: a subscriber that lags makes nobody old. A correction makes new whom the
        # time told before did not; what was given stays, since it was given for what was then known.
        new = [
            event
            for event in told
            if is_new(pack, event.registered_at, event.at)
            and not (isinstance(event, ShopRegistrationCorrected) and is_new(pack, event.was_registered_at, event.at))
        ]
        # Erasing and coming back is no second welcome, for as long as that is remembered.
        had = await tx.people.had(tx, {event.user_id for event in new}, PACK)
        new = [event for event in new if event.user_id not in had]
        if not new:
            return
        now = max(event.at for event in new)
        fresh = await store.add_recipients(tx, [event.user_id for event in new], len(pack.rewards), now)
        grants = [one for user_id in fresh for one in grants_of(pack, user_id, new_id(now))]
        answers = await granting.grant(tx, grants, now)
        given = Counter(one.user_id for one, told in zip(grants, answers, strict=True) if told.outcome == "granted")
        if given:
            await store.note_given(tx, given)

    async def page(self) -> PackPage:
        """Return the pack, and how many had it."""
        pack = await store.find(self._database)
        shoppers, given, missed = await store.counts(self._database)
        return PackPage(pack=pack, shoppers=shoppers, rewards_given=given, rewards_missed=missed)

    async def change(self, act: Act, version: int, draft: PackDraft) -> Pack:
        """Change the pack, still at `version`. Raises `Refusal`: 400 for what is wrong with it, 412 for an older one.

        Who had the pack before does not get the new one.
        """
        async with self._database.transaction() as tx:
            if found := model.faults(draft, await templates_gone(tx, model.coupons_in(draft))):
                raise invalid(*found)
            before = await store.find(tx)
            require_admin_for_money(act, before, draft)
            after = await store.change(tx, version, draft, act.now)
            if after is None:
                current = (await store.find(tx)).version
                raise Refusal(model.VERSION_MISMATCH, f"It is at version {current}.", version=current)
            if draft.budget is not None:
                await granting.set_budget(tx, model.BUDGET_ID, draft.budget, self._zone.key)
            await audit.record(
                tx,
                act,
                "pack.change",
                "new-shopper-pack",
                before=before,
                after=after,
            )
        return after
