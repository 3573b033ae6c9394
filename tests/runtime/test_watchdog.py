"""The watchdog: a turn that blocks the loop is named."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.limits import Limits
from holdfast.runtime.system import ActorSystem


class Blocking(Actor):
    async def block(self, reports: float) -> None:
        self._spin_until_reported()

    async def block_through(self) -> None:
        await self.runtime.get(Blocking, "inner").block(1)

    def _spin_until_reported(self) -> None:
        watchdog = self.runtime.watchdog
        assert watchdog is not None
        until = time.monotonic() + 20
        before = len(watchdog.reports)
        while len(watchdog.reports) == before and time.monotonic() < until:
            time.sleep(0.001)


async def test_names_actor_and_stack(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A turn that blocks the loop longer than the limit is logged with its actor, method and stack."""
    with caplog.at_level(logging.WARNING, "holdfast.watchdog"):
        async with ActorSystem(folder, limits=Limits(stall_seconds=0.02)) as system:
            await system.get(Blocking, "key").block(1)
    [record] = [record for record in caplog.records if "Blocking/key.block" in record.getMessage()]
    assert "_spin_until_reported" in record.getMessage()


async def test_names_the_innermost_turn(folder: Path) -> None:
    """In a chain of calls it is the actor that blocks, not the one that waits for it."""
    async with ActorSystem(folder, limits=Limits(stall_seconds=0.02)) as system:
        await system.get(Blocking, "outer").block_through()
        assert system.watchdog is not None
        assert system.watchdog.reports[-1].startswith("a turn of Blocking/inner.block ")


async def test_one_stall_is_reported_once(folder: Path) -> None:
    """A long stall doesn't fill the log."""
    async with ActorSystem(folder, limits=Limits(stall_seconds=0.02)) as system:
        watchdog = system.watchdog
        assert watchdog is not None
        await system.get(Blocking, "key").block(1)
        time.sleep(0.1)  # noqa: ASYNC251  # the stall goes on: it is what is tested
        assert len([report for report in watchdog.reports if "Blocking" in report]) == 1


async def test_code_outside_a_turn(folder: Path) -> None:
    """A stall that no actor causes is told as such."""
    async with ActorSystem(folder, limits=Limits(stall_seconds=0.02)) as system:
        watchdog = system.watchdog
        assert watchdog is not None
        until = time.monotonic() + 20
        while not watchdog.reports and time.monotonic() < until:
            time.sleep(0.001)  # noqa: ASYNC251  # a stall is what is tested
        assert watchdog.reports[0].startswith("code outside any turn")


async def test_no_watchdog(folder: Path) -> None:
    """With None there is no thread for it, and closing leaves none behind."""
    async with ActorSystem(folder, limits=Limits(stall_seconds=None)):
        assert "holdfast-watchdog" not in {thread.name for thread in threading.enumerate()}
    async with ActorSystem(folder):
        assert "holdfast-watchdog" in {thread.name for thread in threading.enumerate()}
    assert not {"holdfast-watchdog", "holdfast-writer"} & {thread.name for thread in threading.enumerate()}
