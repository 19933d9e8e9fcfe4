"""Sales that draw, and what both sides say about them."""

import asyncio
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from growth.mechanics.flash_sale.claim.draw.model import DRAW_DELAY, DrawEntry
from growth.mechanics.flash_sale.claim.draw.service import Draws
from growth.mechanics.flash_sale.model import Protection, Sale
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.postgres.database import Database
from growth.vocabulary.clock import now
from tests import world
from tests.kit.turn import leading_at
from tests.mechanics.flash_sale.conftest import Room

DRAW_SECONDS = 60


async def put_draw(database: Database, **changes: Any) -> Sale:
    """A sale with ten units that opened half a minute ago and takes entries for another."""
    plain: dict[str, Any] = {
        "opens_at": now() - timedelta(seconds=DRAW_SECONDS / 2),
        "protection": Protection(draw_seconds=DRAW_SECONDS),
    }
    return await world.put_sale(database, **plain | changes)


def in_time(sale: Sale, seconds: float = 1) -> datetime:
    """A moment at which the sale takes entries."""
    return sale.opens_at + timedelta(seconds=seconds)


def time_to_draw(sale: Sale) -> datetime:
    """The first moment at which the sale may be drawn."""
    assert sale.draw_at is not None
    return sale.draw_at + DRAW_DELAY


async def enter_all(draws: Draws, sale: Sale, *user_ids: str, units: int = 1) -> list[DrawEntry]:
    return await asyncio.gather(*[draws.enter(sale, user_id, units, in_time(sale)) for user_id in user_ids])


async def draw_now(room: Room, sale: Sale) -> Sale:
    """Have the worker draw, and return the sale as it is then."""
    await room.draws.draw_due(await leading_at(room.database, time_to_draw(sale)))
    return await sale_now(room.database, sale)


async def sale_now(database: Database, sale: Sale) -> Sale:
    found = await sales_store.find_sale(database, sale.sale_id)
    assert found is not None
    return found


async def events(database: Database, sale: Sale) -> list[tuple[str, dict[str, Any]]]:
    """What was told of a sale, in order: name and data."""
    rows = await database.fetch(
        "SELECT type, data::jsonb AS data FROM plumbing.outbox WHERE subject = $1 ORDER BY xid, position", sale.sale_id
    )
    return [(row["type"].removeprefix("flash_sale."), row["data"]) for row in rows]


async def told_once(database: Database, sale: Sale) -> dict[str, Any]:
    """The data of the one event that tells of the draw."""
    (drawn,) = [data for name, data in await events(database, sale) if name == "drawn"]
    return drawn


async def winners(database: Database, sale: Sale) -> list[str]:
    """Who has a claim to the sale's units, in the order of the draw."""
    rows = await database.fetch(
        """
        SELECT entry.user_id
        FROM flash_sale.draw_entries AS entry
        JOIN flash_sale.claims AS claim USING (claim_id)
        WHERE entry.sale_id = $1
          AND claim.state = 'held'
        ORDER BY entry.place
        """,
        sale.sale_id,
    )
    return [row["user_id"] for row in rows]


async def entrants(database: Database, sale: Sale) -> set[str]:
    rows = await database.fetch("SELECT user_id FROM flash_sale.draw_entries WHERE sale_id = $1", sale.sale_id)
    return {row["user_id"] for row in rows}


def in_order(seed: str, user_ids: set[str]) -> list[str]:
    """Entries in the order of the draw, as anyone can check it."""
    return sorted(user_ids, key=lambda user_id: sha256(f"{seed}:{user_id}".encode()).digest())


async def untouched(database: Database, sale: Sale) -> None:
    """Nothing of a draw has happened."""
    sale = await sale_now(database, sale)
    assert (sale.drawn_at, sale.draw_seed, sale.taken) == (None, None, 0)
    assert await database.fetchval("SELECT count(*) FROM flash_sale.draw_entries WHERE place IS NOT NULL") == 0
    assert await database.fetchval("SELECT count(*) FROM flash_sale.claims") == 0
    assert await events(database, sale) == []
