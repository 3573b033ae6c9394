"""Results: who waits for the end of a run.

Waiters are futures by the run's place in the directory, so a run that leaves memory keeps those who wait for
it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ...storage.errors import HoldfastError, fresh
from ..errors import ErrorRecord, RunFailed
from .journal import Cancelled, End, Failed, Finished, Terminated

if TYPE_CHECKING:
    from ...runtime.ref import Ref


class Results:
    """The waiters of all runs of one runtime."""

    def __init__(self) -> None:
        self._waiters: dict[bytes, dict[asyncio.Future[bytes], None]] = {}
        # Why nothing more will be told, once that is so.
        self._stopped: HoldfastError | None = None

    def waiter(self, ref: Ref) -> asyncio.Future[bytes]:
        """A future of the stored result of a run that goes on; raises once nothing more will be told."""
        if self._stopped is not None:
            raise fresh(self._stopped)
        future: asyncio.Future[bytes] = ref.system.loop.create_future()
        self._waiters.setdefault(ref.directory_key, {})[future] = None
        return future

    def gave_up(self, ref: Ref, waiter: asyncio.Future[bytes]) -> None:
        """Who asked for a waiter was cancelled: nothing of it stays."""
        waiters = self._waiters.get(ref.directory_key)
        if waiters is not None:
            waiters.pop(waiter, None)
            if not waiters:
                del self._waiters[ref.directory_key]

    def ended(self, ref: Ref, record: End) -> None:
        """The end of a run is durable: tell those who wait."""
        for future in self._waiters.pop(ref.directory_key, ()):
            if not future.done():
                if isinstance(record, Finished):
                    future.set_result(bytes(record.value))
                else:
                    future.set_exception(failure(ref, record))

    def failed(self, ref: Ref, error: Exception) -> None:
        """A run will not end in a way that can be waited for: it is stuck, or its start was lost."""
        for future in self._waiters.pop(ref.directory_key, ()):
            if not future.done():
                future.set_exception(error)

    def stop(self, error: HoldfastError) -> None:
        """Tell all that nothing more will be told, also those who ask later."""
        self._stopped = error
        for waiters in self._waiters.values():
            for future in waiters:
                if not future.done():
                    future.set_exception(error)
        self._waiters.clear()


def failure(ref: Ref, record: End | None) -> RunFailed:
    """What the result of a run that didn't finish raises."""
    if isinstance(record, Failed):
        return RunFailed(str(ref), "failed", record.error)
    if isinstance(record, Cancelled):
        return RunFailed(str(ref), "cancelled", ErrorRecord("Cancelled", record.reason))
    if isinstance(record, Terminated):
        return RunFailed(str(ref), "terminated", ErrorRecord("Terminated", record.reason))
    return RunFailed(str(ref), "unknown", None)
