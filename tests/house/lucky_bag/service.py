"""What is done with lucky bags: operators' part is the kit's, a shopper opens one."""

from datetime import datetime

from growth.kit.campaign.service import Campaigns
from growth.plumbing.outbox.outbox import emit
from growth.rewards.granting import service as granting
from growth.rewards.granting.model import Grant
from growth.vocabulary.refusals import Refusal
from growth.vocabulary.rewards import PointsReward
from tests.house.lucky_bag import model, store
from tests.house.lucky_bag.events import LuckyBagOpened
from tests.house.lucky_bag.model import LUCKY_BAGS, LuckyBag, LuckyBagDraft, LuckyBagPage


class LuckyBags(Campaigns[LuckyBagDraft, LuckyBag]):
    """The room's service."""

    kind = LUCKY_BAGS

    async def open(self, lucky_bag_id: str, user_id: str, now: datetime) -> LuckyBagPage:
        """Open a bag; again: the same. Raises `Refusal` 404, or 409 when there is none to open."""
        async with self._database.transaction(people=[user_id]) as tx:
            bag = await self.lock(tx, lucky_bag_id)
            if not await store.opened_by(tx, user_id, lucky_bag_id):
                if not await store.take(tx, lucky_bag_id, user_id, now):
                    is_live = bag.state == "published" and now < bag.closes_at
                    raise Refusal(model.SOLD_OUT if is_live else model.NOT_LIVE)
                life = (await tx.people.life(tx, user_id)).replace("\n", ":")
                grant = Grant(
                    user_id=user_id,
                    reward=PointsReward(points=bag.points),
                    reason="lucky_bag.opened",
                    key=f"lucky_bag:{lucky_bag_id}:{life}",
                )
                await granting.grant(tx, [grant], now)
                await emit(tx, LuckyBagOpened(at=now, lucky_bag_id=lucky_bag_id, user_id=user_id, points=bag.points))
        return await self.show(lucky_bag_id, user_id)

    async def show(self, lucky_bag_id: str, user_id: str) -> LuckyBagPage:
        """Return the page of a campaign that shoppers may see. Raises `Refusal` 404."""
        bag = await self.find(lucky_bag_id)
        if bag.state == "draft":
            raise Refusal(model.NOT_FOUND)
        return LuckyBagPage(
            lucky_bag_id=lucky_bag_id,
            title=bag.title,
            points=bag.points,
            units_left=bag.units_total - bag.taken,
            opened=bool(await store.opened_by(self._database, user_id, lucky_bag_id)),
        )
