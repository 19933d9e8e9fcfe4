"""The environment is read once: right as a whole, or the start stops and says everything that is wrong."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from growth.plumbing.settings import PREFIX, Settings, SettingsError, load_settings, redacted, variables

SWORDFISH = "swordfish" * 4
"""Stands for every secret: it must never be seen."""


def _whsec(size: int = 24) -> str:
    return "whsec_" + base64.b64encode(b"x" * size).decode()


RIGHT = {
    "GROWTH_POSTGRES_DSN": f"postgresql://growth:{SWORDFISH}@db:5432/growth",
    "GROWTH_REDIS_URL": f"redis://:{SWORDFISH}@cache:6379/0",
    "GROWTH_SHOP_SECRETS": _whsec(),
    "GROWTH_JWT_SECRET": SWORDFISH,
}


def _faults(**changes: str | None) -> list[str]:
    environ = {**RIGHT, **{PREFIX + name.upper(): value for name, value in changes.items()}}
    with pytest.raises(SettingsError) as error:
        load_settings({name: value for name, value in environ.items() if value is not None})
    assert SWORDFISH not in str(error.value)
    for fault in error.value.faults:
        assert fault in str(error.value)
        # Each names its variable and ends with what to do.
        assert fault.startswith(PREFIX)
        assert fault.endswith((".", "?"))
    return error.value.faults


def _load(**changes: str) -> Settings:
    return load_settings({**RIGHT, **{PREFIX + name.upper(): value for name, value in changes.items()}})


def test_four_variables_are_enough() -> None:
    settings = load_settings({**RIGHT, "PATH": "/bin", "PGPASSWORD": "x", "growth_x": "lower case is somebody else's"})
    assert settings.is_production
    assert (settings.port, settings.metrics_port, settings.zone) == (8080, 9090, "Asia/Shanghai")
    assert settings.jwt_algorithms == ("HS256",)
    assert settings.trusted_proxies == ()
    assert settings.shop_secrets == (RIGHT["GROWTH_SHOP_SECRETS"],)


def test_every_variable_can_be_set() -> None:
    settings = _load(
        environment="development",
        port="81",
        trusted_proxies="10.0.0.0/8, fd00::/8,192.0.2.7",
        shop_secrets=f"{_whsec(24)},{_whsec(64)}",
        jwt_algorithms="HS256,HS384",
        postgres_acquire_seconds="0.5",
        redis_url="rediss+cluster://cache:6379",
        log_level="debug",
        shopper_requests_per_second="0",
    )
    assert settings.port == 81
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"]
    assert len(settings.shop_secrets) == 2
    assert settings.jwt_algorithms == ("HS256", "HS384")
    assert settings.postgres_acquire_seconds == 0.5
    assert settings.shopper_requests_per_second == 0
    assert not settings.is_production


def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        load_settings({})
    assert [fault.split()[0] for fault in error.value.faults] == [
        "GROWTH_POSTGRES_DSN",
        "GROWTH_REDIS_URL",
        "GROWTH_SHOP_SECRETS",
    ]


def test_a_name_we_do_not_know_stops_the_start_and_gets_a_hint() -> None:
    (fault,) = _faults(prot="8080")
    assert fault == "GROWTH_PROT is not a setting. Is it GROWTH_PORT?"
    (fault,) = _faults(completely_different="1")
    assert fault == "GROWTH_COMPLETELY_DIFFERENT is not a setting. Remove it."
    # Only secrets come from files.
    assert _faults(port_file="/x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("environment", "staging"),
        ("port", "0"),
        ("port", "65536"),
        ("port", "http"),
        ("port", "80.5"),
        ("log_level", "loud"),
        ("zone", "Mars/Olympus"),
        ("zone", "../../etc/passwd"),
        ("zone", "/etc/localtime"),
        ("trusted_proxies", "10.0.0.0/33"),
        ("trusted_proxies", "proxy.local"),
        ("postgres_dsn", f"mysql://u:{SWORDFISH}@h/d"),
        ("postgres_dsn", f"postgresql://u:{SWORDFISH}"),
        ("postgres_dsn", f"postgresql://u:{SWORDFISH}@[::1/d"),
        ("postgres_dsn", f"postgresql://u:{SWORDFISH}@h\u2100/d"),
        ("postgres_dsn", SWORDFISH),
        ("redis_url", f"http://:{SWORDFISH}@cache"),
        ("redis_url", f"redis://:{SWORDFISH}@"),
        ("shop_secrets", SWORDFISH),
        ("shop_secrets", f"whsec_{SWORDFISH}!"),
        ("shop_secrets", _whsec(23)),
        ("shop_secrets", _whsec(65)),
        ("shop_secrets", f"{_whsec()},{_whsec()},{_whsec()}"),
        ("jwt_secret", "swordfish"),
        ("jwt_algorithms", "none"),
        ("jwt_algorithms", "hs256"),
        ("jwt_algorithms", "HS256,XS256"),
        ("postgres_max_connections", "0"),
        ("postgres_acquire_seconds", "0"),
        ("postgres_acquire_seconds", "nan"),
        ("postgres_acquire_seconds", "inf"),
        ("postgres_acquire_seconds", "1e400"),
        ("shopper_burst", "0"),
        ("shopper_requests_per_second", "-1"),
        ("shopper_requests_per_second", "true"),
    ],
)
def test_a_wrong_value_is_told_by_name_and_never_shown(name: str, value: str) -> None:
    (fault,) = _faults(**{name: value})
    assert fault.startswith(f"{PREFIX}{name.upper()} ")
    assert "Set it to " in fault


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"jwt_secret": None}, "GROWTH_JWT_SECRET"),
        ({"jwt_algorithms": "RS256", "jwt_secret": None}, "GROWTH_JWT_JWKS_URL"),
        ({"jwt_algorithms": "HS256,RS256", "jwt_jwks_url": "https://x/keys"}, "GROWTH_JWT_ALGORITHMS"),
        ({"jwt_algorithms": "RS256", "jwt_jwks_url": "https://x/keys"}, "GROWTH_JWT_SECRET"),
        ({"jwt_jwks_url": "https://x/keys"}, "GROWTH_JWT_JWKS_URL"),
        ({"jwt_algorithms": "ES256", "jwt_secret": None, "jwt_jwks_url": "http://x/keys"}, "GROWTH_JWT_JWKS_URL"),
        ({"metrics_port": "8080"}, "GROWTH_METRICS_PORT"),
    ],
)
def test_settings_that_contradict_each_other_are_told(changes: dict[str, str | None], name: str) -> None:
    assert name in {fault.split()[0] for fault in _faults(**changes)}


def test_public_keys_come_over_https_except_in_development() -> None:
    environ = {name: value for name, value in RIGHT.items() if name != "GROWTH_JWT_SECRET"}
    environ |= {"GROWTH_JWT_ALGORITHMS": "ES256,RS256", "GROWTH_JWT_JWKS_URL": "http://localhost/keys"}
    assert load_settings({**environ, "GROWTH_ENVIRONMENT": "development"}).jwt_jwks_url == "http://localhost/keys"


def test_an_empty_value_counts_as_not_set() -> None:
    assert _load(port="", jwt_issuer=" ", trusted_proxies=",").jwt_issuer is None
    assert _faults(redis_url="")[0].startswith("GROWTH_REDIS_URL is not set")


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["postgres_dsn", "redis_url", "shop_secrets", "jwt_secret"])
def test_a_secret_may_come_from_a_file(tmp_path: Path, name: str) -> None:
    variable = PREFIX + name.upper()
    file = tmp_path / "secret"
    file.write_text(RIGHT[variable] + "\n", encoding="utf-8")
    environ = {**RIGHT, f"{variable}_FILE": str(file)}
    del environ[variable]
    assert load_settings(environ) == load_settings(RIGHT)


def test_a_secret_in_two_places_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SWORDFISH, encoding="utf-8")
    assert "are both set" in _faults(jwt_secret_file=str(file))[0]


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    (fault,) = _faults(jwt_secret=None, jwt_secret_file=str(file))
    assert fault.startswith("GROWTH_JWT_SECRET cannot be read from GROWTH_JWT_SECRET_FILE")


def test_no_secret_is_ever_shown() -> None:
    settings = load_settings(RIGHT)
    shown = [repr(settings), str(settings), f"{settings}", str(redacted(settings)), pretty_repr(settings)]
    for text in shown:
        assert SWORDFISH not in text
        assert RIGHT["GROWTH_SHOP_SECRETS"] not in text
        assert "Asia/Shanghai" in text


def test_no_secret_has_a_default() -> None:
    secrets = {variable.name: variable.default for variable in variables() if variable.secret}
    assert secrets == {
        "GROWTH_POSTGRES_DSN": None,
        "GROWTH_POSTGRES_REPLICA_DSN": "",
        "GROWTH_REDIS_URL": None,
        "GROWTH_SHOP_SECRETS": None,
        "GROWTH_JWT_SECRET": "",
    }


def test_every_variable_says_what_to_set_it_to() -> None:
    listed = variables()
    assert len(listed) == len(msgspec.structs.fields(Settings))
    for variable in listed:
        assert variable.name.startswith(PREFIX)
        assert variable.description


def test_settings_cannot_be_changed() -> None:
    settings: Any = load_settings(RIGHT)
    with pytest.raises(AttributeError):
        settings.port = 1


_names = st.sampled_from([variable.name for variable in variables()])


@given(st.dictionaries(_names, st.text(alphabet=st.characters(exclude_characters="\x00"), max_size=30)))
def test_no_environment_at_all_raises_anything_but_a_settings_error(environ: dict[str, str]) -> None:
    try:
        load_settings({**RIGHT, **environ})
    except SettingsError:
        return
