"""The rooms of the house as the roof makes them, on a test's own stores."""

from typing import Any

from msgspec.structs import replace

from growth.house import ROOMS, WALK
from growth.kit.room import Rooms, Stores, furnished
from growth.plumbing.postgres.database import Database
from growth.plumbing.settings import load_settings
from growth.privacy.service import Shoppers
from tests.app import ENVIRONMENT


def rooms_on(database: Database, redis: Any = None) -> Rooms:
    """All rooms; without Redis, only for what asks nothing of it."""
    where = {"GROWTH_POSTGRES_DSN": "postgresql://nowhere", "GROWTH_REDIS_URL": "redis://nowhere"}
    return furnished(ROOMS, Stores(load_settings(ENVIRONMENT | where), database, database, redis), WALK)


def shoppers_on(database: Database, renamed: Any = None) -> Shoppers:
    """Export, erase and merge in all rooms; of a flash sale's Redis, `renamed` is told."""
    persons = rooms_on(database).persons()
    persons["flash_sale"] = replace(persons["flash_sale"], renamed=renamed)
    return Shoppers(database, 365, persons)
