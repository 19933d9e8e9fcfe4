"""Whoever opens a transaction says by whose ids it writes, or stands here with the reason why by nobody's."""

import ast
from collections.abc import Iterator

from tests.architecture.source import modules

NOT_THE_SERVICE = ("demo",)
"""It puts its own rows, in a shop of its own."""

BY_NOBODY = {
    "cli.py": "operators",
    "dead_letter_commands.py": "what operators ask of dead letters",
    "plumbing/admin.py": "what operators ask of dead letters",
    "plumbing/watch/invariant_rounds.py": "how far walks have come",
    "plumbing/outbox/outbox.py _park": "events as they are, which nobody reads yet",
    "plumbing/outbox/retry.py _retry": "puts back as it was; what is handled shares everyone's",
    "worker.py": "cursors of readers that are gone",
    "kit/campaign/service.py": "campaigns",
    "mechanics/checkin/service.py": "ends programs, makes months",
    "mechanics/checkin/streak/calendar/service.py _read": "reads pages of one moment",
    "mechanics/flash_sale/claim/periodic.py end_closed_sales": "ends sales",
    "mechanics/flash_sale/claim/draw/service.py forget_old_entries": "deletes what is old",
    "mechanics/flash_sale/reminder/service.py forget_old_reminders": "deletes what is old",
    "mechanics/flash_sale/series/service.py": "series and their sales",
    "mechanics/group_buy/team/board.py": "reads teams of one moment",
    "mechanics/group_buy/team/periodic.py end_closed_campaigns": "ends campaigns",
    "mechanics/referral/commission/periodic.py forget_days": "deletes what is old",
    "mechanics/referral/commission/service.py explain": "reads one moment",
    "mechanics/referral/commission/service.py money": "reads one moment",
    "mechanics/referral/periodic.py": "ends programs, deletes what is old",
    "mechanics/referral/review/service.py": "rules",
    "rewards/withdrawal/approval/service.py change_rules": "rules",
    "rewards/withdrawal/payout/service.py": "the sandbox, by numbers of payouts",
    "rewards/withdrawal/periodic.py": "looks again later, deletes what is old",
    "mechanics/task/periodic.py": "ends tasks, deletes what is old",
    "plumbing/person/erasure.py": "sweeps ids that are nobody's already, which may take long",
    "plumbing/work/housekeeping.py": "forgets ids that were erased long ago",
    "plumbing/http/idempotency.py prune": "deletes what is old",
    "plumbing/postgres/migrate.py": "migrates",
    "plumbing/outbox/upkeep.py": "cursors and days",
    "plumbing/postgres/partitions.py": "days",
    "plumbing/work/periodic.py": "leases, and what is handed to turns",
    "rewards/coupon/code/service.py make": "codes nobody has yet",
    "rewards/coupon/code/service.py revoke": "codes nobody has",
    "rewards/coupon/periodic.py end_stale_templates": "ends templates",
    "rewards/ledger/service.py fold_house": "the house's accounts",
    "rewards/pack/service.py": "the pack itself; it is given by a reader",
    "webhook/delivery/periodic.py": "days of deliveries",
    "webhook/delivery/sender.py": "states of deliveries",
    "webhook/delivery/service.py test": "the audit of a test",
    "webhook/service.py": "endpoints",
}


def opened(source: str) -> Iterator[tuple[str, bool]]:
    """Yield each function that opens a transaction, and whether it says by whom it writes."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "transaction":
                yield function.name, any(one.arg in {"people", "everyone"} for one in call.keywords)


def test_whoever_opens_a_transaction_says_by_whose_ids_it_writes() -> None:
    silent: set[str] = set()
    for module in modules():
        name = module.path
        if name.startswith(NOT_THE_SERVICE):
            continue
        for function, says in opened(module.text):
            if not says:
                silent.add(name if name in BY_NOBODY else f"{name} {function}")
    assert silent - BY_NOBODY.keys() == set()
    assert BY_NOBODY.keys() - silent == set(), "a reason that nothing needs any more"


def test_the_rule_sees_a_silent_transaction() -> None:
    told = "async def act(d):\n    async with d.transaction({}) as tx: ...\n"
    said = [
        says for words in ("", "people=[a]", "everyone=True", "alone=True") for _, says in opened(told.format(words))
    ]
    assert said == [False, True, True, False]
