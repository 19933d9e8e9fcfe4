"""What operators do with endpoints. Each write is one transaction with its audit entry, and no secret in it."""

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from growth.plumbing.docs.event_catalogue import event_names
from growth.plumbing.http.idempotency import once
from growth.plumbing.postgres.database import Database, Tx
from growth.plumbing.watch import audit
from growth.plumbing.watch.audit import Act
from growth.vocabulary.alike import alike
from growth.vocabulary.ids import new_id
from growth.vocabulary.refusals import Refusal
from growth.webhook import model, store
from growth.webhook.addresses import TARGET_REFUSED, check_addresses, read_target
from growth.webhook.delivery.courier import Courier
from growth.webhook.model import EndpointDraft, WebhookEndpoint


class EndpointMade(WebhookEndpoint, frozen=True, kw_only=True):
    """A new endpoint with its secret, which is shown this once."""

    secret: str | None
    """`whsec_…`. Nothing where a call is told again after the secret was rotated."""


class SecretMade(Struct, frozen=True, kw_only=True):
    """A new secret, which is shown this once."""

    secret: str
    """`whsec_…`. From now on the first of the signatures is its."""
    old_secrets_until: datetime
    """So long, at most, does every delivery also carry the signatures of the secrets before it."""


class Webhooks:
    """The operators' side of endpoints."""

    def __init__(self, database: Database, courier: Courier) -> None:
        self._database = database
        self._courier = courier

    async def create(
        self, act: Act, draft: EndpointDraft, key: str | None, content: bytes
    ) -> tuple[EndpointMade, bool]:
        """Make an endpoint; return it, and whether it is the first answer told again.

        Raises `Refusal`: 400 for an address that may not be called or a filter that nothing passes, 409 if there are
        too many.
        """
        await self._check(draft)
        async with self._database.transaction() as tx:

            async def work() -> WebhookEndpoint:
                endpoint = await store.add_endpoint(tx, new_id(act.now), draft, model.MAX_ENDPOINTS, act.now)
                if endpoint is None:
                    raise Refusal(model.TOO_MANY, f"There may be {model.MAX_ENDPOINTS}.")
                await store.add_secret(tx, endpoint.endpoint_id, model.new_secret(), act.now)
                await _audit(tx, act, "create", None, endpoint)
                return endpoint

            scope = f"{act.operator.name} POST webhooks"
            made = await once(
                tx, scope=scope, key=key, content=content, answer_type=WebhookEndpoint, work=work, now=act.now
            )
            secret = await store.first_secret(tx, made.answer.endpoint_id)
        # The secret is no part of the answer that is kept: it stands in one table alone.
        return alike(EndpointMade, made.answer, secret=secret), made.replayed

    async def find(self, endpoint_id: str) -> WebhookEndpoint:
        """Return an endpoint. Raises `Refusal` 404."""
        endpoint = await store.find_endpoint(self._database, endpoint_id)
        if endpoint is None:
            raise Refusal(model.NOT_FOUND)
        return endpoint

    async def page(self, state: str | None, before: str | None, limit: int) -> list[WebhookEndpoint]:
        """Return endpoints, newest first."""
        return await store.page_of_endpoints(self._database, state=state, before=before, limit=limit)

    async def change(self, act: Act, endpoint_id: str, version: int, draft: EndpointDraft) -> WebhookEndpoint:
        """Edit an endpoint still at `version`; what is on its way goes to the new address.

        Raises `Refusal`: 412 for an older version, and as `create`.
        """
        await self._check(draft)
        async with self._database.transaction() as tx:
            before = await _lock(tx, endpoint_id)
            after = await store.change_endpoint(tx, endpoint_id, version, draft)
            if after is None:
                raise Refusal(model.VERSION_MISMATCH, f"It is at version {before.version}.", version=before.version)
            await _audit(tx, act, "change", before, after)
        return after

    async def delete(self, act: Act, endpoint_id: str) -> None:
        """Forget an endpoint and its secrets; nothing more is sent to it."""
        async with self._database.transaction() as tx:
            before = await _lock(tx, endpoint_id)
            await store.delete_endpoint(tx, endpoint_id)
            await _audit(tx, act, "delete", before, None)

    async def enable(self, act: Act, endpoint_id: str) -> WebhookEndpoint:
        """Let an endpoint have what waits for it, and what happens from now on. Raises `Refusal` 409."""
        return await self._turn(act, endpoint_id, "enable")

    async def disable(self, act: Act, endpoint_id: str) -> WebhookEndpoint:
        """Send an endpoint nothing more until it is enabled. Raises `Refusal` 409."""
        return await self._turn(act, endpoint_id, "disable")

    async def _turn(self, act: Act, endpoint_id: str, turn: Literal["enable", "disable"]) -> WebhookEndpoint:
        async with self._database.transaction() as tx:
            before = await _lock(tx, endpoint_id)
            is_on = turn == "enable"
            after = await (
                store.enable(tx, endpoint_id) if is_on else store.disable(tx, endpoint_id, "operator", act.now)
            )
            if after is None:
                raise Refusal(model.WRONG_STATE, f"It is {turn}d.", state=before.state)
            await _audit(tx, act, turn, before, after)
        return after

    async def rotate_secret(self, act: Act, endpoint_id: str, keep_hours: int) -> SecretMade:
        """Put a new secret in place of the current one, which stays good for `keep_hours`; 0 ends all before it.

        Raises `Refusal` 409 if too many would be good at once.
        """
        secret = model.new_secret()
        until = act.now + timedelta(hours=keep_hours)
        async with self._database.transaction() as tx:
            endpoint = await _lock(tx, endpoint_id)
            if not await store.rotate_secret(tx, endpoint_id, secret, until, model.MAX_SECRETS, act.now):
                detail = f"At most {model.MAX_SECRETS} may be good at once. Wait for one to end, or say keep_hours=0."
                raise Refusal(model.TOO_MANY_SECRETS, detail)
            await audit.record(
                tx,
                act,
                "webhook.rotate_secret",
                endpoint.endpoint_id,
                after={"old_secrets_until": until},
            )
        return SecretMade(secret=secret, old_secrets_until=until)

    async def _check(self, draft: EndpointDraft) -> None:
        """Raise `Refusal` 400 unless every filter is of some event, and the URL may be called as far as is known."""
        model.check_filters(draft.event_types, event_names())
        target = read_target(draft.url, self._courier.exempt_hosts)
        if target.is_exempt:
            return
        try:
            check_addresses(target.host, await self._courier.addresses_of(target))
        except TimeoutError:
            raise Refusal(TARGET_REFUSED, f"Where {target.host} leads could not be found out in time.") from None


async def _lock(tx: Tx, endpoint_id: str) -> WebhookEndpoint:
    endpoint = await store.lock_endpoint(tx, endpoint_id)
    if endpoint is None:
        raise Refusal(model.NOT_FOUND)
    return endpoint


async def _audit(tx: Tx, act: Act, action: str, before: WebhookEndpoint | None, after: WebhookEndpoint | None) -> None:
    subject = after or before
    assert subject is not None, "something was there before or after"
    await audit.record(
        tx,
        act,
        f"webhook.{action}",
        subject.endpoint_id,
        before=before,
        after=after,
    )
