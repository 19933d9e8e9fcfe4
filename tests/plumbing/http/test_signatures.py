"""Who speaks: only the shop, only about now, only what it signed."""

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook

from growth.plumbing.http.signatures import MAX_SIGNATURES, TOLERANCE_SECONDS, Verifier, secret_bytes, sign
from growth.plumbing.settings import load_settings
from growth.vocabulary.refusals import Refusal
from tests.shop.order.telling import NOON, OLD_SECRET, SECRET

UNAUTHORIZED = 401
RAW = '{"name": "茶"}'.encode()


def kind_of(verifier: Verifier, headers: dict[str, str], raw: bytes = RAW, now: datetime = NOON) -> str:
    """The code that a hook is refused with, or nothing."""
    try:
        verifier.verify(headers, raw, now)
    except Refusal as refusal:
        return refusal.kind.code if refusal.kind.status == UNAUTHORIZED else "another status"
    return ""


@pytest.fixture
def verifier() -> Verifier:
    return Verifier([SECRET])


def test_what_we_sign_the_published_package_accepts() -> None:
    headers = sign(SECRET, "msg_1", datetime.now(UTC), RAW)
    Webhook(SECRET).verify(RAW, headers, json_parse=False)


def test_what_the_published_package_signs_we_accept(verifier: Verifier) -> None:
    signature = Webhook(SECRET).sign("msg_1", NOON, RAW.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(NOON.timestamp())), "webhook-signature": signature}
    assert kind_of(verifier, headers) == ""


def test_the_example_of_the_specification_holds() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert kind_of(Verifier([secret]), headers, b'{"test": 2432232314}', datetime.fromtimestamp(1614265330, UTC)) == ""


def test_while_secrets_rotate_both_are_good() -> None:
    verifier = Verifier([SECRET, OLD_SECRET])
    assert kind_of(verifier, sign(SECRET, "m", NOON, RAW)) == ""
    assert kind_of(verifier, sign(OLD_SECRET, "m", NOON, RAW)) == ""
    assert kind_of(Verifier([SECRET]), sign(OLD_SECRET, "m", NOON, RAW)) == "shop.signature_invalid"


def test_a_sender_may_send_several_signatures(verifier: Verifier) -> None:
    old, new = sign(OLD_SECRET, "m", NOON, RAW), sign(SECRET, "m", NOON, RAW)
    both = f"v1a,abc= nonsense v1,??? {old['webhook-signature']} {new['webhook-signature']}"
    assert kind_of(verifier, new | {"webhook-signature": both}) == ""
    assert kind_of(verifier, new | {"webhook-signature": both.replace("v1,", "v2,")}) == "shop.signature_invalid"


def test_signatures_beyond_the_bound_are_not_looked_at(verifier: Verifier) -> None:
    headers = sign(SECRET, "m", NOON, RAW)
    many = " ".join(["v1,AAAA"] * MAX_SIGNATURES + [headers["webhook-signature"]])
    assert kind_of(verifier, headers | {"webhook-signature": many}) == "shop.signature_invalid"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_hook_without_one_of_its_headers_is_not_signed(verifier: Verifier, name: str) -> None:
    headers = sign(SECRET, "m", NOON, RAW)
    assert kind_of(verifier, headers | {name: ""}) == "shop.signature_missing"
    del headers[name]
    assert kind_of(verifier, headers) == "shop.signature_missing"


@pytest.mark.parametrize("way", [-1, 1], ids=["late", "future"])
def test_a_hook_signed_long_ago_or_ahead_is_refused(verifier: Verifier, way: int) -> None:
    just = sign(SECRET, "m", NOON + way * timedelta(seconds=TOLERANCE_SECONDS), RAW)
    beyond = sign(SECRET, "m", NOON + way * timedelta(seconds=TOLERANCE_SECONDS + 1), RAW)
    assert kind_of(verifier, just) == ""
    assert kind_of(verifier, beyond) == "shop.timestamp_outside_tolerance"


def test_an_overheard_hook_cannot_be_stamped_anew(verifier: Verifier) -> None:
    headers = sign(SECRET, "m", NOON - timedelta(hours=1), RAW)
    assert kind_of(verifier, headers | {"webhook-timestamp": str(int(NOON.timestamp()))}) == "shop.signature_invalid"


@pytest.mark.parametrize("raw", [RAW[:-1], RAW + b" ", b"", RAW.replace(b"name", b"nome")])
def test_a_changed_or_truncated_body_is_refused(verifier: Verifier, raw: bytes) -> None:
    assert kind_of(verifier, sign(SECRET, "m", NOON, RAW), raw) == "shop.signature_invalid"


def test_a_hook_re_signed_by_somebody_else_is_refused(verifier: Verifier) -> None:
    stranger = "whsec_" + b64encode(b"what a stranger would sign with.").decode()
    assert kind_of(verifier, sign(stranger, "m", NOON, RAW)) == "shop.signature_invalid"


def test_another_id_is_another_hook(verifier: Verifier) -> None:
    assert kind_of(verifier, sign(SECRET, "m", NOON, RAW) | {"webhook-id": "n"}) == "shop.signature_invalid"


FULL_WIDTH = "\uff11\uff17\uff19\uff15"


@pytest.mark.parametrize("timestamp", ["now", "-5", "+5", " 5", "1_0", FULL_WIDTH, "1e9", "1795.5", "9" * 5000, "NaN"])
def test_a_timestamp_is_whole_seconds(verifier: Verifier, timestamp: str) -> None:
    headers = sign(SECRET, "m", NOON, RAW) | {"webhook-timestamp": timestamp}
    assert kind_of(verifier, headers) == "shop.signature_invalid"


def test_headers_of_any_script_are_refused_like_others(verifier: Verifier) -> None:
    headers = sign(SECRET, "m", NOON, RAW)
    for name, value in {"webhook-id": "é\xff", "webhook-signature": "v1,é\xff="}.items():
        assert kind_of(verifier, headers | {name: value}) == "shop.signature_invalid"


@pytest.mark.parametrize(
    "secrets",
    [
        [],
        [SECRET] * 3,
        [""],
        ["whsec_"],
        ["whsec_c2hvcnQ="],
        ["whsec_" + "A" * 200],
        ["whsec_ümlaut"],
        ["whsec_" + SECRET],
        ["\ufeff" + SECRET],
        [SECRET + "\n" + OLD_SECRET],
        [SECRET.removeprefix("whsec_")],
        [SECRET, "wrong"],
    ],
)
def test_a_secret_that_is_none_stops_the_start_and_is_not_quoted(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match=re.escape("secret")) as caught:
        Verifier(secrets)
    assert not any(secret in str(caught.value) for secret in secrets if len(secret) > 6)
    assert caught.value.__cause__ is None


KEY = bytes(range(230, 256)) + b"\xfb\xff\xfe???>>>"
"""Of which base64 has every character that the two alphabets spell differently, and padding."""


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
@pytest.mark.parametrize("end", ["", "=", "\n", "\r\n", "=\n", " "])
def test_a_secret_is_the_same_in_every_spelling_that_senders_use(encode: Callable[[bytes], bytes], end: str) -> None:
    secret = "whsec_" + encode(KEY).decode().rstrip("=") + end
    assert secret_bytes(secret) == KEY
    assert settings_of(secret) == (secret.strip(),)


def settings_of(secret: str) -> tuple[str, ...]:
    known = {
        "GROWTH_POSTGRES_DSN": "postgresql://localhost/growth",
        "GROWTH_REDIS_URL": "redis://localhost",
        "GROWTH_JWT_SECRET": "a toy secret of more than thirty-two bytes",
        "GROWTH_ENVIRONMENT": "development",
    }
    return load_settings(known | {"GROWTH_SHOP_SECRETS": secret}).shop_secrets


def test_a_signature_is_the_same_in_every_spelling_that_senders_use(verifier: Verifier) -> None:
    # Of these one or another has a plus, a slash and padding.
    for number in range(64):
        headers = sign(SECRET, f"m{number}", NOON, RAW)
        said = headers["webhook-signature"]
        url_safe = said.replace("+", "-").replace("/", "_")
        for spelled in (said.rstrip("="), url_safe, url_safe.rstrip("="), f"v2,x\tv1a,y  {said}", f"{said} v1,{said}"):
            assert kind_of(verifier, headers | {"webhook-signature": spelled}) == "", spelled


@pytest.mark.parametrize(
    "spelled", ["v1,", "v1", "v1,=", "v1,====", "v1," + "A" * 5, "v1,é", "v1,\udcff", ",,,", "v1,A" * 9000]
)
def test_what_is_no_signature_is_refused_plainly(verifier: Verifier, spelled: str) -> None:
    headers = sign(SECRET, "m", NOON, RAW) | {"webhook-signature": spelled}
    assert kind_of(verifier, headers) == "shop.signature_invalid"


def test_without_the_tolerance_an_overheard_hook_would_live_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Negative control.
    monkeypatch.setattr("growth.plumbing.http.signatures.TOLERANCE_SECONDS", 10**9)
    assert kind_of(Verifier([SECRET]), sign(SECRET, "m", NOON - timedelta(days=365), RAW)) == ""
