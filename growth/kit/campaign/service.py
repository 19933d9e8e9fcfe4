"""What operators do with campaigns, of whatever kind. Each write is one transaction with its audit."""

from datetime import datetime
from typing import Any, Generic, Literal

from growth.kit.campaign import store
from growth.kit.campaign.audience import as_of_today, listed
from growth.kit.campaign.findings import Finding, hold
from growth.kit.campaign.model import LIVE, STEPS, C, CampaignKind, D, DraftCheck, Step
from growth.plumbing.field_errors import FieldError
from growth.plumbing.http.idempotency import Once, once
from growth.plumbing.outbox.outbox import emit
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.strict_json import invalid
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal


class Campaigns(Generic[D, C]):
    """The operators' side of one kind of campaign. A room's service adds to it by the hooks at its end."""

    kind: CampaignKind[D, C]
    """Which; of the class, so that its refusals are found where the document looks for them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, act: Act, draft: D, key: str | None, content: bytes) -> Once[C]:
        """Make a draft. Raises `Refusal` 400 for fields that do not fit together."""
        self._refuse_faults(draft, act.now)

        named = listed(draft)
        # Who they are today holds until this ends.
        async with self._database.transaction(everyone=bool(named)) as tx:

            async def work() -> C:
                campaign = await store.add(tx, self.kind, new_id(act.now), await as_of_today(tx, draft), act.now)
                await self._audit(tx, act, "create", None, campaign)
                return campaign

            scope = f"{act.operator.name} POST {self.kind.path}"
            return await once(
                tx,
                scope=scope,
                key=key,
                content=content,
                answer_type=self.kind.campaign,
                work=work,
                now=act.now,
                others=named,
            )

    def check(self, draft: D, now: datetime) -> DraftCheck:
        """Say what publishing a draft at `now` would meet; nothing is saved."""
        faults = self.faults(draft, now)
        # What is at fault in itself may not be fit to be asked when it would be too late.
        late = None if faults else self.late(draft, now)
        return DraftCheck(faults if late is None else [late], self.kind.findings(draft))

    async def find(self, campaign_id: str) -> C:
        """Return a campaign in any state. Raises `Refusal` 404."""
        found = (await store.find(self._database, self.kind, [campaign_id])).get(campaign_id)
        if found is None:
            raise Refusal(self.kind.not_found)
        return found

    async def page(self, *, state: str | None, before: str | None, limit: int, q: str | None = None) -> list[C]:
        """Return campaigns, newest first; `q` is looked for in titles, capitals or not."""
        return await store.page(self._database, self.kind, state=state, before=before, q=q, limit=limit)

    async def change(self, act: Act, campaign_id: str, version: int, draft: D, *, accept_warnings: bool = False) -> C:
        """Edit a campaign that is still at `version`.

        Raises `Refusal`: 400 as `create` does, 412 for an older version, 409 if it has ended, for what is fixed by now,
        and for what could not be published like this.
        """
        self._refuse_faults(draft, act.now)
        async with self._database.transaction(everyone=bool(listed(draft))) as tx:
            draft = await as_of_today(tx, draft)
            await self.lock_before_change(tx, draft)
            before = await self.lock(tx, campaign_id)
            if before.version != version:
                raise Refusal(self.kind.version_mismatch, f"It is at version {before.version}.", version=before.version)
            if before.state == "ended":
                raise Refusal(self.kind.wrong_state, f"An ended {self.kind.noun} cannot be changed.", state="ended")
            is_live = before.state in LIVE
            if is_live:
                self.allow(act, before, draft)
            await self.before_change(tx, act, before, draft)
            if is_live:
                self._hold(self.findings_of_change(before, draft), accept_warnings=accept_warnings)
            after = await store.change(tx, self.kind, campaign_id, version, draft)
            assert after is not None, "locked, so nobody else changed it"
            after = await self.after(tx, act, "change", before, after)
            await self._audit(tx, act, "change", before, after)
        await self.changed()
        return after

    async def publish(self, act: Act, campaign_id: str, *, accept_warnings: bool = False) -> C:
        """Show a draft to shoppers.

        Raises `Refusal` 409: its time is over; rules of platforms or law speak against it (`findings`), warnings among
        them unless they are accepted; or what the room says.
        """
        return await self.step(act, campaign_id, "publish", accept_warnings=accept_warnings)

    async def pause(self, act: Act, campaign_id: str) -> C:
        """Stop it for now."""
        return await self.step(act, campaign_id, "pause")

    async def resume(self, act: Act, campaign_id: str) -> C:
        """Let it go on."""
        return await self.step(act, campaign_id, "resume")

    async def end(self, act: Act, campaign_id: str) -> C:
        """End it for good."""
        return await self.step(act, campaign_id, "end")

    async def step(self, act: Act, campaign_id: str, step: Step, *, accept_warnings: bool = False) -> C:
        """Take a step; see the four above."""
        async with self._database.transaction() as tx:
            after = await self.step_in(tx, act, campaign_id, step, accept_warnings=accept_warnings)
        await self.changed()
        return after

    async def step_in(self, tx: Tx, act: Act, campaign_id: str, step: Step, *, accept_warnings: bool = False) -> C:
        """Take a step within a transaction of the caller's: decided by, and told of, the row as it is when locked."""
        await self.lock_before_step(tx, campaign_id, step)
        before = await self.lock(tx, campaign_id)
        from_states, to_state = STEPS[step]
        if before.state not in from_states:
            told = f"Cannot {step} a {self.kind.noun} that is {before.state}."
            raise Refusal(self.kind.wrong_state, told, state=before.state)
        if to_state == "published":
            self.allow(act, before)
        if step == "publish":
            late = self.late(before, act.now)
            if late is not None:
                raise self.too_late(late)
            self._hold(self.kind.findings(before), accept_warnings=accept_warnings)
        await self.before_step(tx, act, step, before)
        after = await store.move(tx, self.kind, campaign_id, from_states, to_state, act.now)
        assert after is not None, "locked, so nobody else moved it"
        after = await self.after(tx, act, step, before, after)
        await self._audit(tx, act, step, before, after)
        event = self.kind.event(step, after, act.now)
        if event is not None:
            await emit(tx, event)
        return after

    async def lock(self, tx: Tx, campaign_id: str) -> C:
        """Return a campaign, its row locked until `tx` ends. Raises `Refusal` 404."""
        found = await store.lock(tx, self.kind, campaign_id)
        if found is None:
            raise Refusal(self.kind.not_found)
        return found

    def _refuse_faults(self, draft: D, now: datetime) -> None:
        if found := self.faults(draft, now):
            raise invalid(*found)

    def _hold(self, findings: list[Finding], *, accept_warnings: bool) -> None:
        hold(findings, self.kind.not_compliant, accept_warnings=accept_warnings)

    async def _audit(self, tx: Tx, act: Act, action: str, before: C | None, after: C) -> None:
        subject = self.kind.id_of(after)
        await audit.record(tx, act, f"{self.kind.audited_as}.{action}", subject, before=before, after=after)

    # --- what a room may add ------------------------------------------------------------------------------------------

    def faults(self, draft: D, _now: datetime) -> list[FieldError]:
        """Return what does not fit together in a draft, by field."""
        return [] if self.kind.faults is None else self.kind.faults(draft)

    def allow(self, act: Act, *campaigns: object) -> None:
        """Refuse an operator whose role does not suffice to let these go live: as a campaign was, and as it will be."""

    def late(self, _draft: Any, _now: datetime) -> FieldError | None:
        """Say what makes it too late to publish a draft."""
        return None

    def too_late(self, late: FieldError) -> Refusal:
        """Return (to be raised) what publishing too late ends in."""
        return Refusal(self.kind.wrong_state, late.detail)

    def findings_of_change(self, before: C, draft: D) -> list[Finding]:
        """Return what a live campaign's edit is held to: what was not there when it was published."""
        known = {finding.rule for finding in self.kind.findings(before)}
        return [finding for finding in self.kind.findings(draft) if finding.rule not in known]

    async def lock_before_change(self, tx: Tx, draft: D) -> None:
        """Take what has to be locked before the row, for an edit."""

    async def lock_before_step(self, tx: Tx, campaign_id: str, step: Step) -> None:
        """Take what has to be locked before the row, for a step."""

    async def before_change(self, tx: Tx, act: Act, before: C, draft: D) -> None:
        """Refuse an edit, in its transaction with the row locked."""

    async def before_step(self, tx: Tx, act: Act, step: Step, before: C) -> None:
        """Refuse a step, or prepare it, in its transaction with the row locked."""

    async def after(self, _tx: Tx, _act: Act, _step: Step | Literal["change"], _before: C, after: C) -> C:
        """Do what goes with an edit or a step, in its transaction; return the campaign as it is then."""
        return after

    async def changed(self) -> None:
        """Do what follows an edit or a step once it has been committed: a memory of this process is old now."""


async def end_over(tx: Tx, kind: CampaignKind[D, C], over_by: datetime, now: datetime, limit: int) -> int:
    """End live campaigns whose time was over by an instant, and tell of each; return how many, up to `limit`."""
    ended = await store.end_over(tx, kind, over_by, limit)
    await emit(tx, *[event for one in ended if (event := kind.event("end", one, now)) is not None])
    return len(ended)
