"""The command line, `holdfast` or `python -m holdfast`: arguments in, text out, an exit code.

What the commands do lives elsewhere; the modules are imported by the command that needs them.  `check`,
`backup`, `runs`, `history`, `debug`, `export-run`, `replay` and `dead` but for `redrive` may be used beside
the process that owns the folder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from holdfast.actors.workflow.head import RunStatus
from holdfast.actors.workflow.journal import Record
from holdfast.runtime.clock import moment
from holdfast.runtime.error_text import shorten
from holdfast.storage.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.actors.run_info import RunInfo

# Of what stands on one line of a listing.
_LINE_CHARACTERS = 200


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code of the process."""
    options = _parser().parse_args(arguments)
    command = cast("Callable[[argparse.Namespace], int]", options.command)
    try:
        return command(options)
    except HoldfastError as error:
        print(f"holdfast: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    from holdfast.examples.events_pipeline.command import add_arguments
    from holdfast.examples.templates.new_file import TEMPLATES

    parser = argparse.ArgumentParser("holdfast", description="Durable actors and workflows in one folder.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="send events through a pipeline; killed, it goes on where it was")
    add_arguments(demo)
    demo.set_defaults(command=_demo)

    new = commands.add_parser("new", help="write a program with a workflow, and its tests, to begin from")
    new.add_argument("template", choices=TEMPLATES)
    new.add_argument("--out", type=Path, metavar="FILE.py", help="where to; TEMPLATE.py by default")
    new.set_defaults(command=_new)

    check = commands.add_parser("check", help="is everything in a folder as it must be?  exit code 1 if not")
    check.add_argument("folder", type=Path)
    check.set_defaults(command=_check)

    backup = commands.add_parser("backup", help="copy a folder, also one in use, to a new folder")
    backup.add_argument("folder", type=Path)
    backup.add_argument("destination", type=Path)
    backup.set_defaults(command=_backup)

    runs = commands.add_parser("runs", help="list the runs of workflows")
    runs.add_argument("folder", type=Path)
    runs.add_argument("--status", choices=get_args(RunStatus))
    runs.set_defaults(command=_runs)

    replay = commands.add_parser(
        "replay",
        help="would the runs of a folder go on with this code?  on a copy, without effects; exit code 1 if "
        "one would diverge, 2 if one can't be told",
    )
    replay.add_argument("folder", type=Path)
    replay.add_argument(
        "target", metavar="MODULE[:WORKFLOW]",
        help="module that imports the workflows, or one workflow in it (app.orders, app.orders:Order)",
    )  # fmt: skip
    replay.add_argument(
        "--deps", metavar="MODULE:FUNCTION",
        help="function that returns the objects which run() itself uses of runtime.deps",
    )  # fmt: skip
    replay.add_argument("--ended", action="store_true", help="replay runs that have ended too")
    replay.add_argument(
        "--scratch",
        type=Path,
        help="where the copy is made for the time being; the temporary folder by default",
    )
    replay.set_defaults(command=_replay)

    history = commands.add_parser("history", help="the records of a run, one on a line")
    history.add_argument("folder", type=Path)
    history.add_argument("run", help="Workflow/id, as listed")
    history.set_defaults(command=_history)

    debug = commands.add_parser(
        "debug", help="a run as it was behind a record: state, data, variables; on a copy, without effects"
    )
    debug.add_argument("folder", type=Path)
    debug.add_argument("run", help="Workflow/id, as listed")
    debug.add_argument("target", metavar="MODULE", help="module that defines or imports the workflow")
    debug.add_argument("--at", type=int, metavar="N", help="position of the record; the last by default")
    debug.set_defaults(command=_debug)

    export = commands.add_parser(
        "export-run", help="a run as JSON, for people and for holdfast.testing.replay_exported"
    )
    export.add_argument("folder", type=Path)
    export.add_argument("run", help="Workflow/id, as listed")
    export.set_defaults(command=_export_run)

    lint = commands.add_parser(
        "lint",
        help="name what run() of workflows does outside of steps and replay would do otherwise; exit code 1 "
        "if there is something",
    )
    lint.add_argument("targets", nargs="+", metavar="MODULE_OR_PATH", help="modules, files or folders")
    lint.set_defaults(command=_lint)

    for name, what, command in (("actions", "actions", _actions), ("workflows", "workflows", _workflows)):
        listing = commands.add_parser(name, help=f"list the {what} of modules, with what is told of them")
        listing.add_argument("modules", nargs="+", metavar="MODULE", help="as in an import statement")
        listing.set_defaults(command=command)

    graph = commands.add_parser(
        "graph", help="draw the flow of a workflow, read from its source, with what lint finds"
    )
    graph.add_argument(
        "target", metavar="MODULE[:WORKFLOW]", help="module with the workflow (app.orders, app.orders:Order)"
    )
    graph.add_argument(
        "--format", choices=("mermaid", "svg", "json"),
        help="mermaid by default; with --out what the file's name says (.svg, .json)",
    )  # fmt: skip
    graph.add_argument("--out", type=Path, metavar="FILE", help="write to a file in place of the output")
    graph.set_defaults(command=_graph)

    serve = commands.add_parser("serve", help="serve a runtime over HTTP until a signal comes")
    serve.add_argument("target", metavar="FOLDER|MODULE:RUNTIME", help="a folder, or a Runtime of a module")
    serve.add_argument(
        "--import", dest="modules", action="append", default=[], metavar="MODULE",
        help="module that defines workflows; may be given several times",
    )  # fmt: skip
    serve.add_argument(
        "--set-up", metavar="MODULE:FUNCTION",
        help="function that is called with the open runtime: consumers, bindings, schedules",
    )  # fmt: skip
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8470)
    serve.add_argument(
        "--tokens", type=Path, metavar="FILE",
        help="who may ask, NAME:ROLE=SECRET (or NAME:ROLE@TENANT=SECRET) on each line, with the role viewer "
        "or operator; HOLDFAST_TOKENS by default; on loopback one is made when there is none",
    )  # fmt: skip
    serve.set_defaults(command=_serve)

    dead = commands.add_parser("dead", help="look at dead letters, and let them go on")
    dead.add_argument("folder", type=Path)
    verbs = dead.add_subparsers(required=True, metavar="list|show|redrive")
    verbs.add_parser("list", help="failed runs and dead messages").set_defaults(command=_dead_list)
    show = verbs.add_parser("show", help="a failed run: input, cause, history")
    show.add_argument("id", help="Workflow/id, as listed")
    show.set_defaults(command=_dead_show)
    redrive = verbs.add_parser(
        "redrive", help="let a failed run, or a dead message, go on; the folder must not be in use"
    )
    redrive.add_argument("id", help="Workflow/id or Queue/name/id, as listed")
    redrive.add_argument(
        "--import", dest="modules", action="append", default=[], metavar="MODULE",
        help="module that defines the workflow; runs of its workflows go on meanwhile",
    )  # fmt: skip
    redrive.set_defaults(command=_dead_redrive)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from holdfast.examples.events_pipeline.command import run_command

    return run_command(options)


def _serve(options: argparse.Namespace) -> int:
    from holdfast.actors.code_target import function_target, import_target, runtime_or_folder
    from holdfast.service.serve import run_server
    from holdfast.service.token_text import find_tokens

    sys.path.insert(0, "")
    for module in options.modules:
        import_target(module)
    run_server(
        runtime_or_folder(options.target),
        host=options.host,
        port=options.port,
        tokens=find_tokens(options.tokens, os.environ),
        set_up=None if options.set_up is None else function_target(options.set_up),
        say=lambda line: print(line, flush=True),
    )
    return 0


def _new(options: argparse.Namespace) -> int:
    from holdfast.examples.templates.new_file import new_file

    path = new_file(options.template, options.out)
    print(f"wrote {path}; run it: python {path}; test it: pytest {path}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from holdfast.storage.check import check

    problems = check(options.folder)
    for problem in problems:
        print(problem)
    print(f"{options.folder}: {len(problems) or 'no'} problems")
    return 1 if problems else 0


def _backup(options: argparse.Namespace) -> int:
    from holdfast.storage.backup import backup_now
    from holdfast.storage.environment import Environment

    environment = Environment(options.folder, read_only=True)
    try:
        print(f"copied to {backup_now(environment, options.destination)}")
    finally:
        environment.close()
    return 0


def _runs(options: argparse.Namespace) -> int:
    from holdfast.actors.folder_view import FolderView

    with FolderView(options.folder) as view:
        for run in view.runs(options.status):
            error = "" if run.error is None else f"  {shorten(_one_line(run.error), _LINE_CHARACTERS)}"
            print(f"{run.created_at:%Y-%m-%d %H:%M:%S}  {run.status:<10}  {run.workflow}/{run.id}{error}")
    return 0


def _replay(options: argparse.Namespace) -> int:
    from holdfast.actors.code_target import call_target, import_target
    from holdfast.actors.folder_replay import replay_folder
    from holdfast.actors.replay_report import exit_code, report_lines

    sys.path.insert(0, "")
    workflows = import_target(options.target)
    replayed = asyncio.run(
        replay_folder(
            options.folder,
            workflows=workflows,
            only_these=bool(workflows),
            ended=options.ended,
            deps=[] if options.deps is None else call_target(options.deps),
            scratch=options.scratch,
        )
    )
    for line in report_lines(replayed):
        print(line)
    return exit_code(replayed)


def _history(options: argparse.Namespace) -> int:
    from holdfast.actors.workflow.journal_text import record_text

    info, records = _find_run(options.folder, options.run)
    state = "" if info.state is None else f", {info.state}"
    print(f"{info.workflow}/{info.id}: {info.status}{state}, {len(records)} records")
    for position, record in records:
        text = shorten(_one_line(record_text(record)), _LINE_CHARACTERS)
        print(f"{position:6}  {moment(record.at_ms):%Y-%m-%d %H:%M:%S.%f}  {text}")
    return 0


def _debug(options: argparse.Namespace) -> int:
    from holdfast.actors.code_target import workflow_named
    from holdfast.actors.debug_report import report_lines
    from holdfast.actors.folder_replay import debug_folder

    sys.path.insert(0, "")
    name, _, id_ = options.run.partition("/")
    workflow = workflow_named(options.target, name)
    view = asyncio.run(debug_folder(options.folder, workflow, id_, options.at))
    for line in report_lines(view):
        print(line)
    return 1 if view.problem else 0


def _export_run(options: argparse.Namespace) -> int:
    from holdfast.actors.exported_run import export_run

    print(export_run(*_find_run(options.folder, options.run)), end="")
    return 0


def _find_run(folder: Path, address: str) -> tuple[RunInfo, list[tuple[int, Record]]]:
    from holdfast.actors.errors import RunNotFound
    from holdfast.actors.folder_view import FolderView

    with FolderView(folder) as view:
        found = view.run(address)
    if found is None:
        raise RunNotFound(f"there is no run {address} in {folder}; `holdfast runs {folder}` lists them")
    return found


def _actions(options: argparse.Namespace) -> int:
    from holdfast.actors.actions.registry import registered_actions
    from holdfast.actors.code_target import import_target

    sys.path.insert(0, "")
    for module in options.modules:
        import_target(module)
    for action in registered_actions():
        parameters = [
            f"{one.name}: {one.type}" + ("" if one.required else f" = {one.default!r}")
            for one in action.parameters
        ]
        print(f"{action.name}({', '.join(parameters)})")
        if action.description:
            print(f"    {action.description}")
    return 0


def _workflows(options: argparse.Namespace) -> int:
    from holdfast.actors.code_target import import_target
    from holdfast.actors.workflow.listing import list_workflows

    sys.path.insert(0, "")
    for module in options.modules:
        import_target(module)
    for workflow in list_workflows({}):
        about = [
            workflow.version and f"version {workflow.version}",
            workflow.author,
            ", ".join(workflow.tags),
        ]
        told = "; ".join(part for part in about if part)
        print(f"{workflow.name}  {workflow.title}" + (f"  ({told})" if told else ""))
        if workflow.problem or workflow.description:
            print(f"    {workflow.problem or workflow.description}")
    return 0


def _lint(options: argparse.Namespace) -> int:
    from holdfast.actors.workflow.lint import lint_targets

    sys.path.insert(0, "")
    findings = lint_targets(options.targets)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def _graph(options: argparse.Namespace) -> int:
    from holdfast.actors.code_target import workflow_target
    from holdfast.actors.workflow_graph import workflow_graph
    from holdfast.storage.errors import CallerError

    sys.path.insert(0, "")
    graph = workflow_graph(workflow_target(options.target))
    out = cast("Path | None", options.out)
    by_name = {".svg": "svg", ".json": "json"}.get("" if out is None else out.suffix, "mermaid")
    text = {"mermaid": graph.mermaid, "svg": graph.svg, "json": graph.json}[options.format or by_name]()
    if out is None:
        print(text.removesuffix("\n"))
        return 0
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CallerError(f"{out} can't be written: {error}") from error
    print(f"wrote {out}")
    return 0


def _dead_list(options: argparse.Namespace) -> int:
    from holdfast.actors.folder_dead_letters import list_dead_messages
    from holdfast.actors.folder_view import FolderView
    from holdfast.storage.errors import FolderInUse

    with FolderView(options.folder) as view:
        for letter in view.failed_runs():
            error = _one_line(letter.error)
            print(f"{letter.failed_at:%Y-%m-%d %H:%M:%S}  {letter.workflow}/{letter.id}  {error}")
    try:
        for queue, message in asyncio.run(list_dead_messages(options.folder)):
            address = _one_line(f"Queue/{queue}/{message.id}")
            print(f"{message.died_at:%Y-%m-%d %H:%M:%S}  {address}  {_one_line(message.error)}")
    except FolderInUse as error:
        print(f"dead messages of queues are not listed: {error}", file=sys.stderr)
    return 0


def _dead_show(options: argparse.Namespace) -> int:
    from holdfast.actors.folder_view import FolderView
    from holdfast.actors.workflow.journal_text import record_text

    with FolderView(options.folder) as view:
        for letter in view.failed_runs():
            if f"{letter.workflow}/{letter.id}" == options.id:
                print(f"run             {letter.workflow}/{letter.id}")
                print(f"correlation id  {_one_line(letter.correlation_id)}")
                print(f"failed at       {letter.failed_at:%Y-%m-%d %H:%M:%S %Z}")
                print(f"step            {letter.step or '-'}, attempts: {letter.attempts}")
                print(f"error           {_one_line(letter.error)}")
                print(f"input           {_one_line(letter.input)}")
                for record in letter.history:
                    print(f"    {shorten(_one_line(record_text(record)), _LINE_CHARACTERS)}")
                return 0
    print(f"holdfast: no failed run {options.id} in {options.folder}", file=sys.stderr)
    return 1


def _dead_redrive(options: argparse.Namespace) -> int:
    from holdfast.actors.code_target import import_target
    from holdfast.actors.folder_dead_letters import redrive

    sys.path.insert(0, "")
    for module in options.modules:
        import_target(module)
    print(asyncio.run(redrive(options.folder, options.id)))
    return 0


def _one_line(text: object) -> str:
    """A text of user code on one line: control characters are shown, and not sent to a terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))


if __name__ == "__main__":
    sys.exit(main())
