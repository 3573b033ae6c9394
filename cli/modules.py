"""Commands about code, and about runs beside code: lint, graph, actions, workflows, replay, debug."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from .output import json_option, print_json, progress

_modules = click.argument("modules", nargs=-1, metavar="MODULE...")
_folder = click.argument("folder", type=click.Path(path_type=Path))


@click.command("lint")
@click.argument("targets", nargs=-1, required=True, metavar="MODULE_OR_PATH...")
@json_option
def lint(targets: tuple[str, ...], as_json: bool) -> int:
    """Find what replay would do otherwise.

    Names what run() of workflows does outside of steps and replay would do in another way.

    Exit code 1 if there is something.

    Example: holdfast lint app.orders src/flows/
    """
    from ..actors.workflow.lint import lint_targets

    sys.path.insert(0, "")
    findings = lint_targets(list(targets))
    if as_json:
        print_json({"findings": findings})
    else:
        for finding in findings:
            print(finding)
    return 1 if findings else 0


@click.command("graph")
@click.argument("target", metavar="MODULE[:WORKFLOW]")
@click.option(
    "--format", "form", type=click.Choice(["mermaid", "svg", "json"]),
    help="mermaid by default; with --out what the file's name says (.svg, .json)",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="write to a file instead")
@json_option
def graph(target: str, form: str | None, out: Path | None, as_json: bool) -> None:
    """Draw the flow of a workflow.

    It is read from the source; what lint finds is shown too.

    Example: holdfast graph app.orders:Order --out order.svg
    """
    from ..actors.code_target import workflow_target
    from ..actors.workflow_graph import workflow_graph
    from ..storage.errors import CallerError

    sys.path.insert(0, "")
    drawn = workflow_graph(workflow_target(target))
    by_name = {".svg": "svg", ".json": "json"}.get("" if out is None else out.suffix, "mermaid")
    chosen = "json" if as_json else form or by_name
    text = {"mermaid": drawn.mermaid, "svg": drawn.svg, "json": drawn.json}[chosen]()
    if out is None:
        print(text.removesuffix("\n"))
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CallerError(f"{out} can't be written: {error}") from error
    print(f"wrote {out}")


@click.command("actions")
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@json_option
def actions(modules: tuple[str, ...], as_json: bool) -> None:
    """List the actions of modules.

    With their parameters and what is told of them.

    Example: holdfast actions app.payments
    """
    from ..actors.actions.registry import registered_actions
    from ..actors.code_target import import_target

    sys.path.insert(0, "")
    for module in modules:
        import_target(module)
    found = registered_actions()
    if as_json:
        print_json(
            {
                "actions": [
                    {
                        "name": one.name,
                        "description": one.description,
                        "parameters": [
                            {"name": each.name, "type": each.type, "required": each.required}
                            for each in one.parameters
                        ],
                    }
                    for one in found
                ]
            }
        )
        return
    for action in found:
        parameters = [
            f"{one.name}: {one.type}" + ("" if one.required else f" = {one.default!r}")
            for one in action.parameters
        ]
        print(f"{action.name}({', '.join(parameters)})")
        if action.description:
            print(f"    {action.description}")


@click.command("workflows")
@_modules
@json_option
def workflows(modules: tuple[str, ...], as_json: bool) -> None:
    """List the workflows of modules.

    With what is told of them; `workflows list MODULE` says the same.

    Example: holdfast workflows list app.orders app.refunds
    """
    from ..actors.code_target import import_target
    from ..actors.workflow.listing import list_workflows

    named = modules[1:] if modules[:1] == ("list",) else modules
    if not named:
        raise click.UsageError("expected the MODULE that has the workflows, as in an import statement")
    sys.path.insert(0, "")
    for module in named:
        import_target(module)
    found = list_workflows({})
    if as_json:
        print_json({"workflows": [msgspec.to_builtins(one) for one in found]})
        return
    for workflow in found:
        about = [
            workflow.version and f"version {workflow.version}",
            workflow.author,
            ", ".join(workflow.tags),
        ]
        told = "; ".join(part for part in about if part)
        print(f"{workflow.name}  {workflow.title}" + (f"  ({told})" if told else ""))
        if workflow.problem or workflow.description:
            print(f"    {workflow.problem or workflow.description}")


@click.command("replay")
@_folder
@click.argument("target", metavar="MODULE[:WORKFLOW]")
@click.option(
    "--deps", metavar="MODULE:FUNCTION",
    help="function that returns the objects which run() itself uses of runtime.deps",
)  # fmt: skip
@click.option("--ended", is_flag=True, help="replay runs that have ended too")
@click.option(
    "--scratch", type=click.Path(path_type=Path),
    help="where the copy is made for the time being; the temporary folder by default",
)  # fmt: skip
@json_option
def replay(
    folder: Path, target: str, deps: str | None, ended: bool, scratch: Path | None, as_json: bool
) -> int:
    """Would stored runs go on with this code?

    Tried on a copy, without effects.  Exit code 1 if one would diverge, 2 if one can't be told.

    Example: holdfast replay data app.orders
    """
    from ..actors.code_target import call_target, import_target
    from ..actors.folder_replay import replay_folder
    from ..actors.replay_report import exit_code, report_lines

    sys.path.insert(0, "")
    named = import_target(target)
    with progress("replaying"):
        replayed = asyncio.run(
            replay_folder(
                folder,
                workflows=named,
                only_these=bool(named),
                ended=ended,
                deps=[] if deps is None else call_target(deps),
                scratch=scratch,
            )
        )
    if as_json:
        print_json({"runs": [{**_plain(one), "divergence": None} for one in replayed]})
    else:
        for line in report_lines(replayed):
            print(line)
    return exit_code(replayed)


def _plain(one: msgspec.Struct) -> dict[str, object]:
    return msgspec.structs.asdict(one)


@click.command("debug")
@_folder
@click.argument("run", metavar="WORKFLOW/ID")
@click.argument("target", metavar="MODULE")
@click.option("--at", type=int, metavar="N", help="position of the record; the last by default")
@json_option
def debug(folder: Path, run: str, target: str, at: int | None, as_json: bool) -> int:
    """Show a run as it was behind a record.

    Its state, data and variables, found by replay on a copy, without effects.

    Example: holdfast debug data Order/o-17 app.orders --at 3
    """
    from ..actors.code_target import workflow_named
    from ..actors.debug_report import report_lines
    from ..actors.folder_replay import debug_folder

    sys.path.insert(0, "")
    name, _, id_ = run.partition("/")
    workflow = workflow_named(target, name)
    view = asyncio.run(debug_folder(folder, workflow, id_, at))
    lines = list(report_lines(view))
    if as_json:
        print_json({"run": run, "problem": view.problem, "report": lines})
    else:
        for line in lines:
            print(line)
    return 1 if view.problem else 0


COMMANDS = [actions, debug, graph, lint, replay, workflows]
