"""`holdfast demo`: from arguments to an exit code."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar, cast

from holdfast import HoldfastError

from .source import BadInput, FileEvents, MadeUpEvents, Source

T = TypeVar("T")
DEFAULT_FOLDER = Path(".holdfast-demo")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the demo."""
    add = parser.add_argument
    add("--events", type=int, default=1_000, metavar="N", help="so many made up events (1000)")
    add(
        "--input",
        type=Path,
        metavar="FILE",
        help="events from JSON lines instead: FILE.jsonl or FILE.jsonl.gz",
    )
    add(
        "--repeat",
        type=int,
        default=1,
        metavar="N",
        help="N copies of the input, each under its own event ids",
    )
    add("--duplicates", type=int, default=0, metavar="PERCENT", help="send so many of the events twice")
    add("--invalid", type=int, default=0, metavar="PERCENT", help="so many of the made up events are invalid")
    add(
        "--folder",
        type=Path,
        default=DEFAULT_FOLDER,
        metavar="DIR",
        help=f"where to store ({DEFAULT_FOLDER})",
    )
    add("--fresh", action="store_true", help="delete what a former demo left in the folder, and begin anew")
    add("--in-flight", type=int, default=1_000, metavar="N", help="runs at the same time (1000)")
    add("--loop", choices=("uvloop", "asyncio"), help="event loop (uvloop where it is installed)")
    add(
        "--log-level",
        default="WARNING",
        metavar="LEVEL",
        help="what DIR/events.log gets, as JSON lines (WARNING)",
    )
    add(
        "--oracle", type=Path, metavar="FILE",
        help="append a line `run step attempt` when a step's body begins, to prove that none runs again",
    )  # fmt: skip


def run_command(arguments: argparse.Namespace) -> int:
    """Run the demo and return its exit code; killed, and started again in the same way, it goes on."""
    try:
        from rich.console import Console

        from .progress import ProgressView, print_report
    except ModuleNotFoundError as error:
        missing = (error.name or "rich").partition(".")[0]
        print(f"holdfast demo needs {missing}; install it with: pip install 'holdfast[cli]'", file=sys.stderr)
        return 2
    # Not before: whoever imports the workflow has a runtime take its runs up.
    from .demo import NotADemo, Options, remove_demo, run_demo
    from .intake import OtherSource

    folder = cast("Path", arguments.folder)
    console = Console()
    try:
        source = _source(arguments)
        if arguments.fresh:
            remove_demo(folder)
        options = Options(
            folder=folder,
            in_flight=arguments.in_flight,
            oracle=arguments.oracle,
            log_level=arguments.log_level.upper(),
        )
        with ProgressView(console, events=source.distinct, messages=source.messages) as view:
            report = _run(run_demo(source, options, view), arguments.loop)
    except OtherSource as error:
        print(
            f"holdfast demo: {folder} is for other arguments ({error}); use --fresh or another --folder",
            file=sys.stderr,
        )
        return 2
    except (BadInput, NotADemo, HoldfastError, OSError, ValueError) as error:
        print(f"holdfast demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("holdfast demo: stopped; start it again in the same way and it goes on", file=sys.stderr)
        return 130
    print_report(console, report)
    if not report.runs and report.resumed_at == report.messages:
        console.print("All of it was done before; --fresh begins anew.")
    return 0


def _source(arguments: argparse.Namespace) -> Source:
    if arguments.input is None:
        if arguments.repeat != 1:
            raise BadInput("--repeat is for --input; choose the number of made up events by --events")
        return MadeUpEvents(
            arguments.events, duplicates_percent=arguments.duplicates, invalid_percent=arguments.invalid
        )
    return FileEvents(arguments.input, repeat=arguments.repeat, duplicates_percent=arguments.duplicates)


def _run(demo: Coroutine[object, object, T], loop: str | None) -> T:
    if loop != "asyncio":
        try:
            import uvloop
        except ModuleNotFoundError:
            if loop == "uvloop":
                demo.close()
                raise BadInput("uvloop is not installed; pip install 'holdfast[cli]' brings it") from None
        else:
            return uvloop.run(demo)
    return asyncio.run(demo)
