"""Large write sets are let in one after the other, so that small ones don't wait behind a heap of them.

Between steps 4 and 5 of a call.  Commits are ordered: whoever stages after sixteen write sets of 1 MiB waits
until they are on disk.  So a turn that wrote a large value stages only when the large write set before it is
durable; the actor stays its own meanwhile.  Measured with sixteen writers of 1 MiB values: the p99 of others'
commits is 1.4 to 3.4 times what it is without them, in place of 31 to 135 times.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ..storage.errors import Overloaded, StorageFailed

if TYPE_CHECKING:
    from .chain import Turn
    from .system import ActorSystem

# A value of so many bytes makes its write set a large one: 1 ms of a commit, or a hundred small turns.
LARGE_VALUE_BYTES: Final = 256 << 10


class LargeWrites:
    """Who is let in next; one `acquire`, then staging, then one `release`."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._one_at_a_time = asyncio.Lock()
        self._waiting_bytes = 0
        # The commit of the last large write set.
        self._last = 0

    async def acquire(self, turn: Turn) -> None:
        """Return when the large write set before is durable.

        Raises `Overloaded` when those that wait hold more than `max_staged_bytes` together.
        """
        size = sum(map(len, filter(None, turn.writes.values())))
        limit = self._system.limits.max_staged_bytes
        if self._waiting_bytes and self._waiting_bytes + size > limit:
            raise Overloaded(
                f"{turn} wrote {size} bytes, and with the {self._waiting_bytes} bytes of large write sets "
                f"that wait for the disk that would pass max_staged_bytes={limit}; try again later"
            )
        self._waiting_bytes += size
        try:
            await self._one_at_a_time.acquire()
            try:
                await self._system.store.wait_durable(self._last)
            except StorageFailed:
                pass  # whoever waited for it was told
            except BaseException:
                self._one_at_a_time.release()
                raise
        finally:
            self._waiting_bytes -= size

    def release(self, number: int) -> None:
        """The write set was staged in this commit, or is undone."""
        self._last = number
        self._one_at_a_time.release()
