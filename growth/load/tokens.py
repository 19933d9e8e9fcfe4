"""Credentials of the crowd: tokens that are good, tokens that must be refused, and the shop's signature."""

import base64
import hashlib
import hmac
from datetime import datetime

import jwt
import msgspec

from growth.vocabulary.clock import to_milliseconds

TOKEN_SECONDS = 4 * 3600


def shopper_token(secret: str, user_id: str, now: datetime, issuer: str = "", audience: str = "") -> bytes:
    """Return an HS256 token for a shopper, good for `TOKEN_SECONDS`."""
    claims: dict[str, object] = {"sub": user_id, "exp": to_milliseconds(now) // 1000 + TOKEN_SECONDS}
    if issuer:
        claims["iss"] = issuer
    if audience:
        claims["aud"] = audience
    return jwt.encode(claims, secret, algorithm="HS256").encode()


def bad_tokens(secret: str, now: datetime, count: int) -> list[bytes]:
    """Return tokens of which none may pass, in turn: another secret, no signature at all, expired, cut short."""
    later = to_milliseconds(now) // 1000 + TOKEN_SECONDS
    tokens: list[bytes] = []
    for number in range(count):
        claims: dict[str, object] = {"sub": f"intruder.{number}", "exp": later}
        match number % 4:
            case 0:
                token = jwt.encode(claims, secret[::-1] + "?" * 32, algorithm="HS256").encode()
            case 1:
                parts = [msgspec.json.encode({"alg": "none", "typ": "JWT"}), msgspec.json.encode(claims)]
                token = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts) + b"."
            case 2:
                token = jwt.encode(claims | {"exp": 1_700_000_000}, secret, algorithm="HS256").encode()
            case _:
                token = jwt.encode(claims, secret, algorithm="HS256").encode()[:-8]
        tokens.append(token)
    return tokens


def hook_headers(secret: str, hook_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """Return the headers of a signed hook (Standard Webhooks 1.0, symmetric `v1` scheme)."""
    timestamp = str(to_milliseconds(now) // 1000)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = hmac.new(key, b".".join((hook_id.encode(), timestamp.encode(), body)), hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": hook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }
