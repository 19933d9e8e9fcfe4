"""Settles invitees again when something else is told of them than an order: when they registered, or who they are."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from growth.mechanics.referral.reward import store
from growth.mechanics.referral.settlement import InviteeSettlement
from growth.plumbing.outbox.outbox import Envelope, types_of
from growth.plumbing.postgres.database import Tx
from growth.vocabulary.events.shop import ShopRegistrationCorrected, ShopShopperRegistered

LISTENS_TO = types_of(ShopShopperRegistered, ShopRegistrationCorrected)


class Again:
    """What invitees and their inviters have is brought to the facts as they are now; a second time changes nothing."""

    def __init__(self, zone: str) -> None:
        """`zone` is the merchant's, whose days and months count."""
        self._settlement = InviteeSettlement(ZoneInfo(zone))

    async def hear(self, tx: Tx, envelopes: Sequence[Envelope]) -> None:
        """Look again whether invitees were new when bound, now that the shop told when they registered."""
        told = {
            one.event.user_id: one.event.at
            for one in envelopes
            if isinstance(one.event, ShopShopperRegistered | ShopRegistrationCorrected)
        }
        for user_id in await store.invitees_among(tx, list(told)):
            await self._settlement.settle_invitee(tx, user_id, told[user_id])

    async def settle_united(self, tx: Tx, user_id: str, now: datetime) -> None:
        """Settle all orders of a shopper whose two ids were merged. After every room has merged them."""
        await self._settlement.settle_united(tx, user_id, now)
