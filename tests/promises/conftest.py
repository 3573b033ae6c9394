"""Fixtures of the tests of the promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.runtime.clock import ManualClock
from holdfast.runtime.system import ActorSystem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a store, not made yet."""
    return tmp_path / "data"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
async def system(folder: Path, clock: ManualClock) -> AsyncIterator[ActorSystem]:
    """An open runtime whose time stands still."""
    async with ActorSystem(folder, clock=clock, seed=1) as running:
        yield running
