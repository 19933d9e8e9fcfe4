"""Identity: who the shopper is, by a signed token (JWT) that the shop's own sign-in made.

Algorithms are fixed by settings, never by the token. `exp` is required, `iss` and `aud` if configured, and `sub` is
the shop's user id. A token that was verified once is remembered by its bytes, never past its `exp`; that makes the
second request of a shopper cost one dictionary look-up (`peek`).

Keys are one shared secret (HS), or public ones at a URL (RS, ES, Ed): fetched when first needed, again when a token
names a key that is not there (at most once in `MIN_REFRESH_SECONDS`), and every `MAX_KEYS_AGE_SECONDS`. While the URL
does not answer, the keys known last go on.
"""

import asyncio
import time
from base64 import urlsafe_b64encode
from binascii import a2b_base64, b2a_base64
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
import jwt
import msgspec
import structlog
from litestar import Request
from litestar.types import Scope
from msgspec import Struct

from growth.plumbing.person.memory import ChangedId, People
from growth.plumbing.person.store import note_return
from growth.plumbing.postgres.database import Database
from growth.vocabulary.actors import Shopper
from growth.vocabulary.ids import shopper_id
from growth.vocabulary.refusals import Kind, Refusal, Unavailable

log = structlog.get_logger("identity")

MAX_TOKEN_BYTES = 4096
MAX_TOKENS_REMEMBERED = 32_768
"""About 20 MB with tokens of 220 bytes. Verifying one anew costs a few microseconds."""
MAX_HEADERS_REMEMBERED = 256
MAX_EARLY_SECONDS = 30
"""How far a token's `nbf` may lie ahead: the clocks of two machines differ."""
MIN_REFRESH_SECONDS = 30
MIN_RETRY_SECONDS = 2
"""While no key is known at all, so that a slow start of the other side is not felt for longer."""
KEYS_AWAITED_SECONDS = 5
"""After so long callers come back when no key was ever fetched."""
MAX_KEYS_AGE_SECONDS = 600
MAX_FETCH_SECONDS = 5
MAX_KEYS_BYTES = 256 * 1024
MAX_KEYS = 100

TOKEN_MISSING = Kind("auth.token_missing", "A bearer token is required", 401)
TOKEN_INVALID = Kind("auth.token_invalid", "The token cannot be accepted", 401)
TOKEN_EXPIRED = Kind("auth.token_expired", "The token has expired", 401)
SHOPPER_ERASED = Kind("auth.shopper_erased", "The shopper was erased after this token was made", 401)

_SCHEME = b"bearer "
_SYMMETRIC = "HS"
_URL_SAFE = bytes.maketrans(b"-_+/", b"+/--")
_UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, RecursionError)
"""What reading a token that somebody made up may raise."""


class _Claims(Struct, frozen=True):
    """What is read of a token; the rest is the shop's own business."""

    sub: str
    exp: float
    nbf: float = 0.0
    iat: Any = None
    """Whatever it is: only a number says when the token was made."""
    iss: str | None = None
    aud: str | list[str] | None = None


_claims = msgspec.json.Decoder(_Claims)


def bearer_token(scope: Scope | Mapping[str, Any]) -> bytes:
    """Return the token of `Authorization: Bearer ...`. Raises `Refusal` 401 without one, or with two."""
    found: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            if found is not None:
                # Also after an empty one: somebody in between may have read the other.
                raise Refusal(TOKEN_INVALID)
            found = value
    found = found or b""
    if found[: len(_SCHEME)].lower() != _SCHEME:
        raise Refusal(TOKEN_MISSING)
    return found[len(_SCHEME) :].strip(b" ")


class Identity:
    """Verifies shoppers' tokens. One for a process.

    Give `secret` for HS algorithms or `jwks_url` for the others, not both: a public key must never pass as a secret.
    """

    def __init__(
        self,
        *,
        algorithms: Sequence[str],
        secret: str | None = None,
        jwks_url: str | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        seconds: Callable[[], float] = time.time,
        database: Database | None = None,
    ) -> None:
        """`database` tells of ids that changed hands; without one, an id is who it always was."""
        shared = {name.startswith(_SYMMETRIC) for name in algorithms}
        assert shared == ({True} if secret else {False}), "HS algorithms go with a secret, others with a JWKS URL"
        assert bool(secret) != bool(jwks_url)
        self._algorithms = list(algorithms)
        # Made into keys once: given as bytes, the library looks at the secret from every side for each token.
        self._secrets = _shared_keys(secret.encode(), self._algorithms) if secret else {}
        self._keys = _PublicKeys(jwks_url, self._algorithms, self.forget) if jwks_url else None
        self._issuer = issuer
        self._audience = audience
        self._seconds = seconds
        self._database = database
        if database is not None:
            database.people.on_change(self._forget_changed)
        self._headers: dict[bytes, str] = {}
        self._known: dict[bytes, Shopper] = {}
        # First in, first out. Taking the first of a dict would walk over all that was taken before.
        self._order: deque[bytes] = deque()

    def peek(self, token: bytes) -> Shopper | None:
        """Return the shopper of a token that was verified before and is still good. Costs one look-up, never waits."""
        shopper = self._known.get(token)
        if shopper is not None and shopper.expires_at > self._seconds():
            return shopper
        return None

    async def verify(self, token: bytes) -> Shopper:
        """Return the shopper. Raises `Refusal` 401, and `Unavailable` while no public key could be fetched yet."""
        shopper = self.peek(token)
        if shopper is not None:
            return shopper
        if len(token) > MAX_TOKEN_BYTES:
            raise Refusal(TOKEN_INVALID)
        key = await self._key_of(token)
        claims = self._good(self._payload(token, key))
        shopper = Shopper(claims.sub, int(min(claims.exp, 2**53)))
        if self._database is not None:
            shopper = await _now(self._database, shopper, claims.iat, self._seconds())
        self._remember(token, shopper)
        return shopper

    async def _key_of(self, token: bytes) -> jwt.PyJWK:
        if self._keys is not None:
            return await self._keys.key_of(self._header(token), self._seconds())
        if len(self._secrets) == 1:
            return self._secrets[self._algorithms[0]]
        key = self._secrets.get(str(self._header(token).get("alg")))
        if key is None:
            raise Refusal(TOKEN_INVALID)
        return key

    async def shopper(self, request: Request[Any, Any, Any]) -> Shopper:
        """Return who calls: `dependencies={"shopper": Provide(identity.shopper)}`."""
        return await self.verify(bearer_token(request.scope))

    def sign(self, user_id: str, *, now: datetime, lifetime_seconds: int) -> str:
        """Return a token for development and tests. Only with a shared secret: private keys are not ours."""
        assert self._keys is None
        assert shopper_id(user_id), user_id
        issued_at = int(now.timestamp())
        claims: dict[str, object] = {"sub": user_id, "iat": issued_at, "exp": issued_at + lifetime_seconds}
        if self._issuer:
            claims["iss"] = self._issuer
        if self._audience:
            claims["aud"] = self._audience
        return jwt.encode(claims, self._secrets[self._algorithms[0]], algorithm=self._algorithms[0])

    async def close(self) -> None:
        """Stop what runs in the background."""
        if self._keys is not None:
            await self._keys.close()

    def forget(self) -> None:
        """Forget every verified token: the keys have changed."""
        self._known.clear()
        self._order.clear()

    def _remember(self, token: bytes, shopper: Shopper) -> None:
        known = self._known
        if token in known:
            return
        while len(known) >= MAX_TOKENS_REMEMBERED:
            known.pop(self._order.popleft(), None)
        known[token] = shopper
        self._order.append(token)

    def _header(self, token: bytes) -> dict[str, Any]:
        try:
            return jwt.get_unverified_header(token)
        except _UNREADABLE as error:
            raise Refusal(TOKEN_INVALID) from error

    def _payload(self, token: bytes, key: jwt.PyJWK) -> bytes:
        """Return what was signed, once the signature is found good (RFC 7515, section 5.2, compact form).

        The library's own call does the same and looks at header and key anew for every token: 20 µs instead of 6.
        """
        signed, _, signature = token.rpartition(b".")
        header, _, payload = signed.partition(b".")
        try:
            if self._algorithm_in(header) != key.algorithm_name:
                raise Refusal(TOKEN_INVALID)
            if not key.Algorithm.verify(signed, key.key, _unbase64(signature)):
                raise Refusal(TOKEN_INVALID)
            return _unbase64(payload)
        except _UNREADABLE as error:
            raise Refusal(TOKEN_INVALID) from error

    def _algorithm_in(self, header: bytes) -> str:
        """Return the algorithm that a header names: tokens of one sign-in share theirs, so it is remembered."""
        algorithm = self._headers.get(header)
        if algorithm is None:
            named = jwt.get_unverified_header(header + b".e30.")
            # Extensions that must be understood (RFC 7515, section 4.1.11), and we understand none.
            algorithm = "" if "crit" in named or named.get("b64") is False else str(named.get("alg"))
            if len(self._headers) >= MAX_HEADERS_REMEMBERED:
                self._headers.clear()
            self._headers[header] = algorithm
        return algorithm

    def _forget_changed(self, changed: Collection[int]) -> None:
        """Forget the tokens of ids that changed hands: the next request asks anew whose they are."""
        for token in [token for token, shopper in self._known.items() if shopper.key in changed]:
            del self._known[token]

    def _good(self, payload: bytes) -> _Claims:
        try:
            claims = _claims.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refusal(TOKEN_INVALID) from error
        now = self._seconds()
        if claims.exp <= now:
            raise Refusal(TOKEN_EXPIRED)
        audiences = claims.aud if isinstance(claims.aud, list) else [claims.aud]
        if (
            claims.nbf > now + MAX_EARLY_SECONDS
            or (self._issuer is not None and claims.iss != self._issuer)
            or (self._audience is not None and self._audience not in audiences)
            or (user_id := shopper_id(claims.sub)) is None
        ):
            raise Refusal(TOKEN_INVALID)
        return msgspec.structs.replace(claims, sub=user_id)


async def _now(database: Database, shopper: Shopper, issued_at: object, now: float) -> Shopper:
    """Return who the shopper of a token is now. Raises `Refusal` 401 where the token is older than an erasure."""
    people: People = database.people
    has_changed = await people.ever_changed(database, shopper.user_id)
    known = await people.standings(database, [shopper.user_id]) if has_changed else {}
    standing, key = known.get(shopper.user_id, ChangedId()), people.key_of(shopper.user_id)
    # Before anything else: whoever has the id by now, it is not who was signed in before the erasure.
    if standing.erased_at is not None and (
        not isinstance(issued_at, int | float) or issued_at <= standing.erased_at.timestamp()
    ):
        raise Refusal(SHOPPER_ERASED)
    if standing.survivor is not None:
        return Shopper(standing.survivor, shopper.expires_at, shopper.user_id, key)
    if standing.erased_at is None or standing.back_at is not None:
        return Shopper(shopper.user_id, shopper.expires_at, key=key)
    # The shop signed the shopper in again, after the erasure.
    async with database.transaction(people=[shopper.user_id], alone=True) as tx:
        await note_return(tx, shopper.user_id, datetime.fromtimestamp(now, UTC))
    return Shopper(shopper.user_id, shopper.expires_at, key=key)


def _unbase64(text: bytes) -> bytes:
    """Decode base64url without padding. Raises ValueError for anything else, so that one token has one spelling."""
    standard = text.translate(_URL_SAFE)
    raw = a2b_base64(standard + b"=" * (-len(text) % 4), strict_mode=True)
    # Padding that was sent, and spare bits of the last character, decode all the same.
    if b2a_base64(raw, newline=False).rstrip(b"=") != standard:
        raise ValueError("not the one spelling")
    return raw


def _shared_keys(secret: bytes, algorithms: Sequence[str]) -> dict[str, jwt.PyJWK]:
    """Return the shared secret as a key for each algorithm (RFC 7518, section 6.4)."""
    encoded = urlsafe_b64encode(secret).rstrip(b"=").decode()
    return {name: jwt.PyJWK({"kty": "oct", "k": encoded, "alg": name}, name) for name in algorithms}


class _PublicKeys:
    """Public keys from a JWKS URL (RFC 7517), by key id and algorithm."""

    def __init__(self, url: str, algorithms: Sequence[str], changed: Callable[[], None]) -> None:
        self._url = url
        self._algorithms = algorithms
        self._changed = changed
        self._keys: dict[tuple[str | None, str], jwt.PyJWK] = {}
        self._document: bytes | None = None
        self._asked_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def key_of(self, header: dict[str, Any], now: float) -> jwt.PyJWK:
        """Return the key that `header` names. Raises `Refusal` 401, or `Unavailable` if none was ever fetched."""
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise Refusal(TOKEN_INVALID)
        key = self._keys.get((key_id, algorithm))
        if self._fetching is None and now - self._asked_at >= self._patience(key):
            self._asked_at = now
            self._fetching = asyncio.create_task(self._fetch(), name="identity:jwks")
        if key is None and self._fetching is not None:
            # Whoever leaves meanwhile does not stop the fetch that others wait for.
            await asyncio.shield(self._fetching)
            key = self._keys.get((key_id, algorithm))
        if key is None:
            if self._document is None:
                raise Unavailable("the keys of shoppers' tokens cannot be fetched", KEYS_AWAITED_SECONDS)
            raise Refusal(TOKEN_INVALID)
        return key

    def _patience(self, key: "jwt.PyJWK | None") -> int:
        """Return the seconds that must lie between two fetches."""
        if self._document is None:
            return MIN_RETRY_SECONDS
        return MIN_REFRESH_SECONDS if key is None else MAX_KEYS_AGE_SECONDS

    async def close(self) -> None:
        """Stop a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _fetch(self) -> None:
        try:
            document = await self._read()
            keys = _keys_in(document, self._algorithms)
        except Exception as error:  # noqa: BLE001 - whatever the other side does, the keys known last go on
            log.warning("identity.keys_not_fetched", error=repr(error))
            return
        finally:
            self._fetching = None
        if self._keys and not keys:
            # A set of none is a fault over there, and would refuse every shopper: those known go on.
            log.warning("identity.no_keys_in_set")
            return
        self._keys = keys
        if self._document not in (None, document):
            # A key taken away takes the tokens it signed with it.
            self._changed()
        self._document = document

    async def _read(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=MAX_FETCH_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(self._url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
        ):
            if response.status != 200:  # noqa: PLR2004 - HTTP's own number
                raise ValueError(f"status {response.status}")
            document = await response.content.read(MAX_KEYS_BYTES)
            while chunk := await response.content.read(MAX_KEYS_BYTES):
                document += chunk
                if len(document) > MAX_KEYS_BYTES:
                    raise ValueError(f"more than {MAX_KEYS_BYTES} bytes")
        return document


class _KeySet(Struct):
    keys: list[dict[str, Any]]


def _keys_in(document: bytes, algorithms: Sequence[str]) -> dict[tuple[str | None, str], jwt.PyJWK]:
    """Return the usable keys. A key that names no algorithm serves each allowed one that fits its type.

    Raises ValueError if the document is no key set. A set with one key also serves tokens that name none.
    """
    listed = msgspec.json.decode(document, type=_KeySet).keys[:MAX_KEYS]
    found: dict[tuple[str | None, str], jwt.PyJWK] = {}
    for data in listed:
        # A shared secret has no business at a public URL.
        if data.get("kty") == "oct" or data.get("use", "sig") != "sig":
            continue
        for algorithm in algorithms:
            if data.get("alg", algorithm) != algorithm:
                continue
            try:
                key = jwt.PyJWK(data, algorithm)
                is_short = bool(key.Algorithm.check_key_length(key.key))
            except Exception:  # noqa: BLE001, S112 - no key may keep the others of its set from being used
                continue  # another type's algorithm, a key of a kind we do not know, or numbers that make none
            if is_short:
                continue  # too short to be worth anything
            found[(str(data["kid"]) if "kid" in data else None, algorithm)] = key
    if len(listed) == 1:
        found.update({(None, algorithm): key for (_, algorithm), key in found.items()})
    return found
