"""Judges commissions in batches, and keeps the rules."""

from collections.abc import Mapping, Sequence

from growth.mechanics.referral.review import model, store
from growth.mechanics.referral.review.model import Pair, Reason, ReviewFacts, ReviewRules
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.withdrawal.service import accounts_of
from growth.shop.order.service import registration
from growth.vocabulary.refusals import Kind, Refusal

VERSION_MISMATCH = Kind("review_rules.version_mismatch", "Somebody else changed the review rules.", 412)

MAX_SIBLINGS = 20
"""Invitees before the payer, and as many after, whose devices are looked at."""


async def judge(tx: Tx, pairs: Sequence[Pair]) -> Mapping[str, list[Reason]]:
    """Return why a person is to look at each commission; those that nobody need look at are missing.

    A handful of statements, however many commissions.
    """
    if not pairs:
        return {}
    _, rules = await store.find_rules(tx)
    most = max(rules.max_invitees_per_hour or 0, rules.max_invitees_per_day or 0) + 1
    paces = await store.paces(tx, pairs, count_to=most, siblings=MAX_SIBLINGS)
    people = sorted({user_id for pair in pairs for user_id in (pair.inviter_id, pair.invitee_id)})
    siblings = {user_id for pace in paces.values() for user_id in pace.siblings}
    facts = ReviewFacts(
        registrations=await registration(tx, sorted(siblings.union(people))),
        payees=await accounts_of(tx, people),
        paces=paces,
    )
    found = {pair.commission_id: model.reasons_of(pair, facts, rules) for pair in pairs}
    return {commission_id: reasons for commission_id, reasons in found.items() if reasons}


class Reviews:
    """The operators' side of reviews."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rules(self) -> tuple[int, ReviewRules]:
        """Return the version of the rules, and the rules."""
        return await store.find_rules(self._database)

    async def change(self, act: Act, version: int, rules: ReviewRules) -> int:
        """Write rules over those at `version`; returns the new one. Raises `Refusal` 412 if somebody else has."""
        async with self._database.transaction() as tx:
            _, before = await store.find_rules(tx)
            if not await store.change_rules(tx, version, rules):
                raise Refusal(VERSION_MISMATCH)
            await audit.record(tx, act, "review_rules.change", "review", before=before, after=rules)
        return version + 1
