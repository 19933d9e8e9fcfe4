"""`growth dead-letters …`: look at events that a reader could not handle, have them tried again, or pass them over."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import rich_click as click
from rich.table import Table

from growth.command_line import console, run, settings_of_environment, with_database
from growth.plumbing.outbox import dead_letters as kept
from growth.plumbing.outbox.dead_letters import DeadLetter
from growth.plumbing.postgres.database import Database
from growth.plumbing.watch.audit import Act
from growth.vocabulary import clock
from growth.vocabulary.actors import Operator, Role

T = TypeVar("T")

MAX_LISTED = 1000
LETTER = click.IntRange(1, 2**63 - 1)
COMMAND_LINE = Operator("command-line", Role.ADMIN)
"""Who it was, in the audit."""


@click.group("dead-letters")
def dead_letters() -> None:
    """Handle dead letters: events that a reader could not handle, and set aside.

    **list** says where in the code each failed. Mend that and deploy, then **retry** them; a worker takes them up
    within seconds. **pass** gives one up for good. Events of a newer release (reason `unread`) need nobody: the
    first process that knows them takes them up.
    """


@dead_letters.command("list")
@click.option("--subscription", help="Only those of this reader.")
def list_(subscription: str | None) -> None:
    """List dead letters, oldest first."""
    found = _on_database(lambda database: kept.page(database, subscription, after=0, limit=MAX_LISTED))
    table = Table("letter", "reader", "event", "of", "reason", "error", "tries", "parked")
    for one in found:
        table.add_row(
            str(one.letter),
            one.subscription,
            one.type,
            one.subject,
            one.reason,
            one.error,
            str(one.tries),
            clock.rfc3339(one.parked_at),
        )
    console.print(table)
    console.print(_next(found))


@dead_letters.command()
@click.argument("letter", type=LETTER)
def show(letter: int) -> None:
    """Show one LETTER with what its event says, which may name persons."""
    found, data = _on_database(lambda database: kept.get(database, letter))
    for name in DeadLetter.__struct_fields__:
        console.print(f"{name} = {getattr(found, name)}")
    console.print_json(data)


@dead_letters.command()
@click.argument("letters", type=LETTER, nargs=-1)
@click.option("--all", "every", is_flag=True, help="Retry all (with --subscription: all of that reader).")
@click.option("--subscription", help="With --all: only of this reader.")
@click.option("--reason", default="", help="Why; kept in the audit.")
def retry(letters: tuple[int, ...], *, every: bool, subscription: str | None, reason: str) -> None:
    """Retry LETTERS: a worker handles them again within seconds."""
    if bool(letters) == every:
        raise click.UsageError("Name letters (`growth dead-letters list`), or say --all.")

    async def ask(database: Database) -> int:
        waiting = await kept.page(database, subscription, after=0, limit=MAX_LISTED) if every else []
        numbers = letters or [one.letter for one in waiting]
        async with database.transaction() as tx:
            for number in numbers:
                await kept.retry(tx, _act(reason), number)
        return len(numbers)

    console.print(
        f"{_on_database(ask)} asked for. A worker tries within seconds: look with `growth dead-letters list`."
    )


@dead_letters.command("pass")
@click.argument("letter", type=LETTER)
@click.option("--reason", required=True, help="Why; kept in the audit.")
def pass_(letter: int, reason: str) -> None:
    """Discard LETTER for good: its reader never hears of the event."""

    async def give_up(database: Database) -> DeadLetter:
        async with database.transaction() as tx:
            return await kept.pass_over(tx, _act(reason), letter)

    gone = _on_database(give_up)
    console.print(f"{gone.subscription} never hears of {gone.type} of {gone.subject}.")


def _on_database(work: Callable[[Database], Awaitable[T]]) -> T:
    return run(with_database(settings_of_environment(), work))


def _act(reason: str) -> Act:
    return Act(COMMAND_LINE, clock.now(), reason=reason)


def _next(found: list[DeadLetter]) -> str:
    if not found:
        return "No event waits: every reader handled all it was told."
    if all(one.reason == "unread" for one in found):
        return "They are of a newer release, and are taken up by the first worker that knows them."
    return "Next: `growth dead-letters show LETTER`; when what failed is mended, `growth dead-letters retry LETTER`."
