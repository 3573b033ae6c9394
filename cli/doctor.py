"""`holdfast doctor`: why is it slow, stuck or wrong, in sentences; and is it ready for a release."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click
import lmdb
import msgspec

from ..client.errors import NotThere, ServiceRefused
from ..storage import layout
from ..storage.check import check
from ..storage.environment import Environment
from ..storage.folder_facts import FolderFacts, folder_facts
from .diagnosis import (
    MIN_FREE_SHARE,
    SLOW_SYNC_SECONDS,
    Finding,
    ServiceMetrics,
    about_dead_letters,
    about_folder,
    about_metrics,
    about_queues,
    about_runs,
    now_ms,
    text_of,
    worst,
)
from .output import bytes_text, json_option, print_json, progress, seconds_text
from .source import Row, Source, in_source

# Runs of a status that are looked at.
MAX_RUNS: Final = 1_000
_STATUSES: Final = ("stuck", "retrying", "paused", "running", "queued")
# A larger file is checked only when it is asked for.
_CHECKED_BYTES: Final = 1 << 30


class Item(msgspec.Struct, frozen=True):
    """One line of the checklist: `is_ready` is None for what can't be told from here."""

    what: str
    is_ready: bool | None
    text: str


@click.command("doctor")
@in_source()
@click.option("--release", is_flag=True, help="a checklist for a release; exit code 1 unless all is ready")
@click.option("--check/--no-check", "checked", default=None, help="by default up to 1 GiB is checked")
@json_option
def doctor(source: Source, *, release: bool, checked: bool | None, as_json: bool) -> int:
    """Say why it is slow, stuck or wrong, and what to do.

    Looks at stuck and retrying runs by cause, dead letters, late alarms, queues, room in the store and on the
    disk, readers that make the file grow, how fast the disk flushes; on a service at its metrics too.

    \b
    Examples:
      holdfast doctor data
      holdfast doctor data --release
      holdfast doctor --url http://127.0.0.1:8470
    """
    facts = None if source.folder is None else _facts(source.folder)
    findings = list(_findings(source, facts))
    if facts is not None and source.folder is not None:
        source.release()
        findings += _checked(source.folder, facts, checked if not release else True)
    versions = _versions()
    items = list(_checklist(findings, facts)) if release else []
    if as_json:
        print_json(
            {"where": source.name, "findings": findings, "versions": versions}
            | ({"release": items} if release else {})
        )
    else:
        _print(source, findings, versions, items)
    return 1 if any(item.is_ready is False for item in items) else 0


def _print(source: Source, findings: list[Finding], versions: dict[str, str], items: list[Item]) -> None:
    print(f"{source.name}: {worst(findings)}")
    for level in ("problem", "warning", "note"):
        for one in findings:
            if one.level == level:
                print(f"{level:<8} {one.topic}: {one.text}")
                if one.advice:
                    print(f"{'':<8} -> {one.advice}")
    print(f"versions {text_of(versions)}")
    for item in items:
        print(f"[{ {True: 'x', False: ' ', None: '?'}[item.is_ready] }] {item.what}: {item.text}")


def _facts(folder: Path) -> FolderFacts:
    environment = Environment(folder, read_only=True)
    try:
        return folder_facts(environment, now_ms())
    finally:
        environment.close()


def _findings(source: Source, facts: FolderFacts | None) -> Iterator[Finding]:
    has_owner = facts is None or facts.owner_pid is not None
    runs: dict[str, list[Row]] = {}
    is_cut = False
    for status in _STATUSES:
        query = {"status": [status]}
        for page, following in source.pages("/runs", "runs", query, limit=MAX_RUNS):
            runs.setdefault(status, []).extend(page)
            is_cut = is_cut or (len(runs[status]) >= MAX_RUNS and following is not None)
    yield from about_runs(runs, is_cut, has_owner)
    yield from about_dead_letters(source.get("/dead-letters/causes", {"limit": 100})["causes"])
    yield from about_queues(list(source.rows("/queues", "queues")), facts is None)
    if facts is not None:
        yield from about_folder(facts, now_ms())
    else:
        yield from _about_service(source)


def _about_service(source: Source) -> Iterator[Finding]:
    try:
        source.get("/ready")
    except ServiceRefused as error:
        yield Finding("problem", "service", f"it is not ready: {error.detail}")
    try:
        now = msgspec.convert(source.get("/metrics/now"), ServiceMetrics)
    except (NotThere, msgspec.ValidationError):
        yield Finding("note", "metrics", "this service tells no metrics")
    except ServiceRefused as error:
        yield Finding("note", "metrics", f"its metrics are not to be had: {error.detail}")
    else:
        yield from about_metrics(now)


def _checked(folder: Path, facts: FolderFacts, wanted: bool | None) -> Iterator[Finding]:
    if wanted is False:
        return
    if wanted is None and facts.file_bytes > _CHECKED_BYTES:
        yield Finding(
            "note", "check", f"the file has {bytes_text(facts.file_bytes)} and was not checked: --check does"
        )
        return
    with progress(f"checking {folder}"):
        problems = check(folder, limit=100)
    if problems:
        yield Finding(
            "problem",
            "check",
            f"{len(problems)} things or more are not what was written: {problems[0]}",
            "`holdfast check` tells all; restore the folder from a backup",
        )
    else:
        yield Finding("note", "check", f"all {facts.keys} keys are what was written, indexes and counts too")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("holdfast", "lmdb", "msgspec"):
        try:
            found[name] = version(name)
        except ModuleNotFoundError:  # run from a checkout
            found[name] = "?"
    return {**found, "engine": ".".join(map(str, lmdb.version())), "format": str(layout.FORMAT)}


def _checklist(findings: list[Finding], facts: FolderFacts | None) -> Iterator[Item]:
    topics = {one.topic for one in findings if one.level == "problem"}

    def none_of(what: str, *those: str) -> Item:
        found = sorted(topics & set(those))
        return Item(what, not found, "none" if not found else f"see {', '.join(found)} above")

    yield none_of("no run is stuck or retrying", "stuck runs", "retrying runs")
    yield none_of("no dead letters", "dead letters")
    yield none_of("queues are consumed", "queues")
    yield none_of("alarms fire in time", "alarms")
    yield none_of("room in the store and on the disk", "map", "disk")
    if facts is None:
        yield none_of("the service is ready", "service")
        yield none_of("commits and loop are well", "commits", "loop")
        yield Item("the folder is sound", None, "ask on its host: holdfast doctor FOLDER --release")
    else:
        yield none_of("the folder is sound", "check")
        is_private = not facts.mode & 0o077
        yield Item("the folder is private", is_private, f"its rights are {facts.mode:04o}, of 0700")
        sync = facts.sync_seconds
        yield Item(
            "the disk flushes fast",
            None if sync is None else sync <= SLOW_SYNC_SECONDS,
            "not measured" if sync is None else f"{seconds_text(sync)}, of {seconds_text(SLOW_SYNC_SECONDS)}",
        )
        share = facts.free_bytes / facts.disk_bytes if facts.disk_bytes else 0.0
        yield Item("the disk has room", share > 2 * MIN_FREE_SHARE, f"{share:.0%} are free")
    is_final = sys.version_info.releaselevel == "final"
    yield Item("a released Python", is_final, platform.python_version())
    yield Item("the new code fits the runs", None, "holdfast replay FOLDER MODULE tells")
    yield Item("there is a backup that was tried", None, "holdfast backup, then holdfast restore")


COMMANDS = [doctor]
