"""The fifteen acceptance criteria of the event pipeline, one test each, in their order."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import cast, get_type_hints

import pytest

from holdfast import RunFailed
from holdfast.actors.errors import InvalidInput
from holdfast.actors.workflow.journal import AttemptFailed, StepDone, StepFailed
from holdfast.examples.events_pipeline.demo import Options, run_demo
from holdfast.examples.events_pipeline.events import (
    EventStatus,
    ProcessEventInput,
    ProcessEventOutput,
    make_event,
    run_key,
    unpack,
)
from holdfast.examples.events_pipeline.pipeline import EVENT_DLQ, Pipeline
from holdfast.examples.events_pipeline.source import MadeUpEvents
from holdfast.examples.events_pipeline.step_watch import Faults
from holdfast.examples.events_pipeline.store import EventRow, IllegalTransition, change_status
from holdfast.examples.events_pipeline.workflow import MAX_RUN_SECONDS, ProcessEvent
from holdfast.runtime.clock import ManualClock
from tests.examples.pipeline_support import (
    Witness,
    captured_logs,
    open_pipeline,
    wait_for,
    wait_idle,
    with_due_timers,
)

STEPS = ["validate-event", "store-event", "update-metrics"]


def event(event_id: str = "e1", payload: object = None, **more: object) -> ProcessEventInput:
    """A valid event, or one with another payload or metadata."""
    body = {"amount": 3, "items": [1, 2]} if payload is None else payload
    return make_event(event_id, body, more.get("metadata"), correlation_id=f"correlation-{event_id}")


async def steps_of(pipeline: Pipeline, event_id: str) -> list[StepDone | StepFailed | AttemptFailed]:
    """What is recorded of the named steps of a run."""
    history = await pipeline.runtime.run(ProcessEvent, run_key(event_id)).history()
    kinds = (StepDone, StepFailed, AttemptFailed)
    return [one for one in history if isinstance(one, kinds) and one.name in STEPS]


async def test_01_three_named_steps_in_order(tmp_path: Path) -> None:
    """A run is validate, store, update metrics; each step is a record of its own."""
    async with open_pipeline(tmp_path) as pipeline:
        await pipeline.process(event())
        assert [step.name for step in await steps_of(pipeline, "e1")] == STEPS


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        (event(""), "$.event_id"),
        (event("e1", "a text"), "$.payload"),
        (event("e1", [1]), "$.payload"),
        (event("e1", metadata="a text"), "$.metadata"),
    ],
)
async def test_02_validation_names_the_field(tmp_path: Path, wrong: ProcessEventInput, where: str) -> None:
    """An invalid event fails at once, without a retry, with the path of the field."""
    async with open_pipeline(tmp_path, watch=(witness := Witness())) as pipeline:
        run = await pipeline.runtime.start(ProcessEvent, wrong, id="run")
        with pytest.raises(RunFailed, match=r"Fatal.*invalid") as failed:
            await run.result()
        assert where in str(failed.value)
        assert [(step.name, step.attempt) for step in witness.seen] == [("validate-event", 1)]


async def test_03_stored_as_pending(tmp_path: Path) -> None:
    """After the second step the event is a row with all its columns, pending."""
    clock = ManualClock()
    async with open_pipeline(
        tmp_path, watch=(faults := Faults("update-metrics", 1)), clock=clock
    ) as pipeline:
        run = await pipeline.start(event(metadata={"from": "a test"}))
        await until_retrying(pipeline, faults)
        row = await pipeline.store.get("e1")
        assert row is not None
        assert (row.status, row.retry_count) == (EventStatus.PENDING, 0)
        assert unpack(row.payload) == {"amount": 3, "items": [1, 2]}
        assert unpack(row.metadata) == {"from": "a test"}
        assert row.created_at == row.updated_at
        assert EventRow.__struct_fields__ == (
            "event_id", "payload", "metadata", "status", "created_at", "updated_at", "retry_count",
        )  # fmt: skip
        assert [one.event_id for one in await pipeline.store.select(EventStatus.PENDING)] == ["e1"]
        clock.advance(1)
        await run.result()


async def test_04_counters_are_exact(tmp_path: Path) -> None:
    """Total, status counters and the time of the last event; a retried step counts nothing twice."""
    async with open_pipeline(tmp_path, watch=Faults("update-metrics", 1)) as pipeline:
        await pipeline.send_batch([event(f"e{n}") for n in range(20)])
        await pipeline.send_batch([event("bad", "a text"), event("e3")])
        await wait_idle(pipeline)
        figures = await pipeline.figures()
        last = figures.pop("metrics:last_processed_at")
        assert isinstance(last, datetime)
        assert figures == {
            "metrics:events:total": 21,
            "metrics:events:pending": 0,
            "metrics:events:delivered": 20,
            "metrics:events:failed": 1,
            "metrics:queue:depth": 0,
            "metrics:dlq:count": 1,
        }
        assert await pipeline.store.recount() == {"pending": 0, "delivered": 20, "failed": 1}
        metrics = await pipeline.store.read_metrics()
        assert metrics.delivered.updated_at is not None


async def test_05_each_step_retries_by_itself(tmp_path: Path) -> None:
    """Three retries, exponential; the steps before are not run again."""
    clock = ManualClock()
    async with open_pipeline(tmp_path, watch=(faults := Faults("store-event", 3)), clock=clock) as pipeline:
        run = await pipeline.start(event())
        for raised in (1, 2, 3):
            await until_retrying(pipeline, faults, raised)
            clock.advance(2)
        assert (await run.result()).status == "success"
        steps = await steps_of(pipeline, "e1")
        assert [(step.name, type(step).__name__) for step in steps] == [
            ("validate-event", "StepDone"),
            *[("store-event", "AttemptFailed")] * 3,
            ("store-event", "StepDone"),
            ("update-metrics", "StepDone"),
        ]
        waits = [step.next_ms - step.at_ms for step in steps if isinstance(step, AttemptFailed)]
        assert all(200 * 2**n <= wait <= 250 * 2**n for n, wait in enumerate(waits))


async def test_06_state_survives_a_restart(tmp_path: Path) -> None:
    """A run that is cut off goes on behind its last finished step when the folder is opened again."""
    clock = ManualClock()
    async with open_pipeline(
        tmp_path, watch=(faults := Faults("update-metrics", 1)), clock=clock
    ) as pipeline:
        await pipeline.start(event())
        await until_retrying(pipeline, faults)
    clock.advance(60)
    async with open_pipeline(tmp_path, watch=(witness := Witness()), clock=clock) as pipeline:
        output = await with_due_timers(clock, pipeline.process(event()))
        assert output.status == "success"
        assert [(step.name, step.attempt) for step in witness.seen] == [("update-metrics", 2)]


async def test_07_errors_are_logged_with_their_correlation_id(tmp_path: Path) -> None:
    """Every line has correlation and event id; a failure has the error and which attempt it was."""
    with captured_logs() as lines:
        async with open_pipeline(tmp_path) as pipeline:
            await pipeline.send(event("bad", "a text"))
            await wait_idle(pipeline)
    assert lines
    assert {(line["correlation_id"], line["event_id"]) for line in lines} == {("correlation-bad", "bad")}
    failures = [line for line in lines if line["level"] in ("WARNING", "ERROR")]
    assert failures
    for line in failures:
        assert "$.payload" in str(line["error"])
        assert line["retry_attempt"] == 1


async def test_08_a_run_takes_less_than_thirty_seconds(tmp_path: Path) -> None:
    """Also with every retry spent and every wait and time-out at its longest."""
    retry, timeout = ProcessEvent.retry, ProcessEvent.step_timeout
    assert isinstance(timeout, str)
    waits = sum(retry.delay_seconds * 2**n * (1 + retry.jitter) for n in range(retry.limit))
    longest = (retry.limit + 1) * float(timeout.removesuffix("s")) + waits
    assert 2 * longest < MAX_RUN_SECONDS == 30
    async with open_pipeline(tmp_path) as pipeline:
        await pipeline.process(event())
        info = await pipeline.runtime.run(ProcessEvent, run_key("e1")).info()
        assert (info.updated_at - info.created_at).total_seconds() < MAX_RUN_SECONDS


async def test_09_dead_letters_after_the_retries(tmp_path: Path) -> None:
    """A step that fails four times makes its event failed and a dead letter, which can be redriven."""
    clock = ManualClock()
    async with open_pipeline(tmp_path, watch=(faults := Faults("store-event", 4)), clock=clock) as pipeline:
        await pipeline.send(event())
        for raised in (1, 2, 3):
            await until_retrying(pipeline, faults, raised)
            clock.advance(2)
        await wait_idle(pipeline)
        (dead,) = await pipeline.dead_letters()
        assert (dead.queue, dead.kind, dead.id) == (EVENT_DLQ, "run", "e1/main")
        assert (dead.step, dead.attempts, dead.correlation_id) == ("store-event", 4, "correlation-e1")
        assert "ConnectionError" in dead.error
        assert isinstance(dead.body, dict)
        assert dead.body["payload"] == {"amount": 3, "items": [1, 2]}
        assert await pipeline.store.recount() == {"pending": 0, "delivered": 0, "failed": 1}
        await pipeline.redrive(dead)
        await wait_idle(pipeline)
        assert await pipeline.dead_letters() == []
        assert await pipeline.store.recount() == {"pending": 0, "delivered": 1, "failed": 0}
        figures = await pipeline.figures()
        assert (figures["metrics:events:total"], figures["metrics:events:failed"]) == (1, 0)


async def test_10_typed_input_and_output(tmp_path: Path) -> None:
    """The annotations of `run` are what goes in and comes out."""
    hints = get_type_hints(ProcessEvent.run)
    assert (hints["event"], hints["return"]) == (ProcessEventInput, ProcessEventOutput)
    async with open_pipeline(tmp_path) as pipeline:
        with pytest.raises(InvalidInput, match="payload"):
            await pipeline.runtime.start(ProcessEvent, cast("ProcessEventInput", {"event_id": "e1"}))
        output = await pipeline.process(event())
        row = await pipeline.store.get("e1")
        assert row is not None
        assert output == ProcessEventOutput(event_id="e1", status="success", stored_at=row.created_at)
        failure = await pipeline.process(event("bad", "a text"))
        assert (failure.status, failure.stored_at) == ("failure", None)
        assert "$.payload" in str(failure.error)


async def test_11_the_queue_starts_a_run_for_each_event(tmp_path: Path) -> None:
    """Each message that was accepted becomes a run; one that can't is a dead letter."""
    async with open_pipeline(tmp_path) as pipeline:
        await pipeline.send_batch([event(f"e{n}") for n in range(150)])
        await pipeline.send({"payload": {}})
        await wait_idle(pipeline)
        runs = pipeline.runtime.runs(ProcessEvent, limit=1_000)
        assert {run.id for run in runs} == {f"e{n}/main" for n in range(150)}
        assert {run.correlation_id for run in runs} == {f"correlation-e{n}" for n in range(150)}
        (dead,) = await pipeline.dead_letters()
        assert (dead.kind, dead.queue) == ("message", EVENT_DLQ)
        assert "event_id" in dead.error


async def test_12_pending_to_delivered_is_tracked(tmp_path: Path) -> None:
    """The row moves from pending to delivered; a move that isn't allowed is refused."""
    clock = ManualClock()
    async with open_pipeline(
        tmp_path, watch=(faults := Faults("update-metrics", 1)), clock=clock
    ) as pipeline:
        run = await pipeline.start(event())
        await until_retrying(pipeline, faults)
        pending = await pipeline.store.get("e1")
        clock.advance(1)
        await run.result()
        delivered = await pipeline.store.get("e1")
        assert pending is not None
        assert delivered is not None
        assert (pending.status, delivered.status) == (EventStatus.PENDING, EventStatus.DELIVERED)
        assert delivered.created_at == pending.created_at
        assert delivered.updated_at > pending.updated_at
        assert await pipeline.store.select(EventStatus.PENDING) == []
        for status in (EventStatus.PENDING, EventStatus.FAILED):
            with pytest.raises(IllegalTransition, match=f"delivered; it can't become {status}"):
                change_status(delivered, status, delivered.updated_at)


async def test_13_more_than_a_hundred_runs_at_once(tmp_path: Path) -> None:
    """150 events are in the middle of their runs at the same time."""
    async with open_pipeline(tmp_path, watch=(witness := Witness())) as pipeline:
        outputs = await asyncio.gather(*(pipeline.process(event(f"e{n}")) for n in range(150)))
        assert all(output.status == "success" for output in outputs)
        active, most = set[str](), 0
        for step in witness.seen:
            if step.name == STEPS[0]:
                active.add(step.run)
            elif step.name == STEPS[2]:
                active.discard(step.run)
            most = max(most, len(active))
        assert most > 100
        assert len(witness.seen) == 450


async def test_14_same_event_id_same_result(tmp_path: Path) -> None:
    """An event that comes again, in any way, runs once and gives the same output."""
    async with open_pipeline(tmp_path, watch=(witness := Witness())) as pipeline:
        first = await pipeline.process(event())
        again = await pipeline.process(event())
        await pipeline.send_batch([event(), event()])
        await wait_idle(pipeline)
        assert first == again == await pipeline.process(event())
        assert witness.attempts("store-event") == 1
        row = await pipeline.store.get("e1")
        assert row is not None
        assert row.retry_count == 0
        # In another batch it is another run, of the same event.
        await pipeline.process(make_event("e1", {"new": 1}, correlation_id="c", batch_id="later"))
        newer = await pipeline.store.get("e1")
        assert newer is not None
        assert (newer.retry_count, newer.status, newer.created_at) == (1, row.status, row.created_at)
        assert unpack(newer.payload) == {"new": 1}
        assert (await pipeline.figures())["metrics:events:total"] == 1


async def test_15_a_thousand_events_in_less_than_fifteen_seconds(tmp_path: Path) -> None:
    """Sent, processed and delivered, all of it durable."""
    began = time.monotonic()
    report = await run_demo(MadeUpEvents(1_000), Options(folder=tmp_path), Silent())
    assert time.monotonic() - began < 15
    assert (report.runs, report.figures["metrics:events:delivered"]) == (1_000, 1_000)


class Silent:
    """Shows nothing."""

    def show(self, sent: int, processed: int) -> None:
        pass


async def until_retrying(pipeline: Pipeline, faults: Faults, raised: int = 1) -> None:
    """Wait until so many attempts have failed and the run waits for the next one."""
    await wait_for(lambda: faults.raised == raised and pipeline.runtime.runs(ProcessEvent, status="retrying"))
