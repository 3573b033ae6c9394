"""Very many calls that wait one behind the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

from holdfast import Actor, Runtime


class Link(Actor):
    async def pull(self) -> None:
        """Hold this link and wait for the one before, which is held as well."""
        if self.key == 0:
            await self.runtime.deps.get(asyncio.Event).wait()
        else:
            assert isinstance(self.key, int)
            await self.runtime.get(Link, self.key - 1).look()

    async def look(self) -> None:
        return None


async def test_many_turns_that_wait_for_each_other(tmp_path: Path) -> None:
    """Looking for a deadlock among them needs no deep stack: all end once the first does."""
    released = asyncio.Event()
    async with Runtime(tmp_path, deps=[released]) as rt:
        calls = []
        for number in range(1_500):
            calls.append(asyncio.create_task(rt.get(Link, number).pull()))
            await asyncio.sleep(0)
        released.set()
        await asyncio.gather(*calls)
