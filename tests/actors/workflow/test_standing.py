"""actors/workflow/standing.py: workflows that are active, paused, retired."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from holdfast import CallerError, Runtime, Workflow
from holdfast.actors.errors import WorkflowRetired
from holdfast.actors.workflow.standing import KnownWorkflow
from holdfast.runtime.errors import UnknownActorType
from holdfast.storage.check import check
from holdfast.storage.errors import InvalidValue
from tests.actors.workflow.support import until, until_status
from tests.storage.helpers import start_child


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plain path."""
    return tmp_path / "data"


class StandingEcho(Workflow):
    async def run(self, text: str) -> str:
        return text


class StandingWaits(Workflow):
    async def run(self) -> str:
        await self.wait("go")
        return "went"


class StandingBody(NamedTuple):
    body: Callable[[], Awaitable[None]]


class StandingWorks(Workflow):
    async def run(self) -> None:
        await self.step(self.work)

    async def work(self) -> None:
        await self.runtime.deps.get(StandingBody).body()


def known(rt: Runtime, name: str) -> KnownWorkflow:
    return next(one for one in rt.known_workflows() if one.name == name)


async def test_a_paused_workflow_waits_on_disk(folder: Path) -> None:
    """What is started while it is paused is queued, also over a restart, and runs when it is active again."""
    async with Runtime(folder) as rt:
        await rt.set_workflow_status(StandingEcho, "paused", by="ann", reason="too much")
        run = await rt.start(StandingEcho, "a", id="a")
        assert await run.status() == "queued"
    async with Runtime(folder) as rt:
        assert known(rt, "StandingEcho").status == "paused"
        assert await rt.run(StandingEcho, "a").status() == "queued"
        await rt.set_workflow_status("StandingEcho", "active", by="ann")
        assert await rt.run(StandingEcho, "a").result() == "a"
        deeds = [(deed.who, deed.verb, deed.target, deed.before, deed.after) for deed in rt.audit()]
        assert deeds == [
            ("ann", "active", "WorkflowStanding/StandingEcho", "paused", "active"),
            ("ann", "paused", "WorkflowStanding/StandingEcho", "active", "paused"),
        ]
    assert check(folder) == []


async def test_what_wakes_waits_for_a_place(folder: Path) -> None:
    """A run of a paused workflow that gets its event is queued until the workflow is active."""
    async with Runtime(folder) as rt:
        run = await rt.start(StandingWaits, id="w")
        await until_status(run, "waiting")
        await rt.set_workflow_status(StandingWaits, "paused")
        await run.send("go")
        await until_status(run, "queued")
        await rt.set_workflow_status(StandingWaits, "active")
        assert await run.result() == "went"


async def test_what_was_at_work_waits_behind_a_restart(folder: Path) -> None:
    """A run whose process ended while its workflow was paused goes on when it is active again."""
    began = 0
    go = asyncio.Event()

    async def body() -> None:
        nonlocal began
        began += 1
        await go.wait()

    async with Runtime(folder, deps=[StandingBody(body)]) as rt:
        await rt.start(StandingWorks, id="w")
        await until(lambda: began == 1)
        await rt.set_workflow_status(StandingWorks, "paused")
    go.set()
    async with Runtime(folder, deps=[StandingBody(body)]) as rt:
        await (await rt.start(StandingEcho, "others go on")).result()
        assert began == 1
        await rt.set_workflow_status(StandingWorks, "active")
        await rt.run(StandingWorks, "w").result()
        assert began == 2


async def test_a_retired_workflow_starts_nothing_new(folder: Path) -> None:
    """A start is refused, also after a restart; who joins a run that is there gets it, and it goes on."""
    async with Runtime(folder) as rt:
        run = await rt.start(StandingWaits, id="w")
        await rt.set_workflow_status(StandingWaits, "retired")
    async with Runtime(folder) as rt:
        with pytest.raises(WorkflowRetired, match="StandingWaits is retired"):
            await rt.start(StandingWaits, id="x")
        with pytest.raises(WorkflowRetired):
            await rt.start(StandingWaits, id="w", on_conflict="replace")
        run = await rt.start(StandingWaits, id="w", on_conflict="join")
        await run.send("go")
        assert await run.result() == "went"


async def test_metadata_is_kept(folder: Path) -> None:
    """What is noted about a workflow is there in the next process."""
    async with Runtime(folder) as rt:
        await rt.set_workflow_metadata(StandingEcho, {"department": "sales"}, by="ann")
        with pytest.raises(InvalidValue, match="at most 16"):
            await rt.set_workflow_metadata(StandingEcho, {str(n): "x" for n in range(17)})
    async with Runtime(folder) as rt:
        assert known(rt, "StandingEcho").metadata == {"department": "sales"}


async def test_runs_are_counted(folder: Path) -> None:
    """Each workflow tells how many runs it has in which status."""
    async with Runtime(folder) as rt:
        for n in range(3):
            await (await rt.start(StandingEcho, "a", id=f"{n}")).result()
        await until_status(await rt.start(StandingWaits), "waiting")
        assert known(rt, "StandingEcho").counts == {"complete": 3}
        assert known(rt, "StandingWaits").counts == {"waiting": 1}


SEEN = """
import asyncio, sys
from holdfast import Runtime, Workflow
class StandingSeen(Workflow):
    async def run(self) -> None: ...
async def main():
    async with Runtime(sys.argv[1]) as rt:
        await (await rt.start(StandingSeen)).result()
        await rt.set_workflow_metadata(StandingSeen, {"team": "a"})
asyncio.run(main())
"""


async def test_what_was_seen_is_known(folder: Path) -> None:
    """A workflow whose class isn't imported is listed by what lies on disk, and can be retired."""
    child = start_child(SEEN, folder)
    child.communicate(timeout=60)
    assert child.returncode == 0
    async with Runtime(folder) as rt:
        seen = known(rt, "StandingSeen")
        assert seen == KnownWorkflow("StandingSeen", "active", {"team": "a"}, False, {"complete": 1})
        await rt.set_workflow_status("StandingSeen", "retired")
        assert known(rt, "StandingSeen").status == "retired"


async def test_nonsense_is_refused(folder: Path) -> None:
    """A status that there is not, and a workflow that nobody knows."""
    async with Runtime(folder) as rt:
        with pytest.raises(CallerError, match="active, paused, retired"):
            await rt.set_workflow_status(StandingEcho, "asleep")  # type: ignore[arg-type]  # pyright: ignore
        with pytest.raises(UnknownActorType, match="no workflow 'Nobody'"):
            await rt.set_workflow_status("Nobody", "paused")
        assert known(rt, "StandingEcho").status == "active"
