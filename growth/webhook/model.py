"""What an endpoint and a delivery are, and what follows from an answer: decisions without I/O."""

import secrets
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from growth.plumbing.field_errors import FieldError
from growth.plumbing.http.signatures import sign
from growth.plumbing.outbox.cloud_events import MEDIA_TYPE
from growth.plumbing.strict_json import invalid
from growth.vocabulary.refusals import Kind
from growth.vocabulary.text import Name
from growth.webhook.addresses import MAX_URL_CHARACTERS

MAX_ENDPOINTS = 64
MAX_FILTERS = 64
"""Names and patterns of one endpoint."""
SECRET_BYTES = 32
MAX_SECRETS = 4
"""Of one endpoint at a time: the current one and those that are still told beside it."""
MAX_KEEP_HOURS = 168
KEEP_HOURS = 24
"""A rotated secret is told beside the new one for so long, unless the operator says otherwise."""

RETRY_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""After the first try, and after each that failed: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h. Standard
Webhooks' own schedule, https://github.com/standard-webhooks/standard-webhooks, spec 1.0, "Deliverability"."""
MAX_ATTEMPTS = len(RETRY_SECONDS) + 1
JITTER_SHARE = 0.2
"""A wait is longer by up to this share of it: what failed together does not come back together."""
MAX_RETRY_AFTER_SECONDS = 86_400
"""A receiver that names a longer wait is asked after this one."""

GIVE_UP_FAILURES = 10
GIVE_UP_SECONDS = 86_400
"""An endpoint is disabled when a delivery's last try fails, and for so long, in at least so many attempts, none has
come through."""

MAX_LOG = 20
"""Attempts kept of one delivery; the oldest go first."""
MAX_REDELIVERED = 2000
"""Events of one call."""
MAX_REDELIVERY_SECONDS = 86_400
"""The longest range of one call."""

GONE = 410
MIN_OK, MAX_OK = 200, 299

NOT_FOUND = Kind("webhook.not_found", "There is no such webhook endpoint.", 404)
DELIVERY_NOT_FOUND = Kind("webhook.delivery_not_found", "There is no such delivery of this endpoint.", 404)
TOO_MANY = Kind("webhook.too_many", "No more webhook endpoints can be created.")
TOO_MANY_SECRETS = Kind(
    "webhook.too_many_secrets", "Too many earlier secrets are still valid; rotate again when one has expired."
)
WRONG_STATE = Kind("webhook.wrong_state", "The endpoint's state does not allow this.")
VERSION_MISMATCH = Kind("webhook.version_mismatch", "Somebody else changed the endpoint.", 412)

State = Literal["enabled", "disabled"]
DisabledReason = Literal["operator", "gone", "failing"]
DeliveryState = Literal["pending", "delivered", "exhausted"]
ErrorClass = Literal["status", "timeout", "refused", "closed", "dns", "tls", "protocol", "target_refused", "internal"]

Filter = Annotated[
    str,
    Meta(
        pattern=r"^(?:\*|[a-z_]{1,40}\.(?:\*|[a-z_]{1,60}))$(?!\n)",
        description="An event's name, `room.*` for all of a room, or `*` for all there are.",
    ),
]


class EndpointDraft(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator decides about an endpoint."""

    url: Annotated[
        str,
        Meta(
            min_length=10,
            max_length=MAX_URL_CHARACTERS,
            pattern=r"^https?://[!-~]+$(?!\n)",
            description="https:// and a public host. Other hosts, and http://, only as the deployment's settings name.",
        ),
    ]
    event_types: Annotated[list[Filter], Meta(min_length=1, max_length=MAX_FILTERS)]
    """Which events it gets: names, `room.*`, or `*`."""
    description: Name | None = None
    """Whose it is, for operators."""


class WebhookEndpoint(EndpointDraft, frozen=True, kw_only=True):
    """An endpoint as operators see it. Its secrets are shown once, when they are made."""

    endpoint_id: str
    state: State
    reason: DisabledReason | None
    """Why it is disabled: by an `operator`; `gone`, it answered 410; `failing`, for a day nothing came through."""
    version: int
    failures: int
    """Attempts that failed since the last that did not."""
    failing_since: datetime | None
    created_at: datetime
    disabled_at: datetime | None


class Attempt(Struct, frozen=True, kw_only=True):
    """One request, and what came of it."""

    at: datetime
    milliseconds: int
    status: int | None = None
    """What was answered; nothing if there was no answer."""
    error: ErrorClass | None = None
    """What went wrong: `status` (not 2xx), `timeout`, `refused` (the connection), `closed` (before an answer), `dns`,
    `tls`, `protocol` (no HTTP), `target_refused` (its address is not the public internet's), `internal`."""


class Delivery(Struct, frozen=True, kw_only=True):
    """One event on its way to one endpoint."""

    delivery_id: str
    event_id: str
    """Also webhook-id, at every attempt."""
    request_id: str | None
    """X-Request-Id of the request that the event came of, where that was one."""
    type: str
    event_at: datetime
    state: DeliveryState
    attempts: int
    """Since it was last queued."""
    next_try_at: datetime | None
    queued_at: datetime
    ended_at: datetime | None
    log: list[Attempt]
    """The last attempts, oldest first."""


class DeliveryFilter(Struct, frozen=True, kw_only=True):
    """Which deliveries of an endpoint; None for all."""

    state: str | None = None
    type: str | None = None
    since: datetime | None = None
    """Of events at this instant or later …"""
    until: datetime | None = None
    """… and before this one."""


class Parcel(Struct, frozen=True, kw_only=True):
    """A delivery under our lease: what a sender needs to send it, and to write down what came of it."""

    endpoint_id: str
    event_at: datetime
    event_id: str
    type: str
    body: str
    attempts: int
    fence: int
    url: str
    secrets: list[str]
    """Current first, then those still told beside it."""


class ReceiverAnswer(NamedTuple):
    """What a receiver answered, as far as it decides anything."""

    attempt: Attempt
    retry_after_seconds: float | None = None


class DeliveryDecision(NamedTuple):
    """What becomes of a delivery."""

    state: DeliveryState
    next_try_at: datetime | None
    is_gone: bool = False
    """The receiver says that it wants nothing more, ever."""


class _Whose(Struct, frozen=True):
    """Of a CloudEvent, what it came of."""

    requestid: str = ""


_whose = msgspec.json.Decoder(_Whose).decode


def request_id_of(parcel: Parcel) -> str:
    """Return the id of the request that the event came of, as its own CloudEvent says it; "" if there was none."""
    return _whose(parcel.body).requestid


def is_delivered(attempt: Attempt) -> bool:
    """Say whether the receiver took it: any 2xx."""
    return attempt.error is None and attempt.status is not None and MIN_OK <= attempt.status <= MAX_OK


def judge(attempts: int, told: ReceiverAnswer, now: datetime, dice: float) -> DeliveryDecision:
    """Decide after an attempt; `attempts` counts it. `dice`, from 0 to 1, spreads the waits."""
    if is_delivered(told.attempt):
        return DeliveryDecision("delivered", None)
    if told.attempt.status == GONE:
        return DeliveryDecision("exhausted", None, is_gone=True)
    if attempts >= MAX_ATTEMPTS:
        return DeliveryDecision("exhausted", None)
    return DeliveryDecision("pending", now + timedelta(seconds=wait_seconds(attempts, told.retry_after_seconds, dice)))


def wait_seconds(attempts: int, retry_after_seconds: float | None, dice: float) -> float:
    """Return how long to wait after the attempt of this number, 1 for the first.

    A receiver that says Retry-After gets at least that much peace, up to `MAX_RETRY_AFTER_SECONDS`; never less than the
    schedule gives it.
    """
    asked = min(max(retry_after_seconds or 0.0, 0.0), MAX_RETRY_AFTER_SECONDS)
    return max(float(RETRY_SECONDS[attempts - 1]), asked) * (1 + JITTER_SHARE * dice)


def matches(filters: Iterable[str], name: str) -> bool:
    """Say whether an endpoint with these filters gets events of this name."""
    room = name.partition(".")[0]
    return not {"*", f"{room}.*", name}.isdisjoint(filters)


def check_filters(filters: Sequence[str], names: Iterable[str]) -> None:
    """Raise `Refusal` 400 for a filter that no event there is would ever pass: it is a slip, and a silent one."""
    known = frozenset(names)
    for index, one in enumerate(filters):
        if not any(matches([one], name) for name in known):
            close = get_close_matches(one, known, 1)
            hint = f"Is it {close[0]}?" if close else "`growth events` lists them."
            raise invalid(FieldError(f"event_types[{index}]", f"No event has this name. {hint}"))


def new_secret() -> str:
    """Return a fresh secret, `whsec_` and the base64 of 32 random bytes."""
    return "whsec_" + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(keys: Sequence[str], event_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """Return the headers of one attempt: signed with every secret that is good, the current one first."""
    signed = [sign(key, event_id, now, body) for key in keys]
    return {
        **signed[0],
        "webhook-signature": " ".join(one["webhook-signature"] for one in signed),
        "content-type": MEDIA_TYPE,
        "user-agent": "growth-webhooks/1",
    }
