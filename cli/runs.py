"""Commands about runs: a listing, one run with its steps, its records, the whole of it as a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import click

from ..actors.workflow.head import RunStatus
from .output import (
    columns_of,
    error_text,
    json_option,
    one_line,
    print_json,
    print_table,
    seconds_text,
    short,
    value_text,
    when,
)
from .source import Row, Source, in_source

_BAR_CHARACTERS = 30
_SLOTS_MIN = 10


def address(run: Row) -> str:
    """A run as it is named on the command line."""
    return one_line(f"{run['workflow']}/{run['id']}")


@click.command("runs")
@in_source()
@click.option(
    "--status", multiple=True, type=click.Choice(get_args(RunStatus)), help="may be given several times"
)
@click.option("--workflow", metavar="NAME", help="runs of one workflow")
@click.option("--state", metavar="TEXT", help="their business state")
@click.option("--tenant", metavar="NAME")
@click.option("--tag", metavar="NAME:VALUE")
@click.option("--ref", metavar="TYPE:ID", help="what they are for")
@click.option("--newest", is_flag=True, help="the newest first")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="so many; all by default")
@click.option("--cursor", metavar="TEXT", help="go on where a page with --limit ended")
@json_option
def runs(
    source: Source,
    status: tuple[str, ...],
    workflow: str | None,
    state: str | None,
    tenant: str | None,
    tag: str | None,
    ref: str | None,
    newest: bool,
    limit: int | None,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List the runs of workflows.

    The oldest first.

    \b
    Examples:
      holdfast runs data --status failed --status stuck
      holdfast runs --url http://127.0.0.1:8470 --workflow Order --newest --limit 20
    """
    if ref is not None and ":" not in ref:
        raise click.UsageError(f"--ref is TYPE:ID; got {ref!r}")
    ref_type, _, ref_id = (ref or "").partition(":")
    query = {
        "status": list(status),
        "workflow": workflow,
        "state": state,
        "tenant": tenant,
        "tag": tag,
        "ref_type": ref_type or None,
        "ref_id": ref_id if ref else None,
        "newest": newest,
    }
    found: list[Row] = []
    after = cursor
    for page, following in source.pages("/runs", "runs", query, limit=limit, cursor=cursor):
        after = following
        if as_json:
            found += page
        else:
            print_table(
                ("started", "status", "run", "error"),
                [
                    (when(one["created_at"]), f"{one['status']:<10}", address(one), error_text(one["error"]))
                    for one in page
                ],
            )
    if as_json:
        print_json({"runs": found, "next": after})
    elif after is not None:
        print(f"there are more: --cursor {after}", file=sys.stderr)


@click.command("run")
@in_source("WORKFLOW/ID")
@json_option
def run(source: Source, run: str, as_json: bool) -> None:
    """Show one run.

    Its steps as bars on its line of time, input, output, errors, the next attempt.

    Example: holdfast run data Order/o-17
    """
    view = source.at("runs", run)
    if as_json:
        print_json(view)
        return
    head = view["run"]
    state = f", {head['state']}" if head["state"] else ""
    print(f"{address(head)}: {head['status']}{one_line(state)}")
    print(f"started   {when(head['created_at'])}, changed {when(head['updated_at'])}")
    print(f"input     {short(value_text(view['input']))}")
    if head["status"] == "complete":
        print(f"output    {short(value_text(view['output']))}")
    if head["error"]:
        print(f"error     {error_text(head['error'])}")
    for line in step_lines(view, _bar_width()):
        print(line)


def _bar_width() -> int:
    return max(_SLOTS_MIN, min(_BAR_CHARACTERS, columns_of(sys.stdout) - 60))


def step_lines(view: dict[str, Any], width: int) -> Iterator[str]:
    """The steps of a run, each with a bar from the end of the step before to its own end."""
    steps: list[Row] = view["steps"]
    if not steps:
        yield "no step has ended"
        return
    begin = datetime.fromisoformat(view["run"]["created_at"])
    ends = [datetime.fromisoformat(step["at"]) for step in steps]
    whole = max(*((end - begin).total_seconds() for end in ends), 1e-6)
    names = [one_line(step["name"]) + (f" #{step['nth']}" if step["nth"] > 1 else "") for step in steps]
    longest = min(max(map(len, names)), 32)
    before = 0.0
    for step, name, end in zip(steps, names, ends, strict=True):
        at = (end - begin).total_seconds()
        start = min(width - 1, int(before / whole * width))
        stop = max(start + 1, int(at / whole * width))
        bar = " " * start + "#" * (stop - start)
        tried = (
            f", attempt {step['attempts']}" if step["attempts"] > 1 or step["status"] != "complete" else ""
        )
        took = seconds_text(max(at - before, 0.0))
        yield f"  {name:<{longest}} |{bar:<{width}}| {took:>7}  {step['status']}{tried}"
        if step["error"]:
            yield f"  {'':<{longest}}   {error_text(step['error'])}"
        if step["next_attempt_at"]:
            yield f"  {'':<{longest}}   next attempt {when(step['next_attempt_at'])}"
        before = max(before, at)


@click.command("history")
@in_source("WORKFLOW/ID")
@json_option
def history(source: Source, run: str, as_json: bool) -> None:
    """Show the records of a run, one on a line.

    Example: holdfast history data Order/o-17
    """
    view, told = source.at("runs", run), source.at("history", run)
    if as_json:
        print_json({"run": view["run"], "history": told["history"]})
        return
    head, records = view["run"], told["history"]
    state = "" if head["state"] is None else f", {one_line(head['state'])}"
    print(f"{address(head)}: {head['status']}{state}, {len(records)} records")
    for record in records:
        print(f"{record['number']:6}  {when(record['at'], exact=True)}  {short(record['text'])}")


@click.command("export-run")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("run", metavar="WORKFLOW/ID")
@json_option
def export_run(folder: Path, run: str, as_json: bool) -> None:
    """Print a run as JSON.

    For people, and for holdfast.testing.replay_exported.

    Example: holdfast export-run data Order/o-17 > o-17.json
    """
    from ..actors.errors import RunNotFound
    from ..actors.exported_run import export_run as text_of
    from ..actors.folder_view import FolderView

    with FolderView(folder) as view:
        found = view.run(run)
    if found is None:
        raise RunNotFound(f"there is no run {run} in {folder}; `holdfast runs {folder}` lists them")
    print(text_of(*found), end="")


COMMANDS = [export_run, history, run, runs]
