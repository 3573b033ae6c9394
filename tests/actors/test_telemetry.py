"""actors/telemetry.py, with the SDK's own exporter: which spans there are, and that replay has none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2 as httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from holdfast import Actor, Alarm, Batch, Counter, Queue, Retry, RunFailed, Runtime, Workflow, shared
from holdfast.service import Token, http_app
from holdfast.telemetry import Telemetry
from tests.actors.workflow.support import until
from tests.service.support import serving

OPERATOR = Token("operator-operator-1", "otto", "operator")
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Spans:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.telemetry = Telemetry(self.provider)

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans with a name, in order of their ends."""
        return [one for one in self.exporter.get_finished_spans() if one.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only one."""
        (found,) = self.named(name)
        return found


@pytest.fixture
def spans() -> Spans:
    return Spans()


def parent_id(span: ReadableSpan) -> int | None:
    """Whose it is."""
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    """Its own."""
    assert span.context is not None
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> int:
    """The trace that it belongs to."""
    assert span.context is not None
    return int(span.context.trace_id)


attempts: list[int] = []


async def second_time(number: int) -> int:
    attempts.append(number)
    if len(attempts) == 1:
        raise ValueError("not yet")
    trace.get_current_span().add_event("in the body")
    return number


def plain(number: int) -> int:
    trace.get_current_span().add_event("in the body")
    return number + 1


class TelemetryRun(Workflow):
    retry = Retry(2, delay=0)

    async def run(self, number: int) -> int:
        first = await self.step(second_time, number, name="flaky")
        await self.wait("go")
        return await self.step(plain, first, name="last", thread=number == 2)


class TelemetryChild(Workflow):
    async def run(self) -> None:
        await self.step(plain, 1)


class TelemetryParent(Workflow):
    async def run(self) -> None:
        await self.child(TelemetryChild)


class TelemetryFails(Workflow):
    retry = Retry(0)

    async def run(self) -> None:
        raise ValueError("as asked")


class TelemetryActor(Actor):
    rung: int = 0

    async def set(self) -> None:
        self.alarms.set(0, "ring")

    async def count(self) -> int:
        return await self.runtime_counter().increment()

    def runtime_counter(self) -> Counter:
        return self.runtime.get(Counter, "below")

    async def on_alarm(self, alarm: Alarm) -> None:
        self.rung += 1
        done.append(alarm.name)

    @shared
    async def look(self) -> int:
        return self.rung

    async def fail(self) -> None:
        raise ValueError("no")


done: list[str] = []


async def test_calls(folder: Path, spans: Spans) -> None:
    """A call is a span with type and key; a call that it makes lies below it; one that raises says so."""
    async with Runtime(folder, telemetry=spans.telemetry) as rt:
        await rt.get(TelemetryActor, "a").count()
        await rt.get(TelemetryActor, "a").look()
        with pytest.raises(ValueError, match="no"):
            await rt.get(TelemetryActor, "a").fail()
    outer, inner = spans.one("TelemetryActor.count"), spans.one("Counter.increment")
    assert dict(outer.attributes or {}) == {
        "holdfast.actor.type": "TelemetryActor",
        "holdfast.actor.key": "a",
    }
    assert parent_id(inner) == id_of(outer)
    assert spans.one("TelemetryActor.look").attributes == outer.attributes
    failed = spans.one("TelemetryActor.fail")
    assert failed.status.status_code is StatusCode.ERROR


async def test_alarm(folder: Path, spans: Spans) -> None:
    """An alarm is a span of its own, in no trace of who set it."""
    done.clear()
    async with Runtime(folder, telemetry=spans.telemetry) as rt:
        await rt.get(TelemetryActor, "a").set()
        await until(lambda: bool(spans.named("alarm TelemetryActor")))
    alarm = spans.one("alarm TelemetryActor")
    assert alarm.parent is None
    assert (alarm.attributes or {})["holdfast.alarm"] == "ring"


async def test_run_with_a_crash(folder: Path, spans: Spans) -> None:
    """A recorded step has one span, also after a crash and a replay; all of a run is one trace."""
    attempts.clear()
    async with Runtime(folder, telemetry=spans.telemetry) as rt:
        run = await rt.start(TelemetryRun, 1, id="one")
        await until(lambda: len(spans.named("TelemetryRun step flaky")) == 2)
        await rt.store.wait_durable(rt.store.newest)
        shutil.copytree(folder, folder.with_name("crashed"))  # as a killed process leaves it
        before = len(spans.exporter.get_finished_spans())
        await run.terminate()
    assert len(spans.named("run TelemetryRun")) == 1
    after = Spans()
    async with Runtime(folder.with_name("crashed"), types=[TelemetryRun], telemetry=after.telemetry) as rt:
        run = rt.run(TelemetryRun, "one")
        await run.send("go")
        assert await run.result() == 2
    assert before == 3
    assert after.named("TelemetryRun step flaky") == []
    start, last, whole = (
        spans.one("start TelemetryRun"),
        after.one("TelemetryRun step last"),
        after.one("run TelemetryRun"),
    )
    first, second = spans.named("TelemetryRun step flaky")
    for span in (first, second, last, whole):
        assert trace_of(span) == trace_of(start)
        assert parent_id(span) == id_of(start)
    assert first.status.status_code is StatusCode.ERROR
    assert [link.context.span_id for link in second.links] == [id_of(first)]
    assert [event.name for event in second.events] == ["in the body"]
    assert [event.name for event in last.events] == ["in the body"]
    assert (second.attributes or {})["holdfast.attempt"] == 2
    assert (whole.attributes or {})["holdfast.outcome"] == "complete"
    assert whole.start_time is not None
    assert last.end_time is not None
    assert whole.start_time < last.end_time


async def test_thread(folder: Path, spans: Spans) -> None:
    """A body in a thread has its attempt's span, too."""
    attempts[:] = [0]
    async with Runtime(folder, telemetry=spans.telemetry) as rt:
        run = await rt.start(TelemetryRun, 2)
        await run.send("go")
        await run.result()
    assert [event.name for event in spans.one("TelemetryRun step last").events] == ["in the body"]


async def test_child(folder: Path, spans: Spans) -> None:
    """A child belongs to the run that started it."""
    async with Runtime(folder, telemetry=spans.telemetry) as rt:
        await (await rt.start(TelemetryParent)).result()
    parent, child = spans.one("start TelemetryParent"), spans.one("start TelemetryChild")
    assert parent_id(child) == id_of(parent)
    assert parent_id(spans.one("TelemetryChild step plain")) == id_of(child)


async def test_failed_run(folder: Path, spans: Spans) -> None:
    """A run that failed says why."""
    async with Runtime(folder, telemetry=spans.telemetry) as rt:
        with pytest.raises(RunFailed):
            await (await rt.start(TelemetryFails)).result()
    span = spans.one("run TelemetryFails")
    assert span.status.status_code is StatusCode.ERROR
    assert "as asked" in (span.status.description or "")


async def test_delivery(folder: Path, spans: Spans) -> None:
    """A batch of messages is a span with their ids; a handler that raises says so."""
    heard: list[object] = []

    async def handler(batch: Batch[int]) -> None:
        heard.append(len(batch))
        if len(heard) == 1:
            raise ValueError("not yet")

    async with Runtime(folder, telemetry=spans.telemetry) as rt:
        rt.consume("telemetry-in", handler, body=int, max_wait=0, retry=Retry(2, delay=0))
        await rt.get(Queue, "telemetry-in").send(7, id="m")
        await until(lambda: len(spans.named("deliver telemetry-in")) == 2)
    first, second = spans.named("deliver telemetry-in")
    assert first.status.status_code is StatusCode.ERROR
    assert second.status.status_code is StatusCode.UNSET
    assert (second.attributes or {})["holdfast.message_ids"] == ("m",)


async def test_header_in(folder: Path, spans: Spans) -> None:
    """The header `traceparent` of a request is whose the run is."""
    headers = {
        "Authorization": f"Bearer {OPERATOR.secret}",
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
    }
    async with Runtime(folder, telemetry=spans.telemetry, types=[TelemetryChild]) as rt:
        app = http_app(rt, tokens=[OPERATOR])
        async with serving(app) as at, httpx.AsyncClient(base_url=f"http://{at}", trust_env=False) as client:
            body = {"workflow": "TelemetryChild", "id": "one"}
            answer = await client.post("/runs", json=body, headers=headers)
            assert answer.status_code == 201, answer.text
        await rt.run(TelemetryChild, "one").result()
    start = spans.one("start TelemetryChild")
    assert format(trace_of(start), "032x") == TRACE
    assert parent_id(start) == 0xB7AD6B7169203331
    assert trace_of(spans.one("run TelemetryChild")) == trace_of(start)


async def test_header_out(folder: Path, spans: Spans) -> None:
    """What a step sends on bears its attempt's own span."""
    sent: list[dict[str, str]] = []

    async with Runtime(folder, telemetry=spans.telemetry) as rt:
        assert rt.telemetry is not None
        telemetry = rt.telemetry

        def send() -> None:
            sent.append(telemetry.outgoing())

        telemetry_sends.append(send)
        await (await rt.start(TelemetrySends)).result()
    step = spans.one("TelemetrySends step send")
    (headers,) = sent
    assert headers["traceparent"].startswith(f"00-{trace_of(step):032x}-{id_of(step):016x}-")


telemetry_sends: list[Callable[[], None]] = []


class TelemetrySends(Workflow):
    async def run(self) -> None:
        await self.step(telemetry_sends[-1], name="send")


async def test_without_an_sdk(folder: Path) -> None:
    """Where no SDK is set up nothing is told, and everything works."""
    async with Runtime(folder, telemetry=Telemetry()) as rt:
        assert await rt.get(Counter, "a").increment() == 1
        await (await rt.start(TelemetryParent)).result()


async def test_off(folder: Path) -> None:
    """Without telemetry methods are the user's own functions, and no run keeps a trace."""
    async with Runtime(folder) as rt:
        assert rt.type_of(Counter).methods["increment"].function is Counter.increment
        run = await rt.start(TelemetryParent)
        await run.result()
        history: Sequence[object] = await run.history()
    assert getattr(history[0], "traceparent", "?") is None
