"""Programs: what is promised, and what operators do with it. Each write is one transaction with its audit entry."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from growth.kit.campaign.findings import hold
from growth.mechanics.referral import model, store
from growth.mechanics.referral.model import ProgramTerms, ReferralDraft, ReferralProgram
from growth.mechanics.referral.relation.service import look_at
from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.strict_json import FieldError, invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.rewards.granting.service import require_admin_for_money, set_budget
from growth.vocabulary.events.referral import (
    ReferralProgramEnded,
    ReferralProgramEvent,
    ReferralProgramPaused,
    ReferralProgramPublished,
    ReferralProgramResumed,
)
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal


class BindingDryRun(Struct, frozen=True, kw_only=True):
    """What a shopper who sends a code would get, without doing it."""

    would: str
    """`bind`, `nothing` (bound to the same inviter already) or `refuse`."""
    code: str | None
    because: str
    at: datetime
    inviter_id: str | None
    """Whose code it is."""
    has_bought: bool
    registered_at: datetime | None
    ends_at: datetime | None
    """When the relation would end by itself."""
    signs: list[str]
    """What would be told as suspicious."""


class ProgramStats(Struct, frozen=True, kw_only=True):
    """A program in numbers, as it stands."""

    program_id: str
    state: model.State
    invited: int
    """Shoppers bound under it."""
    bought: int
    """Those of them whose first order is paid, received or not."""
    valid: int
    """Those of them whose first order was received."""
    inviters: int
    """Inviters with a valid invitee under its terms."""
    rewarded: int
    """Valid invitees within the inviters' caps."""
    milestones: int
    """Milestones held."""
    server_time: datetime


class ReferralPrograms:
    """The operators' side of referrals."""

    def __init__(self, database: Database, zone: str) -> None:
        """`zone` is the merchant's, whose days budgets count."""
        self._database = database
        self._zone = zone

    async def create(self, act: Act, draft: ReferralDraft, key: str | None, content: bytes) -> Once[ReferralProgram]:
        """Make a draft. Raises `Refusal` 400 for fields that do not fit together."""
        _check(draft)

        async with self._database.transaction() as tx:

            async def work() -> ReferralProgram:
                program = await store.add_program(tx, new_id(act.now), draft, act.now)
                await _audit(tx, act, "create", None, program)
                return program

            scope = f"{act.operator.name} POST referral-programs"
            return await once(
                tx, scope=scope, key=key, content=content, answer_type=ReferralProgram, work=work, now=act.now
            )

    async def find(self, program_id: str) -> ReferralProgram:
        """Return a program in any state. Raises `Refusal` 404."""
        return await _find(self._database, program_id)

    async def page(self, *, state: str | None, before: str | None, limit: int) -> list[ReferralProgram]:
        """Return programs, newest first."""
        return await store.page_of_programs(self._database, state=state, before=before, limit=limit)

    async def change(
        self, act: Act, program_id: str, version: int, draft: ReferralDraft, *, accept_warnings: bool
    ) -> ReferralProgram:
        """Edit a program still at `version`; a live one begins a new version of its terms.

        Raises `Refusal`: 400, 412 for an older version, 409 if it has ended or could not be published like this.
        """
        _check(draft)
        async with self._database.transaction() as tx:
            before = await _lock(tx, program_id)
            if before.version != version:
                raise Refusal(model.VERSION_MISMATCH, f"It is at version {before.version}.", version=before.version)
            is_live = before.state in {"published", "paused"}
            if is_live:
                require_admin_for_money(act, before, draft)
                _check_live(draft, act.now)
                hold(model.findings(draft), model.NOT_COMPLIANT, accept_warnings=accept_warnings)
            after = await store.change_program(tx, program_id, version, draft)
            if after is None:
                raise Refusal(model.WRONG_STATE, "An ended program cannot be changed.", state=before.state)
            if is_live:
                await store.close_version(tx, program_id, act.now)
                await self._begin(tx, after, draft, act.now)
            await _audit(tx, act, "change", before, after)
        return after

    async def publish(self, act: Act, program_id: str, *, accept_warnings: bool) -> ReferralProgram:
        """Let a draft go live. Raises `Refusal` 409: not compliant, warnings not accepted, or another one is live."""
        async with self._database.transaction() as tx:
            before = await _lock(tx, program_id)
            draft = draft_of(before)
            require_admin_for_money(act, draft)
            _check_live(draft, act.now)
            if before.state == "draft":
                hold(model.findings(draft), model.NOT_COMPLIANT, accept_warnings=accept_warnings)
                other = await store.live_program(tx)
                if other is not None:
                    raise Refusal(model.OTHER_IS_LIVE, program_id=other.program_id)
            event = ReferralProgramPublished(at=act.now, program_id=program_id, levels=draft.levels)
            after = await _move(tx, act, before, ("draft",), "published", "publish", event)
            await self._begin(tx, after, draft, act.now)
        return after

    async def _begin(self, tx: Tx, program: ReferralProgram, draft: ReferralDraft, now: datetime) -> None:
        await store.open_version(tx, program.program_id, program.version, draft, now)
        if draft.budget is not None:
            await set_budget(tx, program.program_id, draft.budget, self._zone)

    async def pause(self, act: Act, program_id: str) -> ReferralProgram:
        """Bind nobody for now; relations there are go on earning."""
        async with self._database.transaction() as tx:
            before = await _lock(tx, program_id)
            event = ReferralProgramPaused(at=act.now, program_id=program_id)
            return await _move(tx, act, before, ("published",), "paused", "pause", event)

    async def resume(self, act: Act, program_id: str) -> ReferralProgram:
        """Let shoppers be bound again."""
        async with self._database.transaction() as tx:
            before = await _lock(tx, program_id)
            require_admin_for_money(act, before)
            event = ReferralProgramResumed(at=act.now, program_id=program_id)
            return await _move(tx, act, before, ("paused",), "published", "resume", event)

    async def end(self, act: Act, program_id: str) -> ReferralProgram:
        """End a program for good: orders paid from now on earn nothing; what was earned takes its course."""
        async with self._database.transaction() as tx:
            before = await _lock(tx, program_id)
            event = ReferralProgramEnded(at=act.now, program_id=program_id)
            after = await _move(tx, act, before, ("draft", "published", "paused"), "ended", "end", event)
            await store.close_version(tx, program_id, act.now)
            return after

    async def dry_run(self, program_id: str, user_id: str, code: str, at: datetime) -> BindingDryRun:
        """Say what a shopper who sends `code` at `at` would get under this program, as if it were published."""
        user_id = await self._database.people.today(self._database, user_id)
        program = await self.find(program_id)
        seen = await look_at(self._database, draft_of(program), user_id, code, at)
        closed = program.closes_at is not None and at >= program.closes_at
        if program.state not in {"draft", "published"} or closed:
            because = f"The program is {'over' if closed else program.state}: nobody is bound."
            would, kind = "refuse", "referral.no_program"
        elif seen.kind is not None:
            would, kind, because = "refuse", seen.kind.code, seen.kind.title
        else:
            would, kind = "nothing" if seen.is_bound_already else "bind", None
            because = "Bound to this inviter already." if seen.is_bound_already else "A relation would be made."
        return BindingDryRun(
            would=would,
            code=kind,
            because=because,
            at=at,
            inviter_id=seen.inviter_id,
            has_bought=seen.has_bought,
            registered_at=seen.registered_at,
            ends_at=seen.ends_at if would == "bind" else None,
            signs=seen.signs,
        )

    async def stats(self, program_id: str, now: datetime) -> ProgramStats:
        """Return a program in numbers."""
        program = await self.find(program_id)
        by_state = {one.state: one.invitees for one in await store.count_invitees(self._database, program_id)}
        inviters, rewarded, milestones = await store.count_inviters(self._database, program_id)
        valid = by_state.get("valid", 0)
        return ProgramStats(
            program_id=program_id,
            state=program.state,
            invited=sum(by_state.values()),
            bought=valid + by_state.get("bought", 0),
            valid=valid,
            inviters=inviters,
            rewarded=rewarded,
            milestones=milestones,
            server_time=now,
        )


async def program_at(reader: Reader, at: datetime) -> ProgramTerms | None:
    """Return the terms in force at `at`; None if no program was live.

    Whoever acts on terms writes their program_id and version down, and asks `terms_of` from then on.
    """
    return await store.terms_at(reader, at)


async def terms_of(reader: Reader, program_id: str, version: int) -> ProgramTerms:
    """Return one version of a program's promises, which was seen before."""
    terms = await store.find_terms(reader, program_id, version)
    assert terms is not None, "terms are never deleted"
    return terms


async def live(reader: Reader, now: datetime) -> tuple[ProgramTerms | None, bool]:
    """Return the terms in force now, and whether shoppers can be bound."""
    found = await store.live_terms(reader, now)
    return (None, False) if found is None else found


async def end_closed(tx: Tx, now: datetime) -> int:
    """End programs whose time is over, as of that time; return how many."""
    await store.lock(tx)
    closed = await store.closed_programs(tx, now)
    for program in closed:
        assert program.closes_at is not None
        await store.move_program(tx, program.program_id, ("published", "paused"), "ended", program.closes_at)
        await store.close_version(tx, program.program_id, program.closes_at)
        await emit(tx, ReferralProgramEnded(at=now, program_id=program.program_id))
    return len(closed)


def draft_of(program: ReferralProgram) -> ReferralDraft:
    """Return what the operator decided."""
    return ReferralDraft(**{name: getattr(program, name) for name in ReferralDraft.__struct_fields__})


def _check(draft: ReferralDraft) -> None:
    if found := model.faults(draft):
        raise invalid(*found)


def _check_live(draft: ReferralDraft, now: datetime) -> None:
    if draft.closes_at is not None and draft.closes_at <= now:
        raise invalid(FieldError("closes_at", "Lies in the past"))


async def _find(reader: Reader, program_id: str) -> ReferralProgram:
    program = await store.find_program(reader, program_id)
    if program is None:
        raise Refusal(model.NOT_FOUND)
    return program


async def _lock(tx: Tx, program_id: str) -> ReferralProgram:
    await store.lock(tx)
    return await _find(tx, program_id)


async def _move(
    tx: Tx,
    act: Act,
    before: ReferralProgram,
    from_states: Sequence[str],
    to_state: str,
    action: str,
    event: ReferralProgramEvent,
) -> ReferralProgram:
    after = await store.move_program(tx, before.program_id, from_states, to_state, act.now)
    if after is None:
        raise Refusal(model.WRONG_STATE, f"Cannot {action} a program that is {before.state}.", state=before.state)
    await _audit(tx, act, action, before, after)
    await emit(tx, event)
    return after


async def _audit(tx: Tx, act: Act, action: str, before: ReferralProgram | None, after: ReferralProgram) -> None:
    await audit.record(
        tx,
        act,
        f"referral.{action}",
        after.program_id,
        before=before,
        after=after,
    )
