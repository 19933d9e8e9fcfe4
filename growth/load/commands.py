"""`growth load …`: put load on a running service and see what it does. Imports what it needs only when it runs."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

EXIT_BROKEN, EXIT_CANNOT_RUN, EXIT_NOT_MEASURED = 1, 2, 3


class CannotRun(click.ClickException):
    """There is nothing to judge."""

    exit_code = EXIT_CANNOT_RUN


@click.group()
def load() -> None:
    """Put load on a running service, and judge what it does."""


SCENES = ("check-in-rush", "event-firehose", "group-buy-evening", "mixed-week")


def _names_a_service(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a running service."""
    for option in (
        click.option("--jwt-audience", default="", help="If the service asks for one."),
        click.option("--jwt-issuer", default="", help="If the service asks for one."),
        click.option("--jwt-secret", envvar="GROWTH_LOAD_JWT_SECRET", help="Signs shoppers' tokens."),
        click.option("--operator-key", envvar="GROWTH_LOAD_OPERATOR_KEY", help="A viewer's key, to read the books."),
        click.option("--base-url", help="Where the service listens; wins over dev.json, as all of these."),
        click.option(
            "--dev-json", type=click.Path(path_type=Path, exists=True), help="File or folder of a running `growth dev`."
        ),
    ):
        command = option(command)
    return command


@load.command(epilog="Exit code: 0 every law held, 1 one was broken, 2 could not run, 3 the service did not keep up.")
@click.argument("name", type=click.Choice(SCENES))
@_names_a_service
@click.option("--rate", type=click.FloatRange(min=1), default=500.0, show_default=True, help="Requests a second.")
@click.option("--seconds", type=click.FloatRange(1, 7200), default=20.0, show_default=True, help="1200 is a soak.")
@click.option("--shoppers", type=click.IntRange(1, 2_000_000), default=20_000, show_default=True)
@click.option("--connections", type=click.IntRange(1, 4096), default=128, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="The same crowd again.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures.")
def scene(*, name: str, dev_json: Path | None, json_path: Path | None, **said: Any) -> None:
    """Play another scene: a rush of check-ins, a firehose of events, an evening of group buys, a mixed week.

    From a minute on it also judges whether memory and connections stay flat: `mixed-week --seconds 1200` is a soak.
    """
    import msgspec  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from growth.load.conductor import LoadError  # noqa: PLC0415
    from growth.load.scene.mixes import MIXES  # noqa: PLC0415
    from growth.load.scene.play import encoded, play  # noqa: PLC0415
    from growth.load.service import ServiceTarget, read_dev_json  # noqa: PLC0415
    from growth.load.summary import print_scene  # noqa: PLC0415

    console = Console()
    try:
        told = read_dev_json(dev_json) if dev_json else {}
        for field in ("base_url", "operator_key", "jwt_secret", "jwt_issuer", "jwt_audience"):
            if value := said.pop(field):
                told[field] = value
        target = msgspec.convert(told, ServiceTarget)
        console.print(f"{name}: {said['rate']:,.0f} requests a second for {said['seconds']:,.0f} s …")
        report = asyncio.run(play(target, name, MIXES[name](), **said))
    except msgspec.ValidationError as error:
        raise click.UsageError(f"Name a service, by --dev-json or by single options: {error}") from error
    except LoadError as error:
        raise CannotRun(str(error)) from error
    print_scene(console, report)
    if json_path is not None:
        json_path.write_bytes(encoded(report))
    if any(law.held is False and not law.about_measuring for law in report.laws):
        sys.exit(EXIT_BROKEN)
    if any(law.held is False for law in report.laws):
        sys.exit(EXIT_NOT_MEASURED)


@load.command(epilog="Exit code: 0 every law held, 1 one was broken, 2 could not run, 3 the service did not keep up.")
@click.option(
    "--dev-json", type=click.Path(path_type=Path, exists=True), help="File or folder of a running `growth dev`."
)
@click.option("--base-url", help="Where the service listens; wins over dev.json, as all of these.")
@click.option("--operator-key", envvar="GROWTH_LOAD_OPERATOR_KEY", help="An editor's key, to make the sale.")
@click.option("--jwt-secret", envvar="GROWTH_LOAD_JWT_SECRET", help="Signs shoppers' tokens.")
@click.option("--shop-secret", envvar="GROWTH_LOAD_SHOP_SECRET", help="Signs the shop's hooks; without it nobody pays.")
@click.option("--jwt-issuer", help="If the service asks for one.")
@click.option("--jwt-audience", help="If the service asks for one.")
@click.option("--units", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="On sale.")
@click.option("--shoppers", type=click.IntRange(1, 2_000_000), default=50_000, show_default=True)
@click.option("--max-per-shopper", type=click.IntRange(1, 100), default=1, show_default=True)
@click.option("--rate", type=click.FloatRange(min=1), help="Requests a second [found by a calibration].")
@click.option("--seconds", type=click.FloatRange(5, 600), default=20.0, show_default=True, help="Opening to end.")
@click.option("--before", "before_seconds", type=click.FloatRange(1, 60), default=4.0, show_default=True)
@click.option("--connections", type=click.IntRange(1, 4096), default=128, show_default=True)
@click.option(
    "--let-go",
    type=click.Choice(["release", "lapse"]),
    default="release",
    show_default=True,
    help="What winners who do not pay do: give back, or let the hold lapse (30 s).",
)
@click.option("--pay-share", type=click.FloatRange(0, 1), default=0.6, show_default=True, help="Winners who pay.")
@click.option("--steps", is_flag=True, help="Also climb 25, 50, 75, 100 and 125 % of what the service can take.")
@click.option("--step-seconds", type=click.FloatRange(1, 60), default=5.0, show_default=True)
@click.option("--pin-service", is_flag=True, help="Keep the service's processes off the generator's core.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same crowd again.")
@click.option("--html", "html_path", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with plots.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures.")
@click.option("--no-progress", is_flag=True, help="Print the result only.")
def spike(
    *,
    dev_json: Path | None,
    html_path: Path | None,
    json_path: Path | None,
    no_progress: bool,
    **settings: Any,
) -> None:
    """Play a flash sale: crowd at the door, opening spike, sold out, units coming back, sold out again."""
    import msgspec  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from growth.load.conductor import LoadError  # noqa: PLC0415
    from growth.load.page import page  # noqa: PLC0415
    from growth.load.report import SpikeOptions  # noqa: PLC0415
    from growth.load.screen import Screen  # noqa: PLC0415
    from growth.load.service import ServiceTarget, read_dev_json  # noqa: PLC0415
    from growth.load.spike import LAPSE_HOLD_SECONDS  # noqa: PLC0415
    from growth.load.spike import spike as play  # noqa: PLC0415
    from growth.load.summary import print_report  # noqa: PLC0415

    console = Console()
    try:
        told = read_dev_json(dev_json) if dev_json else {}
        for name in ("base_url", "operator_key", "jwt_secret", "shop_secret", "jwt_issuer", "jwt_audience"):
            if value := settings.pop(name):
                told[name] = value
        if settings["let_go"] == "lapse":
            # Holds of 30 s must have time to lapse, and their units to be sold again.
            settings["seconds"] = max(settings["seconds"], LAPSE_HOLD_SECONDS + 15.0)
        target = msgspec.convert(told, ServiceTarget)
        options = msgspec.convert(settings, SpikeOptions)
        with Screen(console, live=not no_progress and console.is_terminal) as screen:
            report = asyncio.run(play(target, options, screen))
    except msgspec.ValidationError as error:
        raise click.UsageError(f"Name a service, by --dev-json or by single options: {error}") from error
    except LoadError as error:
        raise CannotRun(str(error)) from error
    print_report(console, report)
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    if html_path is not None:
        html_path.write_text(page(report), encoding="utf-8")
    if report.broken:
        sys.exit(EXIT_BROKEN)
    if not report.is_measured:
        sys.exit(EXIT_NOT_MEASURED)
