"""Who speaks: signatures of hooks after Standard Webhooks (github.com/standard-webhooks/standard-webhooks, spec 1.0).

The sender signs `id.timestamp.body` with HMAC-SHA256 under a shared secret. The secret may be rotated: for a while two
secrets are good at once, and a sender may send several signatures at once.
"""

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime

from growth.vocabulary.refusals import Kind, Refusal

TOLERANCE_SECONDS = 300
"""How far a sender's clock may be from ours, either way; how long a hook overheard could be sent again."""
MAX_SECRETS = 2
"""One, and while it is rotated another."""
MAX_SIGNATURES = 64
"""Of one hook; those beyond are not looked at."""
MAX_ID_CHARS = 256
MAX_TIMESTAMP_DIGITS = 12
SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with is no secret
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64

SIGNATURE_MISSING = Kind("shop.signature_missing", "The hook is not signed", 401)
SIGNATURE_INVALID = Kind("shop.signature_invalid", "The hook's signature does not match", 401)
TIMESTAMP_OUTSIDE_TOLERANCE = Kind("shop.timestamp_outside_tolerance", "The hook's timestamp is too far from now", 401)


_URL_SAFE = str.maketrans("-_", "+/")


def _unbase64(digits: str) -> bytes:
    """Decode base64 of either alphabet, with its padding or without: senders differ. Raises `ValueError`."""
    digits = digits.rstrip("=").translate(_URL_SAFE)
    return b64decode(digits + "=" * (-len(digits) % 4), validate=True)


def secret_bytes(secret: str) -> bytes:
    """Return the key within `whsec_<base64>`, in either alphabet, padded or not. Raises `ValueError`, not quoting it.

    What surrounds it (the line break at the end of a file) is none of it.
    """
    secret = secret.strip()
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"a shop secret begins with {SECRET_PREFIX}")
    try:
        key = _unbase64(secret.removeprefix(SECRET_PREFIX))
    except (binascii.Error, ValueError):
        raise ValueError(f"what follows {SECRET_PREFIX} in a shop secret is base64") from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ValueError(f"a shop secret holds {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")
    return key


def _signature(key: bytes, message_id: str, timestamp: str, raw: bytes) -> bytes:
    return hmac.digest(key, b".".join((message_id.encode(), timestamp.encode(), raw)), "sha256")


def sign(secret: str, message_id: str, now: datetime, raw: bytes) -> dict[str, str]:
    """Return the three headers that a sender puts beside the body `raw`."""
    timestamp = str(int(now.timestamp()))
    signature = b64encode(_signature(secret_bytes(secret), message_id, timestamp, raw)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def _told(signatures: str) -> list[bytes]:
    """Return the signatures of version 1; other versions and nonsense are passed over, as the specification asks."""
    told = []
    for entry in signatures.split(maxsplit=MAX_SIGNATURES)[:MAX_SIGNATURES]:
        version, _, digits = entry.partition(",")
        if version == "v1":
            try:
                told.append(_unbase64(digits))
            except (binascii.Error, ValueError):
                continue
    return told


class Verifier:
    """Knows the secrets that are good now."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """`secrets`: one or two, `whsec_<base64>`. Raises `ValueError`."""
        if not 1 <= len(secrets) <= MAX_SECRETS:
            raise ValueError(f"the shop signs with 1 to {MAX_SECRETS} secrets")
        self._keys = tuple(secret_bytes(secret) for secret in secrets)

    def verify(self, headers: Mapping[str, str], raw: bytes, now: datetime) -> None:
        """Return if the body was signed by the shop about now; header names are in lower case.

        Raises `Refusal` of kind `shop.signature_missing`, `.timestamp_outside_tolerance` or `.signature_invalid`.
        """
        message_id = headers.get("webhook-id", "")
        timestamp = headers.get("webhook-timestamp", "")
        signatures = headers.get("webhook-signature", "")
        if not (message_id and timestamp and signatures):
            raise Refusal(SIGNATURE_MISSING, "Send webhook-id, webhook-timestamp and webhook-signature.")
        # `int` alone would read digits of other scripts, underscores and blanks.
        is_whole = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= MAX_TIMESTAMP_DIGITS
        if not is_whole or len(message_id) > MAX_ID_CHARS:
            raise Refusal(SIGNATURE_INVALID, "webhook-timestamp is whole seconds since 1970, webhook-id a short text.")
        if abs(now.timestamp() - int(timestamp)) > TOLERANCE_SECONDS:
            raise Refusal(TIMESTAMP_OUTSIDE_TOLERANCE, f"Sign at most {TOLERANCE_SECONDS} seconds from now.")
        told = _told(signatures)
        # Every pair is compared, in constant time: how long it takes tells nothing about what matched.
        expected = [_signature(key, message_id, timestamp, raw) for key in self._keys]
        matches = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in told]
        if not any(matches):
            raise Refusal(SIGNATURE_INVALID)
