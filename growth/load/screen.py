"""What you see while it runs."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from growth.load.formatting import milliseconds
from growth.load.messages import Progress

COLOURS: Mapping[str, str] = {
    "won": "green",
    "replay": "cyan",
    "sold_out": "white",
    "limit_reached": "yellow",
    "not_open": "blue",
    "error": "red",
    "other": "magenta",
}


class Screen:
    """A live table, or nothing at all."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True) if live else None
        self._rates: list[tuple[float, int, int]] = []

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        if self._live is not None:
            self._live.stop()

    def stage(self, text: str) -> None:
        """Say what is being done."""
        self._rates.clear()
        self._show(Text(text, style="bold"))

    def progress(self, phase: str, progress: Progress, total_seconds: float, start_at: float) -> None:
        """Show where the run is."""
        self._rates.append((progress.at, progress.offered, progress.answered))
        del self._rates[:-10]
        (then, offered, answered), span = self._rates[0], max(progress.at - self._rates[0][0], 0.001)
        table = Table.grid(padding=(0, 2))
        table.add_row("phase", Text(phase, style="bold"))
        table.add_row("time", f"{max(progress.at - start_at, 0):.1f} of {total_seconds:.0f} s")
        if then < progress.at:
            table.add_row("offered", f"{(progress.offered - offered) / span:,.0f}/s")
            table.add_row("answered", f"{(progress.answered - answered) / span:,.0f}/s")
        table.add_row("p99 so far", f"{milliseconds(progress.p99_us)} ms")
        counts = Table.grid(padding=(0, 2))
        for name, count in progress.outcomes.items():
            if count:
                counts.add_row(Text(name.replace("_", " "), style=COLOURS.get(name, "")), f"{count:,}")
        self._show(Group(table, Text(""), counts))

    def _show(self, content: RenderableType) -> None:
        if self._live is not None:
            self._live.update(content)
