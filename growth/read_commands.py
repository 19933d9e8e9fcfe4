"""Commands that show what this release is made of. Nothing needs to run for them, and nothing needs to be set."""

from typing import get_args

import rich_click as click
from rich.table import Table

from growth.command_line import console, run
from growth.plumbing.docs.event_catalogue import catalogue
from growth.plumbing.docs.parts import Part

LANGUAGES = ("en", "zh")


@click.command()
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


@click.command()
def house() -> None:
    """Print who answers each URL, who reacts to each event and what the clock wakes, as the rooms declare it."""
    from growth import tables  # noqa: PLC0415 - only this command needs all rooms

    click.echo(run(tables.page()), nl=False)


@click.command()
@click.option("--part", type=click.Choice(get_args(Part)), help="Only what this kind of caller calls.")
@click.option("--lang", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Of titles and summaries.")
def openapi(part: Part | None, lang: str) -> None:
    """Print the OpenAPI document of this release, for generators of clients. Nothing needs to run."""
    from growth import tables  # noqa: PLC0415 - only this command needs all rooms

    click.echo(run(tables.document(part, lang)))
