"""Commands about a folder as a whole: check, backup, restore, export, import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from ..storage.backup import backup_now
from ..storage.check import check as check_folder
from ..storage.environment import Environment
from ..storage.errors import CallerError, Damaged
from ..storage.export import MAX_LINE_BYTES, export_to, import_lines
from .output import json_option, print_json, progress

_path = click.Path(path_type=Path)


@click.command("check")
@click.argument("folder", type=_path)
@json_option
def check(folder: Path, as_json: bool) -> int:
    """Is everything in a folder as it must be?

    Exit code 1 if not.  Beside a busy owner the file grows while it runs: check a backup instead.

    Example: holdfast check data
    """
    with progress(f"checking {folder}"):
        problems = check_folder(folder)
    if as_json:
        found = [{"kind": one.kind, "key": one.key.hex(), "text": one.text} for one in problems]
        print_json({"folder": str(folder), "problems": found})
    else:
        for problem in problems:
            print(problem)
        print(f"{folder}: {len(problems) or 'no'} problems")
    return 1 if problems else 0


@click.command("backup")
@click.argument("folder", type=_path)
@click.argument("destination", type=_path)
@json_option
def backup(folder: Path, destination: Path, as_json: bool) -> None:
    """Copy a folder, also one in use, to a new folder.

    Example: holdfast backup data data-2030-01-01
    """
    environment = Environment(folder, read_only=True)
    try:
        with progress(f"copying {folder}"):
            made = backup_now(environment, destination)
    finally:
        environment.close()
    if as_json:
        print_json({"copied_to": str(made)})
    else:
        print(f"copied to {made}")


@click.command("restore")
@click.argument("backup", type=_path)
@click.argument("folder", type=_path)
@json_option
def restore(backup: Path, folder: Path, as_json: bool) -> None:
    """Make a new folder of a backup.

    The backup is checked, copied, and the copy is checked.  Nothing is overwritten.

    Example: holdfast restore data-2030-01-01 data
    """
    _must_be_sound(backup, "the backup")
    environment = Environment(backup, read_only=True)
    try:
        with progress(f"copying {backup}"):
            made = backup_now(environment, folder)
    finally:
        environment.close()
    _must_be_sound(made, "the copy")
    if as_json:
        print_json({"restored_to": str(made)})
    else:
        print(f"restored to {made}; it is sound")


def _must_be_sound(folder: Path, what: str) -> None:
    with progress(f"checking {folder}"):
        problems = check_folder(folder, limit=1)
    if problems:
        raise Damaged(f"{what} {folder} is not sound: {problems[0]}; `holdfast check {folder}` tells all")


@click.command("export")
@click.argument("folder", type=_path)
@click.option("--out", type=_path, metavar="FILE", help="a new file; the output by default")
@json_option
def export(folder: Path, out: Path | None, as_json: bool) -> None:
    """Write a folder as JSON lines.

    All that is in it, also beside its owner; `import` reads them.

    Example: holdfast export data --out data.jsonl
    """
    if as_json and out is None:
        raise click.UsageError("--json tells of the file that was written, so it needs --out")
    environment = Environment(folder, read_only=True)
    try:
        with progress(f"exporting {folder}") as told:
            if out is None:
                export_to(sys.stdout.buffer.write, environment, told)
                sys.stdout.buffer.flush()
                return
            try:
                with out.open("xb") as file:
                    rows = export_to(file.write, environment, told)
            except FileExistsError:
                raise CallerError(
                    f"{out} is there already, and is left as it is; choose another --out"
                ) from None
            except OSError as error:
                raise CallerError(f"{out} can't be written: {error}") from error
    finally:
        environment.close()
    if as_json:
        print_json({"file": str(out), "rows": rows})
    else:
        print(f"wrote {rows} rows to {out}")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.argument("folder", type=_path)
@json_option
def import_(file: Path, folder: Path, as_json: bool) -> None:
    """Make a new folder of an export.

    - stands for the input.  Nothing is overwritten.

    Example: holdfast import data.jsonl data-new
    """
    with progress(f"importing {file}") as told:
        if str(file) == "-":
            rows = import_lines(_lines(sys.stdin.buffer), folder, told)
        else:
            try:
                opened = file.open("rb")
            except OSError as error:
                raise CallerError(f"{file} can't be read: {error.strerror or error}") from error
            with opened:
                rows = import_lines(_lines(opened), folder, told)
    _must_be_sound(folder, "the folder that was made,")
    if as_json:
        print_json({"folder": str(folder), "rows": rows})
    else:
        print(f"made {folder} with {rows} rows; it is sound")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) == MAX_LINE_BYTES:
            raise Damaged(f"a line has more than {MAX_LINE_BYTES} bytes; it is none of an export")
        yield line


COMMANDS = [backup, check, export, import_, restore]
