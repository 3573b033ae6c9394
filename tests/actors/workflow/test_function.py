"""actors/workflow/function.py: functions as workflows, on the same engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import msgspec
import pytest

from holdfast import Retry, Run, RunFailed, Runtime, Workflow, WorkflowContext, workflow
from holdfast.actors.code_target import import_target
from holdfast.actors.errors import InvalidEvent, InvalidInput, NotReplayable
from holdfast.actors.workflow.fingerprint import fingerprint
from holdfast.runtime.errors import InvalidActor
from holdfast.testing import Crash, Storm, check_replay, replay_guard, simulate


class Invoice(msgspec.Struct):
    """An input."""

    number: str
    cents: int


class Receipt(msgspec.Struct):
    """A result."""

    number: str
    paid: int


async def pay(cents: int) -> int:
    """A step."""
    if cents < 0:
        raise ValueError("no")
    return cents


@workflow(title="Pay an invoice", version="1", author="finance", tags=("invoices",), retry=Retry(1, "1s"))
async def pay_invoice(wf: WorkflowContext, invoice: Invoice) -> Receipt:
    """Pay it."""
    paid = await wf.step(pay, invoice.cents)
    await wf.sleep("1h")
    return Receipt(invoice.number, paid)


@workflow
async def without_input(wf: WorkflowContext) -> str:
    """Tell the run's id."""
    return wf.id


@workflow(name="WithDefault", step_timeout=None, max_running=2)
async def with_default(wf: WorkflowContext, n: int = 3) -> int:
    """Count."""
    return n


class ApproveInvoice(msgspec.Struct):
    """An event."""

    by: str


@workflow(deadline="2d", states={"": ("submitted",), "submitted": ("approved",)})
async def approval(wf: WorkflowContext, number: str) -> str:
    """Wait for somebody."""
    wf.set_status("submitted")
    approved = await wf.wait(ApproveInvoice)
    wf.set_status("approved")
    wf.emit("approved", number)
    return approved.by


async def test_events_states_and_progress_are_those_of_a_class(tmp_path: Path) -> None:
    """The payload of an event is checked by the type that the function waits for."""
    async with Runtime(tmp_path / "data") as rt:
        run = await rt.start(approval, "i-1", id="a")
        with pytest.raises(InvalidEvent, match="doesn't fit ApproveInvoice"):
            await rt.submit_event(approval, "a", "ApproveInvoice", {"by": 3})
        await run.send(ApproveInvoice("ann"))
        assert await run.result() == "ann"
        info = await run.info()
        assert (info.state, [event.name async for event in run.events()]) == ("approved", ["approved"])


async def test_it_is_started_as_a_class_is(tmp_path: Path) -> None:
    """By handle, id, name and listing; type checkers know input and result."""
    async with Runtime(tmp_path / "data") as rt:
        run = await rt.start(without_input, id="a/1")
        assert_type(run, Run[str])
        assert await run.result() == "a/1"
        assert run.workflow == "without_input"
        assert await (await rt.start(with_default, 4)).result() == 4
        assert await rt.run(without_input, "a/1").status() == "complete"
        assert [one.id for one in rt.runs(without_input)] == ["a/1"]
        paying = await rt.start(pay_invoice, Invoice("i-1", 5))
        assert_type(paying, Run[Receipt])
        with pytest.raises(InvalidInput, match="the input of pay_invoice doesn't match run"):
            await rt.start(pay_invoice, "i-1")  # type: ignore[misc]  # pyright: ignore


def test_it_survives_crashes_as_a_class_does() -> None:
    """The same engine: replay, retries, sleeps."""
    with simulate() as sim:
        run = sim.start(pay_invoice, Invoice("i-1", 5))
        sim.advance("30m")
        sim.crash()
        assert sim.result(run) == Receipt("i-1", 5)
        with pytest.raises(RunFailed, match="step pay was tried 2 times"):
            sim.result(sim.start(pay_invoice, Invoice("i-2", -5)))
    for n in range(1, 5):
        check_replay(pay_invoice, [Invoice("i-1", 5)], Storm(crashes=(Crash("commit", n),)))


def test_options_and_metadata_are_the_class_s() -> None:
    """What comes out is a class derived from Workflow, named after the function."""
    assert issubclass(pay_invoice, Workflow)
    assert (pay_invoice.__name__, pay_invoice.__module__, pay_invoice.__doc__) == (
        "pay_invoice",
        __name__,
        "Pay it.",
    )
    about = pay_invoice.about
    assert (about.title, about.version, about.author, about.tags) == (
        "Pay an invoice",
        "1",
        "finance",
        ("invoices",),
    )
    assert pay_invoice.retry.limit == 1
    assert (with_default.name, with_default.step_timeout, with_default.max_running) == (
        "WithDefault",
        None,
        2,
    )
    assert import_target(f"{__name__}:pay_invoice") == [pay_invoice]


def test_its_fingerprint_is_that_of_its_code() -> None:
    """Another body is another one; metadata, options and docstring are not."""

    def made(code: int, doc: str, **options: Any) -> str:
        if code == 1:

            @workflow(name="Made", **options)
            async def one(wf: WorkflowContext, n: int) -> int:
                return await wf.step(pay, n)

            one.__doc__ = doc
            return fingerprint(one, Workflow)

        @workflow(name="Made", **options)
        async def two(wf: WorkflowContext, n: int) -> int:
            return await wf.step(pay, n + 1)

        return fingerprint(two, Workflow)

    assert made(1, "a") == made(1, "b", title="x", version="2", retry=Retry(9))
    assert made(1, "a") != made(2, "a")


def test_the_guard_watches_it() -> None:
    """A clock in it is told with its line."""
    import time

    @workflow
    async def sly(wf: WorkflowContext) -> float:
        return time.time()

    told = r"test_function.py:.*run\(\) calls time.time"
    with simulate() as sim, pytest.raises(NotReplayable, match=told), replay_guard():
        sim.start(sly)
        sim.settle()


def test_what_can_be_no_workflow_is_refused() -> None:
    """Where it is decorated."""
    decorate: Any = workflow

    def plain(wf: WorkflowContext) -> None: ...
    async def bare() -> None: ...
    async def fine(wf: WorkflowContext) -> None: ...

    with pytest.raises(InvalidActor, match="@workflow needs an `async def`"):
        decorate(plain)
    with pytest.raises(InvalidActor, match="must take the context: async def bare"):
        decorate(bare)
    with pytest.raises(InvalidActor, match="got 'Pay an invoice': give free text as title"):
        decorate(name="Pay an invoice")(fine)
