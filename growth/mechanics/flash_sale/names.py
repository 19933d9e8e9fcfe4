"""What Redis holds of a sale by shoppers' names: read in pages, and corrected by the piece."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from growth.mechanics.flash_sale.stock import SCAN_COUNT, Face, text
from growth.plumbing.redis.lua import Script
from growth.vocabulary.clock import from_milliseconds

MAX_NAMES_A_CALL = 5_000

THIN = Script.beside(__file__, "thin.lua")
FORGET = Script.beside(__file__, "forget.lua")


class SaleNames(Face):
    """Shoppers, winners, allow-list and waits of a sale. Methods raise `Unavailable`."""

    async def known_shoppers(self, sale_id: str) -> AsyncIterator[dict[str, int]]:
        """Yield who holds how many units, in pages; 0 of those who gave all back."""
        async for page in self._hash_pages(sale_id, "shoppers"):
            yield {user_id: int(units) for user_id, units in page.items()}

    async def winners(self, sale_id: str, limit: int) -> list[str]:
        """Return the first `limit` of the list of winners, oldest first; "" where somebody was forgotten."""
        return [text(user_id) for user_id in await self._command("LRANGE", sale_id, "winners", 0, limit - 1)]

    async def thin(self, sale_id: str) -> None:
        """Leave in the list of winners those who hold units, each once, and forget the zeros of the others.

        Costs Redis a step for each shopper of the sale.
        """
        await self._run(THIN, self._keys(sale_id, "sale", "shoppers", "winners"), [])

    async def forget_shoppers(self, sale_id: str, user_ids: Sequence[str]) -> None:
        """Leave nothing of shoppers by their names, except units that claims hold: those follow their claims."""
        keys = self._keys(sale_id, "shoppers", "winners", "cooldowns", "allowed", "due")
        for at in range(0, len(user_ids), MAX_NAMES_A_CALL):
            await self._run(FORGET, keys, user_ids[at : at + MAX_NAMES_A_CALL])

    async def known_allowed(self, sale_id: str) -> AsyncIterator[list[str]]:
        """Yield the allow-list, in pages."""
        cursor: int | bytes = 0
        while True:
            cursor, found = await self._command("SSCAN", sale_id, "allowed", cursor, "COUNT", SCAN_COUNT)
            if found:
                yield [text(user_id) for user_id in found]
            if int(cursor) == 0:
                return

    async def not_allowed(self, sale_id: str, user_ids: Sequence[str]) -> list[str]:
        """Return those of `user_ids` who are not on the allow-list."""
        found = await self._command("SMISMEMBER", sale_id, "allowed", *user_ids)
        return [user_id for user_id, is_there in zip(user_ids, found, strict=True) if not is_there]

    async def disinvite(self, sale_id: str, user_ids: Sequence[str]) -> None:
        """Take shoppers from the allow-list."""
        await self._command("SREM", sale_id, "allowed", *user_ids)

    async def known_waits(self, sale_id: str) -> AsyncIterator[dict[str, datetime]]:
        """Yield until when shoppers are kept out, in pages."""
        async for page in self._hash_pages(sale_id, "cooldowns"):
            yield {user_id: from_milliseconds(int(until_ms)) for user_id, until_ms in page.items()}

    async def waits_of(self, sale_id: str, user_ids: Sequence[str]) -> list[datetime | None]:
        """Return until when each of `user_ids` is kept out."""
        found = await self._command("HMGET", sale_id, "cooldowns", *user_ids)
        return [None if value is None else from_milliseconds(int(text(value))) for value in found]

    async def end_waits(self, sale_id: str, user_ids: Sequence[str]) -> None:
        """Let shoppers in who were kept out for a while."""
        await self._command("HDEL", sale_id, "cooldowns", *user_ids)
