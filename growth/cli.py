"""The `growth` command. Everything it needs comes from the environment (`growth config`), except in `growth dev`."""

import errno
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn, get_args

import msgspec
import rich_click as click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from growth.command_line import (
    console,
    dev_facts,
    is_of_older_database,
    run,
    settings_of_environment,
    with_database,
)
from growth.dead_letter_commands import dead_letters
from growth.listeners.retention.report.service import Reports
from growth.plumbing.docs.event_catalogue import catalogue
from growth.plumbing.docs.parts import Part
from growth.plumbing.http import operators
from growth.plumbing.http.identity import Identity
from growth.plumbing.http.signatures import sign
from growth.plumbing.outbox.dead_letters import told
from growth.plumbing.postgres.database import Database
from growth.plumbing.postgres.migrate import MigrationError, migrate_up, migration_status
from growth.plumbing.postgres.sqlstates import ErrorMeaning, verdict
from growth.plumbing.settings import Settings, SettingsError, redacted, variables
from growth.plumbing.watch.invariants import all_invariants, violations
from growth.vocabulary import clock, ids
from growth.vocabulary.actors import Role
from growth.vocabulary.refusals import Refusal, Unavailable

TOKEN_SECONDS = 7 * 24 * 3600
MAX_TOKEN_SECONDS = 100 * 366 * 24 * 3600

STORES = "Is it running, and do GROWTH_POSTGRES_DSN and GROWTH_REDIS_URL point to it?"
NO_PORT = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES})

click.rich_click.USE_MARKDOWN = True
click.rich_click.COMMAND_GROUPS = {
    "growth": [
        {"name": "Try it", "commands": ["dev", "demo", "token", "hook", "load"]},
        {"name": "Run it", "commands": ["serve", "worker", "migrate", "config"]},
        {"name": "Look after it", "commands": ["report", "operator", "invariants", "dead-letters"]},
        {"name": "Read it", "commands": ["events", "openapi", "house"]},
    ]
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="growth")
def cli() -> None:
    """Social growth for shops that live in mini-programs: nothing oversold, nothing lost, nothing stuck.

    One image, three commands: **serve** answers HTTP, **worker** does what the clock and events wake, **migrate**
    brings the database up to date. All read the environment; **config** shows what they see.

    New here? **growth dev** runs everything on this machine, with a demo shop, and prints what to try.
    """


def main() -> None:
    """Run the command; say what to do next instead of a stack trace where the fault is outside."""
    try:
        _find_text(sys.argv[1:])
        cli(prog_name="growth")
    except SettingsError as error:
        _fail(f"{error}\n  `growth config --variables` lists them all.")
    except MigrationError as error:
        _fail(str(error))
    except Unavailable as error:
        _fail(f"{error.what}{_because(error.__cause__)}. {STORES}")
    except Refusal as refusal:
        _fail(refusal.detail)
    except Exception as error:
        if is_of_older_database(error):
            _fail("the database is older than this release. Next step: growth migrate up")
        if verdict(error) is ErrorMeaning.OURS:
            raise
        if isinstance(error, OSError) and error.filename is not None:
            _fail(f"{error.filename}: {error.strerror}. Next step: name another, or see who may use it.")
        if isinstance(error, OSError) and error.errno in NO_PORT:
            _fail(f"{error.strerror}. Next step: end what listens there, or choose another port.")
        _fail(f"Postgres or Redis cannot be reached{_because(error)}. {STORES}")


def _find_text(arguments: list[str]) -> None:
    """Refuse what is no text: nothing that is told could be stored or shown."""
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError:
        _fail("an argument is no text in UTF-8.")


def _because(error: BaseException | None) -> str:
    return "" if error is None else f" ({str(error) or type(error).__name__})"


def _fail(text: str) -> NoReturn:
    # Lines are broken where the terminal breaks them, so that what it says can be searched and pasted.
    Console(stderr=True).print(Text.assemble(("growth:", "red"), " ", text), soft_wrap=True)
    sys.exit(1)


@cli.command()
def serve() -> None:
    """Run the API. Start one process for each core; any number may run."""
    from growth.serving import serve_api  # noqa: PLC0415 - only this command needs a server

    run(serve_api(settings_of_environment()))


@cli.command()
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), help="Serve /metrics here instead of GROWTH_METRICS_PORT."
)
def worker(metrics_port: int | None) -> None:
    """Run background work: end holds, open draws, send reminders and webhooks, reconcile. Any number may run."""
    from growth.serving import serve_worker  # noqa: PLC0415 - as above

    settings = settings_of_environment()
    run(serve_worker(settings, settings.metrics_port if metrics_port is None else metrics_port))


@cli.command()
def house() -> None:
    """Print who answers each URL, who reacts to each event and what the clock wakes, as the rooms declare it."""
    from growth import tables  # noqa: PLC0415 - only this command needs all rooms

    click.echo(run(tables.page()), nl=False)


@cli.command()
@click.option("--part", type=click.Choice(get_args(Part)), help="Only what this kind of caller calls.")
def openapi(part: Part | None) -> None:
    """Print the OpenAPI document of this release, for generators of clients. Nothing needs to run."""
    from growth import tables  # noqa: PLC0415 - only this command needs all rooms

    click.echo(run(tables.document(part)))


@cli.group()
def migrate() -> None:
    """Migrate the database."""


@migrate.command("up")
def migrate_up_() -> None:
    """Apply pending migrations. Safe to start twice: one runs, the other waits."""
    for name in run(migrate_up(settings_of_environment().postgres_dsn)):
        console.print(Text.assemble(("applied", "green"), f" {name}"))
    console.print("The database is up to date.")


@migrate.command("status")
def migrate_status() -> None:
    """Show every migration and whether it is applied."""
    table = Table("migration", "state", "applied at")
    pending = 0
    for status in run(migration_status(settings_of_environment().postgres_dsn)):
        pending += status.state.name != "APPLIED"
        table.add_row(
            status.name, status.state.name.lower(), clock.rfc3339(status.applied_at) if status.applied_at else ""
        )
    console.print(table)
    sys.exit(1 if pending else 0)


@cli.group()
def operator() -> None:
    """Manage operators and their keys."""


@operator.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.name.lower() for role in Role]), required=True)
def operator_add(name: str, role: str) -> None:
    """Create an operator and print the key. It is shown once and stored hashed."""

    async def add(database: Database) -> str:
        async with database.transaction() as tx:
            return await operators.add(tx, name, Role[role.upper()], clock.now())

    click.echo(run(with_database(settings_of_environment(), add)))


@operator.command("list")
def operator_list() -> None:
    """List all operators, revoked ones too."""
    table = Table("name", "role", "created", "revoked")
    for row in run(with_database(settings_of_environment(), operators.list_operators)):
        revoked = "" if row.revoked_at is None else clock.rfc3339(row.revoked_at)
        table.add_row(row.name, row.role.name.lower(), clock.rfc3339(row.created_at), revoked)
    console.print(table)


@operator.command("revoke")
@click.argument("name")
def operator_revoke(name: str) -> None:
    """Revoke an operator's key; it stops working everywhere within seconds."""

    async def revoke(database: Database) -> None:
        async with database.transaction() as tx:
            await operators.revoke(tx, name, clock.now())

    run(with_database(settings_of_environment(), revoke))
    console.print(f"{name} is revoked.")


def _dev_json(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--dev-json",
        type=click.Path(exists=True, path_type=Path),
        help="Take the running `growth dev` of this folder, instead of what the environment names.",
    )(command)


def _settings(dev_json: Path | None) -> Settings:
    return dev_facts(dev_json).settings() if dev_json else settings_of_environment()


@cli.command()
@click.argument("user_id")
@click.option(
    "--seconds",
    type=click.IntRange(1, MAX_TOKEN_SECONDS),
    default=TOKEN_SECONDS,
    show_default=True,
    help="How long the token is valid.",
)
@_dev_json
def token(user_id: str, seconds: int, dev_json: Path | None) -> None:
    """Print a shopper's token, for development. Needs an HS algorithm: other keys are not ours to sign with."""
    shopper = ids.shopper_id(user_id)
    if shopper is None:
        raise click.UsageError(f"No shopper can have this id. {ids.SHOPPER_ID}")
    settings = _settings(dev_json)
    if settings.jwt_secret is None:
        raise click.UsageError("Tokens are signed elsewhere here (GROWTH_JWT_JWKS_URL): only a secret can sign.")
    identity = Identity(
        algorithms=settings.jwt_algorithms,
        secret=settings.jwt_secret,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    click.echo(identity.sign(shopper, now=clock.now(), lifetime_seconds=seconds))


@cli.command()
@click.argument("body")
@_dev_json
def hook(body: str, dev_json: Path | None) -> None:
    """Sign a BODY as the shop does, for curl: growth hook BODY | curl -K - URL/shop/v1/events."""
    secret = _settings(dev_json).shop_secrets[0]
    headers = sign(secret, f"hook-{secrets.token_hex(8)}", clock.now(), body.encode())
    for name, value in {**headers, "content-type": "application/json"}.items():
        click.echo(f'header = "{name}: {value}"')
    click.echo("data = " + msgspec.json.encode(body).decode())


@cli.command()
@click.option("--variables", "show_variables", is_flag=True, help="List all variables with their defaults.")
def config(*, show_variables: bool) -> None:
    """Show the configuration that the environment gives, secrets hidden; a wrong variable is named."""
    if show_variables:
        table = Table("variable", "what it is", "default")
        for variable in variables():
            secret = " (or …_FILE)" if variable.secret else ""
            table.add_row(variable.name + secret, variable.description, variable.default or "")
        console.print(table)
        return
    for name, value in redacted(settings_of_environment()).items():
        console.print(f"{name} = {value}")


@cli.command()
@click.argument("name", required=False)
def events(name: str | None) -> None:
    """List every event that webhooks and the stream can carry; with a NAME, show its fields and an example."""
    if name is None:
        table = Table("event", "when", "data")
        for entry in catalogue():
            table.add_row(entry.name, entry.when, ", ".join(field.name for field in entry.fields))
        console.print(table)
        return
    found = next((entry for entry in catalogue() if entry.name == name), None)
    if found is None:
        raise click.UsageError("No event has this name; `growth events` lists them.")
    console.print(found.name, style="bold")
    console.print(found.when)
    table = Table("field of data", "type", "what it is")
    for field in found.fields:
        table.add_row(field.name, field.type, field.told)
    console.print(table)
    console.print_json(data=found.example)


@cli.command()
def invariants() -> None:
    """Check all invariants, in all rows; exit 1 if one does not hold or could not be checked."""
    found = run(with_database(settings_of_environment(), _judged))
    for name, rows in found.items():
        console.print(Text.assemble(("✗", "red"), f" {name}: {rows}"))
    console.print(f"{len(all_invariants()) - len(found)} of {len(all_invariants())} sentences hold.")
    sys.exit(1 if found else 0)


async def _judged(database: Database) -> dict[str, object]:
    """Return what does not hold with its rows, and what could not be answered, each asked by itself."""
    found: dict[str, object] = {}
    for one in all_invariants():
        try:
            broken = await violations(database, (one,))
        except Exception as error:  # noqa: BLE001 - it says nothing of the others
            found[f"{one.room}: {one.name}"] = f"not known: {told(error)}"
        else:
            found |= {f"{one.room}: {one.name}": violation.rows for violation in broken}
    return found


@cli.group()
def report() -> None:
    """Show reports."""


@report.command("retention")
@click.option("--cohort", type=click.Choice(["day", "week", "month"]), default="week", show_default=True)
@click.option("--days", type=click.IntRange(1, 365), default=30, show_default=True, help="The last day of life.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as an HTML page to this file."
)
@_dev_json
def report_retention(
    cohort: Literal["day", "week", "month"], days: int, html: Path | None, dev_json: Path | None
) -> None:
    """Report retention: cohorts as a heat map, curves, effects of mechanics, funnels, active shoppers."""
    from growth.report.gathering import gather  # noqa: PLC0415 - only this command needs them
    from growth.report.page import page_of  # noqa: PLC0415
    from growth.report.terminal import show  # noqa: PLC0415

    settings = _settings(dev_json)
    now = clock.now()
    gathered = run(
        with_database(settings, lambda database: gather(Reports(database, settings.zone), now, cohort, days))
    )
    show(gathered, console)
    if html:
        html.write_text(page_of(gathered), encoding="utf-8")
        console.print(Text.assemble((f"Written to {html}", "green"), ", one file that fetches nothing."))


@cli.command()
@click.option("--shoppers", type=click.IntRange(1, 1_000_000), help="Also make up this many visitors, for the reports.")
@click.option(
    "--days",
    type=click.IntRange(1, 1000),
    default=365,
    show_default=True,
    help="How many days, up to yesterday, they visited on.",
)
def demo(shoppers: int | None, days: int) -> None:
    """Put the demo shop into the database that the environment names: campaigns to try, and an operator."""
    from growth.demo import put_demo_shop  # noqa: PLC0415 - only this command and `dev` need it

    settings = settings_of_environment()
    if settings.is_production:
        raise click.UsageError("The demo shop has a well-known start. Set GROWTH_ENVIRONMENT=development first.")
    shop = run(put_demo_shop(settings, shoppers, days))
    console.print(shop.told())


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="The port of the API.")
@click.option(
    "--data", type=click.Path(file_okay=False), default=".growth", show_default=True, help="Where data is kept."
)
def dev(port: int, data: str) -> None:
    """Run everything on this machine with a demo shop: Postgres, Valkey, api and worker. Ctrl-C ends all of it."""
    try:
        from growth.dev import run_dev  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error.name} is missing: install growth[embedded], or run ./scripts/dev") from error

    sys.exit(run_dev(port, data))


def _add_groups() -> None:
    from growth.load.commands import load  # noqa: PLC0415 - nothing else waits for it

    cli.add_command(load)
    cli.add_command(dead_letters)


_add_groups()
