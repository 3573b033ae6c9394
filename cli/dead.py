"""`holdfast dead`: dead letters by cause, one by one, and letting them go on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import click

from ..client.errors import NotThere
from ..client.request import path_of
from ..storage.errors import FolderInUse
from .output import error_text, json_option, one_line, print_json, print_table, short, value_text, when
from .source import Row, Source, in_source, shown_key

_KINDS = ("run", "message", "alarm")
_VERBS = ("list", "causes", "show", "redrive", "drop")


@click.command("dead")
@in_source("list|causes|show|redrive|drop", "ID", at_least=1)
@click.option("--kind", type=click.Choice(_KINDS), help="failed runs, messages or alarms; all by default")
@click.option("--cause", metavar="TEXT", help="those of one cause, as `causes` shows it")
@click.option("--reason", default="", metavar="TEXT", help="why, for the audit; needed online and to drop")
@click.option(
    "--import", "modules", multiple=True, metavar="MODULE",
    help="to redrive a run of a folder: the module that defines its workflow; its runs go on meanwhile",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), metavar="N", help="so many; all by default")
@json_option
def dead(
    source: Source,
    verb: str,
    letter: str | None = None,
    *,
    kind: str | None,
    cause: str | None,
    reason: str,
    modules: tuple[str, ...],
    limit: int | None,
    as_json: bool,
) -> int:
    """Look at dead letters, and let them go on.

    They are failed runs, and messages and alarms whose retries are spent.  An ID is as `list` shows it.
    `redrive` and `drop` write: the folder must not be in use, or its owner is
    asked with --url.

    \b
    Examples:
      holdfast dead data causes
      holdfast dead data list --kind run
      holdfast dead data show Order/o-17
      holdfast dead data redrive Order/o-17 --import app.orders
      holdfast dead --url http://127.0.0.1:8470 redrive Order/o-17 --reason "the bank is back"
    """
    if verb not in _VERBS:
        raise click.UsageError(f"expected one of {', '.join(_VERBS)}; got {verb!r}")
    kinds = _KINDS if kind is None else (kind,)
    if verb == "causes":
        _causes(source, kind, as_json)
        return 0
    if verb == "list":
        _list(source, kinds, cause, limit, as_json)
        return 0
    if letter is None:
        raise click.UsageError(f"{verb} needs an ID, as `holdfast dead ... list` shows it")
    found = _find(source, letter, kinds)
    # A run goes on at once, so it needs its class; an alarm waits until its program opens the folder.
    if verb == "redrive" and source.folder is not None and (found is None or found["kind"] != "alarm"):
        source.release()
        return _redrive_in_folder(source, letter, modules, reason, as_json)
    if found is None:
        return _not_found(source, letter)
    if verb == "show":
        _show(source.get(path_of("dead-letters", found["letter"])), as_json)
        return 0
    if not reason:
        raise click.UsageError(f"{verb} needs a --reason, for the audit")
    path = path_of("dead-letters", "control", verb, found["letter"])
    source.send(path, {"reason": reason}, reply=False)
    done = "goes on" if verb == "redrive" else "is dropped"
    if as_json:
        print_json({"id": letter_name(found), "verb": verb})
    else:
        print(f"{letter_name(found)} {done}")
    return 0


def letter_name(letter: Row) -> str:
    """A dead letter as it is named on the command line."""
    whose = f"{letter['type']}/{shown_key(letter['key'])}"
    return one_line(whose if letter["kind"] == "run" else f"{whose}/{letter['id']}")


def _letters(source: Source, kinds: tuple[str, ...], cause: str | None, limit: int | None) -> Iterator[Row]:
    left = limit
    for kind in kinds:
        if left is not None and left <= 0:
            return
        for row in source.rows("/dead-letters", "dead_letters", {"kind": kind, "cause": cause}, limit=left):
            yield row
            left = None if left is None else left - 1


def _find(source: Source, name: str, kinds: tuple[str, ...]) -> Row | None:
    for letter in _letters(source, kinds, None, None):
        if name in (letter_name(letter), letter["letter"]):
            return letter
    return None


def _not_found(source: Source, name: str) -> int:
    raise NotThere(404, f"no dead letter {name} in {source.name}; `holdfast dead ... list` lists them")


def _causes(source: Source, kind: str | None, as_json: bool) -> None:
    found = source.get("/dead-letters/causes", {"kind": kind, "limit": 1000})
    if as_json:
        print_json(found)
        return
    print_table(
        ("count", "kind", "type", "last", "cause"),
        [
            (str(one["count"]), one["kind"], one["type"], when(one["last_died_at"]), short(one["cause"]))
            for one in found["causes"]
        ],
    )


def _list(
    source: Source, kinds: tuple[str, ...], cause: str | None, limit: int | None, as_json: bool
) -> None:
    found = list(_letters(source, kinds, cause, limit))
    if as_json:
        print_json({"dead_letters": found})
        return
    print_table(
        ("died", "id", "error"),
        [(when(one["died_at"]), letter_name(one), error_text(one["error"])) for one in found],
    )


def _show(letter: Row, as_json: bool) -> None:
    if as_json:
        print_json(letter)
        return
    print(f"{letter['kind']:<14}  {letter_name(letter)}")
    print(f"failed at       {when(letter['died_at'])} UTC")
    print(f"step            {one_line(letter['step'] or '-')}, attempts: {letter['attempts']}")
    print(f"error           {error_text(letter['error'])}")
    print(f"{'input' if letter['kind'] == 'run' else 'content':<14}  {value_text(letter['content'])}")
    for record in letter["history"]:
        print(f"    {short(record['text'])}")


def _redrive_in_folder(
    source: Source, letter: str, modules: tuple[str, ...], reason: str, as_json: bool
) -> int:
    from ..actors.code_target import import_target
    from ..actors.folder_dead_letters import redrive

    assert source.folder is not None
    sys.path.insert(0, "")
    for module in modules:
        import_target(module)
    try:
        told = asyncio.run(redrive(source.folder, letter, reason=reason))
    except FolderInUse as error:
        raise FolderInUse(f"{error}, or ask its owner: --url") from error
    if as_json:
        print_json({"id": letter, "verb": "redrive", "told": told})
    else:
        print(told)
    return 0


COMMANDS = [dead]
