"""`holdfast dev`: run a program's runtime, see its runs step by step, and let steps fail."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Any, Final, cast

import click
import msgspec

from ..actors.system import Runtime
from ..actors.workflow.change_feed import ChangedRun
from ..actors.workflow.journal import End, Record, decode_records, journal_prefix, position_key
from ..actors.workflow.journal_text import record_text
from ..actors.workflow.step_op import StepOp
from ..runtime.address import show_key
from ..runtime.clock import moment
from ..runtime.errors import NotRunning
from ..storage import layout
from ..storage.errors import CallerError
from ..storage.keys import decode_key, encode_number
from .output import json_option, print_json, short

# Commits that are told at once.
_PAGE: Final = 100


class InjectedFault(Exception):
    """The failure of an attempt that `--fault` asked for."""


@click.command("dev")
@click.argument("target", metavar="MODULE:RUNTIME")
@click.option(
    "--set-up", metavar="MODULE:FUNCTION",
    help="function that is called with the open runtime: consumers, bindings, schedules",
)  # fmt: skip
@click.option(
    "--start", "starts", multiple=True, metavar="WORKFLOW[=JSON]", help="start a run with this input"
)
@click.option(
    "--fault", "faults", multiple=True, metavar="step:NAME:N", help="let the N-th attempt of this step fail"
)
@click.option("--runs", "most", type=click.IntRange(1), metavar="N", help="end when so many runs have ended")
@json_option
def dev(
    target: str,
    set_up: str | None,
    starts: tuple[str, ...],
    faults: tuple[str, ...],
    most: int | None,
    as_json: bool,
) -> None:
    """Run a program and see its runs live.

    Opens the Runtime of a module and prints what its runs do, as it becomes durable, until Ctrl-C.

    \b
    Examples:
      holdfast dev app:rt --set-up app:set_up
      holdfast dev app:rt --start 'Order={"id": "o-17", "cents": 1250}' --fault step:charge:1 --runs 1
    """
    from ..actors.code_target import function_target, runtime_target

    sys.path.insert(0, "")
    wanted = dict(_fault(text) for text in faults)
    runtime = runtime_target(target)
    prepare = None if set_up is None else function_target(set_up)
    runtime.engine.wrap_body = _failing(wanted) if wanted else None
    asyncio.run(_follow(runtime, prepare, starts, most, as_json))


def _fault(text: str) -> tuple[tuple[str, int], str]:
    kind, _, rest = text.partition(":")
    name, _, attempt = rest.rpartition(":")
    if kind != "step" or not name or not attempt.isdecimal() or int(attempt) < 1:
        raise click.UsageError(f"--fault is step:NAME:N with N from 1 on; got {text!r}")
    return (name, int(attempt)), text


def _failing(
    faults: dict[tuple[str, int], str],
) -> Callable[[StepOp, Callable[..., object]], Callable[..., object]]:
    """What runs in place of a step's function: it fails where that is asked for."""

    def wrap(op: StepOp, function: Callable[..., object]) -> Callable[..., object]:
        text = faults.get((op.name, op.attempts + 1))
        if text is None:
            return function

        def fail(*_: object) -> object:
            raise InjectedFault(f"asked for with --fault {text}")

        return fail

    return wrap


async def _follow(
    runtime: Runtime,
    prepare: Callable[[Runtime], Any] | None,
    starts: tuple[str, ...],
    most: int | None,
    as_json: bool,
) -> None:
    async with runtime:
        with runtime.changes.watched():
            seen = runtime.changes.floor
            if prepare is not None:
                waiting = prepare(runtime)
                if inspect.isawaitable(waiting):
                    await waiting
            for text in starts:
                await _start(runtime, text)
            ended, last = 0, ""
            if not as_json:
                print(f"{runtime.path} is open; Ctrl-C ends it", flush=True)
            while most is None or ended < most:
                try:
                    await runtime.changes.wait(seen)
                except NotRunning:  # the program closed it
                    return
                for commit, change in runtime.changes.read(seen, _PAGE):
                    seen = commit
                    for one in change.runs:
                        records = _records(runtime, one)
                        last = _tell(runtime, one, records, last, as_json)
                        ended += any(isinstance(record, End) for _, record in records)


async def _start(runtime: Runtime, text: str) -> None:
    from ..runtime.registry import find_actor_class

    name, equals, given = text.partition("=")
    workflow = find_actor_class(name)
    if workflow is None:
        raise CallerError(f"--start {name}: the module has no workflow of this name")
    try:
        value = msgspec.json.decode(given) if equals else None
    except msgspec.DecodeError as error:
        raise CallerError(f"--start {text}: the input is no JSON: {error}") from error
    await cast("Any", runtime).start(workflow, *([value] if equals else []))


def _records(runtime: Runtime, one: ChangedRun) -> list[tuple[int, Record]]:
    prefix = journal_prefix(layout.DATA + encode_number(one.number))
    rows = [(key, runtime.store.get(key)) for key in (position_key(prefix, at) for at in one.positions)]
    return decode_records([(key, stored) for key, stored in rows if stored is not None], str(one.number))


def _tell(
    runtime: Runtime, one: ChangedRun, records: list[tuple[int, Record]], last: str, as_json: bool
) -> str:
    """Print what is new of a run; its address, which is not printed again while it goes on."""
    address = f"{runtime.actor_types.name_of(one.type)}/{show_key(cast('Any', decode_key(one.key)))}"
    for position, record in records:
        at = moment(record.at_ms)
        if as_json:
            told = {"run": address, "number": position, "kind": type(record).__name__, "at": at}
            print_json({**told, "text": record_text(record)}, on_one_line=True)
        else:
            if address != last:
                print(short(address))
                last = address
            branch = "└─" if isinstance(record, End) else "├─"
            print(f"  {branch} {at:%H:%M:%S.%f}  {short(record_text(record))}")
    sys.stdout.flush()
    return last


COMMANDS = [dev]
