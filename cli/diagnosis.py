"""What is wrong with a folder or a service, found from what is asked of it.  Plain data in, sentences out.

Each finding says what is, and what to do about it.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ..actors.metrics.metrics import AlarmMetrics, CommitMetrics, LoopMetrics, MailboxMetrics, StoreMetrics
from ..storage.folder_facts import FolderFacts
from .output import bytes_text, seconds_text, short
from .source import Row

Level: TypeAlias = Literal["problem", "warning", "note"]

SLOW_SYNC_SECONDS: Final = 0.02
OLD_MESSAGE_SECONDS: Final = 300.0
FULL_SHARE: Final = 0.9
MIN_FREE_SHARE: Final = 0.05
# Where the size of the disk isn't known.
_MIN_FREE_BYTES: Final = 1 << 30
STALE_COMMITS: Final = 100
LATE_P95_SECONDS: Final = 1.0
_NUMBER: Final = re.compile(r"\d+")


class ServiceMetrics(msgspec.Struct, frozen=True):
    """What is looked at of `GET /metrics/now`."""

    commits: CommitMetrics
    alarms: AlarmMetrics
    loop: LoopMetrics
    mailboxes: MailboxMetrics
    store: StoreMetrics


class Finding(msgspec.Struct, frozen=True):
    """One thing that a person should know."""

    level: Level
    topic: str
    text: str
    advice: str = ""


def about_runs(runs: dict[str, list[Row]], is_cut: bool, has_owner: bool) -> Iterator[Finding]:
    """`runs` are those that don't go on as they should, by status."""
    more = "at least " if is_cut else ""
    for status, advice in (
        (
            "stuck",
            "the code no longer fits what is recorded: `holdfast replay FOLDER MODULE` shows where, and they "
            "go on when the folder is opened with code that fits",
        ),
        (
            "retrying",
            "a step fails again and again: `holdfast run` shows its error and the next attempt; mend what it "
            "calls, or the control verb retry_now tries at once",
        ),
        ("paused", "somebody paused them: the control verb resume lets them go on"),
    ):
        for (workflow, cause), count, example in _by_cause(runs.get(status, [])):
            told = f": {cause}" if cause else ""
            yield Finding(
                "warning" if status == "paused" else "problem",
                f"{status} runs",
                f"{more}{count} of {workflow} {'is' if count == 1 else 'are'} {status}{told} (as {example})",
                advice,
            )
    at_work = len(runs.get("running", [])) + len(runs.get("queued", []))
    if at_work and not has_owner:
        yield Finding(
            "warning",
            "unowned runs",
            f"{more}{at_work} runs have work to do, and no process has the folder open",
            "start the program: they go on when it opens the folder",
        )


def _by_cause(runs: list[Row]) -> list[tuple[tuple[str, str], int, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for run in runs:
        error = run["error"]
        cause = "" if error is None else _NUMBER.sub("#", short(f"{error['type']}: {error['message']}"))
        counts[run["workflow"], cause] += 1
        examples.setdefault((run["workflow"], cause), f"{run['workflow']}/{run['id']}")
    return [(key, count, examples[key]) for key, count in counts.most_common(10)]


def about_dead_letters(causes: list[Row]) -> Iterator[Finding]:
    """Causes as `GET /dead-letters/causes` tells them."""
    for one in causes[:10]:
        what = {"run": "failed runs", "message": "dead messages", "alarm": "dead alarms"}[one["kind"]]
        yield Finding(
            "problem",
            "dead letters",
            f"{one['count']} {what} of {one['type']}: {short(one['cause'])}",
            "`holdfast dead ... list` names them, `show` tells how it came; when the cause is mended "
            "`redrive` lets them go on",
        )


def about_queues(queues: list[Row], knows_consumers: bool) -> Iterator[Finding]:
    """Queues as `GET /queues` tells them."""
    for queue in queues:
        name, age = f"{queue['type']}/{queue['name']}", queue["front_age_seconds"]
        consumers = sum(group["consumers"] for group in queue["groups"])
        if queue["depth"] and knows_consumers and not consumers:
            yield Finding(
                "problem",
                "queues",
                f"{queue['depth']} messages wait in {name}, which nobody consumes",
                "call rt.consume or rt.bind for it in the process that owns the folder",
            )
        elif queue["depth"] and age is not None and age > OLD_MESSAGE_SECONDS:
            yield Finding(
                "warning",
                "queues",
                f"the next message of {name} is {seconds_text(age)} old, and {queue['depth']} wait",
                "its consumers don't keep up, or there are none: see their log, or raise their concurrency",
            )
        if queue["status"] != "open":
            yield Finding(
                "warning", "queues", f"{name} is {queue['status']}", "`holdfast queue ... resume` opens it"
            )


def about_folder(facts: FolderFacts, now_ms: int) -> Iterator[Finding]:
    """What the folder and its disk tell."""
    if facts.owner_pid is None:
        yield Finding("note", "owner", "no process has the folder open")
    else:
        yield Finding("note", "owner", f"process {facts.owner_pid} has the folder open")
    if facts.late_alarms and facts.oldest_due_ms is not None:
        late = seconds_text((now_ms - facts.oldest_due_ms) / 1000)
        yield Finding(
            "warning" if facts.owner_pid is None else "problem",
            "alarms",
            f"{facts.late_alarms} alarms are late, the first by {late}",
            "start the program: they fire when it opens the folder"
            if facts.owner_pid is None
            else "the owner's loop is blocked, or a class isn't imported there: its log tells",
        )
    yield from _about_room(facts.used_bytes, facts.map_bytes, facts.free_bytes, facts.disk_bytes)
    for pid, behind in facts.stale_readers.items():
        if behind >= STALE_COMMITS:
            yield Finding(
                "problem",
                "readers",
                f"process {pid} keeps a snapshot that is {behind} commits old, so the file grows",
                "end that process, or the backup or check that it makes",
            )
    if facts.sync_seconds is None:
        yield Finding("note", "disk", "nothing can be written there, so its flush can't be timed")
    elif facts.sync_seconds > SLOW_SYNC_SECONDS:
        yield Finding(
            "warning",
            "disk",
            f"the disk takes {seconds_text(facts.sync_seconds)} to flush 4 KiB: so long each reply waits",
            "many calls at the same time share one flush; for short waits of single ones take a faster disk",
        )
    else:
        yield Finding("note", "disk", f"the disk takes {seconds_text(facts.sync_seconds)} to flush 4 KiB")


def _about_room(used: float, map_bytes: float, free: float, disk: float | None) -> Iterator[Finding]:
    if used > FULL_SHARE * map_bytes:
        yield Finding(
            "problem",
            "map",
            f"the store has {bytes_text(used)} of the {bytes_text(map_bytes)} that it can grow to",
            "erase what is no longer needed (retention of runs), or share the keys over several folders",
        )
    if free < (_MIN_FREE_BYTES if disk is None else MIN_FREE_SHARE * disk):
        yield Finding(
            "problem",
            "disk",
            f"{bytes_text(free)} of the disk are free; below 64 MiB writes that grow the store are refused",
            "make room, or move the folder: `holdfast backup` makes a compacted copy",
        )


def about_metrics(now: ServiceMetrics) -> Iterator[Finding]:
    """What the metrics of a service tell."""
    commits, alarms = now.commits, now.alarms
    p95 = commits.seconds.quantile(0.95)
    if p95 is not None:
        level: Level = "warning" if p95 > SLOW_SYNC_SECONDS else "note"
        yield Finding(level, "commits", f"the p95 of {commits.count} commits is {seconds_text(p95)}")
    late = alarms.lateness_seconds.quantile(0.95)
    if late is not None and late > LATE_P95_SECONDS:
        yield Finding(
            "problem",
            "alarms",
            f"one alarm in 20 fires more than {seconds_text(late)} late",
            "the loop is blocked, or the disk is behind; or it was closed when they were due",
        )
    for count, topic, told, advice in (
        (
            now.loop.stalls, "loop", "times the event loop was blocked",
            "its log names the line: what blocks belongs into a thread",
        ),
        (commits.failed, "commits", "commits failed", "the log says why; most often the disk is full"),
        (
            commits.refused, "commits", "write sets were refused: too much waited for the disk",
            "send less at the same time, or take a faster disk",
        ),
        (
            now.mailboxes.refused, "mailboxes", "calls found a mailbox full",
            "one key gets more than it can do: spread it over several, or call it less",
        ),
    ):  # fmt: skip
        if count:
            yield Finding("problem", topic, f"{count} {told}, since it was opened", advice)
    yield from _about_room(now.store.used_bytes, now.store.map_bytes, now.store.free_bytes, None)


def worst(findings: list[Finding]) -> str:
    """How it stands, in a few words."""
    problems = sum(one.level == "problem" for one in findings)
    warnings = sum(one.level == "warning" for one in findings)
    if not problems and not warnings:
        return "nothing is wrong"
    return f"{problems} problems, {warnings} warnings"


def now_ms() -> int:
    """The time, in milliseconds since 1970."""
    return round(time.time() * 1000)


def text_of(found: dict[str, Any]) -> str:
    """A dictionary on one line."""
    return ", ".join(f"{name} {value}" for name, value in found.items())
