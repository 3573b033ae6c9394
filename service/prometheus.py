"""The metrics of a runtime as Prometheus reads them: `GET /metrics`, or in an exporter of one's own.

    rt.metrics() -> families with the names of docs/observability.md -> text

`MetricsCollector` is a custom collector of prometheus-client (`holdfast[metrics]`), read from one snapshot
for each look; nothing is registered in the library's global registry.

The labels are bounded: the actor types, workflows, steps and queues with the most to tell are told by name,
the rest of each together as `(other)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from ..actors.metrics.metrics import ActorMetrics, Metrics, RunMetrics, StepMetrics
from ..actors.queue_info import QueueInfo
from ..runtime.address import show_key
from ..storage.histogram import Histogram

if TYPE_CHECKING:
    from ..actors.system import Runtime

One = TypeVar("One")

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "(other)"
MAX_TYPES: Final = 50
MAX_STEPS: Final = 200
MAX_QUEUES: Final = 50


class MetricsCollector(Collector):
    """The metrics of a runtime beside an app's own: `REGISTRY.register(MetricsCollector(rt))`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that it can be registered before the runtime is open."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All families; raises `NotRunning` when the runtime isn't open."""
        return families(self._runtime.metrics())


def metrics_text(runtime: Runtime) -> bytes:
    """The metrics of a runtime as text, format 0.0.4 (`CONTENT_TYPE`); raises `NotRunning`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(runtime))
    return generate_latest(registry)


def families(metrics: Metrics) -> list[Metric]:
    """The metrics under the names that Prometheus gets."""
    return [
        *_store(metrics),
        *_actors(metrics),
        *_runs(metrics),
        *_steps(metrics),
        *_queues(metrics),
        *_rest(metrics),
    ]


# -- the parts -----------------------------------------------------------------------------------------------


def _store(metrics: Metrics) -> list[Metric]:
    commits, store = metrics.commits, metrics.store
    return [
        _counter("commits", "Commits that became durable.", commits.count),
        _counter("commit_failures", "Commits that failed.", commits.failed),
        _histogram("commit_seconds", "From leaving for the disk until it was heard of.", commits.seconds),
        _histogram("commit_puts", "Keys written by a commit.", commits.puts),
        _histogram("commit_bytes", "Bytes written by a commit.", commits.bytes),
        _counter("gate_waits", "Replies and others that waited for a commit.", commits.gate_waits),
        _counter("writes_refused", "Write sets refused: too much waits for the disk.", commits.refused),
        _gauge("staged_bytes", "Bytes that wait for the disk.", commits.staged_bytes),
        _gauge("store_used_bytes", "Live pages of the store.", store.used_bytes),
        _gauge("store_map_bytes", "What the store can grow to at most.", store.map_bytes),
        _gauge("store_quota_bytes", "Quota of the store; +Inf for none.", store.quota_bytes or float("inf")),
        _gauge("disk_free_bytes", "Bytes free on the disk.", store.free_bytes),
    ]


def _actors(metrics: Metrics) -> list[Metric]:
    turns = _family(CounterMetricFamily, "turns", "Turns of actors.", "type")
    failed = _family(CounterMetricFamily, "turn_failures", "Turns that raised, and rolled back.", "type")
    shared = _family(CounterMetricFamily, "shared_calls", "Calls of shared methods.", "type")
    seconds = _family(HistogramMetricFamily, "turn_seconds", "Time of one turn in 64.", "type")
    told, rest = _top(metrics.actors, MAX_TYPES, attrgetter("turns"))
    if rest:
        told.append(_all_actors(rest))
    for one in told:
        turns.add_metric([one.type], one.turns)
        failed.add_metric([one.type], one.failed_turns)
        shared.add_metric([one.type], one.shared_calls)
        seconds.add_metric([one.type], *_buckets(one.turn_seconds))
    return [turns, failed, shared, seconds]


def _runs(metrics: Metrics) -> list[Metric]:
    started = _family(CounterMetricFamily, "runs_started", "Starts of runs.", "workflow")
    ended = _family(CounterMetricFamily, "runs_ended", "Ends of runs.", "workflow", "outcome")
    stuck = _family(CounterMetricFamily, "runs_got_stuck", "Runs that got stuck.", "workflow")
    seconds = _family(HistogramMetricFamily, "run_seconds", "From start to end of a run.", "workflow")
    now = _family(GaugeMetricFamily, "runs", "Runs by status, each up to 10 000.", "workflow", "status")
    told, rest = _top(metrics.runs, MAX_TYPES, lambda one: one.started + sum(one.now.values()))
    if rest:
        told.append(_all_runs(rest))
    for one in told:
        started.add_metric([one.workflow], one.started)
        for outcome, count in one.ended.items():
            ended.add_metric([one.workflow, outcome], count)
        stuck.add_metric([one.workflow], one.got_stuck)
        seconds.add_metric([one.workflow], *_buckets(one.seconds))
        for status, count in one.now.items():
            now.add_metric([one.workflow, status], count)
    at_work = _gauge("runs_at_work", "Runs that hold a place of max_running.", metrics.runs_at_work)
    return [started, ended, stuck, seconds, now, at_work]


def _steps(metrics: Metrics) -> list[Metric]:
    attempts = _family(CounterMetricFamily, "step_attempts", "Attempts of steps.", "workflow", "step")
    failures = _family(CounterMetricFamily, "step_failures", "Attempts that failed.", "workflow", "step")
    retries = _family(
        CounterMetricFamily, "step_retries", "Failures that are tried again.", "workflow", "step"
    )
    seconds = _family(HistogramMetricFamily, "step_seconds", "Time of an attempt.", "workflow")
    told, rest = _top(metrics.steps, MAX_STEPS, attrgetter("attempts"))
    if rest:
        told.append(_all_steps(rest))
    for one in told:
        attempts.add_metric([one.workflow, one.step], one.attempts)
        failures.add_metric([one.workflow, one.step], one.failures)
        retries.add_metric([one.workflow, one.step], one.retries)
    # By workflow alone: with each step it would be twenty rows for each.
    for workflow, together in _by_workflow(told).items():
        seconds.add_metric([workflow], *_buckets(together))
    return [attempts, failures, retries, seconds]


def _queues(metrics: Metrics) -> list[Metric]:
    depth = _family(GaugeMetricFamily, "queue_depth", "Messages in a queue.", "queue")
    in_flight = _family(GaugeMetricFamily, "queue_in_flight", "Messages in consumers' hands.", "queue")
    retrying = _family(GaugeMetricFamily, "queue_retrying", "Messages delivered in vain before.", "queue")
    dead = _family(GaugeMetricFamily, "queue_dead", "Dead letters kept in a queue.", "queue")
    oldest = _family(GaugeMetricFamily, "queue_oldest_seconds", "Age of the message at the front.", "queue")
    sent = _family(CounterMetricFamily, "queue_sent", "Messages sent, ever.", "queue")
    acked = _family(CounterMetricFamily, "queue_acked", "Messages acknowledged, ever.", "queue")
    retried = _family(CounterMetricFamily, "queue_retried", "Deliveries retried, ever.", "queue")
    told, rest = _top(metrics.queues, MAX_QUEUES, attrgetter("depth"))
    groups = [(_queue_label(one), [one]) for one in told]
    if rest:
        groups.append((OTHER, rest))
    for name, queues in groups:
        fronts = [one.front_sent_at for one in queues if one.front_sent_at is not None]
        age = (metrics.at - min(fronts)).total_seconds() if fronts else 0.0
        depth.add_metric([name], sum(one.depth for one in queues))
        in_flight.add_metric([name], sum(one.in_flight for one in queues))
        retrying.add_metric([name], sum(one.retrying for one in queues))
        dead.add_metric([name], sum(one.dead for one in queues))
        oldest.add_metric([name], max(0.0, age))
        sent.add_metric([name], sum(one.sent for one in queues))
        acked.add_metric([name], sum(one.acked for one in queues))
        retried.add_metric([name], sum(one.retried for one in queues))
    return [depth, in_flight, retrying, dead, oldest, sent, acked, retried]


def _queue_label(queue: QueueInfo) -> str:
    key = show_key(queue.key)
    return key if queue.type == "Queue" else f"{queue.type}/{key}"


def _rest(metrics: Metrics) -> list[Metric]:
    mailboxes, memory, alarms, hub = metrics.mailboxes, metrics.memory, metrics.alarms, metrics.hub
    return [
        _gauge("mailbox_waiting", "Calls that wait in mailboxes.", mailboxes.waiting),
        _counter("mailbox_waits", "Calls that waited in a mailbox.", mailboxes.waits),
        _counter("mailbox_refused", "Calls that found a mailbox full.", mailboxes.refused),
        _gauge("activations", "Actors in memory.", memory.activations),
        _counter("activations_loaded", "Actors taken into memory.", memory.loaded),
        _counter("activations_evicted", "Actors that were idle or too many.", memory.evicted),
        _counter("alarms_fired", "Alarms whose handler was run.", alarms.fired),
        _counter("alarm_failures", "Failures of handlers of alarms.", alarms.failed),
        _counter("alarms_dead", "Alarms whose retries were spent.", alarms.dead),
        _gauge("alarms_firing", "Alarms that are being handled.", alarms.firing),
        _histogram("alarm_lateness_seconds", "From due time to handler.", alarms.lateness_seconds),
        _gauge("hub_sockets", "Clients of hubs.", hub.sockets),
        _counter("hub_frames", "Frames that clients took.", hub.frames),
        _counter("hub_cut_off", "Clients that were too slow.", hub.cut_off),
        _counter("loop_stalls", "Times that the event loop was blocked.", metrics.loop.stalls),
        _histogram("loop_lag_seconds", "How late the event loop was.", metrics.loop.lag_seconds),
        _gauge("uptime_seconds", "Since the runtime was opened.", metrics.uptime_seconds),
    ]


# -- the rest of a kind, together ----------------------------------------------------------------------------


def _top(every: Sequence[One], most: int, weight: Callable[[One], float]) -> tuple[list[One], list[One]]:
    """The `most` with the greatest weight, and the others."""
    if len(every) <= most:
        return list(every), []
    ordered = sorted(every, key=weight, reverse=True)
    return ordered[:most], ordered[most:]


def _sum(histograms: Iterable[Histogram]) -> Histogram:
    together, *more = histograms
    for one in more:
        together = together.plus(one)
    return together


def _all_actors(rest: list[ActorMetrics]) -> ActorMetrics:
    return ActorMetrics(
        OTHER,
        sum(one.turns for one in rest),
        sum(one.failed_turns for one in rest),
        sum(one.shared_calls for one in rest),
        _sum(one.turn_seconds for one in rest),
    )


def _all_runs(rest: list[RunMetrics]) -> RunMetrics:
    first = rest[0]
    return RunMetrics(
        OTHER,
        sum(one.started for one in rest),
        {outcome: sum(one.ended[outcome] for one in rest) for outcome in first.ended},
        sum(one.got_stuck for one in rest),
        _sum(one.seconds for one in rest),
        {status: sum(one.now[status] for one in rest) for status in first.now},
    )


def _all_steps(rest: list[StepMetrics]) -> StepMetrics:
    return StepMetrics(
        OTHER,
        OTHER,
        sum(one.attempts for one in rest),
        sum(one.failures for one in rest),
        sum(one.retries for one in rest),
        _sum(one.seconds for one in rest),
    )


def _by_workflow(steps: list[StepMetrics]) -> dict[str, Histogram]:
    found: dict[str, Histogram] = {}
    for one in steps:
        before = found.get(one.workflow)
        found[one.workflow] = one.seconds if before is None else before.plus(one.seconds)
    return found


# -- families ------------------------------------------------------------------------------------------------

Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily)


def _family(kind: type[Family], name: str, text: str, *labels: str) -> Family:
    return kind(f"holdfast_{name}", text, labels=labels)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"holdfast_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"holdfast_{name}", text, value=value)


def _histogram(name: str, text: str, found: Histogram) -> Metric:
    buckets, total = _buckets(found)
    return HistogramMetricFamily(f"holdfast_{name}", text, buckets=buckets, sum_value=total)


def _buckets(found: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Prometheus counts upward: each bucket holds all that is at most its bound."""
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip((*found.bounds, float("inf")), found.counts, strict=True):
        below += count
        buckets.append((f"{bound:g}" if bound != float("inf") else "+Inf", below))
    return buckets, found.sum
