"""Fixtures of the workflow tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast import Runtime
from holdfast.runtime.clock import ManualClock
from tests.actors.workflow.support import Folder


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
async def folder(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Folder]:
    """A folder that the test opens, crashes and opens again."""
    made = Folder(tmp_path / "data", clock)
    yield made
    await made.end()


@pytest.fixture
async def rt(folder: Folder) -> Runtime:
    """An open runtime whose time stands still; the folder closes it."""
    return await folder.open()
