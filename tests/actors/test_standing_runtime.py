"""A folder opened for looking: nothing is written, nothing goes on, no class is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import Counter
from holdfast.actors.standing_runtime import FolderReader, FolderRuntime
from holdfast.runtime.registry import find_actor_class
from holdfast.storage.errors import FolderInUse

FILL = """
import asyncio
from holdfast import Counter, Runtime, Workflow
class StandingFlow(Workflow):
    async def run(self) -> None:
        await self.sleep("1ms")
        await self.sleep("100d")
async def main() -> None:
    async with Runtime("data") as rt:
        await rt.start(StandingFlow, id=("a", 1))
        await rt.get(Counter, "c").increment()
asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a run of a workflow that isn't imported here."""
    subprocess.run([sys.executable, "-c", FILL], cwd=tmp_path, check=True)
    return tmp_path / "data"


async def test_a_reader_shows_runs_without_their_class(folder: Path) -> None:
    """There is a stand-in while it is open, and none afterwards."""
    async with FolderReader(folder) as reader:
        page = reader.run_page(reader.run_filter(None), limit=10)
        assert [(run.workflow, run.id) for run in page.runs] == [("StandingFlow", "a/1")]
        assert find_actor_class("StandingFlow") is not None
    assert find_actor_class("StandingFlow") is None


async def test_a_reader_writes_nothing(folder: Path) -> None:
    """A call that changes something is refused, and the file keeps its bytes."""
    before = (folder / "data.mdb").read_bytes()
    async with FolderReader(folder) as reader:
        with pytest.raises(FolderInUse, match="opened for reading"):
            await reader.get(Counter, "c").increment()
        assert await reader.get(Counter, "c").get() == 1
    assert (folder / "data.mdb").read_bytes() == before


async def test_an_owner_that_stands_lets_nothing_go_on(folder: Path) -> None:
    """What is done to it is done; runs and alarms stay as they are."""
    async with FolderRuntime(folder) as owner:
        await owner.get(Counter, "c").increment()
        before = owner.run_page(owner.run_filter(None), limit=10).runs[0]
    async with FolderReader(folder) as reader:
        assert await reader.get(Counter, "c").get() == 2
        after = reader.run_page(reader.run_filter(None), limit=10).runs[0]
    assert after.updated_at == before.updated_at
