"""The stock in Redis: a fast gate that may forget everything, and is then rebuilt from Postgres.

All keys of a sale carry the hash tag `{sale_id}`, so each script runs on one node. Written only by the scripts beside
this file; nothing ever writes a count from Postgres over a live one.

What Redis holds of a sale is told after each commit and, since Redis may be away just then, compared again and again by
`claim/loading.py` and `claim/names.py` for as long as the keys live:

=============  =====================================  ================================================================
key            told                                   compared with
=============  =====================================  ================================================================
sale           an edit, pause, resume, end, of a      `sales`, by its version (state, window, total, limit, draw,
               sale or with its series; a draw        protection)
sale: taken    by the scripts, with each claim        the units of `claims` and of `shoppers`, while both stand still
claims         won; given back, lapsed, closed,       `claims`: id, units and shopper
               taken back by an operator; paid late;
               refunded; won in a draw
shoppers       with their claims                      `holdings`: units; who is unknown there is forgotten here
winners        with their claims                      the shoppers who hold units, each once
cooldowns      a hold lapsed; a payment forgave       `lapses`, and the seconds that the sale asks for
allowed        an invitation                          `allowed`
all by name    an erasure, a merge                    each of the above, by name
due            never: Redis' own, as limits are       nothing; an entry means nothing once its time is over
=============  =====================================  ================================================================
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from growth.mechanics.flash_sale.model import Admission, Sale
from growth.plumbing.redis.client import OUTSIDE_FAILING, AnyRedis, unavailable
from growth.plumbing.redis.lua import Argument, Script
from growth.vocabulary.clock import from_milliseconds, to_milliseconds

KEYS_KEPT_AFTER_CLOSE = timedelta(hours=2)
"""Holds made in the last second may live an hour; after that nobody returns. So long are they compared."""
LOAD_LOCK_MILLISECONDS = 2_000
"""Kept page by page; so long does a sale stand still when the process that rebuilds it dies."""
GATHERED_KEPT_MILLISECONDS = 120_000
SCAN_COUNT = 1_000
EPOCH = from_milliseconds(0)
MAX_WINNERS = 20_000
"""Winners that a process remembers of a sale; Redis lists one more, and then no more: a longer list nobody reads."""
MAX_WINNERS_A_GLANCE = 5_000
WAIT_UNIT = 16
"""Replies of `claim.lua` carry the seconds to wait above the lowest four bits."""

LIVE_NAMES = ("claims", "shoppers", "cooldowns", "allowed", "winners")
ALL_NAMES = ("sale", *LIVE_NAMES, "due")

CLAIM = Script.beside(__file__, "claim.lua")
SETTLE = Script.beside(__file__, "settle.lua")
CONFIGURE = Script.beside(__file__, "configure.lua")
GATHER = Script.beside(__file__, "gather.lua")
LOAD = Script.beside(__file__, "load.lua")
GLANCE = Script.beside(__file__, "glance.lua")


_pack = msgspec.msgpack.Encoder().encode


class ClaimAsk(Struct, frozen=True, array_like=True):
    """One claim on its way to the gate, in the order in which `claim.lua` reads it."""

    claim_id: str
    user_id: str
    units: int
    address: str = ""
    barred: int = 0
    """The `Admission` of what was found to speak against the shopper; 0 for nothing."""


class Admissions(Struct, frozen=True):
    """What the gate answered to a batch."""

    at: datetime
    units_left: int
    answers: Sequence[int]
    """One `Admission + 16 x seconds to wait` for each claim."""


class Occupied(Struct, frozen=True):
    """Units that a claim occupies; 0 once it no longer does."""

    claim_id: str
    user_id: str
    units: int
    held_at: datetime


class SaleGlance(Struct, frozen=True):
    """What Redis knows of a sale right now."""

    at: datetime
    taken: int | None
    """None if the sale is not loaded."""
    generation: int
    winners_known: int
    """How many Redis knows."""
    winners_before: int
    """How many of those that the caller knows come before `winners`; 0 if it must start over."""
    winners: Sequence[bytes]
    """Claim ids, as they came: a crowd's worth, most of which nobody asks for."""


def admission_of(answer: int) -> tuple[Admission, int]:
    """Split an answer of `claim.lua` into the admission and the seconds to wait."""
    return Admission(answer % WAIT_UNIT), answer // WAIT_UNIT


def _pace(attempts_per_minute: int | None) -> tuple[int, int]:
    """Return milliseconds between attempts at the even pace and the burst allowed; 0 switches the check off."""
    if attempts_per_minute is None:
        return 0, 0
    return max(1, 60_000 // attempts_per_minute), max(1, attempts_per_minute // 4)


def _fields(sale: Sale) -> list[Argument]:
    """Return the sale's hash as field, value, field, value; `taken` and `generation` are the scripts' own."""
    shopper_gap, shopper_burst = _pace(sale.protection.claims_per_minute_per_shopper)
    address_gap, address_burst = _pace(sale.protection.claims_per_minute_per_address)
    fields: dict[str, Argument] = {
        "state": sale.state,
        # Rounded up: Redis must not open a fraction of a millisecond before Postgres does.
        "opens_ms": -((EPOCH - sale.opens_at) // timedelta(milliseconds=1)),
        "closes_ms": to_milliseconds(sale.closes_at),
        "total": sale.units_total,
        "limit": sale.max_per_shopper,
        "draw": int(sale.draw_at is not None and sale.drawn_at is None),
        "invited_only": int(sale.protection.allow_list_only),
        "cool_down": int(sale.protection.cool_down_seconds is not None),
        "shopper_gap_ms": shopper_gap,
        "shopper_burst": shopper_burst,
        "address_gap_ms": address_gap,
        "address_burst": address_burst,
        "expires_ms": to_milliseconds(sale.closes_at + KEYS_KEPT_AFTER_CLOSE),
        "winners_kept": MAX_WINNERS + 1,
    }
    return [part for pair in fields.items() for part in pair]


class Face:
    """How the room speaks to Redis. Raises `Unavailable` when Redis does not answer: what was asked may yet be done."""

    def __init__(self, redis: AnyRedis) -> None:
        self.redis = redis

    @staticmethod
    def _keys(sale_id: str, *names: str) -> list[str]:
        return [f"flash_sale:{{{sale_id}}}:{name}" for name in names]

    async def _run(self, script: Script, keys: list[str], args: Sequence[Argument]) -> list[Any]:
        try:
            reply = await script(self.redis, keys, args)
        except OUTSIDE_FAILING as error:
            raise unavailable(error) from error
        return reply if isinstance(reply, list) else [reply]

    async def _command(self, verb: str, sale_id: str, name: str, *args: Argument) -> Any:
        try:
            return await self.redis.execute_command(verb, *self._keys(sale_id, name), *args)
        except OUTSIDE_FAILING as error:
            raise unavailable(error) from error

    async def _hash_pages(self, sale_id: str, name: str) -> AsyncIterator[dict[str, str]]:
        """Yield a hash in pages; what comes or goes meanwhile may be missed."""
        cursor: int | bytes = 0
        while True:
            cursor, found = await self._command("HSCAN", sale_id, name, cursor, "COUNT", SCAN_COUNT)
            pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
            if page := {text(field): text(value) for field, value in pairs}:
                yield page
            if int(cursor) == 0:
                return


class Stock(Face):
    """The gate of every sale. Methods raise `Unavailable` when Redis does not answer: the script may yet have run."""

    def __init__(self, redis: AnyRedis, *, back_after_seconds: float = 0) -> None:
        """`back_after_seconds`: how long a process may say "sold out" from memory.

        So long do units that come back into a sold-out sale wait. Else somebody could win one at one process, ask again
        at another, and hear that all are taken.
        """
        super().__init__(redis)
        self._back_after_ms = round(back_after_seconds * 1000)

    def _fields(self, sale: Sale) -> list[Argument]:
        return [*_fields(sale), "back_after_ms", self._back_after_ms]

    async def claim(self, sale_id: str, asks: Sequence[ClaimAsk]) -> Admissions:
        """Ask the gate about a batch of claims to one sale."""
        keys = self._keys(sale_id, "sale", "claims", "shoppers", "cooldowns", "allowed", "due", "winners")
        # One argument for the whole batch: spelling out four for each claim costs the client more than all the rest.
        now_ms, units_left, *answers = await self._run(CLAIM, keys, [_pack(asks)])
        return Admissions(from_milliseconds(now_ms), units_left, answers)

    async def settle(self, sale_id: str, claims: Iterable[Occupied]) -> int:
        """Bring claims to what Postgres says they occupy; return how many changed. Twice is harmless."""
        args = _flat(claims)
        if not args:
            return 0
        (changed,) = await self._run(SETTLE, self._keys(sale_id, "sale", "claims", "shoppers", "winners"), args)
        return max(0, int(changed))

    async def give_up(self, sale_id: str, claims: Iterable[Occupied]) -> int:
        """Forget claims that were asked for at `held_at` and not since; return how many.

        Somebody who has asked for the same claim again, here or at another process, may have been given it by now.
        """
        return await self.settle(sale_id, [msgspec.structs.replace(claim, units=-1) for claim in claims])

    async def configure(self, sale: Sale) -> None:
        """Tell a loaded sale of an edit, a pause, an end; one not loaded learns it when it is."""
        await self._run(CONFIGURE, self._keys(sale.sale_id, *ALL_NAMES), [sale.version, *self._fields(sale)])

    async def cool_down(self, sale_id: str, until: Mapping[str, datetime], closes_at: datetime) -> None:
        """Keep shoppers out of one sale for a while."""
        if until:
            await self._command("HSET", sale_id, "cooldowns", *_flat_times(until))
            # One time for all: an end of the last who came would end the longer waits of those before.
            await self._command("PEXPIREAT", sale_id, "cooldowns", to_milliseconds(closes_at + KEYS_KEPT_AFTER_CLOSE))

    async def forgive(self, sale_id: str, user_id: str) -> None:
        """Let a shopper in who was kept out for a while."""
        await self._command("HDEL", sale_id, "cooldowns", user_id)

    async def invite(self, sale_id: str, user_ids: Sequence[str], closes_at: datetime) -> None:
        """Add shoppers to a loaded sale's allow-list."""
        await self._command("SADD", sale_id, "allowed", *user_ids)
        await self._command("PEXPIREAT", sale_id, "allowed", to_milliseconds(closes_at + KEYS_KEPT_AFTER_CLOSE))

    async def forget(self, sale_id: str) -> None:
        """Unload a sale whose keys do not agree with each other; the next claim rebuilds it from Postgres."""
        await self._command("DEL", sale_id, "sale")

    async def glance(
        self, sale_id: str, winners_known: int, last_winner: bytes = b"", *, want_winners: bool = True
    ) -> SaleGlance:
        """Read stock and winners of one sale, past the `winners_known` of which `last_winner` is the last."""
        keys = self._keys(sale_id, "sale", "winners")
        now_ms, taken, generation, known, before, *winners = await self._run(
            GLANCE, keys, [winners_known, MAX_WINNERS_A_GLANCE if want_winners else 0, last_winner]
        )
        return SaleGlance(
            at=from_milliseconds(now_ms),
            taken=None if taken < 0 else taken,
            generation=generation,
            winners_known=known,
            winners_before=before,
            winners=winners,
        )

    async def known_claims(self, sale_id: str) -> AsyncIterator[list[Occupied]]:
        """Yield all claims Redis knows of a sale, in pages; one that comes or goes meanwhile may be missed."""
        async for found in self._hash_pages(sale_id, "claims"):
            page = []
            for claim_id, value in found.items():
                units, held_ms, user_id = value.split("|", 2)
                page.append(Occupied(claim_id, user_id, int(units), from_milliseconds(int(held_ms))))
            yield page

    async def claims_of(self, sale_id: str, claim_ids: Sequence[str]) -> list[tuple[int, str]]:
        """Return the units that each claim occupies as Redis knows it, and whose it is; (0, "") for one it does not."""
        found = await self._command("HMGET", sale_id, "claims", *claim_ids)
        parts = ["0||" if value is None else text(value) for value in found]
        return [(int(units), user_id) for units, _, user_id in (part.split("|", 2) for part in parts)]

    async def is_loaded(self, sale_id: str) -> bool:
        """Say whether Redis knows the sale."""
        return bool(await self._command("EXISTS", sale_id, "sale"))

    async def lock_for_load(self, sale_id: str, token: str) -> bool:
        """Try to become the one who rebuilds a sale; the lock ends by itself."""
        return bool(await self._command("SET", sale_id, "loading", token, "NX", "PX", LOAD_LOCK_MILLISECONDS))

    async def keep_load_lock(self, sale_id: str, token: str) -> None:
        """Keep the lock while a long rebuild goes on. Late or lost, two rebuild: the higher generation stays."""
        await self._command("SET", sale_id, "loading", token, "XX", "PX", LOAD_LOCK_MILLISECONDS)

    async def unlock_load(self, sale_id: str, token: str) -> None:
        """Give the lock back; another's is left alone."""
        if text(await self._command("GET", sale_id, "loading") or "") == token:
            await self._command("DEL", sale_id, "loading")

    async def gather_claims(self, sale_id: str, generation: int, claims: Iterable[Occupied]) -> None:
        """Lay a page of claims beside the live keys, for `load` to put in place."""
        keys = self._keys(sale_id, f"claims:{generation}", f"shoppers:{generation}", f"winners:{generation}")
        await self._run(GATHER, keys, [GATHERED_KEPT_MILLISECONDS, *_flat(claims)])

    async def gather_cooling(self, sale_id: str, generation: int, until: Mapping[str, datetime]) -> None:
        """Lay the shoppers who are to wait beside the live keys."""
        await self._command("HSET", sale_id, f"cooldowns:{generation}", *_flat_times(until))
        await self._command("PEXPIRE", sale_id, f"cooldowns:{generation}", GATHERED_KEPT_MILLISECONDS)

    async def gather_allowed(self, sale_id: str, generation: int, user_ids: Sequence[str]) -> None:
        """Lay a page of the allow-list beside the live keys."""
        await self._command("SADD", sale_id, f"allowed:{generation}", *user_ids)
        await self._command("PEXPIRE", sale_id, f"allowed:{generation}", GATHERED_KEPT_MILLISECONDS)

    async def load(self, sale: Sale, generation: int) -> bool:
        """Put what was gathered in place; False if a newer generation already is."""
        gathered = [f"{name}:{generation}" for name in LIVE_NAMES]
        (done,) = await self._run(
            LOAD,
            self._keys(sale.sale_id, "sale", *LIVE_NAMES, *gathered),
            [generation, "version", sale.version, *self._fields(sale)],
        )
        return bool(done)


def _flat(claims: Iterable[Occupied]) -> list[Argument]:
    return [part for c in claims for part in (c.claim_id, c.user_id, c.units, to_milliseconds(c.held_at))]


def _flat_times(until: Mapping[str, datetime]) -> list[Argument]:
    return [part for user_id, time in until.items() for part in (user_id, to_milliseconds(time))]


def text(value: str | bytes) -> str:
    """Return a reply of Redis as text, whichever way the client decodes."""
    return value.decode() if isinstance(value, bytes) else value
