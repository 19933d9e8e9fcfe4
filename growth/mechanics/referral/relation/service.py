"""Relations: who is bound to whom, by whose code, and until when."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache

import msgspec
from msgspec import Struct
from prometheus_client import Counter

from growth.kit.campaign.audience import Audiences, Candidate, not_admitted
from growth.mechanics.referral.model import ProgramTerms, ReferralDraft
from growth.mechanics.referral.relation import store
from growth.mechanics.referral.relation.model import (
    LOOP,
    NO_PROGRAM,
    NOT_NEW,
    UNKNOWN_CODE,
    BindingState,
    BindWish,
    InviteeHistory,
    Tie,
    device_digest,
    ends_at_of,
    is_new,
    new_code,
    read_code,
    refusal_of,
    signs_between,
)
from growth.plumbing.http.limits import Limiter
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.work.decide import Decisions
from growth.shop.order.service import has_bought, registration
from growth.vocabulary.alike import alike
from growth.vocabulary.audience import NOT_IN_AUDIENCE, AudienceType
from growth.vocabulary.events.referral import ReferralBound, ReferralRelationEvent, ReferralSuspected
from growth.vocabulary.ids import new_id
from growth.vocabulary.names import masked
from growth.vocabulary.refusals import Kind, Refusal

INVITED = "invited"
"""What is remembered of an erased shopper who had an inviter."""

MAX_BATCH_WISHES = 128
MAX_QUEUE_WISHES = 4_096
"""What a process binds in about a second. More waiting would only be late."""

MAX_ATTEMPTS_PER_SECOND = 0.2
MAX_ATTEMPTS = 10
"""Codes that one shopper may try: so many at once, and so many a second after that."""
MAX_SUSPECTS = 65_536
"""Shoppers remembered for a code that nobody has."""

BOUND = Counter("growth_referral_bound_total", "Shoppers bound to an inviter")
REFUSED = Counter("growth_referral_refused", "Bindings refused, by reason", ["reason"])


class Bound(Struct, frozen=True):
    """A relation that Postgres has."""

    inviter_id: str
    bound_at: datetime
    ends_at: datetime | None
    replayed: bool
    """It was there before."""
    at: datetime
    """Postgres' time."""


class BindBatch(Struct, frozen=True):
    """What a transaction sees of a batch of wishes, under the lock."""

    now: datetime
    """Postgres' time."""
    terms: ProgramTerms | None
    standings: Mapping[str, BindingState]
    histories: Mapping[str, InviteeHistory]
    """Of invitees and inviters of wishes that nothing spoke against so far."""
    missed: Mapping[str, AudienceType]
    """Inviters who may not invite, with what of the program's audience they do not meet."""


class CodeLook(Struct, frozen=True, kw_only=True):
    """What a shopper who sends a code would get."""

    kind: Kind | None
    """Why not; None for a relation."""
    missed: AudienceType | None
    """What of the program's audience the inviter does not meet."""
    is_bound_already: bool
    inviter_id: str | None
    has_bought: bool
    registered_at: datetime | None
    ends_at: datetime | None
    signs: list[str]


class Relations:
    """Codes and binding."""

    def __init__(self, database: Database, attempts: Limiter, audiences: Audiences) -> None:
        """`attempts` is how often one shopper may try a code: nobody finds another's by trying."""
        self._database = database
        self._attempts = attempts
        self._audiences = audiences
        self._suspects: set[str] = set()
        # Of wishes of one shopper the first goes first, and the next one sees what became of it.
        self._wishes: Decisions[BindWish, Bound] = Decisions(
            "referral.relations",
            self._commit,
            person_of=lambda wish: wish.invitee_id,
            id_of=lambda wish: wish.invitee_id,
            max_batch=MAX_BATCH_WISHES,
            max_queue=MAX_QUEUE_WISHES,
        )

    async def drain(self) -> None:
        """Wait until everyone who asked has an answer."""
        await self._wishes.calls.drain()

    async def code(self, user_id: str, now: datetime) -> str:
        """Return a shopper's code, made when first asked for."""
        known = await store.known_code(self._database, user_id)
        if known is not None:
            return known
        async with self._database.transaction(people=[user_id]) as tx:
            return await store.code_of(tx, user_id, new_code(), now)

    async def bind(self, user_id: str, code: str, nickname: str | None, now: datetime) -> Bound:
        """Bind a shopper to whoever has `code`; when this returns, it is committed. The same again is the same.

        Raises `Refusal` with the reason, and `Unavailable` when Postgres does not answer: asking again is safe.
        """
        if user_id in self._suspects:
            await self._attempts.take(user_id)
        wish = BindWish(relation_id=new_id(now), invitee_id=user_id, code=read_code(code), nickname=masked(nickname))
        try:
            bound = await self._wishes.calls(wish)
        except Refusal as refusal:
            _refused(refusal.kind).inc()
            if refusal.kind is UNKNOWN_CODE:
                await self._suspect(user_id)
            raise
        if not bound.replayed:
            BOUND.inc()
        return bound

    async def _suspect(self, user_id: str) -> None:
        """From the first code that nobody has, every attempt counts; whoever never sent one is not counted at all."""
        if user_id in self._suspects:
            return
        if len(self._suspects) >= MAX_SUSPECTS:
            self._suspects.clear()
        self._suspects.add(user_id)
        await self._attempts.take(user_id)

    # --- a batch of wishes --------------------------------------------------------------------------------------------

    async def _commit(self, wishes: Sequence[BindWish]) -> Sequence[Bound | BaseException]:
        # The inviters too are written of, and only their codes are known yet.
        async with self._database.transaction(people={wish.invitee_id for wish in wishes}, everyone=True) as tx:
            seen = await _look(tx, wishes, self._audiences)
            answers, plain, careful = judge(wishes, seen)
            await write(tx, [tie for _, tie in plain], over=_over(plain, seen), now=seen.now)
            for at, tie in careful:
                # Bound one after the other: who brought somebody, also a moment ago, may close a ring.
                if await store.is_above(tx, tie.invitee_id, tie.inviter_id):
                    answers[at] = Refusal(LOOP)
                else:
                    await write(tx, [tie], over=_over([(at, tie)], seen), now=seen.now)
            return [answers[at] for at in range(len(wishes))]


async def _look(tx: Tx, wishes: Sequence[BindWish], audiences: Audiences) -> BindBatch:
    now = await store.lock(tx)
    terms = await store.open_terms(tx, now)
    standings = await store.standings(tx, wishes)
    people = set[str]()
    asked: dict[str, Candidate] = {}
    for wish in wishes:
        standing = standings[wish.relation_id]
        if standing.inviter_id and terms and not standing.is_bound(now):
            people |= {wish.invitee_id, standing.inviter_id}
            if terms.draft.audience:
                asked[standing.inviter_id] = Candidate(terms.draft.audience, standing.inviter_id)
    missed = await audiences.outside(tx, asked) if asked else {}
    return BindBatch(now, terms, standings, await histories(tx, people), missed)


async def histories(reader: Reader, user_ids: set[str]) -> Mapping[str, InviteeHistory]:
    """Return what the shop knows of shoppers."""
    if not user_ids:
        return {}
    ids = sorted(user_ids)
    # Who was invited, erased and is back is no newcomer: nobody earns by the same person twice.
    bought = await has_bought(reader, ids) | await reader.people.had(reader, ids, INVITED)
    told = await registration(reader, ids)
    return {user_id: alike(InviteeHistory, told.get(user_id), has_bought=user_id in bought) for user_id in ids}


def judge(
    wishes: Sequence[BindWish], seen: BindBatch
) -> tuple[dict[int, Bound | BaseException], list[tuple[int, Tie]], list[tuple[int, Tie]]]:
    """Answer one wish each of several shoppers; and say what to write as it is, and what to look at for a ring first.

    A ring has a last link, and whoever adds it has brought somebody before, or is bringing somebody in this batch.
    """
    answers: dict[int, Bound | BaseException] = {}
    ties: list[tuple[int, Tie]] = []
    for at, wish in enumerate(wishes):
        answer = _answer(wish, seen)
        if isinstance(answer, Tie):
            ties.append((at, answer))
            answer = Bound(answer.inviter_id, answer.bound_at, answer.ends_at, replayed=False, at=seen.now)
        answers[at] = answer
    inviters = {tie.inviter_id for _, tie in ties}
    plain: list[tuple[int, Tie]] = []
    careful: list[tuple[int, Tie]] = []
    for at, tie in ties:
        may_close = tie.invitee_id in inviters or seen.standings[tie.relation_id].has_invitees
        (careful if may_close else plain).append((at, tie))
    return answers, plain, careful


def _answer(wish: BindWish, seen: BindBatch) -> Tie | Bound | Refusal:
    standing, now = seen.standings[wish.relation_id], seen.now
    if standing.inviter_id is not None and standing.is_bound_as_wished(now):
        assert standing.current_bound_at is not None
        return Bound(standing.inviter_id, standing.current_bound_at, standing.current_ends_at, replayed=True, at=now)
    kind = refusal_of(standing, wish.invitee_id, now)
    if kind is None and seen.terms is None:
        kind = NO_PROGRAM
    if kind is not None:
        return Refusal(kind)
    assert standing.inviter_id is not None
    assert seen.terms is not None
    draft, history = seen.terms.draft, seen.histories[wish.invitee_id]
    if not is_new(history, draft.attribution_days, now):
        return Refusal(NOT_NEW)
    if standing.inviter_id in seen.missed:
        return not_admitted(seen.missed[standing.inviter_id])
    return Tie(
        relation_id=wish.relation_id,
        invitee_id=wish.invitee_id,
        inviter_id=standing.inviter_id,
        program_id=seen.terms.program_id,
        source="shopper",
        nickname=wish.nickname,
        is_new=True,
        bound_at=now,
        ends_at=ends_at_of(draft, now),
        device=device_digest(history.device_id),
        signs=signs_between(history, seen.histories[standing.inviter_id]),
    )


def _over(ties: Sequence[tuple[int, Tie]], seen: BindBatch) -> list[str]:
    """Return the relations that are in the way of `ties`: all are over, or their invitees would have been refused."""
    ids = [seen.standings[tie.relation_id].current_id for _, tie in ties]
    return [relation_id for relation_id in ids if relation_id is not None]


async def write(tx: Tx, ties: Sequence[Tie], *, over: Sequence[str], now: datetime) -> None:
    """Write relations and tell of them; of the relations `over`, those that ended by themselves make room.

    The caller has the lock, and has looked for rings.
    """
    if not ties:
        return
    shared = await store.shared_devices(tx, ties)
    ties = [
        msgspec.structs.replace(tie, signs=[*tie.signs, "shared_device"]) if tie.relation_id in shared else tie
        for tie in ties
    ]
    await store.retire(tx, over, now)
    await store.tie(tx, ties)
    await emit(tx, *[event for tie in ties for event in _told(tie)])


def _told(tie: Tie) -> list[ReferralRelationEvent]:
    kinds: list[type[ReferralRelationEvent]] = [ReferralBound, ReferralSuspected]
    return [alike(kind, tie, at=tie.bound_at) for kind in kinds[: 2 if tie.signs else 1]]


@cache
def _refused(kind: Kind) -> Counter:
    return REFUSED.labels(kind.code.partition(".")[2])


async def look_at(
    reader: Reader, audiences: Audiences, draft: ReferralDraft, user_id: str, code: str, at: datetime
) -> CodeLook:
    """Say what a shopper who sends `code` at `at` would get under `draft`, by what is known now; writes nothing."""
    wish = BindWish(relation_id=new_id(at), invitee_id=user_id, code=read_code(code), nickname="")
    standing = (await store.standings(reader, [wish]))[wish.relation_id]
    inviter_id = standing.inviter_id
    known = await histories(reader, {user_id} if inviter_id is None else {user_id, inviter_id})
    history = known[user_id]
    already = inviter_id is not None and standing.is_bound_as_wished(at)
    kind = None if already else refusal_of(standing, user_id, at)
    missed = None if inviter_id is None else await audiences.missed(reader, draft.audience, inviter_id)
    if kind is None and not already:
        if not is_new(history, draft.attribution_days, at):
            kind = NOT_NEW
        elif missed is not None:
            kind = NOT_IN_AUDIENCE
        elif standing.has_invitees and inviter_id and await store.is_above(reader, user_id, inviter_id):
            kind = LOOP
    return CodeLook(
        kind=kind,
        missed=missed,
        is_bound_already=already,
        inviter_id=inviter_id,
        has_bought=history.has_bought,
        registered_at=history.registered_at,
        ends_at=ends_at_of(draft, at),
        signs=signs_between(history, known[inviter_id]) if inviter_id and inviter_id != user_id else [],
    )
