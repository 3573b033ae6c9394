"""The child's half of the protocol between the bench and a peer.

A task is JSON on the command line: ``{"workload": ..., "arguments": [...], "folder": ..., "variant": ...}``.
The answer is the last line of standard output, after ``MARK``: ``{"units", "seconds", "latencies",
"counts"}``, or for ``check`` ``{"versions": {...}, "answers": [workloads]}``, or ``{"unavailable": "why"}``
where the peer cannot run here.

``block`` and ``resume`` are the two processes of ``bench.recovery`` and talk as that says.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..workload import Sample

MARK = "bench-result "

Item = TypeVar("Item")


class Unavailable(Exception):
    """The peer cannot run here; the text is a sentence that says what is missing."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the parent asks for."""

    workload: str
    arguments: list[int]
    folder: Path
    variant: str


Workload = Callable[[Task], Sample]


def serve(
    workloads: Mapping[str, Workload],
    check: Callable[[Task], dict[str, str]],
    resume: Callable[[Task], list[float]] | None = None,
    block: Callable[[Task], None] | None = None,
) -> None:
    """Do the one task of the command line."""
    given = json.loads(sys.argv[1])
    task = Task(given["workload"], given["arguments"], Path(given["folder"]), given["variant"])
    if task.workload == "block" and block is not None:
        block(task)
        return
    if task.workload == "resume" and resume is not None:
        print(json.dumps(resume(task)), flush=True)
        return
    try:
        if task.workload == "check":
            answers = [*workloads, *(["recovery"] if block is not None else [])]
            found: dict[str, object] = {"versions": check(task), "answers": answers}
        else:
            sample = workloads[task.workload](task)
            found = {
                "units": sample.units,
                "seconds": sample.seconds,
                "latencies": list(sample.latencies),
                "counts": sample.counts,
            }
    except Unavailable as why:
        found = {"unavailable": str(why)}
    print(f"\n{MARK}{json.dumps(found)}", flush=True)


def drive_threads(
    items: Iterable[Item], in_flight: int, act: Callable[[Item], object], units_per_item: int = 1
) -> Sample:
    """``workload.drive`` for a system without asyncio: ``in_flight`` threads, an item at a time each."""
    source = iter(list(items))
    taking = threading.Lock()
    latencies: list[float] = []
    failures: list[BaseException] = []
    clock = time.perf_counter

    def work() -> None:
        while not failures:
            with taking:
                item = next(source, None)
            if item is None:
                return
            began = clock()
            try:
                act(item)
            except BaseException as error:
                failures.append(error)
                return
            latencies.append(clock() - began)

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    began = clock()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = clock() - began
    if failures:
        raise failures[0]
    return Sample(len(latencies) * units_per_item, seconds, sorted(latencies))
