"""Replies that can't be kept in a run's journal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast import Actor, RunFailed, Runtime, Workflow, shared


class Odd(Actor):
    n: int = 0

    async def text(self) -> str:
        self.n += 1
        return "\udc80"

    @shared
    async def shared_text(self) -> str:
        return "\udc80"

    @shared
    async def shared_number(self) -> int:
        return 2**70

    @shared
    async def count(self) -> int:
        return self.n


class Ask(Workflow):
    async def run(self, method: str) -> object:
        return await getattr(self.runtime.get(Odd, "a"), method)()


@pytest.mark.parametrize("method", ["text", "shared_text", "shared_number"])
async def test_a_run_gets_a_reply_that_can_not_be_stored(tmp_path: Path, method: str) -> None:
    """The call fails, and with it the run; it doesn't wait for ever, and the callee's turn is undone."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Ask, method)
        with pytest.raises(RunFailed, match=f"step Odd/a.{method} was tried once"):
            await asyncio.wait_for(run.result(), 5)
        assert await rt.get(Odd, "a").count() == 0
