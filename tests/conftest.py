"""What all tests share.

An `async def test_x()` needs no mark: anyio's plugin runs it (`anyio_mode = "auto"` in pyproject.toml).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
from hypothesis import settings

from holdfast.runtime.clock import ManualClock
from holdfast.runtime.system import ActorSystem

# No example has to be quick: the machine may be busy.  In CI hypothesis brings a profile that says so, too.
settings.register_profile("busy", settings.get_profile("default"), deadline=None)
if settings.get_current_profile_name() == "default":
    settings.load_profile("busy")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run coroutine tests on plain asyncio, the loop that every user has."""
    return "asyncio", {"use_uvloop": False}


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What tests log may hold lone surrogates, which no process can send to another one as text."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode("utf-8")) for name, text in report.sections
    ]
    return report
