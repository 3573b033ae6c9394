"""Scale: what a saturated loop, a hundred thousand sleeping runs, more actors than fit in memory, actors that
always fail, large values, and a hundred thousand schedules cost.

There is no floor for these; each figure stands beside its target.  Memory is measured in processes of their
own (``scale_child``), since a heap that other scenarios used tells nothing.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast import Counter, Runtime

from .http_requests import measure_http
from .hub import measure_hub
from .lines import Line
from .machine import probe_sync_ms
from .workflow_scale import measure_events, measure_fan_out, measure_history

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(slots=True)
class Scale:
    """What the scale scenarios are measured with."""

    place: Path
    quick: bool
    loop: str
    factory: LoopFactory
    # Runs that sleep, actors that are touched; None for what the scenarios take by themselves.
    many: int | None = None
    lines: list[Line] = field(default_factory=list)

    def measure(self, scenario: str) -> None:
        """Add the lines of a scenario."""
        {
            "saturated": saturated,
            "sleepers": sleepers,
            "actors": actors,
            "poison": poison,
            "large-values": large_values,
            "simulation": simulation,
            "events": measure_events,
            "fan-out": measure_fan_out,
            "history": measure_history,
            "schedules": schedules,
            "hub": measure_hub,
            "http": measure_http,
        }[scenario](self)

    def fresh_folder(self) -> Path:
        """An empty folder on the disk that is measured."""
        return Path(tempfile.mkdtemp(dir=self.place))


# ------------------------------------------------------------------------------------------------------------
# A loop saturated by tasks that never wait.

# Length of the turn of one task, and how many tasks there are: the loop comes round once in their product.
# 20 us by one task is the hardest: the loop lets go of the interpreter between any two turns, too shortly for
# a thread to wake, but long enough to begin its wait for the interpreter anew.
ROUNDS = ((20e-6, 1), (200e-6, 8), (1.3e-3, 64), (10e-3, 64))
SETTLE_SECONDS = 0.1
PROBE_EVERY_SECONDS = 0.001
# What a commit may take at most: twice the longest round, and its own two flushes.  The callers' own turns
# are part of a round, so with many of them it may be twice the round as it was.
COMMIT_P99_MS = 20.0
LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What ran in a while."""

    calls_per_second: float
    call_ms: tuple[float, float]  # p50 and p99
    commit_ms: tuple[float, float]
    rounds_per_second: float


def saturated(scale: Scale) -> None:
    """Durable calls beside tasks that are always ready to run, with 10 and 1000 callers."""
    seconds = 0.5 if scale.quick else 3.0
    flushes_ms = 2 * statistics.median(probe_sync_ms(scale.place))
    for callers in (10, 1000):

        def run(round_seconds: float, tasks: int, callers: int = callers, **options: Any) -> Load:
            folder = scale.fresh_folder()
            try:
                with asyncio.Runner(loop_factory=scale.factory) as runner:
                    return runner.run(load(folder, callers, round_seconds, tasks, seconds, options))
            finally:
                shutil.rmtree(folder)

        run(0.0, 0)  # once through, for the caches
        before = run(0.0, 0)
        loads = [(f"rounds of {_short(turn)}", turn, run(turn, tasks)) for turn, tasks in ROUNDS]
        turn, tasks = ROUNDS[2]
        plain = run(turn, tasks, switch_interval_seconds=None)
        after = run(0.0, 0)
        idle = (before.calls_per_second + after.calls_per_second) / 2
        for name, one in (("idle loop", before), ("idle loop, again", after)):
            scale.lines.append(Line("saturated", f"{callers} callers, {name}", _figures(one, None, None)))
        for name, turn, one in loads:
            # The loop comes round once a turn.  A call that takes so long beside an idle loop can't be had
            # sooner than that and one round more.
            left = callers / (callers / idle + turn)
            share = one.calls_per_second / left
            allowed_ms = max(COMMIT_P99_MS, 2_000 / max(one.rounds_per_second, 1)) + flushes_ms
            scale.lines.append(
                Line(
                    "saturated",
                    f"{callers} callers, {name}",
                    _figures(one, one.calls_per_second / idle, share),
                    f"commit p99 <= {allowed_ms:.1f} ms, {LEAST_SHARE:.0%} of what is left",
                    one.commit_ms[1] <= allowed_ms and share >= LEAST_SHARE,
                )
            )
        scale.lines.append(
            Line(
                "saturated",
                f"{callers} callers, rounds of {_short(ROUNDS[2][0])}, switch_interval_seconds=None",
                _figures(
                    plain,
                    plain.calls_per_second / idle,
                    plain.calls_per_second / (callers / (callers / idle + ROUNDS[2][0])),
                ),
            )
        )


def _short(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:g} ms"


def _figures(one: Load, of_idle: float | None, of_left: float | None) -> dict[str, float]:
    figures = {
        "calls/s": one.calls_per_second,
        "call p50 ms": one.call_ms[0],
        "call p99 ms": one.call_ms[1],
        "commit p50 ms": one.commit_ms[0],
        "commit p99 ms": one.commit_ms[1],
        "rounds/s": one.rounds_per_second,
    }
    if of_idle is not None:
        figures["of idle"] = of_idle
    if of_left is not None:
        figures["of left"] = of_left
    return figures


async def load(
    folder: Path, callers: int, round_seconds: float, tasks: int, seconds: float, options: dict[str, Any]
) -> Load:
    """``callers`` that increment a counter each, again and again, beside ``tasks`` that never wait.

    A commit is timed by a write set of our own, staged about every millisecond: from there until the loop
    hears that it is durable.
    """
    clock = time.perf_counter
    loop = asyncio.get_running_loop()
    calls: list[tuple[float, float]] = []  # when it ended, how long it took
    commits: list[float] = []
    rounds = 0
    over = False
    async with Runtime(folder, **options) as rt:

        def probe() -> None:
            if over:
                return
            began = clock()
            number = rt.store.stage({PROBE_KEY: b"probe"})

            def durable(error: Exception | None) -> None:
                commits.append(clock() - began)
                loop.call_later(PROBE_EVERY_SECONDS, probe)

            rt.store.on_durable(number, durable)

        async def saturate(counts: bool) -> None:
            nonlocal rounds
            turn = round_seconds / tasks
            while not over:
                until = clock() + turn
                while clock() < until:
                    pass
                rounds += counts
                await asyncio.sleep(0)

        async def call(counter: Counter) -> None:
            while not over:
                began = clock()
                await counter.increment()
                ended = clock()
                calls.append((ended, ended - began))

        counters = [rt.get(Counter, f"counter-{n:06d}") for n in range(callers)]
        await asyncio.gather(*[counter.increment() for counter in counters])
        async with asyncio.TaskGroup() as group:
            for n in range(tasks):
                group.create_task(saturate(n == 0))
            for counter in counters:
                group.create_task(call(counter))
            await asyncio.sleep(SETTLE_SECONDS)
            probe()
            rounds_before, began = rounds, clock()
            await asyncio.sleep(seconds)
            over = True
            rounds_done, ended = rounds - rounds_before, clock()
        # Those under way at the end count too, or a loop where nothing comes back would show no latency.
        took = [one for at, one in calls if at > began]
        done = sum(began < at <= ended for at, _ in calls)
    return Load(
        done / (ended - began), _percentiles(took), _percentiles(commits), rounds_done / (ended - began)
    )


# Outside every prefix that the library uses.
PROBE_KEY = b"\xff-bench-probe"


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    ordered = sorted(seconds) or [float("nan")]
    at = (len(ordered) // 2, min(len(ordered) - 1, int(len(ordered) * 0.99)))
    return ordered[at[0]] * 1000, ordered[at[1]] * 1000


# ------------------------------------------------------------------------------------------------------------
# Runs that sleep, actors that come and go: measured in fresh processes.

RUN_BYTES = 300
FIRST_TURN_SECONDS = 2.0
# Memory at the end over that at the first quarter: the heap is as fragmented there as it will get.
FLAT = 1.25


def in_child(loop: str, **task: Any) -> dict[str, Any]:
    """What a fresh process measures of a task: ``scale_child`` knows them."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.scale_child", json.dumps({**task, "loop": loop})],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def sleepers(scale: Scale) -> None:
    """Runs that sleep for a day: starting them, their memory and disk, and the folder opened again."""
    runs = scale.many or (2_000 if scale.quick else 100_000)
    for how in ("start_many", "start"):
        folder = scale.fresh_folder()
        try:
            started = in_child(scale.loop, what="start_sleepers", folder=str(folder), runs=runs, how=how)
            memory = (started["bytes_after"] - started["bytes_before"]) / runs
            ways = "start_many, 1000 at a time" if how == "start_many" else "1000 concurrent start"
            scale.lines.append(
                Line(
                    "sleepers",
                    f"{runs} runs by {ways}",
                    {
                        "starts/s": runs / started["start_seconds"],
                        "asleep/s": runs / started["asleep_seconds"],
                        "RAM B/run": memory,
                        "2nd half B/run": (started["bytes_after"] - started["bytes_half"]) / (runs / 2),
                        "disk B/run": started["disk_bytes"] / runs,
                        "MiB": started["bytes_after"] / 2**20,
                    },
                    # A short run is all warm-up: the heap grows to what a thousand starts at once need.
                    "" if scale.quick else f"RAM < {RUN_BYTES} B/run",
                    None if scale.quick else memory < RUN_BYTES,
                )
            )
            opened = in_child(scale.loop, what="open_sleepers", folder=str(folder))
        finally:
            shutil.rmtree(folder)
        scale.lines.append(
            Line(
                "sleepers",
                f"{runs} runs, folder opened in a fresh process",
                {
                    "start to turn ms": opened["since_start_seconds"] * 1000,
                    "open to turn ms": opened["since_open_seconds"] * 1000,
                    "MiB": opened["bytes"] / 2**20,
                },
                f"start to first turn < {FIRST_TURN_SECONDS:g} s",
                opened["since_start_seconds"] < FIRST_TURN_SECONDS,
            )
        )


def actors(scale: Scale) -> None:
    """Distinct actors touched once each, ten thousand of them in memory."""
    count = scale.many or (20_000 if scale.quick else 200_000)
    max_active = 1_000 if scale.quick else 10_000
    folder = scale.fresh_folder()
    try:
        found = in_child(
            scale.loop, what="touch_actors", folder=str(folder), actors=count, max_active=max_active
        )
    finally:
        shutil.rmtree(folder)
    first = found["steps"][0]["bytes"]
    for step in found["steps"]:
        scale.lines.append(
            Line(
                "actors",
                f"{step['touched']} touched, at most {max_active} in memory",
                {
                    "touches/s": step["touched"] / step["seconds"],
                    "in memory": step["active"],
                    "MiB": step["bytes"] / 2**20,
                    "of first": step["bytes"] / first,
                },
                f"memory <= {FLAT:g} of the first quarter's",
                step["bytes"] <= FLAT * first,
            )
        )


# ------------------------------------------------------------------------------------------------------------
# What others notice of actors that always fail and of large values, see ``neighbours``.

# Neighbours' p99 over that without the load, and the share of a processor that one poison actor may take.
POISON_P99_RATIO = 1.5
POISON_SHARE = 0.01
# Ten lines and their number in ten seconds, and as many for the first while that isn't over.
POISON_LINES_PER_SECOND = 2.2
LARGE_P99_RATIO = 5.0
LARGE_MEMORY_RATIO = 1.10


def poison(scale: Scale) -> None:
    """Actors whose constructor, handler, recursion or result fails always, in calls and alarms."""
    count, seconds = (20, 0.5) if scale.quick else (20, 5.0)
    folder = scale.fresh_folder()
    try:
        found = in_child(scale.loop, what="poison", folder=str(folder), actors=count, seconds=seconds)
    finally:
        shutil.rmtree(folder)
    for kind in found["kinds"]:
        ratio = kind["call_p99_ms"] / kind["quiet_call_p99_ms"]
        scale.lines.append(
            Line(
                "poison",
                f"{count} actors, {kind['name']}",
                {
                    "call p99 ms": kind["call_p99_ms"],
                    "without": kind["quiet_call_p99_ms"],
                    "ratio": ratio,
                    "CPU % each": kind["processor_share_each"] * 100,
                    "stall ms": kind["stall_ms"],
                },
                f"neighbours' p99 <= {POISON_P99_RATIO:g} x, CPU < {POISON_SHARE:.0%} each",
                ratio <= POISON_P99_RATIO and kind["processor_share_each"] < POISON_SHARE,
            )
        )
    lines = found["log_lines"] / found["log_seconds"]
    scale.lines.append(
        Line(
            "poison",
            f"log of {found['alarms']} alarms that fail",
            {"lines/s": lines},
            f"at most {POISON_LINES_PER_SECOND:.1f} lines a second",
            lines <= POISON_LINES_PER_SECOND,
        )
    )


def large_values(scale: Scale) -> None:
    """Values of 1 MiB, one after the other and at once, and 64 MiB; others' commits, and memory behind it."""
    values, seconds = (50, 0.5) if scale.quick else (1_000, 3.0)
    folder = scale.fresh_folder()
    try:
        found = in_child(scale.loop, what="large_values", folder=str(folder), values=values, seconds=seconds)
    finally:
        shutil.rmtree(folder)
    for load in found["loads"]:
        ratio = load["commit_p99_ms"] / load["quiet_commit_p99_ms"]
        scale.lines.append(
            Line(
                "large-values",
                load["name"],
                {
                    "commit p99 ms": load["commit_p99_ms"],
                    "without": load["quiet_commit_p99_ms"],
                    "ratio": ratio,
                    "call ratio": load["call_p99_ms"] / load["quiet_call_p99_ms"],
                    "stall ms": load["stall_ms"],
                },
                f"others' commit p99 <= {LARGE_P99_RATIO:g} x",
                ratio <= LARGE_P99_RATIO,
            )
        )
    ratio = found["bytes_after"] / found["bytes_before"]
    scale.lines.append(
        Line(
            "large-values",
            "memory after it all",
            {"MiB": found["bytes_after"] / 2**20, "of before": ratio},
            f"memory <= {LARGE_MEMORY_RATIO:g} of before",
            ratio <= LARGE_MEMORY_RATIO,
        )
    )


# ------------------------------------------------------------------------------------------------------------
# Simulated stories.


def simulation(scale: Scale) -> None:
    """Stories of a workflow of five steps a second, calm, and crashed at each place in turn."""
    from .stories import TARGET_PER_SECOND, play_stories

    for crashed in (False, True):
        found = play_stories(1.0 if scale.quick else 4.0, crashed)
        scale.lines.append(
            Line(
                "simulation",
                "crashed and recovered" if crashed else "calm",
                {"stories/s": found.per_second, "ms": found.ms, "lives": found.lives},
                f"at least {TARGET_PER_SECOND} crashed stories a second" if crashed else "",
                found.per_second >= TARGET_PER_SECOND if crashed else None,
            )
        )


# ------------------------------------------------------------------------------------------------------------
# Schedules.

SCHEDULE_BYTES = 100
LATE_P99_MS = 1_000.0


def schedules(scale: Scale) -> None:
    """Named schedules: setting them up, their memory and disk, opening the folder, how late runs begin."""
    count = 2_000 if scale.quick else 100_000
    folder = scale.fresh_folder()
    try:
        made = in_child(scale.loop, what="set_up_schedules", folder=str(folder), schedules=count)
        opened = in_child(scale.loop, what="open_schedules", folder=str(folder))
    finally:
        shutil.rmtree(folder)
    memory = (made["bytes_after"] - made["bytes_before"]) / count
    scale.lines.append(
        Line(
            "schedules",
            f"{count} schedules by 1000 concurrent callers",
            {
                "set-ups/s": count / made["seconds"],
                "again/s": count / made["again_seconds"],
                "RAM B each": memory,
                "2nd half B each": (made["bytes_after"] - made["bytes_half"]) / (count / 2),
                "disk B each": made["disk_bytes"] / count,
                "list 100 ms": made["list_seconds"] * 1000,
            },
            # A short run is all warm-up.
            "" if scale.quick else f"RAM < {SCHEDULE_BYTES} B each",
            None if scale.quick else memory < SCHEDULE_BYTES,
        )
    )
    scale.lines.append(
        Line(
            "schedules",
            f"{count} schedules, folder opened in a fresh process",
            {
                "start to turn ms": opened["since_start_seconds"] * 1000,
                "open to turn ms": opened["since_open_seconds"] * 1000,
                "MiB": opened["bytes"] / 2**20,
            },
            f"start to first turn < {FIRST_TURN_SECONDS:g} s",
            opened["since_start_seconds"] < FIRST_TURN_SECONDS,
        )
    )
    for how, late in opened["lateness"].items():
        scale.lines.append(
            Line(
                "schedules",
                f"1000 of them due {how}, until run() begins",
                {"late p50 ms": late["p50_ms"], "late p99 ms": late["p99_ms"]},
                f"p99 < {LATE_P99_MS:g} ms",
                late["p99_ms"] < LATE_P99_MS,
            )
        )
