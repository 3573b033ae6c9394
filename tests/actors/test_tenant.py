"""Tenants: no listing, event, update, query or verb crosses from one to another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Runtime, StepError, Workflow, query, update
from holdfast.actors.errors import RunExists, RunNotFound
from holdfast.actors.handle import Run
from holdfast.storage.errors import InvalidValue


class Deal(Workflow):
    """Waits for an event."""

    @query
    def seen(self) -> str:
        return "seen"

    @update
    def poke(self) -> str:
        return "poked"

    async def run(self, name: str) -> str:
        event = await self.wait("close")
        return f"{name} {event.tenant}"


@pytest.fixture
async def rt(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with Runtime(tmp_path / "data", switch_interval_seconds=None) as runtime:
        yield runtime


CALLS: dict[str, Callable[[Run[str]], Awaitable[object]]] = {
    "info": lambda run: run.info(),
    "result": lambda run: run.result(),
    "history": lambda run: run.history(),
    "export": lambda run: run.export(),
    "data": lambda run: run.data(),
    "send": lambda run: run.send("close"),
    "send in another's name": lambda run: run.send("close", tenant="acme"),
    "query": lambda run: run.query(Deal.seen),
    "update": lambda run: run.update(Deal.poke),
    "update once": lambda run: run.update_once(Deal.poke, "u"),
    "pause": lambda run: run.pause(),
    "cancel": lambda run: run.cancel(),
    "terminate": lambda run: run.terminate(),
    "restart": lambda run: run.restart(),
    "retry now": lambda run: run.retry_now(),
    "redrive": lambda run: run.redrive(),
    "fork": lambda run: run.fork("x", id="f"),
    "purge": lambda run: run.purge(),
    "events": lambda run: anext(run.events()),
    "dead letter": lambda run: run.dead_letter(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_nothing_of_a_handle_reaches_another_tenants_run(rt: Runtime, call: str) -> None:
    """Each is told that there is no such run, and the run is as it was."""
    await rt.tenant("acme").start(Deal, "a", id="d")
    with pytest.raises(RunNotFound):
        await CALLS[call](rt.tenant("other").run(Deal, "d"))
    run = rt.tenant("acme").run(Deal, "d")
    assert await run.query(Deal.seen) == "seen"
    await run.send("close")
    assert await run.result() == "a acme"


async def test_a_tenant_sees_and_changes_its_own(rt: Runtime) -> None:
    """Listings, filters and events are its own."""
    acme, other = rt.tenant("acme"), rt.tenant("other")
    for n in range(3):
        await acme.start(Deal, "a", id=f"a{n}")
        await other.start(Deal, "o", id=f"o{n}")
    assert [one.id for one in acme.runs()] == ["a0", "a1", "a2"]
    assert [one.id for one in other.runs(Deal, reverse=True)] == ["o2", "o1", "o0"]
    result = await acme.control("pause", rt.run_filter(Deal))
    assert (result.matched, result.done) == (3, 3)
    assert {one.status for one in other.runs()} == {"waiting"}
    await acme.control("resume", rt.run_filter(Deal, tenant="other"))
    info = await other.submit_event(Deal, "o1", "close")
    assert info.status == "complete"
    with pytest.raises(RunNotFound):
        await other.submit_event(Deal, "a1", "close")
    with pytest.raises(RunNotFound):
        await other.enqueue_event(Deal, "a1", "close")
    with pytest.raises(RunNotFound):
        await other.debug(Deal, "a1")
    assert (await acme.debug(Deal, "a1")).run == "Deal/a1"
    assert await acme.dead_letters() == []


@pytest.mark.parametrize("how", ["join", "replace", "reject"])
async def test_another_tenants_id_is_in_use_and_no_more(rt: Runtime, how: Any) -> None:
    """Neither joined nor replaced, and nothing of it is told."""
    await rt.tenant("acme").start(Deal, "a", id="d")
    with pytest.raises(RunExists, match="use another id"):
        await rt.tenant("other").start(Deal, "o", id="d", on_conflict=how)
    with pytest.raises(RunExists):
        await rt.start(Deal, "o", id="d", on_conflict=how)
    assert await rt.tenant("acme").run(Deal, "d").query(Deal.seen) == "seen"


async def test_a_run_sends_only_to_runs_of_its_tenant(rt: Runtime) -> None:
    """Between tenants there are no events, also from inside."""

    class Tells(Workflow):
        async def run(self, other: str) -> str:
            try:
                await self.send(Deal, other, "close")
            except StepError as error:
                return str(error.cause)
            return "sent"

    acme, other = rt.tenant("acme"), rt.tenant("other")
    await acme.start(Deal, "a", id="a")
    await other.start(Deal, "o", id="o")
    assert "RunNotFound" in await (await acme.start(Tells, "o", id="t1")).result()
    assert await (await acme.start(Tells, "a", id="t2")).result() == "sent"
    assert await acme.run(Deal, "a").result() == "a acme"


async def test_a_tenant_has_a_name(rt: Runtime) -> None:
    """One that can be indexed and shown."""
    with pytest.raises(InvalidValue, match="a tenant must have"):
        rt.tenant("")
