"""The pytest plugin, in test runs of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import Counter
from holdfast.testing import Simulation

OTHERS = [name for name in ("pytest_asyncio",) if importlib.util.find_spec(name)]


def run_pytest(folder: Path, code: str, *options: str) -> tuple[int, str]:
    """Run pytest over one file in an empty folder; returns its exit code and what it printed."""
    (folder / "test_it.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_it.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_the_fixture(sim: Simulation) -> None:
    """`sim` is a story that has begun."""
    assert sim.call(Counter, "a").increment() == 1
    sim.crash()
    assert sim.call(Counter, "a").get() == 1


@pytest.mark.simulate(seed=7, start_ms=1_000_000_000_000)
def test_the_mark_gives_options(sim: Simulation) -> None:
    """Options of `simulate` stand in a mark."""
    assert (sim.seed, sim.now_ms) == (7, 1_000_000_000_000)


def test_a_mark_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    """Options without a name, unknown ones, and values that can't be; a setup that raises fails the test."""
    code = """
import pytest

@pytest.mark.simulate(7)
def test_without_a_name(sim): ...

@pytest.mark.simulate(sead=7)
def test_unknown(sim): ...

@pytest.mark.simulate(seed="7")
def test_value(sim): ...

@pytest.mark.simulate(setup=lambda runtime: 1 / 0)
def test_setup(sim): ...
"""
    status, printed = run_pytest(tmp_path, code)
    assert status == 1
    assert "4 errors" in printed
    for told in ("positional", "sead", "whole number", "ZeroDivisionError"):
        assert told in printed


def test_the_story_of_a_failed_test_is_shown(tmp_path: Path) -> None:
    """Below the traceback stands what happened."""
    code = """
from holdfast import Counter

def test_wrong(sim):
    sim.call(Counter, "a").increment()
    sim.crash()
    assert sim.call(Counter, "a").get() == 2
"""
    status, printed = run_pytest(tmp_path, code)
    assert status == 1
    assert "the story of sim" in printed
    assert "crash: now" in printed
    assert ": Counter/a changed" in printed


def test_beside_plugins_for_async_tests(tmp_path: Path) -> None:
    """Async tests of anyio's plugin, and of pytest-asyncio where it is installed, run in the same session."""
    code = """
import asyncio
import pytest
from holdfast import Counter

def test_before(sim):
    assert sim.call(Counter, "a").increment() == 1

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_async(anyio_backend):
    await asyncio.sleep(0)

def test_after(sim):
    assert sim.call(Counter, "a").increment() == 1

def test_inside(sim):
    async def work():
        await asyncio.sleep(3600)
        return await sim.get(Counter, "a").increment()
    assert sim.run(work) == 1
"""
    options = ["--strict-markers", "-W", "error"]
    if OTHERS:
        options += ["-o", "asyncio_default_fixture_loop_scope=function"]
        code += "\n@pytest.mark.asyncio\nasync def test_other():\n    await asyncio.sleep(0)\n"
    status, printed = run_pytest(tmp_path, code, *options)
    assert status == 0, printed
    assert f"{4 + len(OTHERS)} passed" in printed


def test_a_run_without_the_fixture_loads_no_holdfast(tmp_path: Path) -> None:
    """Other people's tests pay nothing for the plugin."""
    code = """
import sys

def test_nothing():
    assert "holdfast" not in sys.modules and "lmdb" not in sys.modules
"""
    status, printed = run_pytest(tmp_path, code)
    assert status == 0, printed


async def test_in_an_async_test_it_is_refused() -> None:
    """A loop runs already there, which a simulation can't share."""
    from holdfast import CallerError
    from holdfast.testing import simulate

    with pytest.raises(CallerError, match=r"plain `def` test"), simulate():
        pass
