"""What follows from an answer: the schedule of tries, filters, signatures that the reference library accepts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from growth.plumbing.docs.event_catalogue import event_names
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from growth.webhook import model
from growth.webhook.model import MAX_ATTEMPTS, Attempt, ReceiverAnswer, judge, matches, new_secret, signed_headers

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def told(status: int | None = None, error: Any = "status", retry_after: float | None = None) -> ReceiverAnswer:
    return ReceiverAnswer(Attempt(at=NOON, milliseconds=1, status=status, error=error), retry_after)


def test_the_waits_are_those_of_standard_webhooks() -> None:
    waits = [judge(attempts, told(500), NOON, dice=0.0).next_try_at for attempts in range(1, MAX_ATTEMPTS)]
    assert [wait - NOON for wait in waits if wait] == [
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
    ]
    assert judge(MAX_ATTEMPTS, told(500), NOON, dice=0.0) == ("exhausted", None, False)


def test_any_2xx_is_taken_and_nothing_else_is() -> None:
    taken = [status for status in range(100, 600) if judge(1, told(status, None), NOON, 0.0).state == "delivered"]
    assert taken == list(range(200, 300))
    assert judge(1, told(None, "timeout"), NOON, 0.0).state == "pending"


def test_gone_ends_it_at_once() -> None:
    assert judge(1, told(410), NOON, 0.0) == ("exhausted", None, True)


@given(
    attempts=st.integers(1, MAX_ATTEMPTS - 1),
    retry_after=st.none() | st.floats(allow_nan=False),
    dice=st.floats(0, 1),
)
def test_a_wait_is_never_shorter_than_the_schedule_nor_longer_than_its_bounds(
    attempts: int, retry_after: float | None, dice: float
) -> None:
    wait = model.wait_seconds(attempts, retry_after, dice)
    schedule = model.RETRY_SECONDS[attempts - 1]
    longest = max(schedule, min(retry_after or 0, model.MAX_RETRY_AFTER_SECONDS))
    assert schedule <= wait <= longest * (1 + model.JITTER_SHARE) + 1e-6


def test_filters_are_names_rooms_or_all() -> None:
    for one, yes, no in [
        ("*", "group_buy.team_failed", None),
        ("group_buy.*", "group_buy.team_failed", "flash_sale.ended"),
        ("group_buy.*", "group_buy.ended", "group_buying.ended"),
        ("group_buy.ended", "group_buy.ended", "group_buy.end"),
    ]:
        assert matches([one], yes)
        assert no is None or not matches([one], no)
    assert not matches([], "group_buy.ended")


def test_a_filter_that_nothing_passes_is_told_with_what_was_meant() -> None:
    model.check_filters(["*", "group_buy.*", "group_buy.ended"], event_names())
    with pytest.raises(Refusal, match="invalid") as caught:
        model.check_filters(["*", "group_buy.endet"], event_names())
    assert "event_types[1]" in caught.value.detail
    assert "group_buy.ended" in caught.value.detail
    with pytest.raises(Refusal):
        model.check_filters(["tea.*"], event_names())


def test_the_reference_library_takes_every_signature_while_a_secret_is_rotated() -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    body = '{"type":"flash_sale.ended","data":{"名":"茶"}}'.encode()
    headers = signed_headers([new, old], "0199c0de-0000-7000-8000-000000000001", now(), body)
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (old, new):
        assert Webhook(secret).verify(body, headers)["type"] == "flash_sale.ended"
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(body, signed_headers([new], "0199c0de-0000-7000-8000-000000000001", now(), body))
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(body.replace(b"data", b"Data"), headers)


def test_secrets_are_fresh_and_long_enough() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
    assert all(secret.startswith("whsec_") and len(secret) == len("whsec_") + 44 for secret in [new_secret()])
