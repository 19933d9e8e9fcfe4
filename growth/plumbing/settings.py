"""Settings: the environment says where things are. Everything is read once, checked whole, and frozen.

A variable is `GROWTH_` and the field's name in capitals. A secret may also come from a file: `GROWTH_JWT_SECRET_FILE`
holds the path. Lists are separated by commas. An empty value counts as not set. How a game is played is no setting:
that is in tables, where operators change it.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from growth.plumbing.http.answers import Network
from growth.plumbing.http.signatures import MAX_SECRETS, secret_bytes
from growth.plumbing.watch import traces

PREFIX = "GROWTH_"
FILE_SUFFIX = "_FILE"
HIDDEN = "***"
MIN_JWT_SECRET_BYTES = 32
"""RFC 7518, section 3.2: as long as the hash."""
MAX_SECRET_FILE_BYTES = 64 * 1024

_SECRET: dict[str, object] = {"secret": True}
_POSTGRES_SCHEMES = ("postgresql", "postgres")
_REDIS_SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster")

Algorithm = Literal["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "EdDSA"]
Seconds = Annotated[float, Meta(gt=0, le=300)]
PerSecond = Annotated[int, Meta(ge=0, le=1_000_000)]


class SettingsError(Exception):
    """The environment cannot be used. The text names every variable at fault and what to do about it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(
            "\n".join(["The environment is not complete or not right:", *(f"  {fault}" for fault in faults)])
        )
        self.faults = faults


class Settings(Struct, frozen=True, kw_only=True):
    """Where things are. A field's description says what to set it to."""

    postgres_dsn: Annotated[
        str, Meta(description="where Postgres is, as postgresql://USER:PASSWORD@HOST:5432/DATABASE", extra=_SECRET)
    ]
    redis_url: Annotated[
        str,
        Meta(description="where Redis is, as redis://HOST:6379/0 (rediss:// for TLS, redis+cluster://)", extra=_SECRET),
    ]
    shop_secrets: Annotated[
        tuple[str, ...],
        Meta(
            description="one secret of the shop's hooks, or two while rotating, each whsec_ and base64", extra=_SECRET
        ),
    ]

    environment: Annotated[Literal["production", "development"], Meta(description="production or development")] = (
        "production"
    )
    docs: Annotated[bool | None, Meta(description="true: serve /docs; by default only in development")] = None
    host: Annotated[str, Meta(description="the address to listen on, for the API and for metrics")] = "0.0.0.0"  # noqa: S104 - a container's own
    port: Annotated[int, Meta(ge=1, le=65535, description="the port of the API, 1 to 65535")] = 8080
    metrics_port: Annotated[int, Meta(ge=0, le=65535, description="the port of /metrics; 0 for none")] = 9090
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"
    zone: Annotated[str, Meta(description="the merchant's time zone, for what a day is")] = "Asia/Shanghai"
    trusted_proxies: Annotated[
        tuple[Network, ...],
        Meta(description="networks whose X-Forwarded-For is believed, as 10.0.0.0/8,fd00::/8"),
    ] = ()

    max_requests_under_way: Annotated[
        int,
        Meta(ge=1, le=100_000, description="requests of one process at once; one too many is told 503 at once"),
    ] = 512
    postgres_replica_dsn: Annotated[
        str | None,
        Meta(description="a read replica for reports, as above; no decision ever reads it", extra=_SECRET),
    ] = None
    postgres_max_connections: Annotated[int, Meta(ge=1, le=1000, description="connections of one process")] = 10
    postgres_statement_cache: Annotated[
        int, Meta(ge=0, le=10_000, description="prepared statements kept; 0 behind a pooler that shares connections")
    ] = 256
    postgres_acquire_seconds: Annotated[Seconds, Meta(description="the wait for a connection, in seconds")] = 2.0
    postgres_statement_seconds: Annotated[Seconds, Meta(description="the wait for one statement, in seconds")] = 5.0
    redis_max_connections: Annotated[int, Meta(ge=1, le=1000, description="connections of one process")] = 16
    redis_answer_seconds: Annotated[Seconds, Meta(description="the wait for one answer, in seconds")] = 1.0

    event_source: Annotated[
        str,
        Meta(
            description="the CloudEvents `source` of what leaves, 1 to 128 visible characters",
            pattern=r"^[!-~]{1,128}$(?!\n)",
        ),
    ] = "growth"
    webhook_allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="hosts that webhooks may call though they are inside, and without TLS: names or addresses "
            "that you vouch for"
        ),
    ] = ()
    stream: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:{}-]{1,128}$(?!\n)")] | None,
        Meta(description="the key of a Redis Stream that gets every event; none if not set"),
    ] = None
    stream_max_events: Annotated[
        int, Meta(ge=1000, le=100_000_000, description="events that the stream keeps, about")
    ] = 1_000_000

    traces_endpoint: Annotated[
        str | None, Meta(description="where traces go, as http://COLLECTOR:4318/v1/traces; none if not set")
    ] = None
    traces_share: Annotated[float, Meta(ge=0, le=1, description="how much is traced, 0 to 1")] = 0.01

    jwt_algorithms: Annotated[
        tuple[Algorithm, ...], Meta(min_length=1, description=f"some of {', '.join(get_args(Algorithm))}")
    ] = ("HS256",)
    jwt_secret: Annotated[
        str | None,
        Meta(description=f"the key of HS tokens, at least {MIN_JWT_SECRET_BYTES} bytes", extra=_SECRET),
    ] = None
    jwt_jwks_url: Annotated[str | None, Meta(description="where the public keys of RS, ES and Ed tokens are")] = None
    jwt_issuer: Annotated[str | None, Meta(description="the `iss` that tokens must have")] = None
    jwt_audience: Annotated[str | None, Meta(description="the `aud` that tokens must have")] = None

    payout: Annotated[
        Literal["manual", "sandbox"],
        Meta(description="who pays withdrawals: manual (an operator, who marks them) or sandbox (development alone)"),
    ] = "manual"

    shopper_requests_per_second: Annotated[PerSecond, Meta(description="one shopper's share; 0 for no limit")] = 20
    shopper_burst: Annotated[int, Meta(ge=1, le=1_000_000, description="requests of one shopper at once")] = 40
    operator_requests_per_second: Annotated[PerSecond, Meta(description="one operator's share; 0 for no limit")] = 20
    operator_burst: Annotated[int, Meta(ge=1, le=1_000_000, description="requests of one operator at once")] = 100
    # Carriers put thousands of shoppers behind one address: these leave them room, and the process its own.
    address_requests_per_second: Annotated[PerSecond, Meta(description="one address' share of a process; 0: none")] = (
        1000
    )
    address_burst: Annotated[int, Meta(ge=1, le=1_000_000, description="requests of one address at once")] = 5000
    shopper_events_per_minute: Annotated[
        int, Meta(ge=0, le=1_000_000, description="events that one shopper's client may tell; 0 for no limit")
    ] = 600
    events_keep_days: Annotated[
        int, Meta(ge=8, le=3650, description="whole days that what shoppers did stays in the log, at least 8")
    ] = 30
    erased_memory_days: Annotated[
        int,
        Meta(
            ge=0,
            le=3650,
            description="days for which it is known that an erased id already had what is given once (as a keyed hash, "
            "of which no row is known); 0 for not at all",
        ),
    ] = 365
    coupon_lock_days: Annotated[
        int, Meta(ge=1, le=365, description="days that an order, neither paid nor closed, keeps the coupon it locked")
    ] = 7

    @property
    def is_production(self) -> bool:
        """Whether real shoppers use it."""
        return self.environment == "production"

    def __repr__(self) -> str:
        return f"Settings({redacted(self)})"

    def __rich_repr__(self) -> Any:
        yield from redacted(self).items()


class Variable(Struct, frozen=True):
    """One environment variable, as documentation shows it."""

    name: str
    description: str
    default: str | None
    """Nothing where it must be set."""
    secret: bool


def variables() -> list[Variable]:
    """Return every variable there is, in the order of `Settings`."""
    return [
        Variable(
            PREFIX + field.name.upper(),
            _meta(field).description or "",
            None if field.required else _shown(field.default),
            _is_secret(field),
        )
        for field in msgspec.structs.fields(Settings)
    ]


def redacted(settings: Settings) -> dict[str, object]:
    """Return all settings, fit for a log: secrets hidden."""
    shown: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        value = getattr(settings, field.name)
        shown[field.name] = HIDDEN if value and _is_secret(field) else _shown(value)
    return shown


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings. Raises `SettingsError` that names every fault at once."""
    faults = _unknown(environ)
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        try:
            text = _text_of(field, environ)
            if text:
                values[field.name] = _parse(field, text)
            elif field.required:
                raise ValueError("is not set")  # noqa: TRY301 - one way to say what is wrong with a variable
        except ValueError as error:
            faults.append(f"{PREFIX}{field.name.upper()} {error}. Set it to {_meta(field).description}.")
    if not faults:
        settings = Settings(**values)
        faults = _contradictions(settings)
        if not faults:
            return settings
    raise SettingsError(faults)


def _meta(field: msgspec.structs.FieldInfo) -> Meta:
    """Return the last note on a field: a type's own limits come before it."""
    found: Meta = field.type.__metadata__[-1]
    return found


def _is_secret(field: msgspec.structs.FieldInfo) -> bool:
    return bool((_meta(field).extra or {}).get("secret"))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return "" if value is None else str(value)


def _unknown(environ: Mapping[str, str]) -> list[str]:
    names = {variable.name for variable in variables()}
    names |= {variable.name + FILE_SUFFIX for variable in variables() if variable.secret}
    faults = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in names:
            close = get_close_matches(name, names, 1, cutoff=0.8)
            faults.append(f"{name} is not a setting. {f'Is it {close[0]}?' if close else 'Remove it.'}")
    return faults


def _text_of(field: msgspec.structs.FieldInfo, environ: Mapping[str, str]) -> str:
    name = PREFIX + field.name.upper()
    text = environ.get(name, "").strip()
    path = environ.get(name + FILE_SUFFIX, "").strip() if _is_secret(field) else ""
    if not path:
        return text
    if text:
        raise ValueError(f"and {name}{FILE_SUFFIX} are both set; keep one")
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(MAX_SECRET_FILE_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read from {name}{FILE_SUFFIX}: {type(error).__name__}") from None


def _parse(field: msgspec.structs.FieldInfo, text: str) -> Any:
    """Return the value of `text`. Raises ValueError that never quotes it: it may be a secret."""
    parse = _PARSERS.get(field.name)
    if parse is not None:
        return parse(text)
    is_list = isinstance(field.default, tuple)
    try:
        return msgspec.convert(_items(text) if is_list else text, field.type, strict=False)
    except msgspec.ValidationError:
        raise ValueError("is not of the right form") from None


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def _url(schemes: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
            # Asking for the port checks it.
            is_right = parts.scheme in schemes and bool(parts.hostname or parts.query) and parts.port != 0
        except ValueError:
            # Its message may quote the user and password.
            is_right = False
        if not is_right:
            raise ValueError(f"does not start with {' or '.join(f'{scheme}://' for scheme in schemes)} and name a host")
        return text

    return parse


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, OSError):
        raise ValueError("is no zone of the IANA database") from None
    return text


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(item, strict=False) for item in _items(text))
    except ValueError:
        raise ValueError("has an entry that is no network") from None


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(_items(text))
    for host in hosts:
        # As URLs spell them; addresses of IPv6 without their brackets.
        if host != host.lower() or not host.isascii() or any(sign in host for sign in "/@[]*? "):
            raise ValueError("has an entry that is no host: lower case, without port, brackets or wildcards")
    return hosts


def _shop_secrets(text: str) -> tuple[str, ...]:
    secrets = tuple(_items(text))
    if len(secrets) > MAX_SECRETS:
        raise ValueError(f"has more than {MAX_SECRETS} secrets")
    for secret in secrets:
        try:
            # By the rule of whoever verifies with them.
            secret_bytes(secret)
        except ValueError as error:
            raise ValueError(f"cannot be taken: {error}") from None
    return secrets


def _jwt_secret(text: str) -> str:
    if len(text.encode()) < MIN_JWT_SECRET_BYTES:
        raise ValueError(f"is shorter than {MIN_JWT_SECRET_BYTES} bytes")
    return text


_PARSERS: dict[str, Callable[[str], Any]] = {
    "postgres_dsn": _url(_POSTGRES_SCHEMES),
    "redis_url": _url(_REDIS_SCHEMES),
    "jwt_jwks_url": _url(("https", "http")),
    "traces_endpoint": _url(("https", "http")),
    "zone": _zone,
    "trusted_proxies": _networks,
    "shop_secrets": _shop_secrets,
    "webhook_allowed_hosts": _hosts,
    "jwt_secret": _jwt_secret,
}


def _contradictions(settings: Settings) -> list[str]:
    faults = []
    shared = [name for name in settings.jwt_algorithms if name.startswith("HS")]
    public = [name for name in settings.jwt_algorithms if not name.startswith("HS")]
    if shared and public:
        # A public key taken for a shared secret is the oldest trick against JWT.
        faults.append("GROWTH_JWT_ALGORITHMS mixes HS with others. Keep one family.")
    if shared and not settings.jwt_secret:
        faults.append(
            f"GROWTH_JWT_SECRET is not set, and {shared[0]} needs it. Set it, or change GROWTH_JWT_ALGORITHMS."
        )
    if public and not settings.jwt_jwks_url:
        faults.append(
            f"GROWTH_JWT_JWKS_URL is not set, and {public[0]} needs it. Set it, or change GROWTH_JWT_ALGORITHMS."
        )
    if settings.jwt_secret and not shared:
        faults.append("GROWTH_JWT_SECRET is set, and no algorithm uses it. Remove it, or change GROWTH_JWT_ALGORITHMS.")
    if settings.jwt_jwks_url and not public:
        faults.append(
            "GROWTH_JWT_JWKS_URL is set, and no algorithm uses it. Set GROWTH_JWT_ALGORITHMS to RS256 or ES256."
        )
    if settings.is_production and settings.jwt_jwks_url and not settings.jwt_jwks_url.startswith("https://"):
        faults.append("GROWTH_JWT_JWKS_URL is not https, and keys fetched in the clear are anybody's. Use https://.")
    if settings.is_production and settings.payout == "sandbox":
        faults.append("GROWTH_PAYOUT is sandbox, which pays nobody, and this is production. Set it to manual.")
    if settings.traces_endpoint and not traces.is_installed():
        faults.append(
            "GROWTH_TRACES_ENDPOINT is set, and what it needs is not installed. Install growth[traces], or remove it."
        )
    if settings.port == settings.metrics_port:
        faults.append("GROWTH_METRICS_PORT is the API's port. Choose another, or 0 for none.")
    return faults
