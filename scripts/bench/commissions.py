"""What inviters' money costs: orders paid with commission, and a settlement run of many entries."""

import asyncio
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from time import monotonic

import msgspec
from msgspec import Struct

from growth.load.processes import Processes
from growth.mechanics.referral.commission.model import EARNED, HOUSE, pending_id
from growth.mechanics.referral.model import PercentRule, ReferralDraft
from growth.plumbing.http.signatures import sign
from growth.plumbing.postgres.database import Database, Tx
from growth.rewards.ledger import service as ledger
from growth.rewards.ledger.model import Currency, Transfer
from growth.vocabulary import clock
from growth.vocabulary.ids import new_id
from scripts.bench.kit import Bench, bare_posts, cost, run, running_bench, say

PLAY_SECONDS = 4.0
CONNECTIONS = 8
"""As many as a shop has."""
PAYERS = 20_000
INVITERS = 2_000
HOOKS = 24_000
EVENTS_IN_LARGE_HOOK = 100
LARGE_HOOKS = 400
ENTRIES = 1_000_000
SEED_BATCH = 5_000
SEED_TOLD = 100_000
ENTRIES_OF_ONE_INVITER = 10
LOOK_SECONDS = 0.25
LOOK_SECONDS_AN_ENTRY = 2 / 1_000_000
"""Looking counts what is left: rarer, the more there is."""
MAX_RUN_SECONDS = 1_800
AMOUNT_FEN = 10_000
THIRD = 1 / 3
BASIS_POINTS = 1_000


class SettlementRun(Struct, frozen=True, kw_only=True):
    """One settlement run."""

    entries: int
    seconds: float
    per_second: tuple[float, float]
    """In the first third of the time, and in the last: is it flat?"""
    cpu_seconds: dict[str, float]
    available_fen: int

    def told(self) -> str:
        """Say it in a sentence."""
        cpu = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.cpu_seconds.items())
        return (
            f"{self.entries:,} entries available in {self.seconds:.1f} s, {self.entries / self.seconds:,.0f}/s:"
            f" {self.per_second[0]:,.0f}/s in the first third, {self.per_second[1]:,.0f}/s in the last;"
            f" {self.available_fen:,} fen; CPU seconds: {cpu}"
        )


def hooks(secret: str, count: int, size: int, payer: str) -> Iterator[bytes]:
    """Return signed hooks of `size` orders each, every order of another number."""
    for number in range(count):
        now = clock.now()
        events = [
            {
                "specversion": "1.0",
                "id": f"{payer}-{size}-{number}-{place}",
                "source": "bench",
                "type": "order.paid",
                "time": now,
                "data": {
                    "order_id": f"{payer}-{size}-{number}-{place}",
                    "user_id": f"{payer}{(number * size + place) % PAYERS}",
                    "paid_at": now,
                    "paid_fen": AMOUNT_FEN,
                    "lines": [{"line_id": "1", "sku": "tea", "units": 1, "amount_fen": AMOUNT_FEN}],
                },
            }
            for place in range(size)
        ]
        body = msgspec.json.encode(events)
        signed = sign(secret, f"hook-{payer}-{size}-{number}", now, body)
        head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        yield (
            f"POST /shop/v1/events HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n{head}"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body


async def _program(tx: Tx) -> None:
    """A program that is live since an hour: ten percent."""
    draft = ReferralDraft(title="Bench", level_1=PercentRule(basis_points=BASIS_POINTS))
    program_id, told = new_id(clock.now()), msgspec.to_builtins(draft)
    await tx.execute(
        """
        INSERT INTO referral.programs (program_id, draft, levels, state, created_at, published_at)
        VALUES ($1, $2, 1, 'published', now() - interval '1 hour', now() - interval '1 hour')
        """,
        program_id,
        told,
    )
    await tx.execute(
        """
        INSERT INTO referral.terms (program_id, version, draft, levels, from_at)
        VALUES ($1, 1, $2, 1, now() - interval '1 hour')
        """,
        program_id,
        told,
    )


async def _bind(tx: Tx, prefix: str, invitees: int, inviters: int) -> None:
    """Let each of `invitees` have been brought by one of `inviters`, over a month."""
    await tx.execute(
        """
        INSERT INTO referral.relations
            (relation_id, invitee_id, inviter_id, program_id, source, nickname, is_new, bound_at)
        SELECT gen_random_uuid(), $1 || number, $1 || '-inviter' || number % $3::int, gen_random_uuid(), 'shopper', '*',
            TRUE, now() - interval '1 hour' - number % 100000 * interval '26 seconds'
        FROM generate_series(0, $2::int - 1) AS number
        """,
        prefix,
        invitees,
        inviters,
    )
    await tx.execute(
        """
        INSERT INTO referral.inviters (user_id, invited)
        SELECT inviter_id, count(*)
        FROM referral.relations
        WHERE starts_with(inviter_id, $1)
        GROUP BY inviter_id
        """,
        prefix,
    )


async def orders(bench: Bench) -> None:
    """Measure order.paid without and with commission, alone and many in a hook, beside a bare POST."""
    async with bench.database.transaction() as tx:
        await _program(tx)
        await _bind(tx, "payer", PAYERS, INVITERS)
    stack, token = bench.stack, bench.token("bench")
    bare = await cost(
        "bare Litestar POST", stack.litestar, bare_posts([token]), seconds=PLAY_SECONDS, connections=CONNECTIONS
    )
    for name, count, size, payer in (
        ("order.paid, nobody's", HOOKS, 1, "stranger"),
        ("order.paid, commission", HOOKS, 1, "payer"),
        ("100 paid, nobody's", LARGE_HOOKS, EVENTS_IN_LARGE_HOOK, "stranger"),
        ("100 paid, commission", LARGE_HOOKS, EVENTS_IN_LARGE_HOOK, "payer"),
    ):
        payloads = hooks(stack.target.shop_secret, count, size, payer)
        await cost(
            name,
            stack.serve,
            payloads,
            beside=bare,
            seconds=PLAY_SECONDS,
            connections=CONNECTIONS,
            things=size,
        )


async def _seed(database: Database, entries: int) -> None:
    """Write commissions of orders received a week ago, with what the ledger holds for them, as if hooks had told."""
    people = entries // ENTRIES_OF_ONE_INVITER
    async with database.transaction() as tx:
        await _bind(tx, "settled", people, people)
    relations = await database.fetch(
        "SELECT relation_id, invitee_id, inviter_id FROM referral.relations WHERE starts_with(invitee_id, 'settled')"
    )
    now = clock.now()
    for first in range(0, entries, SEED_BATCH):
        rows = []
        transfers = []
        for number in range(first, min(first + SEED_BATCH, entries)):
            relation = relations[number % len(relations)]
            commission_id = new_id(now)
            rows.append({"commission_id": commission_id, "order_id": f"settled-{number}", **dict(relation)})
            transfers.append(
                Transfer(
                    transfer_id=pending_id(commission_id, 1),
                    debit=HOUSE,
                    credit=relation["inviter_id"],
                    currency=Currency.COMMISSION,
                    amount=AMOUNT_FEN * BASIS_POINTS // 10_000,
                    reason=EARNED,
                    subject=commission_id,
                    pending=True,
                )
            )
        async with database.transaction() as tx:
            await ledger.transfer(tx, transfers, now)
            await _add(tx, msgspec.json.encode(rows).decode())
        if first % SEED_TOLD == 0:
            say(f"seeded: {first:,}")
    await database.fetchval("ANALYZE referral.commissions, referral.commission_steps, ledger.transfers")


async def _add(tx: Tx, rows: str) -> None:
    await tx.execute(
        """
        WITH told AS (
            SELECT *
            FROM json_to_recordset($1::json) AS told
                (commission_id uuid, order_id text, inviter_id text, invitee_id text, relation_id uuid)
        ),
        stepped AS (
            INSERT INTO referral.commission_steps (commission_id, revision, at, from_fen, to_fen, state, why)
            SELECT commission_id, 1, now() - interval '8 days', 0, 1000, 'pending', 'paid'
            FROM told
        ),
        counted AS (
            INSERT INTO referral.inviter_months AS known (inviter_id, month, money_fen)
            SELECT inviter_id, date_trunc('month', now() - interval '8 days')::date, 1000 * count(*)
            FROM told
            GROUP BY inviter_id
            ON CONFLICT (inviter_id, month) DO UPDATE
            SET money_fen = known.money_fen + excluded.money_fen
        )
        INSERT INTO referral.commissions (commission_id, order_id, level, inviter_id, invitee_id, relation_id,
            program_id, terms_version, kind, basis_points, fixed_fen, available_after_days, paid_at, month, lines,
            is_kept, amount_fen, revision, state, received_at, due_at, judged_at, created_at)
        SELECT commission_id, order_id, 1, inviter_id, invitee_id, relation_id, gen_random_uuid(), 1, 'percent', 1000,
            0, 6, now() - interval '8 days', date_trunc('month', now() - interval '8 days')::date,
            '[{"line_id": "1", "sku": "tea", "units": 1, "amount_fen": 10000, "refunded_units": 0, "refunded_fen": 0,
               "is_in_scope": true, "kept_fen": 10000, "commission_fen": 1000}]',
            TRUE, 1000, 1, 'pending', now() - interval '7 days', now() - interval '1 day', now(),
            now() - interval '8 days'
        FROM told
        """,
        rows,
    )


async def _lead(database: Database, *, until: str) -> None:
    """Keep the worker from settling, or let it."""
    await database.fetchval(
        """
        INSERT INTO plumbing.leases AS lease (name, holder, fence, expires_at)
        VALUES ('referral.settle_due', 'bench', 1, $1::text::timestamptz)
        ON CONFLICT (name) DO UPDATE
        SET holder = 'bench', fence = lease.fence + 1, expires_at = excluded.expires_at
        RETURNING fence
        """,
        until,
    )


async def _left(database: Database) -> int:
    left: int = await database.fetchval(
        "SELECT count(*) FROM referral.commissions WHERE state = 'pending' AND due_at IS NOT NULL"
    )
    return left


async def settlement(bench: Bench, entries: int) -> SettlementRun:
    """Let a worker make so many entries available, and watch."""
    database = bench.database
    await _lead(database, until="infinity")
    await _seed(database, entries)
    watched = Processes(bench.stack.target.pids)
    await _lead(database, until="-infinity")
    before, begin = watched.sample(), monotonic()
    looks = [(0.0, 0)]
    while looks[-1][1] < entries and looks[-1][0] < MAX_RUN_SECONDS:
        await asyncio.sleep(max(LOOK_SECONDS, entries * LOOK_SECONDS_AN_ENTRY))
        done = entries - await _left(database)
        if done == 0:
            # The worker has not looked at its lease yet.
            before, begin = watched.sample(), monotonic()
            continue
        looks.append((monotonic() - begin, done))
    after = watched.sample()
    assert looks[-1][1] == entries, "it took too long"
    return SettlementRun(
        entries=entries,
        seconds=looks[-1][0],
        per_second=(_rate(looks, 0.0, THIRD), _rate(looks, 1 - THIRD, 1.0)),
        cpu_seconds={name: after.seconds[name] - before.seconds[name] for name in after.seconds}
        | {"machine": after.busy_seconds - before.busy_seconds},
        available_fen=await database.fetchval(
            "SELECT sum(posted)::bigint FROM ledger.accounts WHERE starts_with(owner, 'settled')"
        ),
    )


def _rate(looks: Sequence[tuple[float, int]], from_share: float, to_share: float) -> float:
    """Return entries a second between two shares of the time."""
    took = looks[-1][0]
    first = next(look for look in looks if look[0] >= from_share * took)
    last = next(look for look in reversed(looks) if look[0] <= to_share * took)
    return (last[1] - first[1]) / max(last[0] - first[0], LOOK_SECONDS)


async def measure(entries: int, *, only_settlement: bool) -> None:
    """Measure everything once, and print it."""
    async with running_bench() as bench:
        if not only_settlement:
            await orders(bench)
        bench.spread_out()
        say((await settlement(bench, entries)).told())
        await bench.holds()


def main() -> None:
    """Print what was measured."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--settlement", action="store_true", help="leave the orders out")
    asked = parser.parse_args()
    run(measure(asked.entries, only_settlement=asked.settlement))
