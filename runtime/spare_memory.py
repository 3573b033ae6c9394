"""Gives memory back to the system after large values.

What large values took stays with the C library's allocator when it is freed: after a turn of 64 MiB the
process went on with 64 MiB more.  So four times in the idle time of an actor the runtime looks whether memory
grew while much of it is free, and has it trimmed, in a thread.

Only glibc has these calls; elsewhere nothing is done.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from pathlib import Path
from typing import Final

# Less than that is not worth the pages that would have to be faulted in anew.
SPARE_BYTES: Final = 2 << 20
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = Path("/proc/self/statm")


class _MallocInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`; `fordblks` are the bytes that are free in its heaps."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
            "keepcost",
        )
    ]  # fmt: skip


class SpareMemory:
    """Looks at the process's memory now and then, and trims it."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(None)
            self._info = library.mallinfo2
            self._trim = library.malloc_trim
        except (OSError, AttributeError):
            self._usable = False
            return
        self._info.restype = _MallocInfo
        self._trim.argtypes = (ctypes.c_size_t,)
        self._usable = _STATM.exists()
        # What was in use after the last trim: what grew since may be spare.
        self._settled_bytes = anonymous_bytes() if self._usable else 0
        self._trimming: asyncio.Future[object] | None = None

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have memory trimmed by a thread of `loop` if it grew and is free; returns at once.

        A clock that is moved by hand calls this while no loop runs.
        """
        if not self._usable or (self._trimming is not None and not self._trimming.done()):
            return
        used = anonymous_bytes()
        # A process that shrank by itself grows from there.
        self._settled_bytes = min(self._settled_bytes, used)
        if used - self._settled_bytes < SPARE_BYTES or int(self._info().fordblks) < SPARE_BYTES:
            return
        self._trimming = loop.run_in_executor(None, self._give_back)

    def _give_back(self) -> None:
        self._trim(0)
        self._settled_bytes = anonymous_bytes()


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    _, resident, shared, *_ = _STATM.read_bytes().split()
    return (int(resident) - int(shared)) * _PAGE_BYTES
