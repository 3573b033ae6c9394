"""What commands print: lines and tables for people, JSON for programs.

On a terminal a table is fitted to its width; anywhere else each row is a line with all of its text, to be cut
and searched.  With `--json` a command prints one document, or a line for each where it goes on without end.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Final

import click
import msgspec

from ..runtime.error_text import shorten

LINE_CHARACTERS: Final = 200  # of what stands on one line of a listing
MAX_NAME_CHARACTERS: Final = 48

json_option = click.option("--json", "as_json", is_flag=True, help="print JSON, for programs")


def print_json(value: object, *, on_one_line: bool = False) -> None:
    """A document, or one line."""
    encoded = msgspec.json.encode(value, order="deterministic" if on_one_line else None)
    print((encoded if on_one_line else msgspec.json.format(encoded, indent=2)).decode())


def one_line(text: object) -> str:
    """A text of user code on one line: control characters are shown, and not sent to a terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))


def short(text: object) -> str:
    """A text on one line, cut."""
    return shorten(one_line(text), LINE_CHARACTERS)


def value_text(value: object) -> str:
    """A stored value on one line."""
    return one_line(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def when(text: str | None, *, exact: bool = False) -> str:
    """A time of JSON, in UTC."""
    if text is None:
        return "-"
    at = datetime.fromisoformat(text).astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M:%S.%f}" if exact else f"{at:%Y-%m-%d %H:%M:%S}"


def seconds_text(seconds: float | None) -> str:
    """A length of time as people read it."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def bytes_text(count: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def error_text(error: dict[str, Any] | None) -> str:
    """An error of JSON on one line."""
    return "" if error is None else short(f"{error['type']}: {error['message']}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows below their columns."""
    table = [list(row) for row in rows]
    if not sys.stdout.isatty():
        _print_lines(table)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in shown.columns[:-1]:
        column.no_wrap, column.overflow = True, "ellipsis"
    for row in table:
        shown.add_row(*[Text(cell, style=_STYLES.get(cell, "")) for cell in row])
    Console().print(shown)


_STYLES: Final = {
    "complete": "green", "failed": "red", "stuck": "red", "retrying": "yellow", "paused": "yellow",
    "running": "cyan",
}  # fmt: skip


def _print_lines(table: list[list[str]]) -> None:
    if not table:
        return
    widths = [min(max(len(row[at]) for row in table), MAX_NAME_CHARACTERS) for at in range(len(table[0]))]
    for row in table:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


@contextlib.contextmanager
def progress(what: str) -> Generator[Callable[[int, int | None], None]]:
    """A bar on a terminal while something long is done: a function that takes how much is done, and of how
    much.  Elsewhere it says nothing.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def columns_of(stream: IO[str]) -> int:
    """The columns of the terminal, 100 where there is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 100
