"""Who is not who they say they are: every call, every kind of false credentials, by the short cuts and around them."""

import re
import time
import warnings
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import jwt
import msgspec
import pytest

from growth.plumbing.http import operators
from growth.plumbing.http.identity import MAX_TOKEN_BYTES
from growth.vocabulary.actors import Role
from growth.vocabulary.clock import now
from tests.abuse.attacked import ATTACKER, BYPASSING, NOBODYS_ID, PLAIN, VICTIM, Attacked, refused
from tests.app import ENVIRONMENT

pytestmark = pytest.mark.anyio

OUR_SECRET = ENVIRONMENT["GROWTH_JWT_SECRET"]
OTHER_SECRET = "another secret of more than thirty-two bytes"


def signed(secret: str = OUR_SECRET, algorithm: str = "HS256", **changes: Any) -> bytes:
    claims = {"sub": ATTACKER, "iat": int(time.time()), "exp": int(time.time()) + 3600} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, algorithm).encode()


def unsigned(algorithm: str) -> bytes:
    parts = ({"alg": algorithm, "typ": "JWT"}, {"sub": ATTACKER, "exp": int(time.time()) + 3600})
    return b".".join([*(urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=") for part in parts), b""])


def signed_by_a_careless_maker() -> bytes:
    """Rightly signed with our secret, which the library thinks too short for this algorithm."""
    claims = {"sub": ATTACKER, "exp": int(time.time()) + 3600}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jwt.encode(claims, OUR_SECRET, "HS384").encode()


def with_other_payload() -> bytes:
    header, _, signature = signed().split(b".")
    payload = urlsafe_b64encode(msgspec.json.encode({"sub": VICTIM, "exp": int(time.time()) + 3600})).rstrip(b"=")
    return b".".join([header, payload, signature])


def with_spare_bits() -> bytes:
    """The same signature, spelt otherwise: the last of 43 characters has two bits that say nothing."""
    token = signed()
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + bytes([alphabet[alphabet.index(token[-1]) + 1]])


FALSE_TOKENS: dict[str, Callable[[], list[bytes]]] = {
    # what stands in the Authorization headers, one for each
    "none at all": list,
    "expired": lambda: [b"Bearer " + signed(exp=int(time.time()) - 1)],
    "never expires": lambda: [b"Bearer " + signed(exp=None)],
    "not yet": lambda: [b"Bearer " + signed(nbf=int(time.time()) + 3600)],
    "expires in words": lambda: [b"Bearer " + signed(exp=None, expires="9999999999")],
    "another algorithm": lambda: [b"Bearer " + signed(OUR_SECRET + OUR_SECRET, "HS512")],
    "another algorithm, our secret": lambda: [b"Bearer " + signed_by_a_careless_maker()],
    "alg none": lambda: [b"Bearer " + unsigned("none")],
    "alg None": lambda: [b"Bearer " + unsigned("None")],
    "alg HS256 without signature": lambda: [b"Bearer " + unsigned("HS256")],
    "another issuer's signature": lambda: [b"Bearer " + signed(OTHER_SECRET)],
    "another payload": lambda: [b"Bearer " + with_other_payload()],
    "no subject": lambda: [b"Bearer " + signed(sub=None)],
    "subject with blanks around": lambda: [b"Bearer " + signed(sub=" victim")],
    "subject with a bidirectional override": lambda: [b"Bearer " + signed(sub="victim\u202e")],
    "subject with a line feed": lambda: [b"Bearer " + signed(sub="victim\n")],
    "garbage": lambda: [b"Bearer \xff\xfe\x00..."],
    "three dots": lambda: [b"Bearer ..."],
    "empty": lambda: [b"Bearer "],
    "huge": lambda: [b"Bearer " + b"a" * (MAX_TOKEN_BYTES + 1)],
    "basic": lambda: [b"Basic " + signed()],
    "scheme alone": lambda: [b"Bearer"],
    "no scheme": lambda: [signed()],
    "with a tail": lambda: [b"Bearer " + signed() + b"="],
    "with spare bits": lambda: [b"Bearer " + with_spare_bits()],
    "good, then garbage": lambda: [b"Bearer " + signed(), b"Bearer x"],
    "garbage, then good": lambda: [b"Bearer x", b"Bearer " + signed()],
    "good twice": lambda: [b"Bearer " + signed()] * 2,
    "good three times": lambda: [b"Bearer " + signed()] * 3,
    "empty, then good": lambda: [b"", b"Bearer " + signed()],
    "basic, then good": lambda: [b"Basic eDp5", b"Bearer " + signed()],
    "two in one": lambda: [b"Bearer " + signed() + b", Bearer x"],
}


@pytest.mark.parametrize("content_type", [PLAIN, BYPASSING], ids=["short cut", "bypassed"])
@pytest.mark.parametrize("false", FALSE_TOKENS)
async def test_no_shoppers_call_takes_a_false_token(house: Attacked, false: str, content_type: str) -> None:
    for call in house.calls:
        if call.caller == "shopper":
            headers = [(b"authorization", value) for value in FALSE_TOKENS[false]()]
            answer = await house.ask_call(call, headers=headers, content_type=content_type)
            problem = refused(answer, 401)
            assert problem["code"].startswith("auth.token_"), (call.name, problem)
            assert "bearer" in answer.headers["www-authenticate"].lower()


FALSE_KEYS: dict[str, Callable[[str], list[bytes]]] = {
    "none at all": lambda _: [],
    "unknown": lambda _: [b"Bearer gop_" + b"A" * 43],
    "in capitals": lambda key: [b"Bearer " + key.upper().encode()],
    "shortened": lambda key: [b"Bearer " + key[:-1].encode()],
    "lengthened": lambda key: [b"Bearer " + key.encode() + b"A"],
    "hash of it": lambda key: [b"Bearer " + operators._hash(key).hex().encode()],
    "with SQL": lambda _: [b"Bearer gop_' OR '1'='1" + b" " * 26],
    "with NUL": lambda key: [b"Bearer " + key[:-1].encode() + b"\x00"],
    "not ASCII": lambda key: [b"Bearer " + key[:-1].encode() + b"\xe9"],
    "basic": lambda key: [b"Basic " + key.encode()],
    "no scheme": lambda key: [key.encode()],
    "a shopper's token": lambda _: [b"Bearer " + signed()],
    "good, then garbage": lambda key: [b"Bearer " + key.encode(), b"Bearer x"],
    "garbage, then good": lambda key: [b"Bearer x", b"Bearer " + key.encode()],
    "good twice": lambda key: [b"Bearer " + key.encode()] * 2,
    "empty, then good": lambda key: [b"", b"Bearer " + key.encode()],
    "two in one": lambda key: [b"Bearer " + key.encode() + b", Bearer x"],
}


@pytest.mark.parametrize("false", FALSE_KEYS)
async def test_no_operators_call_takes_a_false_key(house: Attacked, false: str) -> None:
    for call in house.calls:
        if call.caller == "operator":
            headers = [(b"authorization", value) for value in FALSE_KEYS[false](house.editor)]
            problem = refused(await house.ask_call(call, headers=headers), 401)
            assert problem["code"] in ("auth.key_missing", "auth.key_invalid"), (call.name, problem)


MONEY_AND_PEOPLE = {
    "admin_referral_commission_release",
    "admin_referral_commission_void",
    "admin_system_dead_letter_discard",
    "admin_system_dead_letter_retry",
    "admin_granting_grant_create",
    "admin_granting_grant_revoke",
    "admin_referral_review_rules_change",
    "admin_privacy_shopper_erase",
    "admin_privacy_shopper_merge",
    "admin_webhook_endpoint_change",
    "admin_webhook_endpoint_create",
    "admin_webhook_endpoint_delete",
    "admin_webhook_endpoint_disable",
    "admin_webhook_endpoint_enable",
    "admin_webhook_secret_rotate",
    "admin_withdrawal_rules_change",
    "admin_withdrawal_approve",
    "admin_withdrawal_mark_failed",
    "admin_withdrawal_get",
    "admin_withdrawal_list",
    "admin_withdrawal_mark_paid",
    "admin_withdrawal_reject",
}
"""What moves money or shows where it goes, forgets people, or lets events out of the house: for admins alone."""


async def test_a_viewer_changes_nothing_and_sees_everything_but_accounts(house: Attacked) -> None:
    for call in house.calls:
        if call.caller == "operator":
            answer = await house.ask_call(call, token=house.viewer)
            if call.changes or call.name in MONEY_AND_PEOPLE:
                refused(answer, 403, code="auth.role_too_low")
            else:
                assert answer.status_code in (200, 400, 404), (call.name, answer.text)


async def test_an_editor_moves_no_money_and_erases_nobody(house: Attacked) -> None:
    assert {call.name for call in house.calls if call.role is Role.ADMIN} == MONEY_AND_PEOPLE
    for call in house.calls:
        if call.name in MONEY_AND_PEOPLE:
            refused(await house.ask_call(call, token=house.editor), 403, code="auth.role_too_low")


async def test_a_revoked_key_opens_nothing(house: Attacked) -> None:
    database = house.app.growth.database
    async with database.transaction() as tx:
        key = await operators.add(tx, "gone", Role.ADMIN, now())
        await operators.revoke(tx, "gone", now())
    house.secrets.append(key)
    for call in house.calls:
        if call.caller == "operator":
            refused(await house.ask_call(call, token=key), 401, code="auth.key_invalid")
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM plumbing.operators WHERE name = 'gone'")


OWN_ONLY = [
    "flash_sale_claim_get",
    "flash_sale_claim_release",
    "coupon_get",
    "group_buy_seat_get",
    "group_buy_seat_leave",
    "withdrawal_cancel",
    "withdrawal_get",
]
EVERYBODYS = {"sale_id", "group_buy_id", "team_id", "template_id"}
"""Ids in shoppers' paths of what anybody may look at."""
OWN_IDS = ("claim_id", "coupon_id", "seat_id", "withdrawal_id")


def test_every_path_of_shoppers_with_an_id_is_tried(attacked_house: Attacked) -> None:
    named = {
        call.name
        for call in attacked_house.calls
        if call.caller == "shopper" and set(re.findall(r"\{(\w+)\}", call.path)) - EVERYBODYS
    }
    assert named == set(OWN_ONLY)


@pytest.mark.parametrize("name", OWN_ONLY)
async def test_what_is_somebody_elses_is_not_there_at_all(house: Attacked, name: str) -> None:
    (call,) = [call for call in house.calls if call.name == name]
    token, nobodys = house.token(), dict.fromkeys(OWN_IDS, NOBODYS_ID)
    theirs = refused(await house.ask(call.method, house.url(call), token=token), 404)
    missing = refused(await house.ask(call.method, house.url(call, **nobodys), token=token), 404)
    assert theirs | {"request_id": ""} == missing | {"request_id": ""}
    kept = await house.ask("GET", house.url(call), token=house.token(VICTIM))
    assert kept.json()["state"] in ("held", "issued", "requested"), kept.text


COMMON = {
    "flash_sale_round_list",
    "flash_sale_list",
    "group_buy_list",
    "group_buy_team_list",
    "task_list",
    "coupon_template_list",
}
"""Lists of what is there for everybody."""


async def test_lists_are_of_the_callers_own(house: Attacked) -> None:
    asked = 0
    for call in house.calls:
        if call.caller == "shopper" and call.method == "GET" and call.name not in COMMON:
            for query in ("", f"?user_id={VICTIM}"):
                answer = await house.ask("GET", house.url(call) + query, token=house.token())
                assert VICTIM not in answer.text, (call.name, answer.text)
                if answer.status_code == 200 and "items" in answer.json():
                    asked += 1
                    assert answer.json()["items"] == [], (call.name, answer.text)
    assert asked >= 12


@pytest.mark.parametrize("content_type", [PLAIN, BYPASSING], ids=["short cut", "bypassed"])
async def test_a_sale_that_is_not_open_is_closed_to_scripts_too(house: Attacked, content_type: str) -> None:
    url = f"/v1/flash-sales/{house.ids['later_sale_id']}/claims"
    for key in ("a", "b"):
        headers = [(b"idempotency-key", key.encode())]
        how: dict[str, Any] = {
            "content": b"{}",
            "content_type": content_type,
            "token": house.token(),
            "headers": headers,
        }
        refused(await house.ask("POST", url, **how), 409, code="flash_sale.not_open")


HOOKS: dict[str, dict[str, str | None]] = {
    "no signature": {"webhook_signature": None},
    "no id": {"webhook_id": None},
    "no timestamp": {"webhook_timestamp": None},
    "empty signature": {"webhook_signature": ""},
    "another version": {"webhook_signature": "v2,AAAA"},
    "garbage": {"webhook_signature": "v1,!!!!"},
    "signature of nothing": {"webhook_signature": "v1,"},
    "another id": {"webhook_id": "of another"},
    "long ago": {"webhook_timestamp": "1"},
    "far ahead": {"webhook_timestamp": "99999999999"},
    "beyond all time": {"webhook_timestamp": "9" * 400},
    "negative": {"webhook_timestamp": "-1"},
    "fraction": {"webhook_timestamp": "1.5"},
    "other digits": {"webhook_timestamp": "NaN"},
    "thousand signatures": {"webhook_signature": " ".join(["v1,AAAA"] * 1000)},
}


@pytest.mark.parametrize("false", HOOKS)
async def test_no_hook_is_taken_that_the_shop_did_not_sign_now(house: Attacked, false: str) -> None:
    refused(await house.hook(b"[]", **HOOKS[false]), 401)


async def test_no_hook_is_taken_with_another_secret_or_body(house: Attacked) -> None:
    refused(await house.hook(b"[]", "whsec_" + "AAAA" * 8), 401, code="shop.signature_invalid")
    signature = (await house.hook(b"[]")).request.headers["webhook-signature"]
    refused(await house.hook(b"[ ]", webhook_signature=signature), 401, code="shop.signature_invalid")


async def test_five_megabytes_are_refused_whoever_signed_them(house: Attacked) -> None:
    raw = b"[" + b" " * (5 * 1024 * 1024) + b"]"
    refused(await house.hook(raw), 413, code="request.too_large")
    refused(await house.hook(raw, webhook_signature=None), 413, code="request.too_large")
