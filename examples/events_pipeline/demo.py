"""The demo: sends events, processes them, reports.  Killed at any moment, it goes on where it was.

source -> Intake (how far?) -> event-queue -> ProcessEvent -> store
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from holdfast import Runtime

from .events import pack
from .intake import Intake
from .logs import log_to, stop_logging
from .metrics import Figure, Metrics
from .pipeline import Pipeline, Settings
from .source import Source
from .step_watch import OracleFile, StepWatch
from .workflow import ProcessEvent

# One turn of the queue and one commit for each: 200 events of 10 KB are 2 MB.
SEND_BATCH: Final = 200
_LOOK_SECONDS: Final = 0.02
_SAMPLE_RUNS: Final = 5_000
_STORE_FILES: Final = frozenset(
    {"data.mdb", "data.mdb-lock", "data.mdb.creating", "owner.lock", "events.log"}
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo is started with."""

    folder: Path
    in_flight: int = 1_000
    oracle: Path | None = None
    log_level: str = "WARNING"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    events: int
    messages: int
    resumed_at: int
    """Messages that former starts of the demo had sent."""
    acknowledged: int
    """Messages that this start sent, each of them on disk before it was counted."""
    runs: int
    seconds: float
    p50_ms: float | None
    p99_ms: float | None
    commits: int
    disk_bytes: int
    figures: dict[str, Figure]


class View(Protocol):
    """Shows how far the demo is."""

    def show(self, sent: int, processed: int) -> None:
        """Called often; it decides what is worth drawing."""


class NotADemo(ValueError):
    """`--fresh` was asked for on a folder that holds something else."""


async def run_demo(source: Source, options: Options, view: View) -> Report:
    """Send what wasn't sent yet, wait until everything is through, and report."""
    oracle = None if options.oracle is None else OracleFile(options.oracle)
    async with Runtime(options.folder) as runtime:
        if oracle is not None:
            runtime.deps.put(oracle, as_type=StepWatch)
        handler = log_to(logging.FileHandler(options.folder / "events.log", delay=True), options.log_level)
        try:
            return await _run(runtime, source, options, view)
        finally:
            stop_logging(handler)
            if oracle is not None:
                oracle.close()


async def _run(runtime: Runtime, source: Source, options: Options, view: View) -> Report:
    intake = runtime.get(Intake, "demo")
    resumed_at = await intake.begin(source.name)
    pipeline = Pipeline(runtime, Settings(max_in_flight=options.in_flight))
    before = await pipeline.store.read_metrics()
    commits_before = runtime.store.group_commit.commits
    began_at, began = datetime.now(UTC), time.perf_counter()
    sending = asyncio.create_task(_send(intake, source, resumed_at, progress := _Progress(resumed_at)))
    try:
        metrics = await _watch(pipeline, sending, progress, view)
    finally:
        sending.cancel()
    seconds = time.perf_counter() - began
    commits = runtime.store.group_commit.commits - commits_before
    durations = _durations_ms(runtime, began_at)
    return Report(
        events=source.distinct,
        messages=source.messages,
        resumed_at=resumed_at,
        acknowledged=progress.sent - resumed_at,
        runs=metrics.processed - before.processed,
        seconds=seconds,
        p50_ms=_percentile(durations, 50),
        p99_ms=_percentile(durations, 99),
        commits=commits,
        disk_bytes=disk_bytes(options.folder),
        figures=await pipeline.figures(),
    )


class _Progress:
    """How many messages were acknowledged."""

    def __init__(self, sent: int) -> None:
        self.sent = sent


async def _send(intake: Intake, source: Source, first: int, progress: _Progress) -> None:
    bodies = source.bodies(first)
    while batch := [pack(body) for body in itertools.islice(bodies, SEND_BATCH)]:
        progress.sent = await intake.send(progress.sent, batch)


async def _watch(pipeline: Pipeline, sending: asyncio.Task[None], progress: _Progress, view: View) -> Metrics:
    """Look until everything was sent and everything is through."""
    while True:
        all_sent = sending.done()
        if all_sent:
            sending.result()
        idle = all_sent and await pipeline.is_idle()
        metrics = await pipeline.store.read_metrics()
        view.show(progress.sent, metrics.processed)
        if idle:
            return metrics
        await asyncio.sleep(_LOOK_SECONDS)


def _durations_ms(runtime: Runtime, since: datetime) -> list[float]:
    """How long the newest runs took, from their start to their last record."""
    runs = runtime.runs(ProcessEvent, status="complete", limit=_SAMPLE_RUNS, reverse=True)
    return sorted(
        (run.updated_at - run.created_at).total_seconds() * 1000 for run in runs if run.created_at >= since
    )


def _percentile(ordered: list[float], percent: int) -> float | None:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else None


def disk_bytes(folder: Path) -> int:
    """What the files of a folder take on disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.iterdir() if file.is_file())


def remove_demo(folder: Path) -> None:
    """Delete the folder of a former demo; raises `NotADemo` when other files are in it."""
    if not folder.exists():
        return
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in _STORE_FILES)
    if foreign:
        raise NotADemo(f"{folder} holds other files ({', '.join(foreign[:3])}); delete it yourself")
    shutil.rmtree(folder)
