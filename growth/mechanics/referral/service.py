"""Programs: what is promised, and what operators do with it. Each write is one transaction with its audit entry."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from growth.kit.campaign import store as campaigns
from growth.kit.campaign.audience import Audiences
from growth.kit.campaign.findings import Finding
from growth.kit.campaign.model import LIVE, State, Step
from growth.kit.campaign.service import Campaigns
from growth.mechanics.referral import model, store
from growth.mechanics.referral.model import PROGRAMS, ProgramTerms, ReferralDraft, ReferralProgram
from growth.mechanics.referral.relation.service import look_at
from growth.plumbing.field_errors import FieldError
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Reader, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch.audit import Act
from growth.rewards.granting.service import require_admin_for_money, set_budget
from growth.vocabulary.alike import alike
from growth.vocabulary.audience import NOT_IN_AUDIENCE
from growth.vocabulary.events.referral import ReferralProgramEnded
from growth.vocabulary.refusals import Refusal

END_BATCH = 100
"""Programs ended in one transaction. One is live at a time."""


Would = Literal["bind", "nothing", "refuse"]


class BindingDryRun(Struct, frozen=True, kw_only=True):
    """What a shopper who sends a code would get, without doing it."""

    would: Would
    """`nothing`: bound to the same inviter already."""
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
    state: State
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


class ReferralPrograms(Campaigns[ReferralDraft, ReferralProgram]):
    """The operators' side of referrals."""

    kind = PROGRAMS

    def __init__(self, database: Database, zone: str, audiences: Audiences) -> None:
        """`zone` is the merchant's, whose days budgets count."""
        super().__init__(database)
        self._zone = zone
        self._audiences = audiences

    def allow(self, act: Act, *campaigns: object) -> None:
        """Refuse an editor where money is given."""
        require_admin_for_money(act, *campaigns)

    def late(self, draft: ReferralDraft, now: datetime) -> FieldError | None:
        """Say that the program would be over already."""
        is_late = draft.closes_at is not None and draft.closes_at <= now
        return FieldError("closes_at", "Lies in the past") if is_late else None

    def too_late(self, late: FieldError) -> Refusal:
        """Return the refusal that names the field."""
        return invalid(late)

    def findings_of_change(self, _before: ReferralProgram, draft: ReferralDraft) -> list[Finding]:
        """Return all: an edit of a live program begins new terms, and their warnings are to be read anew."""
        return self.kind.findings(draft)

    async def lock_before_change(self, tx: Tx, _draft: ReferralDraft) -> None:
        """Let one program at a time be changed."""
        await store.lock(tx)

    async def lock_before_step(self, tx: Tx, _program_id: str, _step: Step) -> None:
        """Let one program at a time take a step: it looks at the others."""
        await store.lock(tx)

    async def before_change(self, _tx: Tx, act: Act, before: ReferralProgram, draft: ReferralDraft) -> None:
        """Refuse an end that lies behind."""
        late = self.late(draft, act.now)
        if before.state in LIVE and late is not None:
            raise self.too_late(late)

    async def before_step(self, tx: Tx, _act: Act, step: Step, _before: ReferralProgram) -> None:
        """Refuse a second live program."""
        other = await store.live_program(tx) if step == "publish" else None
        if other is not None:
            raise Refusal(model.OTHER_IS_LIVE, program_id=other.program_id)

    async def after(
        self, tx: Tx, act: Act, step: Step | Literal["change"], before: ReferralProgram, after: ReferralProgram
    ) -> ReferralProgram:
        """Begin a version of the terms with a publication or an edit of a live program, and end the one before."""
        if step == "end" or (step == "change" and before.state in LIVE):
            await store.close_version(tx, after.program_id, act.now)
        if step in {"publish", "change"} and after.state in LIVE:
            await store.open_version(tx, after.program_id, after.version, draft_of(after), act.now)
            if after.budget is not None:
                await set_budget(tx, after.program_id, after.budget, self._zone)
        return after

    async def dry_run(self, program_id: str, user_id: str, code: str, at: datetime) -> BindingDryRun:
        """Say what a shopper who sends `code` at `at` would get under this program, as if it were published."""
        user_id = await self._database.people.today(self._database, user_id)
        program = await self.find(program_id)
        seen = await look_at(self._database, self._audiences, draft_of(program), user_id, code, at)
        closed = program.closes_at is not None and at >= program.closes_at
        would: Would = "refuse"
        if program.state not in {"draft", "published"} or closed:
            because = f"The program is {'over' if closed else program.state}: nobody is bound."
            kind = "referral.no_program"
        elif seen.kind is not None:
            kind, because = seen.kind.code, seen.kind.title
            because += f" The inviter does not meet {seen.missed}." if seen.kind is NOT_IN_AUDIENCE else ""
        else:
            would, kind = "nothing" if seen.is_bound_already else "bind", None
            because = "Bound to this inviter already." if seen.is_bound_already else "A relation would be made."
        ends_at = seen.ends_at if would == "bind" else None
        return alike(BindingDryRun, seen, would=would, code=kind, because=because, at=at, ends_at=ends_at)

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


async def end_closed(tx: Tx, now: datetime) -> int:
    """End programs whose time is over, as of that time; return how many."""
    await store.lock(tx)
    closed = await campaigns.end_over(tx, PROGRAMS, now, END_BATCH)
    for program in closed:
        assert program.closes_at is not None
        await store.close_version(tx, program.program_id, program.closes_at)
        await emit(tx, ReferralProgramEnded(at=now, program_id=program.program_id))
    return len(closed)


def draft_of(program: ReferralProgram) -> ReferralDraft:
    """Return what the operator decided."""
    return alike(ReferralDraft, program)
