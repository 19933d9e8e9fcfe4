"""What must hold after every fault, and the judge who looks.

A law is a sentence; `broken_laws` returns those that are broken, each with what shows it. It knows nothing of how the
service works inside: it compares what clients were told with what Postgres and Redis have.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from msgspec import Struct

from growth.mechanics.flash_sale.claim import store
from growth.mechanics.flash_sale.claim.model import Claim
from growth.mechanics.flash_sale.stock import Stock
from growth.mechanics.flash_sale.store import sales as sales_store
from growth.plumbing.postgres.database import Database
from growth.plumbing.redis.client import AnyRedis
from growth.vocabulary.refusals import Unavailable
from tests.faults.crowd import CREATED, Acknowledged, Crowd, Paid
from tests.faults.houses import House, until
from tests.kit.invariants import violations

MAX_CLAIMS = 100_000
TOO_LATE = 5
"""Newcomers beyond the last unit."""
MAX_BROKEN_SHOWN = 20
WATCH_SECONDS = 0.2
STANDING_SECONDS = 1.0
FIRST_ID = "00000000-0000-0000-0000-000000000000"


class Told(Struct, frozen=True):
    """What clients were told of one sale."""

    acknowledged: Sequence[Acknowledged] = ()
    given_back: frozenset[str] = frozenset()
    forgotten: frozenset[str] = frozenset()
    """Claims whose holds were let lapse."""
    paid: Sequence[Paid] = ()
    wrong: Sequence[str] = ()
    """Answers that nobody may get."""


async def broken_laws(database: Database, redis: AnyRedis, sale_id: str, told: Told) -> list[str]:
    """Return every law of one sale that does not hold now."""
    claims = {claim.claim_id: claim for claim in await _all_claims(database, sale_id)}
    return [
        *told.wrong,
        *await _oversold(database, sale_id, claims),
        *_lost(claims, told),
        *await _above_the_limit(database, sale_id, claims),
        *await _payers(database, claims, told),
        *await disagreements(database, redis, sale_id),
        *await _told_twice_or_never(database, claims),
        *[f"invariant of {one.room}: {one.name}: {one.rows}" for one in await violations(database)],
    ]


async def _oversold(database: Database, sale_id: str, claims: dict[str, Claim]) -> list[str]:
    sale = await sales_store.find_sale(database, sale_id)
    assert sale is not None
    occupied = sum(claim.occupied_units for claim in claims.values())
    if occupied <= sale.units_total and sale.taken <= sale.units_total:
        return []
    return [f"oversold: {occupied} units occupied, {sale.taken} taken, {sale.units_total} there are"]


def _lost(claims: dict[str, Claim], told: Told) -> list[str]:
    """Acknowledged, and then not there, somebody else's, or taken away for no reason."""
    broken = []
    for one in told.acknowledged:
        claim = claims.get(one.claim_id)
        if claim is None or (claim.user_id, claim.units) != (one.user_id, one.units):
            broken.append(f"acknowledged and lost: {one}, Postgres has {claim}")
        elif claim.state == "released":
            why = {"shopper": told.given_back, "lapsed": told.forgotten}.get(claim.release_reason or "", ())
            if claim.claim_id not in why:
                broken.append(f"acknowledged and taken away: {claim}")
    return broken


async def _above_the_limit(database: Database, sale_id: str, claims: dict[str, Claim]) -> list[str]:
    sale = await sales_store.find_sale(database, sale_id)
    assert sale is not None
    units: Counter[str] = Counter()
    for claim in claims.values():
        units[claim.user_id] += claim.occupied_units
    return [f"above the limit: {user_id} has {n}" for user_id, n in units.items() if n > sale.max_per_shopper]


async def _payers(database: Database, claims: dict[str, Claim], told: Told) -> list[str]:
    """Whoever paid has the units, or gets the money back: one of the two, told once."""
    rows = await database.fetch("SELECT order_id, line_id, claim_id FROM flash_sale.refunds_required")
    owed = {(row["order_id"], row["line_id"]): row["claim_id"] for row in rows}
    broken = []
    for paid in told.paid:
        claim = claims.get(paid.claim_id)
        sold = claim is not None and claim.state in {"paid", "refunded"} and claim.order_id == paid.order_id
        owes = owed.get((paid.order_id, paid.line_id)) == paid.claim_id
        said = {"applied": (True, False), "refund_required": (False, True)}.get(paid.outcome)
        if (sold, owes) != said:
            broken.append(f"paid and not settled as told: {paid}, owed back: {owes}, Postgres has {claim}")
    return broken


async def disagreements(database: Database, redis: AnyRedis, sale_id: str) -> list[str]:
    """Return where Redis and Postgres know different claims, units or counts."""
    glance = await Stock(redis).glance(sale_id, 0)
    if glance.taken is None:
        return ["Redis does not know the sale"]
    in_redis, in_postgres = await _claims_of_both(database, redis, sale_id)
    sale = await sales_store.find_sale(database, sale_id)
    assert sale is not None
    broken = []
    if stranded := sorted(in_redis.keys() - in_postgres.keys()):
        broken.append(f"stranded in Redis: {stranded}")
    if forgotten := sorted(in_postgres.keys() - in_redis.keys()):
        broken.append(f"forgotten by Redis: {forgotten}")
    if others := [one for one in in_redis.keys() & in_postgres.keys() if in_redis[one] != in_postgres[one]]:
        broken.append(f"other units in Redis: {sorted(others)}")
    if glance.taken != sale.taken:
        broken.append(f"Redis counts {glance.taken} units as taken, Postgres {sale.taken}")
    shoppers = await redis.hgetall(f"flash_sale:{{{sale_id}}}:shoppers")
    rows = await database.fetch(
        "SELECT user_id, units FROM flash_sale.holdings WHERE sale_id = $1 AND units > 0", sale_id
    )
    # Who gave all back is known there as somebody with none.
    in_redis_now = {_text(who): int(n) for who, n in shoppers.items() if int(n)}
    if in_redis_now != {row["user_id"]: row["units"] for row in rows}:
        broken.append("Redis and Postgres differ on what shoppers hold")
    return broken


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def _claims_of_both(database: Database, redis: AnyRedis, sale_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return claims and the units they occupy, as Redis and as Postgres knows them."""
    pages = [page async for page in Stock(redis).known_claims(sale_id)]
    known = await store.occupying_after(database, sale_id, FIRST_ID, MAX_CLAIMS)
    return (
        {claim.claim_id: claim.units for page in pages for claim in page},
        {claim.claim_id: claim.units for claim in known},
    )


async def differing(database: Database, redis: AnyRedis, sale_id: str) -> set[str]:
    """Return the claims on which the stores differ right now."""
    in_redis, in_postgres = await _claims_of_both(database, redis, sale_id)
    return {one for one, _ in in_redis.items() ^ in_postgres.items()}


async def _told_twice_or_never(database: Database, claims: dict[str, Claim]) -> list[str]:
    """Every claim, sale of one and refund owed is told of by one event; listeners counted each once."""
    rows = await database.fetch(
        """
        SELECT type, data ->> 'claim_id' AS claim_id, data ->> 'order_id' AS order_id, count(*) AS times
        FROM plumbing.outbox
        WHERE data ->> 'claim_id' = ANY($1::text[])
        GROUP BY type, data ->> 'claim_id', data ->> 'order_id'
        """,
        list(claims),
    )
    times = {(row["type"], row["claim_id"], row["order_id"]): row["times"] for row in rows}
    broken = [f"told {n} times: {what}" for what, n in times.items() if n != 1]
    for claim in claims.values():
        if ("flash_sale.claim_held", claim.claim_id, None) not in times:
            broken.append(f"never told: {claim.claim_id} is held")
        if claim.state == "paid" and ("flash_sale.claim_paid", claim.claim_id, claim.order_id) not in times:
            broken.append(f"never told: {claim.claim_id} is paid")
    return broken


async def _all_claims(database: Database, sale_id: str) -> list[Claim]:
    return await store.page_of_claims(database, sale_id=sale_id, limit=MAX_CLAIMS)


def told_to(crowd: Crowd) -> Told:
    """Collect what a crowd was told."""
    return Told(
        acknowledged=list(crowd.acknowledged.values()),
        given_back=frozenset(crowd.given_back),
        forgotten=frozenset(crowd.forgotten),
        paid=crowd.paid,
        wrong=crowd.wrong,
    )


async def judge(house: House, crowd: Crowd) -> None:
    """Wait until both stores agree, sell what is left, and assert every law. The crowd's shoppers are gone by now."""
    database, redis, sale_id = house.database, house.redis, crowd.sale.sale_id
    broken = []
    try:
        await _agreed(database, redis, sale_id)
        await _sell_the_rest(database, crowd)
        await _agreed(database, redis, sale_id)
    except AssertionError as error:
        broken.append(str(error))
    broken += await broken_laws(database, redis, sale_id, told_to(crowd))
    assert not broken, "\n".join([*broken[:MAX_BROKEN_SHOWN], crowd.summary(), house.troubles()])


async def _agreed(database: Database, redis: AnyRedis, sale_id: str) -> None:
    """Wait until the stores agree, holds that are over have ended and listeners have counted; bounded."""
    found: list[str] = []

    async def all_agree() -> bool:
        found[:] = [
            *await disagreements(database, redis, sale_id),
            *await _overdue(database, sale_id),
            *await uncounted(database, sale_id),
        ]
        return not found

    try:
        await until("both stores agree", all_agree)
    except AssertionError as error:
        raise AssertionError(f"{error}: {found}") from None


async def drop_check_on_taken(database: Database) -> None:
    """Take away the table's own last word on stock, for tests of who would notice."""
    async with database.transaction() as tx:
        name = await tx.fetchval(
            """
            SELECT conname
            FROM pg_catalog.pg_constraint
            WHERE conrelid = 'flash_sale.sales'::regclass
              AND pg_catalog.pg_get_constraintdef(oid) LIKE '%taken%units_total%'
            """
        )
        await tx.execute(f"ALTER TABLE flash_sale.sales DROP CONSTRAINT {name}")


async def _overdue(database: Database, sale_id: str) -> list[str]:
    rows = await database.fetch(
        """
        SELECT claim_id
        FROM flash_sale.claims
        WHERE sale_id = $1
          AND state = 'held'
          AND held_until < now() - INTERVAL '5 seconds'
        """,
        sale_id,
    )
    return [f"the hold of {row['claim_id']} is over and has not ended" for row in rows]


async def uncounted(database: Database, sale_id: str) -> list[str]:
    """Return whether the listener of the outbox has yet to count claims, or counted one twice."""
    counted = await database.fetchval(
        "SELECT coalesce(sum(claims), 0)::int FROM flash_sale.tempo WHERE sale_id = $1", sale_id
    )
    claims = await database.fetchval("SELECT count(*)::int FROM flash_sale.claims WHERE sale_id = $1", sale_id)
    return [] if counted == claims else [f"{claims} claims, and the listener has counted {counted}"]


async def _sell_the_rest(database: Database, crowd: Crowd) -> None:
    """Units nobody has can be had: so many newcomers win, and those after them are told that all are taken.

    Not all may win at once: units that came back into a sold-out sale wait for a moment.
    """

    async def sold_out() -> bool:
        sale = await sales_store.find_sale(database, crowd.sale.sale_id)
        assert sale is not None
        answers = await asyncio.gather(*[crowd.newcomer() for _ in range(sale.units_left + TOO_LATE)])
        won = sum(answer.status == CREATED for answer in answers)
        assert won <= sale.units_left
        return won == sale.units_left

    await until("all units are sold", sold_out)


class Watch:
    """Looks at both stores all the while, for how long they disagree about a claim.

    Claims on their way from one to the other differ for a moment; what differs for `STANDING_SECONDS` is a difference.
    """

    def __init__(self, house: House, sale_id: str) -> None:
        self._house = house
        self._sale_id = sale_id
        self._seen: dict[str, tuple[float, float]] = {}
        self._stood_until = float("-inf")

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look until the block ends."""
        over = asyncio.Event()
        looking = asyncio.create_task(self._look_on(over), name="watch")
        try:
            yield
        finally:
            over.set()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    def mended_seconds(self, since: float) -> float:
        """Return how long after `since` (monotonic) the last standing difference was seen."""
        return max(0.0, self._stood_until - since)

    async def _look_on(self, over: asyncio.Event) -> None:
        while not over.is_set():
            with suppress(Unavailable):
                self._note(await differing(self._house.database, self._house.redis, self._sale_id))
            await asyncio.sleep(WATCH_SECONDS)

    def _note(self, claim_ids: set[str]) -> None:
        moment = time.monotonic()
        self._seen = {one: (self._seen.get(one, (moment, moment))[0], moment) for one in claim_ids}
        if any(last - first >= STANDING_SECONDS for first, last in self._seen.values()):
            self._stood_until = moment
