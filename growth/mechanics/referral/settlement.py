"""The referrals' part in orders: relations first, then the money, which asks them which order is an invitee's first."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from growth.mechanics.referral.commission.settlement import CommissionSettlement
from growth.mechanics.referral.reward import store
from growth.mechanics.referral.reward.settlement import ReferralSettlement
from growth.plumbing.outbox.outbox import Envelope, types_of
from growth.plumbing.postgres.database import Tx
from growth.vocabulary.events.shop import ShopRegistrationCorrected, ShopShopperRegistered
from growth.vocabulary.orders import LineOutcome, Order

LISTENS_TO = types_of(ShopShopperRegistered, ShopRegistrationCorrected)


class InviteeSettlement:
    """Takes part in orders: brings what an invitee's orders earn to what they say, in two steps.

    It does so again when something else is told of invitees: when they registered, or who they are. A second time
    changes nothing.
    """

    kinds: frozenset[str] = frozenset()

    def __init__(self, zone: ZoneInfo) -> None:
        """`zone` is the merchant's, whose days and months count."""
        self._relations = ReferralSettlement(zone)
        self._commissions = CommissionSettlement(zone)

    def may_concern(self, order: Order) -> bool:
        """Say that whatever was paid may be an invitee's."""
        return order.is_paid

    async def settle(self, tx: Tx, orders: Sequence[Order], now: datetime) -> Mapping[str, Sequence[LineOutcome]]:
        """Settle the orders of those who have, or had, an inviter; no line is ever refused for it.

        In the order in which they are told: an inviter's caps are for who comes first.
        """
        invitees = await store.invitees_among(tx, [one.user_id for one in orders if one.user_id is not None])
        if not invitees:
            return {}
        await store.take_inviters_turns(tx, invitees)
        theirs = [order for order in orders if order.user_id in invitees]
        for invitee_id in dict.fromkeys(order.user_id for order in theirs):
            assert invitee_id is not None
            await self._relations.settle_invitee(tx, invitee_id, now)
        await self._commissions.settle_orders(tx, theirs, now)
        return {}

    async def hear(self, tx: Tx, envelopes: Sequence[Envelope]) -> None:
        """Look again whether invitees were new when bound, now that the shop told when they registered."""
        told = {
            one.event.user_id: one.event.at
            for one in envelopes
            if isinstance(one.event, ShopShopperRegistered | ShopRegistrationCorrected)
        }
        for user_id in await store.invitees_among(tx, list(told)):
            await self.settle_invitee(tx, user_id, told[user_id])

    async def settle_invitee(self, tx: Tx, invitee_id: str, now: datetime) -> None:
        """Settle what an invitee's orders earn once more: what is known of the invitee changed."""
        await self._relations.settle_invitee(tx, invitee_id, now)
        await self._commissions.settle_invitee(tx, invitee_id, now)

    async def settle_united(self, tx: Tx, user_id: str, now: datetime) -> None:
        """Settle all orders of a shopper whose two ids were merged. After every room has merged them."""
        await self._relations.settle_invitee(tx, user_id, now)
        await self._commissions.settle_united(tx, user_id, now)
