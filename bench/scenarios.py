"""What is measured: each case names a workload, which every side answers, and its arguments."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_SCENARIOS = ("pipeline", "steps", "counter", "commit")

# Extra: the same work by actor calls instead of step bodies, which has to wait for fewer commits, beside a
# floor of its own.
EXTRA_SCENARIOS = ("pipeline_by_calls",)

# Measured without a floor, each against its target; see `scale`.
SCALE_SCENARIOS = (
    "saturated",
    "sleepers",
    "actors",
    "poison",
    "large-values",
    "simulation",
    "events",
    "fan-out",
    "history",
    "schedules",
)

# Seconds that one repetition of a case may be expected to spend waiting for a disk made slow; it gets fewer
# items then, never fewer than one for each worker.
SLOW_SECONDS_PER_REPETITION = 3.0


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: a workload with its arguments."""

    scenario: str
    name: str
    # What is counted per second, and what one of them is.
    unit: str
    one_unit_is: str
    # What a latency spans; the same as a unit but for `steps`.
    one_latency_is: str
    workload: str
    arguments: tuple[int, ...]
    # Cases of one group do the same work at different sizes; (group, size) gives the growth of the cost of a
    # unit.
    growth: tuple[str, int] | None = None
    # What a peer gets instead of `arguments`, since peers are slower; None for a case that is not theirs.
    peers: tuple[int, ...] | None = None
    # The figure that the case is about: `rate`, or `p50` where a latency is asked for.
    headline: str = "rate"
    # Added to each sync, on top of what the command line asks for.
    slow_sync_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; quick or not, slow disk or not."""

    quick: bool
    slow_sync_seconds: float

    def items(self, normal: int, quick: int, in_flight: int, waits: int) -> int:
        """How many items a case gets whose items wait for ``waits`` commits each."""
        items = quick if self.quick else normal
        wait_seconds = waits * 2 * self.slow_sync_seconds
        if wait_seconds:
            rounds = max(1, int(SLOW_SECONDS_PER_REPETITION / wait_seconds))
            items = min(items, in_flight * rounds)
        return items


def make_cases(scenario: str, sizes: Sizes) -> list[Case]:
    """The cases of ``scenario``, one of ``DEFAULT_SCENARIOS`` or ``EXTRA_SCENARIOS``."""
    if scenario in ("pipeline", "pipeline_by_calls"):
        return pipeline_cases(scenario, sizes)
    return {"steps": steps_cases, "counter": counter_cases, "commit": commit_cases}[scenario](sizes)


def pipeline_cases(scenario: str, sizes: Sizes) -> list[Case]:
    """Three-step runs: 1000 and 10 000 events (quick: 3 000), few when one after the other."""
    alone = sizes.items(300, 100, in_flight=1, waits=4)
    small, large = 1000, 3000 if sizes.quick else 10_000
    shapes = [(alone, 1), (small, 100), (large, 100), (small, 1000), (large, 1000)]
    return [
        Case(
            scenario,
            f"{n} events, {in_flight} in flight",
            unit="runs/s",
            one_unit_is="an event's run of three steps, each durable before the next, with start and result",
            one_latency_is="a run, from before its start until its result is in hand",
            workload=scenario,
            arguments=(n, in_flight),
            growth=None if in_flight == 1 else (f"{in_flight} in flight", n),
        )
        for n, in_flight in shapes
    ]


def steps_cases(sizes: Sizes) -> list[Case]:
    """Runs of ten trivial steps."""
    runs = sizes.items(1000, 300, in_flight=100, waits=11)
    return [
        Case(
            "steps",
            f"{runs} runs of 10 steps, 100 in flight",
            unit="steps/s",
            one_unit_is="a step that does nothing, durable before the next",
            one_latency_is="a run of ten steps, from before its start until its result is in hand",
            workload="steps",
            arguments=(runs, 10, 100),
        )
    ]


def counter_cases(sizes: Sizes) -> list[Case]:
    """Increments of one key by 1, 100 and 1000 callers, and of 1000 keys by 1000 callers."""
    shapes = [
        (1, 1, 2_000, 500),
        (1, 100, 50_000, 10_000),
        (1, 1000, 100_000, 20_000),
        (1000, 1000, 100_000, 20_000),
    ]
    return [
        Case(
            "counter",
            f"{keys} {'key' if keys == 1 else 'keys'}, {callers} {'caller' if callers == 1 else 'callers'}",
            unit="calls/s",
            one_unit_is="an increment whose reply came back durable",
            one_latency_is="a call",
            workload="counter",
            arguments=(keys, callers, sizes.items(normal, quick, callers, waits=1)),
        )
        for keys, callers, normal, quick in shapes
    ]


def commit_cases(sizes: Sizes) -> list[Case]:
    """Puts of 100 bytes by 1 to 1000 writers."""
    shapes = [(1, 2_000, 500), (10, 10_000, 3_000), (100, 50_000, 10_000), (1000, 100_000, 20_000)]
    return [
        Case(
            "commit",
            f"{writers} {'writer' if writers == 1 else 'writers'}",
            unit="writes/s",
            one_unit_is="a put of 100 bytes under a key of its own, awaited until durable",
            one_latency_is="a write",
            workload="commit",
            arguments=(writers, sizes.items(normal, quick, writers, waits=1), 100),
        )
        for writers, normal, quick in shapes
    ]
