"""Only a token that the shop's sign-in made, for us, and still good, makes somebody a shopper."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from structlog.testing import capture_logs

from growth.plumbing.http import identity
from growth.plumbing.http.identity import Identity, bearer_token
from growth.vocabulary.actors import Shopper
from growth.vocabulary.refusals import Refusal, Unavailable
from tests.kit.examples import examples

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = int(NOW.timestamp())


class Seconds:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.value = float(SECOND)

    def __call__(self) -> float:
        return self.value


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def ours(seconds: Seconds) -> Identity:
    return Identity(
        algorithms=["HS256"], secret=SECRET, issuer="https://shop.example", audience="growth", seconds=seconds
    )


def _claims(**changes: object) -> dict[str, object]:
    claims = {"sub": "u-1", "exp": SECOND + 60, "iss": "https://shop.example", "aud": "growth", **changes}
    return {name: value for name, value in claims.items() if value is not None}


def _token(
    key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changes: object
) -> bytes:
    return jwt.encode(_claims(**changes), key, algorithm=algorithm, headers=headers).encode()


def _by_hand(header: object, claims: object, signature: bytes = b"") -> bytes:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


async def _refusal(verifier: Identity, token: bytes) -> str:
    with pytest.raises(Refusal) as refused:
        await verifier.verify(token)
    assert refused.value.kind.status == 401
    assert verifier.peek(token) is None
    return refused.value.kind.code


# --- one shared secret ----------------------------------------------------------------------------------------------


async def test_a_good_token_makes_a_shopper_and_is_remembered(ours: Identity) -> None:
    token = _token()
    assert ours.peek(token) is None
    assert await ours.verify(token) == Shopper("u-1", SECOND + 60)
    assert ours.peek(token) is await ours.verify(token)


async def test_what_we_sign_we_accept(ours: Identity) -> None:
    token = ours.sign("wx:o6_bmjrPTlm6", now=NOW, lifetime_seconds=3600).encode()
    assert await ours.verify(token) == Shopper("wx:o6_bmjrPTlm6", SECOND + 3600)


async def test_a_remembered_token_ends_with_its_exp(ours: Identity, seconds: Seconds) -> None:
    token = _token()
    await ours.verify(token)
    seconds.value = SECOND + 59.9
    assert ours.peek(token)
    seconds.value = SECOND + 60.0
    assert ours.peek(token) is None
    assert await _refusal(ours, token) == "auth.token_expired"


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": [SECOND + 60]},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["u-1"]},
        {"sub": " u1"},
        {"sub": "u-1\n"},
        {"sub": "u\x00"},
        {"sub": "u\u202e1"},
        {"sub": "x" * 129},
        {"iss": None},
        {"iss": "https://other.example"},
        {"iss": "https://shop.example/"},
        {"aud": None},
        {"aud": "other"},
        {"aud": []},
        {"aud": ["other"]},
        {"aud": {"growth": 1}},
        {"nbf": SECOND + identity.MAX_EARLY_SECONDS + 1},
        {"nbf": "now"},
    ],
    ids=str,
)
async def test_claims_that_are_wrong_or_missing_are_refused(ours: Identity, changes: dict[str, Any]) -> None:
    # PyJWT itself would not sign some of these.
    claims = {name: value for name, value in _claims(**changes).items() if value is not None}
    token = jwt.PyJWS().encode(json.dumps(claims).encode(), SECRET, "HS256").encode()
    assert await _refusal(ours, token) == "auth.token_invalid"


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", "growth"]},
        {"exp": SECOND + 0.5},
        {"exp": 1e308},
        {"nbf": SECOND + identity.MAX_EARLY_SECONDS},
        {"roles": ["admin"], "anything": {"else": 1}},
        {"iat": SECOND + 10_000},
    ],
    ids=str,
)
async def test_claims_in_other_right_forms_are_taken(ours: Identity, changes: dict[str, Any]) -> None:
    token = jwt.PyJWS().encode(json.dumps(_claims(**changes)).encode(), SECRET, "HS256").encode()
    assert (await ours.verify(token)).user_id == "u-1"


async def test_an_expired_token_is_told_so(ours: Identity) -> None:
    assert await _refusal(ours, _token(exp=SECOND)) == "auth.token_expired"
    assert await _refusal(ours, _token(exp=-1)) == "auth.token_expired"


async def test_an_expired_token_of_somebody_else_is_only_invalid(ours: Identity) -> None:
    assert await _refusal(ours, _token("x" * 32, exp=SECOND)) == "auth.token_invalid"


FORGED: list[tuple[str, Callable[[], bytes]]] = [
    ("another secret", lambda: _token("x" * 32)),
    ("none", lambda: _by_hand({"alg": "none"}, _claims())),
    ("None", lambda: _by_hand({"alg": "None"}, _claims())),
    ("no algorithm", lambda: _by_hand({"typ": "JWT"}, _claims())),
    ("an algorithm that is a list", lambda: _by_hand({"alg": ["HS256"]}, _claims())),
    ("an algorithm that is an object", lambda: _by_hand({"alg": {}}, _claims())),
    ("an algorithm that is null", lambda: _by_hand({"alg": None}, _claims())),
    ("another HS algorithm", lambda: _token(SECRET * 2, "HS512")),
    (
        "a key that the token brings along",
        lambda: _by_hand({"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}}, _claims()),
    ),
    (
        "a key address that the token brings along",
        lambda: _by_hand({"alg": "HS256", "jku": "http://127.0.0.1:1"}, _claims()),
    ),
    ("a critical extension", lambda: _token(headers={"crit": ["exp"], "exp": 1})),
    ("a detached payload", lambda: _by_hand({"alg": "HS256", "b64": False, "crit": ["b64"]}, _claims())),
    ("a header that is no object", lambda: _by_hand([], _claims())),
    ("a header nested deep", lambda: base64.urlsafe_b64encode(b"[" * 900) + b".e30.e30"),
    ("a key id that is no text", lambda: _by_hand({"alg": "HS256", "kid": 1}, _claims())),
    ("claims that are no object", lambda: jwt.PyJWS().encode(b"[]", SECRET, "HS256").encode()),
    ("claims that are no JSON", lambda: jwt.PyJWS().encode(b"x", SECRET, "HS256").encode()),
    ("claims that are no UTF-8", lambda: jwt.PyJWS().encode(b'{"sub":"\xff","exp":9e9}', SECRET, "HS256").encode()),
    ("claims nested deep", lambda: jwt.PyJWS().encode(b'{"a":' * 200, SECRET, "HS256").encode()),
    ("nothing", lambda: b""),
    ("dots", lambda: b".."),
    ("two parts", lambda: b"e30.e30"),
    ("four parts", lambda: _token() + b".e30"),
    ("no signature", lambda: _token().rpartition(b".")[0] + b"."),
    ("a signature cut short", lambda: _token()[:-4]),
    ("another signature", lambda: _token()[:-4] + b"AAAA"),
    ("one bit in the payload", lambda: _token().replace(b".e", b".f", 1)),
    ("a last newline", lambda: _token() + b"\n"),
    ("a first blank", lambda: b" " + _token()),
    ("an operator's key", lambda: b"gop_" + b"x" * 43),
    ("bytes", lambda: b"\xff\x00" * 50),
    ("a very long one", lambda: _token(sub="u-1", more="x" * identity.MAX_TOKEN_BYTES)),
]


@pytest.mark.parametrize("make", [make for _, make in FORGED], ids=[name for name, _ in FORGED])
async def test_a_forged_token_is_refused(ours: Identity, make: Callable[[], bytes]) -> None:
    assert await _refusal(ours, make()) == "auth.token_invalid"


async def test_without_the_list_of_algorithms_another_one_would_pass() -> None:
    """Negative control: the token names HS512, and the secret fits it."""
    lax = Identity(algorithms=["HS256", "HS512"], secret=SECRET * 2, seconds=Seconds())
    assert (await lax.verify(_token(SECRET * 2, "HS512"))).user_id


@examples(300)
@given(token=st.binary(max_size=200) | st.text(alphabet="eyJhbGciOi.-_=", max_size=120).map(str.encode))
async def test_no_bytes_at_all_raise_anything_but_a_refusal(token: bytes) -> None:
    await _refusal(Identity(algorithms=["HS256"], secret=SECRET), token)


@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "crit", "b64", "typ", "zip", "x5c"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from(["HS256", "none", "b64"])
        | st.lists(st.text(max_size=3)),
    ),
    claims=st.dictionaries(st.sampled_from(["sub", "exp", "aud"]), st.none() | st.integers() | st.text(max_size=5)),
)
async def test_no_header_at_all_raises_anything_but_a_refusal(header: dict[str, Any], claims: dict[str, Any]) -> None:
    for verifier in (Identity(algorithms=["HS256"], secret=SECRET), _unreachable()):
        with pytest.raises((Refusal, Unavailable)):
            await verifier.verify(_by_hand(header, claims, b"x" * 32))


def _unreachable() -> Identity:
    return Identity(algorithms=["RS256"], jwks_url="http://127.0.0.1:1/keys")


async def test_memory_is_bounded_and_the_oldest_goes_first(ours: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MAX_TOKENS_REMEMBERED", 3)
    tokens = [_token(sub=f"u-{number}") for number in range(5)]
    for token in tokens:
        await ours.verify(token)
        await ours.verify(token)
    assert [bool(ours.peek(token)) for token in tokens] == [False, False, True, True, True]
    assert len(ours._known) == len(ours._order) == 3


def test_secret_and_keys_are_never_mixed() -> None:
    with pytest.raises(AssertionError):
        Identity(algorithms=["RS256"], secret=SECRET)
    with pytest.raises(AssertionError):
        Identity(algorithms=["HS256", "RS256"], secret=SECRET)
    with pytest.raises(AssertionError):
        Identity(algorithms=["HS256"], jwks_url="https://shop.example/keys")


# --- the header -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [b"Bearer abc", b"bearer abc", b"BEARER  abc ", b"Bearer abc  "])
def test_the_token_is_what_follows_bearer(header: bytes) -> None:
    assert bearer_token({"headers": [(b"host", b"x"), (b"authorization", header)]}) == b"abc"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "auth.token_missing"),
        ([b""], "auth.token_missing"),
        ([b"Basic YWJj"], "auth.token_missing"),
        ([b"Bearer"], "auth.token_missing"),
        ([b"abc"], "auth.token_missing"),
        ([b"Bearer a", b"Bearer b"], "auth.token_invalid"),
    ],
)
def test_no_token_and_two_tokens_are_refused(headers: list[bytes], code: str) -> None:
    with pytest.raises(Refusal) as refused:
        bearer_token({"headers": [(b"authorization", header) for header in headers]})
    assert refused.value.kind.code == code


# --- public keys ----------------------------------------------------------------------------------------------------


class KeyServer:
    """Serves a key set, counts how often it is asked, and misbehaves when told to."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        self.was_asked = asyncio.Event()
        self.answer: Callable[[], web.StreamResponse] | None = None
        self.hold: asyncio.Event | None = None
        self.url = ""

    async def serve(self, _: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.was_asked.set()
        if self.hold is not None:
            await self.hold.wait()
        return self.answer() if self.answer else web.json_response({"keys": self.keys})


@pytest.fixture
async def key_server() -> AsyncIterator[KeyServer]:
    server = KeyServer()
    app = web.Application()
    app.router.add_get("/keys", server.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield server
    await runner.cleanup()


_rsa = rsa.generate_private_key(65537, 2048)
_ec = ec.generate_private_key(ec.SECP256R1())
_ed = ed25519.Ed25519PrivateKey.generate()


def _public(key: Any, key_id: str | None, **more: object) -> dict[str, Any]:
    algorithm: Any = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    found = next((known for kind, known in algorithm.items() if isinstance(key, kind)), OKPAlgorithm)
    named = {"kid": key_id} if key_id else {}
    return {**found.to_jwk(key.public_key(), as_dict=True), **named, **more}


@pytest.fixture
def public(key_server: KeyServer, seconds: Seconds) -> Identity:
    key_server.keys = [_public(_rsa, "rsa"), _public(_ec, "ec", alg="ES256", use="sig"), _public(_ed, "ed")]
    return Identity(algorithms=["RS256", "ES256", "EdDSA"], jwks_url=key_server.url, seconds=seconds)


@pytest.mark.parametrize(
    ("key", "algorithm", "key_id"), [(_rsa, "RS256", "rsa"), (_ec, "ES256", "ec"), (_ed, "EdDSA", "ed")]
)
async def test_tokens_are_verified_by_public_keys(public: Identity, key: Any, algorithm: str, key_id: str) -> None:
    token = _token(key, algorithm, {"kid": key_id})
    assert (await public.verify(token)).user_id == "u-1"
    assert public.peek(token)


async def test_keys_are_fetched_once_for_many_at_once(public: Identity, key_server: KeyServer) -> None:
    tokens = [_token(_ec, "ES256", {"kid": "ec"}, sub=f"u-{number}") for number in range(32)]
    shoppers = await asyncio.gather(*(public.verify(token) for token in tokens))
    assert [shopper.user_id for shopper in shoppers] == [f"u-{number}" for number in range(32)]
    assert key_server.asked == 1


async def test_a_public_key_never_serves_as_a_secret(public: Identity, key_server: KeyServer) -> None:
    """The oldest trick: HS256, signed with the public key's own bytes."""
    await public.verify(_token(_ec, "ES256", {"kid": "ec"}))
    known = _rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = _by_hand({"alg": "HS256", "kid": "rsa"}, _claims()).rstrip(b".")
    signature = base64.urlsafe_b64encode(hmac.digest(known, unsigned, "sha256")).rstrip(b"=")
    assert await _refusal(public, unsigned + b"." + signature) == "auth.token_invalid"


async def test_a_secret_at_the_public_url_is_no_key(public: Identity, key_server: KeyServer) -> None:
    key_server.keys = [{"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode(), "kid": "oct"}]
    assert await _refusal(public, _token("x" * 32, "HS256", {"kid": "oct"})) == "auth.token_invalid"


async def test_a_key_serves_only_the_algorithm_it_names(public: Identity) -> None:
    await public.verify(_token(_ec, "ES256", {"kid": "ec"}))
    assert await _refusal(public, _token(_rsa, "RS256", {"kid": "ec"})) == "auth.token_invalid"
    assert await _refusal(public, _token(_ec, "ES256", {"kid": "rsa"})) == "auth.token_invalid"


async def test_a_key_for_encryption_does_not_verify(public: Identity, key_server: KeyServer) -> None:
    key_server.keys = [_public(_ec, "ec", use="enc"), _public(_rsa, "rsa")]
    assert await _refusal(public, _token(_ec, "ES256", {"kid": "ec"})) == "auth.token_invalid"


async def test_a_short_rsa_key_does_not_verify(public: Identity, key_server: KeyServer) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    key_server.keys = [_public(weak, "weak")]
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = _token(weak, "RS256", {"kid": "weak"})
    assert await _refusal(public, token) == "auth.token_invalid"


@pytest.mark.parametrize("emptied", [[], [{"kty": "oct", "k": "eA", "kid": "oct"}]], ids=["empty", "none to be used"])
async def test_a_set_without_a_key_does_not_take_away_those_that_are_known(
    public: Identity, key_server: KeyServer, seconds: Seconds, emptied: list[dict[str, Any]]
) -> None:
    assert (await public.verify(_token(_ec, "ES256", {"kid": "ec"}))).user_id
    key_server.keys = emptied
    seconds.value += identity.MAX_KEYS_AGE_SECONDS
    asked = key_server.asked
    for number in range(3):
        seconds.value += identity.MIN_REFRESH_SECONDS
        token = _token(_ec, "ES256", {"kid": "ec"}, sub=f"u-{number}", exp=int(seconds.value) + 60)
        assert (await public.verify(token)).user_id
        await asyncio.sleep(0.05)
    assert key_server.asked > asked


async def test_a_token_that_names_no_key_is_served_by_an_only_one(public: Identity, key_server: KeyServer) -> None:
    key_server.keys = [_public(_ec, "ec")]
    assert (await public.verify(_token(_ec, "ES256"))).user_id


async def test_a_token_that_names_no_key_is_refused_where_there_are_several(public: Identity) -> None:
    assert await _refusal(public, _token(_ec, "ES256")) == "auth.token_invalid"


async def test_a_new_key_is_found_and_unknown_ones_ask_only_so_often(
    public: Identity, key_server: KeyServer, seconds: Seconds
) -> None:
    await public.verify(_token(_ec, "ES256", {"kid": "ec"}))
    key_server.keys = [_public(_ec, "new")]
    token = _token(_ec, "ES256", {"kid": "new"})
    assert await _refusal(public, token) == "auth.token_invalid"
    assert key_server.asked == 1

    seconds.value += identity.MIN_REFRESH_SECONDS
    assert (await public.verify(token)).user_id
    for number in range(20):
        await _refusal(public, _token(_ec, "ES256", {"kid": f"unknown-{number}"}))
    assert key_server.asked == 2


async def test_a_key_taken_away_takes_its_tokens_with_it(
    public: Identity, key_server: KeyServer, seconds: Seconds
) -> None:
    token = _token(_rsa, "RS256", {"kid": "rsa"}, exp=SECOND + 100_000)
    await public.verify(token)
    key_server.keys = [_public(_ec, "ec")]
    seconds.value += identity.MAX_KEYS_AGE_SECONDS
    # The look behind the scenes starts with the next token that is not remembered.
    await public.verify(_token(_ec, "ES256", {"kid": "ec"}, exp=SECOND + 100_000))
    assert public._keys is not None
    if public._keys._fetching is not None:
        await public._keys._fetching
    assert await _refusal(public, token) == "auth.token_invalid"


async def test_while_the_url_does_not_answer_the_keys_known_last_go_on(
    public: Identity, key_server: KeyServer, seconds: Seconds
) -> None:
    await public.verify(_token(_ec, "ES256", {"kid": "ec"}))
    key_server.answer = lambda: web.Response(status=500)
    seconds.value += identity.MAX_KEYS_AGE_SECONDS
    with capture_logs() as lines:
        await public.verify(_token(_ec, "ES256", {"kid": "ec"}, sub="u-2", exp=SECOND + 10_000))
        assert public._keys is not None
        assert public._keys._fetching is not None
        await public._keys._fetching
    assert [line["event"] for line in lines] == ["identity.keys_not_fetched"]
    assert (await public.verify(_token(_ec, "ES256", {"kid": "ec"}, sub="u-3", exp=SECOND + 10_000))).user_id


BAD_ANSWERS: list[Callable[[], web.StreamResponse]] = [
    lambda: web.Response(status=404),
    lambda: web.Response(status=302, headers={"Location": "/keys"}),
    lambda: web.Response(body=b""),
    lambda: web.Response(body=b"<html>"),
    lambda: web.Response(body=b"[]"),
    lambda: web.Response(body=b'{"keys":{}}'),
    lambda: web.Response(body=b'{"keys":[1]}'),
    lambda: web.Response(body=b'{"keys":[{"a":' + b"[" * 50_000),
    lambda: web.Response(body=b" " * (identity.MAX_KEYS_BYTES + 1)),
]


@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=range(len(BAD_ANSWERS)))
async def test_before_any_key_is_known_the_service_is_unavailable_not_the_token_invalid(
    public: Identity, key_server: KeyServer, seconds: Seconds, answer: Callable[[], web.StreamResponse]
) -> None:
    key_server.answer = answer
    token = _token(_ec, "ES256", {"kid": "ec"})
    with capture_logs(), pytest.raises(Unavailable):
        await public.verify(token)
    key_server.answer = None
    seconds.value += identity.MIN_RETRY_SECONDS
    assert (await public.verify(token)).user_id


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"kty": "EC"},
        {"kty": "RSA", "kid": "x"},
        {"kty": "new"},
        {"kty": 1},
        {"kty": "EC", "crv": "P-256", "x": 1, "y": None},
        {"kty": "EC", "crv": "P-256", "x": "_" * 5000, "y": "_" * 5000},
        {"kty": "RSA", "e": "AA", "n": "AA"},
        {"kty": "RSA", "e": "_" * 5000, "n": "_" * 5000},
        {"kty": ["EC"], "kid": {"a": 1}, "alg": 5},
    ],
    ids=str,
)
async def test_a_key_we_cannot_read_does_not_spoil_the_others(
    public: Identity, key_server: KeyServer, odd: dict[str, Any]
) -> None:
    key_server.keys = [odd, *key_server.keys]
    assert (await public.verify(_token(_ec, "ES256", {"kid": "ec"}))).user_id


async def test_who_leaves_while_keys_are_fetched_does_not_stop_the_fetch(
    public: Identity, key_server: KeyServer
) -> None:
    key_server.hold = asyncio.Event()
    token = _token(_ec, "ES256", {"kid": "ec"})
    first = asyncio.create_task(public.verify(token))
    second = asyncio.create_task(public.verify(token))
    await key_server.was_asked.wait()
    first.cancel()
    key_server.hold.set()
    assert (await second).user_id
    assert key_server.asked == 1


async def test_a_server_of_keys_that_hangs_is_waited_for_only_so_long(
    public: Identity, key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "MAX_FETCH_SECONDS", 0.1)
    key_server.hold = asyncio.Event()
    with capture_logs(), pytest.raises(Unavailable):
        await public.verify(_token(_ec, "ES256", {"kid": "ec"}))
    key_server.hold.set()


async def test_closing_stops_a_fetch_under_way(public: Identity, key_server: KeyServer) -> None:
    key_server.hold = asyncio.Event()
    waiting = asyncio.create_task(public.verify(_token(_ec, "ES256", {"kid": "ec"})))
    await key_server.was_asked.wait()
    await public.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    key_server.hold.set()


# --- what it costs --------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_remembered_token_costs_a_look_up_and_a_new_one_tens_of_microseconds() -> None:
    ours = Identity(algorithms=["HS256"], secret=SECRET, issuer="https://shop.example", audience="growth")
    token = ours.sign("user-000000000001", now=datetime.now(UTC), lifetime_seconds=3600).encode()
    rounds = 5000

    best_miss = best_hit = float("inf")
    for _ in range(5):
        started = time.process_time()
        for _ in range(rounds):
            ours.forget()
            await ours.verify(token)
        best_miss = min(best_miss, time.process_time() - started)
        started = time.process_time()
        for _ in range(rounds):
            ours.peek(token)
        best_hit = min(best_hit, time.process_time() - started)

    print(f"{len(token)} bytes: miss {best_miss / rounds * 1e6:.1f} us, hit {best_hit / rounds * 1e6:.2f} us")
    # Wide of what was measured (23 and 0.15): this guards against a change of kind, not of machine.
    assert best_miss / rounds < 150e-6
    assert best_hit / rounds < 3e-6


@pytest.mark.parametrize("user_id", ["\u8336" * 128, "\U0001f600" * 128], ids=["Han", "beyond the first plane"])
def test_the_longest_id_has_a_token_however_json_spells_it(user_id: str) -> None:
    assert len(_token(sub=user_id)) <= identity.MAX_TOKEN_BYTES
