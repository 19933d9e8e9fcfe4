"""The command line: what lies outside of the code is told, with what to do next, and never in a stack trace."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import click
import pytest

from growth import dev
from growth.cli import cli, main
from growth.command_line import FILE_WIDTH
from growth.embedded import EmbeddedServerError
from growth.plumbing.postgres.migrate import migrate_up
from tests.app import ENVIRONMENT
from tests.patience import PATIENCE_SECONDS

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")]

NOWHERE = {"GROWTH_POSTGRES_DSN": "postgresql://a:b@127.0.0.1:1/x", "GROWTH_REDIS_URL": "redis://127.0.0.1:1/0"}

COMMANDS: dict[str, Sequence[str]] = {
    "config": (),
    "dead-letters list": (),
    "dead-letters pass": ("1", "--reason", "x"),
    "dead-letters retry": ("1",),
    "dead-letters show": ("1",),
    "demo": (),
    "dev": ("--data", "FILE"),
    "events": (),
    "hook": ("{}",),
    "house": (),
    "invariants": (),
    "load scene": ("mixed-week", "--seconds", "1", "--base-url", "http://127.0.0.1:1", "--operator-key", "k"),
    "load spike": ("--no-progress", "--base-url", "http://127.0.0.1:1", "--operator-key", "k"),
    "migrate status": (),
    "migrate up": (),
    "openapi": (),
    "operator add": ("ann", "--role", "admin"),
    "operator list": (),
    "operator revoke": ("ann",),
    "report retention": (),
    "serve": (),
    "token": ("ann",),
    "worker": (),
}
"""One right way to call each."""
NEED_NO_STORE = {"config", "events", "hook", "house", "openapi", "token"}
ASK_POSTGRES = sorted(COMMANDS.keys() - NEED_NO_STORE - {"dev", "load scene", "load spike"})


class Said(str):
    """What a command said, on both channels."""

    __slots__ = ("code",)

    code: int


class Shell:
    """Calls `growth` in this process: an exception that reaches us is a stack trace on somebody's screen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        for name in [name for name in os.environ if name.startswith("GROWTH_")]:
            monkeypatch.delenv(name)
        for name, value in (ENVIRONMENT | NOWHERE).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("growth.command_line.console._width", FILE_WIDTH)

    def set(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)

    async def beside(self, *arguments: str) -> Said:
        """The same, from a test that has a loop."""
        return await asyncio.to_thread(self, *arguments)

    def __call__(self, *arguments: str) -> Said:
        self._monkeypatch.setattr("sys.argv", ["growth", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        told = self._capsys.readouterr()
        said = Said(told.out + told.err)
        said.code = code or 0
        assert "Traceback" not in said
        return said


async def process(command: str, **environ: str) -> Said:
    """Call it in a process of its own: only the main thread hears signals."""
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "growth", command],
        env={name: value for name, value in os.environ.items() if not name.startswith("GROWTH_")}
        | ENVIRONMENT
        | NOWHERE
        | environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    said = Said(ended.stdout + ended.stderr)
    said.code = ended.returncode
    return said


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


@pytest.fixture
async def growth_here(growth: Shell, postgres_dsn: str, redis_url: str) -> Shell:
    growth.set("GROWTH_POSTGRES_DSN", postgres_dsn)
    growth.set("GROWTH_REDIS_URL", redis_url)
    return growth


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def test_every_command_is_walked() -> None:
    assert sorted(commands(cli)) == sorted(COMMANDS)


@pytest.mark.parametrize("name", ASK_POSTGRES)
def test_a_postgres_that_is_away_is_told_with_what_to_look_at(growth: Shell, name: str) -> None:
    said = growth(*name.split(), *COMMANDS[name])
    assert said.code == 1
    if name != "invariants":
        assert "cannot be reached" in said
        assert "GROWTH_POSTGRES_DSN" in said


@pytest.mark.parametrize("name", ["load scene", "load spike"])
def test_a_service_that_is_away_is_told(growth: Shell, name: str) -> None:
    assert growth(*name.split(), *COMMANDS[name], "--jwt-secret", "x" * 32).code in {2, 3}


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"dev", "load scene", "load spike"}))
def test_a_wrong_environment_is_told(growth: Shell, name: str) -> None:
    growth.set("GROWTH_POSTGRES_DSN", "[/b]")
    growth.set("GROWTH_ZONE", "[/b]")
    said = growth(*name.split(), *COMMANDS[name])
    assert said.code == (0 if name in {"events", "house", "openapi"} else 1)
    assert name in {"events", "house", "openapi"} or "GROWTH_ZONE" in said


@pytest.mark.parametrize("name", [name for name in ASK_POSTGRES if name != "serve"])
async def test_a_database_that_nobody_migrated_is_told(growth: Shell, postgres_dsn: str, name: str) -> None:
    """`serve` serves, and says at /readyz that it is not ready."""
    await _on(postgres_dsn, "DROP SCHEMA plumbing, retention CASCADE")
    growth.set("GROWTH_POSTGRES_DSN", postgres_dsn)
    if name == "worker":
        said = await process(name, GROWTH_POSTGRES_DSN=postgres_dsn, GROWTH_METRICS_PORT="0")
    else:
        said = await growth.beside(*name.split(), *COMMANDS[name])
    assert "Traceback" not in said
    assert said.code == 1
    assert name in {"invariants", "migrate status", "migrate up"} or "Next step: growth migrate up" in said


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_argument_that_is_no_text_is_told(growth: Shell, name: str) -> None:
    assert "no text" in growth(*name.split(), "\udcff")


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"dev", "serve", "worker"}))
async def test_brackets_in_an_argument_are_no_colours(growth_here: Shell, name: str, tmp_path: Path) -> None:
    await growth_here.beside(*name.split(), "[/b]")
    await growth_here.beside(*name.split(), *COMMANDS[name], "--[/b]", str(tmp_path))


# --- what a shop calls its things -------------------------------------------------------------------------------------


NAMES = ["[/b]", "order-7[/x]", "[bold]x", "a:coffee:b", "https://[::1]/"]


async def _on(dsn: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement, *arguments)
    await connection.close()


@pytest.mark.parametrize("name", NAMES)
async def test_a_dead_letter_is_shown_by_its_name_whatever_that_is(
    growth_here: Shell, postgres_dsn: str, name: str
) -> None:
    await _on(
        postgres_dsn,
        """
            INSERT INTO plumbing.dead_letters (
                subscription, log, xid, position, event_id, type, subject, at, data, reason, error, parked_at, tried_at
            )
            VALUES ($1, 'plumbing.outbox', '1', 1, $1, $1, $1, now(), to_json($1::text), 'failed', $1, now(), now())
            """,
        name,
    )
    assert (await growth_here.beside("dead-letters", "list")).count(name) == 4
    assert (await growth_here.beside("dead-letters", "show", "1")).count(name) == 6
    assert "1 asked for" in await growth_here.beside("dead-letters", "retry", "1", "--reason", name)
    assert (await growth_here.beside("dead-letters", "pass", "1", "--reason", name)).count(name) == 3
    assert "no such dead letter" in await growth_here.beside("dead-letters", "show", "1")


@pytest.mark.parametrize("name", NAMES)
async def test_a_broken_invariant_shows_its_rows_by_their_names(
    growth_here: Shell, postgres_dsn: str, name: str
) -> None:
    await _on(
        postgres_dsn,
        "INSERT INTO ledger.accounts (owner, currency, posted, pending_in, pending_out) VALUES ($1, $1, -5, 0, 0)",
        name,
    )
    said = await growth_here.beside("invariants")
    assert (said.code, name in said) == (1, True)


def test_the_environment_is_shown_as_it_is(growth: Shell) -> None:
    growth.set("GROWTH_EVENT_SOURCE", "https://[bold]x/:coffee:")
    assert "event_source = https://[bold]x/:coffee:" in growth("config").lower()


@pytest.mark.parametrize("arguments", [("add", "[/b]", "--role", "admin"), ("revoke", "[/b]"), ("list",)])
async def test_an_operator_of_any_name_is_refused_or_shown(growth_here: Shell, arguments: Sequence[str]) -> None:
    assert (await growth_here.beside("operator", *arguments)).code == (0 if arguments == ("list",) else 1)


# --- slips of a newcomer ----------------------------------------------------------------------------------------------


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    path = tmp_path / "dev.json"
    known = {"jwt_secret": "s" * 40, "shop_secret": ENVIRONMENT["GROWTH_SHOP_SECRETS"], "base_url": "x"}
    path.write_text(json.dumps(known | {"postgres_dsn": NOWHERE["GROWTH_POSTGRES_DSN"], "redis_url": "redis://h/0"}))
    return path


@pytest.mark.parametrize("command", ["token", "hook", "report retention", "load scene", "load spike"])
@pytest.mark.parametrize("damage", ["none", "", "{", "{}", "[]", "null", '{"jwt_secret": 1}', "folder", "\udcff"])
def test_a_dev_json_that_tells_nothing_is_named(growth: Shell, facts: Path, command: str, damage: str) -> None:
    facts.unlink()
    if damage == "folder":
        facts.mkdir()
    elif damage != "none":
        facts.write_bytes(damage.encode(errors="surrogateescape"))
    said = growth(*command.split(), *COMMANDS[command], "--dev-json", str(facts.parent))
    assert said.code in {1, 2}
    # A path may be longer than a line of the box around it.
    assert "dev.json" in re.sub(r"[│\s]", "", said) or command.startswith("load")


@pytest.mark.parametrize("field", ["jwt_secret", "shop_secret", "postgres_dsn", "redis_url"])
@pytest.mark.parametrize("command", ["token", "hook", "report retention"])
def test_a_dev_json_with_a_value_that_cannot_be_is_told(growth: Shell, facts: Path, command: str, field: str) -> None:
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {field: "x"}))
    said = growth(*command.split(), *COMMANDS[command], "--dev-json", str(facts))
    assert (said.code, f"GROWTH_{field.upper()}" in said) == (1, True)


def test_token_and_hook_take_a_running_dev(growth: Shell, facts: Path) -> None:
    for path in (facts, facts.parent):
        assert growth("token", "ann", "--dev-json", str(path)).count(".") == 2
        assert 'data = "{}"' in growth("hook", "{}", "--dev-json", str(path))


@pytest.mark.parametrize("user_id", ["", " x", "x ", "a\nb", "x" * 129])
def test_an_id_that_no_shopper_can_have_gets_no_token(growth: Shell, user_id: str) -> None:
    said = growth("token", user_id)
    assert (said.code, "No shopper can have this id" in said) == (2, True)


@pytest.mark.parametrize("seconds", ["0", "-1", "9" * 40, "x"])
def test_a_token_lasts_as_long_as_time_can_be_told(growth: Shell, seconds: str) -> None:
    assert growth("token", "ann", "--seconds", seconds).code == 2


async def test_a_page_that_cannot_be_written_is_told(growth_here: Shell, tmp_path: Path) -> None:
    said = await growth_here.beside("report", "retention", "--html", str(tmp_path / "none" / "x.html"))
    assert said.code == 1
    assert "x.html: No such file or directory. Next step" in said


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_a_port_that_is_taken_is_told(postgres_dsn: str, redis_url: str, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        said = await process(
            command,
            GROWTH_HOST="127.0.0.1",
            GROWTH_METRICS_PORT=port,
            GROWTH_POSTGRES_DSN=postgres_dsn,
            GROWTH_REDIS_URL=redis_url,
        )
    assert said.code == 1
    assert "address already in use. Next step" in said
    assert "Traceback" not in said


# --- growth dev -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"jwt_secret": "x"}', '{"jwt_secret": 1, "shop_secret": 1}', "\udcff", "folder"]
)
def test_secrets_of_dev_that_are_damaged_are_told(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "secrets.json"
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(damage.encode(errors="surrogateescape"))
    with pytest.raises(EmbeddedServerError, match=f"{path} is damaged. Next step"):
        dev._secrets(path)


def test_secrets_of_dev_that_are_none_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secrets.json").write_text('{"jwt_secret": "x", "shop_secret": "x"}')
    monkeypatch.setattr("os.environ", dict(os.environ))

    class Server:
        dsn, url = "postgresql://a@h/x", "redis://h/0"

    class Servers:
        postgres = valkey = Server

    with pytest.raises(EmbeddedServerError, match=r"secrets.json is damaged. Next step"):
        dev._settings(Servers, tmp_path, 8080)  # type: ignore[arg-type] # whatever has addresses


@pytest.mark.parametrize("name", ["dev.json", "dev.json.new", "serve.log"])
def test_a_folder_in_the_place_of_a_file_of_dev_is_told(
    growth: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def start(_: Path) -> object:
        path = tmp_path / name
        path.mkdir()
        return path.open("ab")

    monkeypatch.setattr("growth.dev.EmbeddedServers.start", start)
    said = growth("dev", "--data", str(tmp_path))
    assert said.code == 1
    assert f"{tmp_path / name}: Is a directory. Next step" in said


async def test_migrations_of_another_release_are_told(growth_here: Shell, postgres_dsn: str) -> None:
    await migrate_up(postgres_dsn)
    await _on(postgres_dsn, "UPDATE plumbing.growth_migrations SET name = '0001_[/b].sql' WHERE name LIKE '0001%'")
    assert "0001_[/b].sql" in await growth_here.beside("migrate", "status")
    assert "0001_[/b].sql" in await growth_here.beside("migrate", "up")
