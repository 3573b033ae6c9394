"""Findings of doctor: what is, and what to do about it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.actors.metrics.metrics import (
    AlarmMetrics,
    CommitMetrics,
    LoopMetrics,
    MailboxMetrics,
    StoreMetrics,
)
from holdfast.cli.diagnosis import (
    ServiceMetrics,
    about_dead_letters,
    about_folder,
    about_metrics,
    about_queues,
    about_runs,
    worst,
)
from holdfast.storage.folder_facts import FolderFacts
from holdfast.storage.histogram import Histogram

SOUND = FolderFacts(
    owner_pid=7,
    mode=0o700,
    file_bytes=1 << 20,
    used_bytes=1 << 19,
    map_bytes=1 << 40,
    free_bytes=1 << 39,
    disk_bytes=1 << 40,
    keys=10,
    late_alarms=0,
    oldest_due_ms=None,
    stale_readers={},
    sync_seconds=0.001,
)


def run(status: str, id_: str, message: str | None) -> dict[str, Any]:
    error = None if message is None else {"type": "ValueError", "message": message}
    return {"workflow": "Order", "id": id_, "status": status, "error": error}


def queue(**changes: Any) -> dict[str, Any]:
    plain = {"type": "Queue", "name": "q", "status": "open", "depth": 0, "front_age_seconds": None}
    return {**plain, "groups": [{"consumers": 0}], **changes}


def test_runs_are_grouped_by_cause() -> None:
    """Numbers in a cause don't part it; each cause has an example and advice."""
    found = list(
        about_runs({"stuck": [run("stuck", "a", "line 3"), run("stuck", "b", "line 4")]}, False, True)
    )
    (one,) = found
    assert one.level == "problem"
    assert one.text == "2 of Order are stuck: ValueError: line # (as Order/a)"
    assert "holdfast replay" in one.advice


def test_work_without_an_owner() -> None:
    """Runs that are at work go on when the program is started."""
    (one,) = about_runs({"running": [run("running", "a", None)]}, True, False)
    assert one.text.startswith("at least 1 runs have work to do")
    assert list(about_runs({"running": [run("running", "a", None)]}, False, True)) == []


def test_dead_letters() -> None:
    """A cause, how many, and what to do."""
    (one,) = about_dead_letters([{"kind": "alarm", "type": "Cart", "cause": "ValueError", "count": 3}])
    assert one.text == "3 dead alarms of Cart: ValueError"


@pytest.mark.parametrize(
    ("changes", "knows", "levels"),
    [
        ({}, True, []),
        ({"depth": 3}, True, ["problem"]),
        ({"depth": 3}, False, []),
        ({"depth": 3, "front_age_seconds": 4_000.0}, False, ["warning"]),
        ({"depth": 3, "groups": [{"consumers": 1}], "front_age_seconds": 4_000.0}, True, ["warning"]),
        ({"status": "draining"}, False, ["warning"]),
    ],
)
def test_queues(changes: dict[str, Any], knows: bool, levels: list[str]) -> None:
    """Nobody consumes, nobody keeps up, or it isn't open; a folder doesn't know its consumers."""
    assert [one.level for one in about_queues([queue(**changes)], knows)] == levels


@pytest.mark.parametrize(
    ("changes", "topic"),
    [
        ({"late_alarms": 2, "oldest_due_ms": 0}, "alarms"),
        ({"used_bytes": 1 << 40}, "map"),
        ({"free_bytes": 1 << 20}, "disk"),
        ({"stale_readers": {99: 1_000}}, "readers"),
    ],
)
def test_a_folder_that_is_not_well(changes: dict[str, Any], topic: str) -> None:
    """Late alarms, a full map or disk, an old reader."""
    facts = msgspec.structs.replace(SOUND, **changes)
    assert [one.topic for one in about_folder(facts, 100_000) if one.level == "problem"] == [topic]


def test_a_folder_that_is_well() -> None:
    """Only notes."""
    found = list(about_folder(SOUND, 100_000))
    assert {one.level for one in found} == {"note"}
    assert worst(found) == "nothing is wrong"


def test_a_slow_disk() -> None:
    """A warning with the time; a disk that can't be written to is a note."""
    slow = about_folder(msgspec.structs.replace(SOUND, sync_seconds=0.5), 0)
    assert [one.text for one in slow if one.level == "warning"] == [
        "the disk takes 500 ms to flush 4 KiB: so long each reply waits"
    ]
    unknown = about_folder(msgspec.structs.replace(SOUND, sync_seconds=None), 0)
    assert {one.level for one in unknown} == {"note"}


def test_metrics_of_a_service() -> None:
    """Slow commits, late alarms, stalls, refusals and little room are told from `GET /metrics/now`."""
    nothing = Histogram((1.0,), (0, 0), 0.0)
    slow = Histogram((1.0, 10.0), (0, 9, 0), 45.0)
    well = ServiceMetrics(
        CommitMetrics(0, 0, nothing, nothing, nothing, 0, 0, 0),
        AlarmMetrics(0, 0, 0, 0, nothing),
        LoopMetrics(0, nothing),
        MailboxMetrics(0, 0, 0),
        StoreMetrics(1, 1 << 40, None, 1 << 40),
    )
    assert list(about_metrics(well)) == []
    ill = ServiceMetrics(
        CommitMetrics(9, 1, slow, slow, slow, 0, 1, 0),
        AlarmMetrics(9, 0, 0, 0, slow),
        LoopMetrics(2, slow),
        MailboxMetrics(0, 0, 5),
        StoreMetrics(1, 1 << 40, None, 1 << 20),
    )
    found = list(about_metrics(ill))
    assert [(one.level, one.topic) for one in found] == [
        ("warning", "commits"), ("problem", "alarms"), ("problem", "loop"), ("problem", "commits"),
        ("problem", "commits"), ("problem", "mailboxes"), ("problem", "disk"),
    ]  # fmt: skip
    assert msgspec.convert(msgspec.to_builtins(ill), ServiceMetrics) == ill
