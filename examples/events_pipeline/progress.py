"""How the demo looks in a terminal: a progress bar, then a table.  Needs rich, the extra `cli`."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .demo import Report

# Drawing costs about a millisecond of the loop: ten times a second is 1 %.
_DRAW_SECONDS: Final = 0.1


class ProgressView:
    """A bar while it is entered; nothing where the output is no terminal."""

    def __init__(self, console: Console, *, events: int, messages: int) -> None:
        self._progress = Progress(
            TextColumn("processed"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[sent]} of " + str(messages) + " sent"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=events, sent=0)
        self._drawn = 0.0

    def __enter__(self) -> ProgressView:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.refresh()
        self._progress.stop()

    def show(self, sent: int, processed: int) -> None:
        """Draw, if the last drawing is old enough."""
        self._progress.update(self._task, completed=processed, sent=sent)
        now = time.monotonic()
        if now - self._drawn >= _DRAW_SECONDS:
            self._drawn = now
            self._progress.refresh()


def print_report(console: Console, report: Report) -> None:
    """The table."""
    table = Table(title="Event pipeline", show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    figures = report.figures
    again = f" ({report.resumed_at} by former starts)" if report.resumed_at else ""
    rows: list[tuple[str, object]] = [
        ("events", report.events),
        ("messages sent", f"{report.messages}{again}"),
        ("acknowledged", report.acknowledged),
        ("success", figures["metrics:events:delivered"]),
        ("failure", figures["metrics:events:failed"]),
        ("dead letters (event-dlq)", figures["metrics:dlq:count"]),
    ]
    for name, value in rows:
        table.add_row(name, str(value))
    table.add_section()
    for name, figure in figures.items():
        table.add_row(name, "-" if figure is None else str(figure))
    table.add_section()
    rate = "-" if not report.runs else f"{report.runs / report.seconds:,.0f}"
    table.add_row("runs", f"{report.runs} in {report.seconds:.2f} s")
    table.add_row("runs/s", rate)
    table.add_row("p50 of a run", _ms(report.p50_ms))
    table.add_row("p99 of a run", _ms(report.p99_ms))
    table.add_row("commits", str(report.commits))
    table.add_row("bytes on disk", f"{report.disk_bytes:,}")
    console.print(table)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
