"""Time travel: a run as it was behind any record of its history, without effects."""

from __future__ import annotations

import pytest

from holdfast import Counter, Retry, RunFailed, Runtime, Workflow
from holdfast.actors.errors import RunNotFound
from holdfast.runtime.clock import ManualClock
from tests.actors.workflow.support import Folder, play, settle, soon, until_status

SEEN: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()


async def mark(what: str) -> str:
    SEEN.append(what)
    return what.upper()


class Journey(Workflow):
    """Something of everything."""

    async def run(self, name: str) -> str:
        self.set_status("begun")
        first = await self.step(mark, name)
        self.data["first"] = first
        await self.runtime.get(Counter, "c").increment()
        await self.sleep("1h")
        event = await self.wait("go")
        self.set_status("gone")
        return f"{first} {event.payload}"


async def test_each_record_of_a_run_can_be_looked_at(rt: Runtime, clock: ManualClock) -> None:
    """State, data, variables and lines are those of that moment; nothing runs and nothing is written."""
    run = await rt.start(Journey, "ann", id="j")
    await until_status(run, "waiting")
    await run.send("go", 7)
    await run.send("other", 8)
    assert await play(rt, clock, run) == "ANN 7"
    await settle(rt)
    SEEN.clear()
    history = await run.history()
    commits = rt.store.newest
    views = [await rt.debug(Journey, "j", at=n) for n in range(len(history))]
    last = await rt.debug(Journey, "j")
    assert rt.store.newest == commits
    assert SEEN == []
    assert await rt.get(Counter, "c").get() == 1
    assert [view.state for view in views][:2] == ["begun", "begun"]
    assert views[0].waits == ("mark",)
    assert views[0].variables == {"name": "'ann'"}
    assert "in run" in views[0].lines[0] or "run" in views[0].lines[0]
    behind = next(view for view in views if view.variables.get("first") == "'ANN'")
    assert behind.data == {"first": "ANN"}
    assert last.has_ended
    assert (last.state, last.data, last.events) == ("gone", {"first": "ANN"}, ("other",))
    assert "complete: 'ANN 7'" in last.last
    assert {view.problem for view in views} == {""}


async def test_a_run_that_goes_on_is_not_touched(rt: Runtime) -> None:
    """A look at a run in memory leaves it as it is."""
    run = await rt.start(Journey, "bob", id="j")
    await until_status(run, "waiting")
    view = await rt.debug(Journey, "j")
    assert view.timers == 1
    assert await run.status() == "waiting"
    assert rt.engine.places.running == 0
    with pytest.raises(RunNotFound):
        await rt.debug(Journey, "nobody")


async def test_code_that_does_not_fit_is_told(folder: Folder) -> None:
    """The view says where journal and code part."""

    class Renames(Workflow):
        step_name = "one"
        retry = Retry(0)

        async def run(self) -> None:
            await self.step(mark, "x", name=type(self).step_name)
            raise ValueError("over")

    rt = await folder.open()
    run = await rt.start(Renames, id="r")
    with pytest.raises(RunFailed):
        await soon(run.result())
    assert (await rt.debug(Renames, "r")).problem == ""
    Renames.step_name = "two"
    assert "step one (use 1)" in (await rt.debug(Renames, "r")).problem
