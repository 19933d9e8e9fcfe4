"""Events of webhooks: what the service tells about its own telling."""

from growth.vocabulary.events.base import Event


class WebhookEvent(Event, frozen=True, kw_only=True):
    """Base of what happens around one endpoint."""

    endpoint_id: str

    @property
    def subject(self) -> str:
        """The endpoint."""
        return self.endpoint_id


class WebhookEndpointDisabled(WebhookEvent, frozen=True, kw_only=True, tag="webhook.endpoint_disabled"):
    """An endpoint gets nothing any more until an operator enables it. Told to every other endpoint."""

    url: str
    """Where it was, without its query."""
    reason: str
    """`gone`: it answered 410; `failing`: for a day nothing came through, and a last try failed as well."""


class WebhookTest(WebhookEvent, frozen=True, kw_only=True, tag="webhook.test"):
    """An operator asked what an endpoint does with an event. Sent to that endpoint alone, once, and never again."""
