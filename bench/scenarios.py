"""What is measured: each case names a workload, which every side answers, and its arguments."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_SCENARIOS = ("pipeline", "steps", "counter", "commit", "latency", "queue")

# Beside a floor too, but longer, or of less interest to most: `pipeline_by_calls` is the pipeline by actor
# calls instead of step bodies, which has to wait for fewer commits.
EXTRA_SCENARIOS = ("pipeline_by_calls", "slow-disk", "recovery", "alarms")

# Measured on a folder that grows; see `growth`.
GROWTH = "growth"

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
    "hub",
    "http",
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

    @property
    def peer_items(self) -> int:
        """How many items a peer gets: enough for a steady rate, and at most some twenty seconds."""
        return 100 if self.quick else 1000

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
    return {
        "steps": steps_cases,
        "counter": counter_cases,
        "commit": commit_cases,
        "latency": latency_cases,
        "queue": queue_cases,
        "slow-disk": slow_disk_cases,
        "recovery": recovery_cases,
        "alarms": alarm_cases,
    }[scenario](sizes)


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
            # A thousand in flight, and as many events: half a minute for the slower ones.
            peers=None
            if n > small or (sizes.quick and in_flight > sizes.peer_items)
            else (max(in_flight, min(n, sizes.peer_items)), in_flight),
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
            peers=(sizes.peer_items // 2, 10, 100),
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
            peers=(keys, callers, max(callers, sizes.peer_items)),
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


def latency_cases(sizes: Sizes) -> list[Case]:
    """One caller: a durable call, and a run of one step."""
    calls = sizes.items(2_000, 500, in_flight=1, waits=1)
    runs = sizes.items(1_000, 200, in_flight=1, waits=2)
    return [
        Case(
            "latency",
            "a durable call, 1 caller",
            unit="calls/s",
            one_unit_is="an increment, or a run of one step, the next one after its reply came back durable",
            one_latency_is="a call, or a run from before its start until its result is in hand",
            workload="counter",
            arguments=(1, 1, calls),
            peers=(1, 1, sizes.peer_items // 2),
            headline="p50",
        ),
        Case(
            "latency",
            "a run of one step, 1 caller",
            unit="runs/s",
            one_unit_is="an increment, or a run of one step, the next one after its reply came back durable",
            one_latency_is="a call, or a run from before its start until its result is in hand",
            workload="steps",
            arguments=(runs, 1, 1),
            peers=(sizes.peer_items // 2, 1, 1),
            headline="p50",
        ),
    ]


def queue_cases(sizes: Sizes) -> list[Case]:
    """A queue: sending, consuming what waits, and both at once."""
    sent = sizes.items(20_000, 3_000, in_flight=100, waits=1)
    both = sizes.items(10_000, 2_000, in_flight=100, waits=1)
    batch, at_once = 100, 4
    # Lease and settlement: two commits for each batch.
    waiting = sizes.items(20_000, 3_000, in_flight=batch * at_once, waits=2)
    return [
        Case(
            "queue",
            name,
            unit="messages/s",
            one_unit_is=f"a message of an event, {what}",
            one_latency_is="sending: a send; consuming: from the consumer's start until its handler has the "
            "message; both: from before the send until the handler has it",
            workload=workload,
            arguments=arguments,
            peers=peers,
        )
        for name, what, workload, arguments, peers in (
            (
                "sent by 100 callers",
                "sent and durable",
                "queue_send",
                (sent, 100),
                (sizes.peer_items, 100),
            ),
            (
                f"waiting, consumed in batches of {batch}, {at_once} at a time",
                "leased durably, handled, and acknowledged durably",
                "queue_consume",
                (waiting, batch, at_once),
                (sizes.peer_items, batch, at_once),
            ),
            (
                "sent by 100 callers and consumed meanwhile",
                "sent, leased, handled and acknowledged",
                "queue_both",
                (both, 100, batch, at_once),
                (sizes.peer_items, 100, batch, at_once),
            ),
        )
    ]


SLOW_DISK_MS = (0, 2, 8)


def slow_disk_cases(sizes: Sizes) -> list[Case]:
    """The pipeline, and calls by one and by a hundred, on disks whose syncs take longer."""
    found = []
    for added_ms in SLOW_DISK_MS:
        slower = Sizes(sizes.quick, sizes.slow_sync_seconds + added_ms / 1000)
        events = slower.items(1000, 300, in_flight=100, waits=6)
        calls = [
            (callers, slower.items(2_000 * callers, 300 * callers, callers, waits=1)) for callers in (1, 100)
        ]
        shapes: list[tuple[str, str, str, tuple[int, ...]]] = [
            (f"{events} events, 100 in flight", "runs/s", "pipeline", (events, 100))
        ]
        shapes += [
            (
                f"1 key, {callers} {'caller' if callers == 1 else 'callers'}",
                "calls/s",
                "counter",
                (1, callers, n),
            )
            for callers, n in calls
        ]
        found += [
            Case(
                "slow-disk",
                f"+{added_ms} ms a sync, {name}",
                unit=unit,
                one_unit_is="as in `pipeline` and `counter`; a commit is two syncs",
                one_latency_is="as in `pipeline` and `counter`",
                workload=workload,
                arguments=arguments,
                slow_sync_seconds=added_ms / 1000,
            )
            for name, unit, workload, arguments in shapes
        ]
    return found


def recovery_cases(sizes: Sizes) -> list[Case]:
    """Runs whose process is killed while they are in their second step."""
    runs = 200 if sizes.quick else 1000
    return [
        Case(
            "recovery",
            f"{runs} runs in their second of three steps, kill -9",
            unit="runs/s",
            one_unit_is="a run that was in its second step when its process was killed, and is done now; the "
            "time is from the start of a new process until all are",
            one_latency_is="from the start of the new process until a run is done",
            workload="recovery",
            arguments=(runs,),
            peers=(runs,),
        )
    ]


def alarm_cases(sizes: Sizes) -> list[Case]:
    """Alarms of as many actors, due within one second."""
    return [
        Case(
            "alarms",
            f"{alarms} due in one second",
            unit="alarms/s",
            one_unit_is="an alarm that fired, its removal and its handler's write durable; the second in "
            "which they come due is in the time",
            one_latency_is="from the time an alarm is due until its handler begins",
            workload="alarms",
            arguments=(alarms, 1000),
            headline="p50",
        )
        for alarms in ((1000,) if sizes.quick else (1000, 10_000, 100_000))
    ]
