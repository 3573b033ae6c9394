"""`holdfast top`: how it stands, again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from ..client.errors import ServiceError, ServiceRefused
from .actors import queue_name
from .diagnosis import ServiceMetrics
from .output import bytes_text, error_text, json_option, one_line, print_json, seconds_text, when
from .runs import address
from .source import Row, Source, in_source

if TYPE_CHECKING:
    from rich.console import Group

# Statuses that stand in columns of their own; the rest is told together.
_STATUSES: Final = ("queued", "running", "waiting", "retrying", "stuck", "failed", "complete")
_NEWEST: Final = 10
_MIN_INTERVAL_SECONDS: Final = 0.1


@click.command("top")
@in_source()
@click.option(
    "--interval",
    type=click.FloatRange(_MIN_INTERVAL_SECONDS),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
)
@click.option("--once", is_flag=True, help="show it once and end")
@json_option
def top(source: Source, *, interval: float, once: bool, as_json: bool) -> None:
    """Watch how it stands, until Ctrl-C.

    Workflows by status, queues, dead letters and the newest runs.

    With --json each look is one line.

    Example: holdfast top --url http://127.0.0.1:8470
    """
    if as_json:
        for look in _looks(source, interval, once):
            print_json(look, on_one_line=True)
            sys.stdout.flush()
        return
    if once or not sys.stdout.isatty():
        for look in _looks(source, interval, once):
            print("\n".join(text_lines(look)), flush=True)
        return
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        for look in _looks(source, interval, once):
            live.update(_shown(look), refresh=True)


def _looks(source: Source, interval: float, once: bool) -> Iterator[dict[str, Any]]:
    while True:
        try:
            yield look_at(source)
        except ServiceError as error:  # it is being restarted, say
            if once:
                raise
            yield {"at": _now(), "where": source.name, "problem": str(error)}
        if once:
            return
        time.sleep(interval)
        source.refresh()


def look_at(source: Source) -> dict[str, Any]:
    """How it stands now."""
    known: list[Row] = source.get("/workflows")["workflows"]
    workflows: list[Row] = [{"workflow": one["name"], "runs": one["counts"] or {}} for one in known]
    newest = source.get("/runs", {"newest": True, "limit": _NEWEST})["runs"]
    causes = source.get("/dead-letters/causes", {"limit": 100})["causes"]
    return {
        "at": _now(),
        "where": source.name,
        "metrics": None if source.folder is not None else _metrics(source),
        "workflows": workflows,
        "queues": [
            {
                "queue": queue_name(one),
                **{name: one[name] for name in ("status", "depth", "in_flight", "retrying", "dead")},
                "front_age_seconds": one["front_age_seconds"],
            }
            for one in source.rows("/queues", "queues", limit=100)
        ],
        "dead_letters": {
            kind: sum(one["count"] for one in causes if one["kind"] == kind)
            for kind in ("run", "message", "alarm")
        },
        "newest": newest,
    }


def _metrics(source: Source) -> dict[str, Any] | None:
    """What only the process itself knows; None where the token or the service doesn't tell."""
    try:
        now = msgspec.convert(source.get("/metrics/now"), ServiceMetrics)
    except (ServiceRefused, msgspec.ValidationError):
        return None
    return {
        "commits": now.commits.count,
        "commit_p95_seconds": now.commits.seconds.quantile(0.95),
        "alarms_fired": now.alarms.fired,
        "loop_stalls": now.loop.stalls,
        "used_bytes": now.store.used_bytes,
    }


def _heading(look: dict[str, Any]) -> list[str]:
    dead = ", ".join(f"{count} {kind}s" for kind, count in look["dead_letters"].items())
    lines = [f"{look['where']} at {when(look['at'])}", f"dead letters: {dead}"]
    now = look["metrics"]
    if now is not None:
        p95 = seconds_text(now["commit_p95_seconds"])
        lines.append(
            f"{now['commits']} commits, p95 {p95}; {now['alarms_fired']} alarms fired; "
            f"{now['loop_stalls']} loop stalls; {bytes_text(now['used_bytes'])} stored"
        )
    return lines


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _workflow_rows(look: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in look["workflows"]:
        counts = one["runs"]
        rest = sum(count for status, count in counts.items() if status not in _STATUSES)
        yield (one_line(one["workflow"]), *[str(counts.get(status, 0)) for status in _STATUSES], str(rest))


def _queue_rows(look: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in look["queues"]:
        yield (
            one["queue"],
            one["status"],
            str(one["depth"]),
            str(one["retrying"]),
            str(one["dead"]),
            seconds_text(one["front_age_seconds"]),
        )


def _run_rows(look: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    runs: list[Row] = look["newest"]
    for one in runs:
        yield when(one["created_at"]), one["status"], address(one), error_text(one["error"])


def text_lines(look: dict[str, Any]) -> Iterator[str]:
    """A look as lines."""
    if "problem" in look:
        yield f"{look['where']} at {when(look['at'])}"
        yield one_line(look["problem"])
        return
    yield from _heading(look)
    for title, columns, rows in _tables(look):
        yield f"{title}: {', '.join(columns)}"
        for row in rows:
            yield "  " + "  ".join(row)


def _tables(look: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...], Iterator[tuple[str, ...]]]]:
    yield "workflows", ("workflow", *_STATUSES, "other"), _workflow_rows(look)
    yield "queues", ("queue", "status", "waiting", "retrying", "dead", "next is"), _queue_rows(look)
    yield "newest runs", ("started", "status", "run", "error"), _run_rows(look)


def _shown(look: dict[str, Any]) -> Group:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if "problem" in look:
        return Group(Text(f"{look['where']} at {when(look['at'])}"), Text(one_line(look["problem"]), "red"))
    parts: list[Text | Table] = [Text("\n".join(_heading(look)))]
    for title, columns, rows in _tables(look):
        table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in table.columns:
            column.no_wrap, column.overflow = True, "ellipsis"
        for row in rows:
            table.add_row(*map(Text, row))
        parts.append(table)
    return Group(*parts)


COMMANDS = [top]
