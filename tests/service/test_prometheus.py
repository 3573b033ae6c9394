"""service/prometheus.py, api/metrics.py: read by Prometheus' own parser, over a real server."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2 as httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from holdfast import Course, Histogram, Metrics, Queue, Retry, RunFailed, Runtime, Workflow
from holdfast.actors.metrics.metrics import ActorMetrics
from holdfast.actors.queue_info import QueueInfo
from holdfast.service import Token, http_app
from holdfast.service.prometheus import MAX_TYPES, OTHER, MetricsCollector, families, metrics_text
from holdfast.storage.histogram import SECONDS
from tests.service.support import serving

VIEWER = Token("viewer-viewer-viewer", "vera", "viewer")
ACME = Token("acme-acme-acme-acme-1", "anna", "viewer", "acme")


def halve(number: int) -> int:
    if number % 2:
        raise ValueError("odd")
    return number // 2


class PrometheusRun(Workflow):
    retry = Retry(0)

    async def run(self, number: int) -> int:
        return await self.step(halve, number)


@pytest.fixture
async def rt(folder: Path) -> AsyncIterator[Runtime]:
    async with Runtime(folder) as rt:
        yield rt


@asynccontextmanager
async def asking(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that serves the app."""
    async with serving(app) as at, httpx.AsyncClient(base_url=f"http://{at}", trust_env=False) as client:
        yield client


async def work(rt: Runtime) -> None:
    """One run that completes, one that fails, and two messages."""
    await (await rt.start(PrometheusRun, 2)).result()
    with pytest.raises(RunFailed):
        await (await rt.start(PrometheusRun, 3)).result()
    await rt.get(Queue, 'of "all"\n').send_batch([1, 2])


def parsed(text: str) -> dict[str, Metric]:
    """Families by name."""
    return {one.name: one for one in text_string_to_metric_families(text)}


def value(found: dict[str, Metric], sample: str, **labels: str) -> float:
    """One sample."""
    (one,) = [
        one.value
        for family in found.values()
        for one in family.samples
        if one.name == sample and one.labels == labels
    ]
    return one


async def test_values(rt: Runtime) -> None:
    """What happened is told, under Prometheus' kinds of names."""
    await work(rt)
    found = parsed(metrics_text(rt).decode())
    run = {"workflow": "PrometheusRun"}
    assert value(found, "holdfast_runs_started_total", **run) == 2
    assert value(found, "holdfast_runs_ended_total", **run, outcome="complete") == 1
    assert value(found, "holdfast_runs_ended_total", **run, outcome="failed") == 1
    assert value(found, "holdfast_runs", **run, status="failed") == 1
    assert value(found, "holdfast_step_attempts_total", **run, step="halve") == 2
    assert value(found, "holdfast_step_failures_total", **run, step="halve") == 1
    assert value(found, "holdfast_queue_depth", queue='of "all"\n') == 2
    assert value(found, "holdfast_run_seconds_count", **run) == 2
    assert value(found, "holdfast_commits_total") == value(found, "holdfast_commit_seconds_count")
    assert found["holdfast_commit_seconds"].type == "histogram"


async def test_histograms_count_upward(rt: Runtime) -> None:
    """Each bucket holds the ones before it; the last, +Inf, holds all."""
    await work(rt)
    for family in parsed(metrics_text(rt).decode()).values():
        series: dict[str, list[tuple[float, float]]] = {}
        counts: dict[str, float] = {}
        for one in family.samples:
            labels = {name: text for name, text in one.labels.items() if name != "le"}
            if one.name.endswith("_bucket"):
                series.setdefault(str(labels), []).append((float(one.labels["le"]), one.value))
            elif one.name.endswith("_count"):
                counts[str(labels)] = one.value
        for labels_text, buckets in series.items():
            assert buckets == sorted(buckets)
            assert [count for _, count in buckets] == sorted(count for _, count in buckets)
            assert buckets[-1] == (math.inf, counts[labels_text])


async def test_names(rt: Runtime) -> None:
    """Names say the unit and nothing of the kind; each has a text."""
    await work(rt)
    for family in families(rt.metrics()):
        assert re.fullmatch(r"holdfast_[a-z_]+", family.name)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket", "_ms"))
        assert family.documentation
        assert family.samples, family.name


async def test_beside_an_apps_own(rt: Runtime) -> None:
    """The collector is registered where an app's own metrics are, also before the runtime is open."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(MetricsCollector(rt))
    assert b"holdfast_commits_total" in generate_latest(registry)


async def test_labels_are_bounded(rt: Runtime) -> None:
    """Beyond the bound the types with the fewest turns are told together, and nothing is lost."""
    await work(rt)
    empty = Histogram(SECONDS, (0,) * (len(SECONDS) + 1), 0)
    many = tuple(ActorMetrics(f"T{turns}", turns, 0, 0, empty) for turns in range(1, MAX_TYPES + 11))
    metrics = msgspec.structs.replace(rt.metrics(), actors=many)
    (turns,) = [one for one in families(metrics) if one.name == "holdfast_turns"]
    told = {one.labels["type"]: one.value for one in turns.samples}
    assert len(told) == MAX_TYPES + 1
    assert told[OTHER] == sum(range(1, 11))
    assert sum(told.values()) == sum(one.turns for one in many)


async def test_queues_are_bounded(rt: Runtime) -> None:
    """The same for queues, the deepest of which are told by name."""
    await work(rt)
    (queue,) = rt.metrics().queues
    many: tuple[QueueInfo, ...] = tuple(
        msgspec.structs.replace(queue, key=f"q{depth}", depth=depth) for depth in range(60)
    )
    metrics = msgspec.structs.replace(rt.metrics(), queues=many)
    (depth,) = [one for one in families(metrics) if one.name == "holdfast_queue_depth"]
    told = {one.labels["queue"]: one.value for one in depth.samples}
    assert told[OTHER] == sum(range(10))


async def test_over_http(rt: Runtime) -> None:
    """A viewer gets the text and the JSON; a token of a tenant, and nobody, don't."""
    await work(rt)
    async with asking(http_app(rt, tokens=[VIEWER, ACME])) as client:
        viewer = {"Authorization": f"Bearer {VIEWER.secret}"}
        answer = await client.get("/metrics", headers=viewer)
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert value(parsed(answer.text), "holdfast_queue_depth", queue='of "all"\n') == 2
        now = await client.get("/metrics/now", headers=viewer)
        assert now.json()["queues"][0]["depth"] == 2
        assert set(now.json()) == set(Metrics.__struct_fields__)
        course = await client.get("/metrics/course", headers=viewer)
        assert set(course.json()) == set(Course.__struct_fields__)
        for path in ("/metrics", "/metrics/now", "/metrics/course"):
            assert (await client.get(path)).status_code == 401
            acme = {"Authorization": f"Bearer {ACME.secret}"}
            assert (await client.get(path, headers=acme)).status_code == 403


async def test_open_by_setting(rt: Runtime) -> None:
    """With `open_metrics` Prometheus' text needs no token; the JSON still does."""
    async with asking(http_app(rt, tokens=[VIEWER], open_metrics=True)) as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/metrics/now")).status_code == 401


async def test_without_the_library(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without prometheus-client says what is missing."""
    monkeypatch.setitem(sys.modules, "holdfast.service.prometheus", None)
    async with asking(http_app(rt, tokens=[VIEWER], open_metrics=True)) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 501
    assert "holdfast[metrics]" in answer.json()["detail"]


async def test_closed(folder: Path) -> None:
    """A runtime that isn't open has no metrics: 503."""
    rt = Runtime(folder)
    async with asking(http_app(rt, tokens=[VIEWER], open_metrics=True)) as client:
        assert (await client.get("/metrics")).status_code == 503
