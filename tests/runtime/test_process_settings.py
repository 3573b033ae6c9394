"""Settings of the whole process: shared by its runtimes, and put back."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from holdfast.runtime.process_settings import gc_threshold, switch_interval
from holdfast.runtime.system import ActorSystem


async def test_switch_interval_is_put_back(tmp_path: Path) -> None:
    """The process gets its own interval back when the last runtime closes, in whatever order they do."""
    before = sys.getswitchinterval()
    one = ActorSystem(tmp_path / "a", switch_interval_seconds=1e-4)
    other = ActorSystem(tmp_path / "b", switch_interval_seconds=2e-4)
    await one.open()
    await other.open()
    assert sys.getswitchinterval() == pytest.approx(1e-4)
    await one.close()
    assert sys.getswitchinterval() == pytest.approx(2e-4)
    await other.close()
    assert sys.getswitchinterval() == pytest.approx(before)


async def test_switch_interval_is_left_alone(folder: Path) -> None:
    """With None nothing is set."""
    before = sys.getswitchinterval()
    async with ActorSystem(folder, switch_interval_seconds=None):
        assert sys.getswitchinterval() == before


def test_the_shortest_wanted_interval_holds() -> None:
    """Several holders share it."""
    before = sys.getswitchinterval()
    switch_interval.hold(3e-4)
    switch_interval.hold(1e-4)
    switch_interval.hold(1e-4)
    switch_interval.release(1e-4)
    assert sys.getswitchinterval() == pytest.approx(1e-4)
    switch_interval.release(1e-4)
    switch_interval.release(3e-4)
    assert sys.getswitchinterval() == pytest.approx(before)


async def test_the_collector_gets_its_threshold_back(tmp_path: Path) -> None:
    """So does the garbage collector."""
    before = gc.get_threshold()
    async with ActorSystem(tmp_path / "a"), ActorSystem(tmp_path / "b"):
        assert gc.get_threshold()[0] > before[0]
        assert gc.get_threshold()[1:] == before[1:]
    assert gc.get_threshold() == before
    gc_threshold.hold(before[0] + 1)
    gc_threshold.release(before[0] + 1)
    assert gc.get_threshold() == before
