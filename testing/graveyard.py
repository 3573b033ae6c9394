"""What dead processes leave in memory: suspended coroutines, which Python would run on when it frees them.

A killed process runs no `finally` block.  Here the remains of one lie in the memory of the test, and freeing
a suspended coroutine closes it: its clean-up code runs and is seen by whoever counts effects.  So all of it
is kept while the story goes on.  When the story ends, coroutines whose closing runs no code of the user's are
closed and the memory comes back; the others (suspended inside a `try` or a `with`) are kept for good.

Promise
  * No clean-up code of a process that died in a simulation ever runs.
"""

from __future__ import annotations

import asyncio
import ctypes
import dis
import os
import types
from asyncio.tasks import _unregister_task  # pyright: ignore[reportPrivateUsage]  # for who extends asyncio
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

_HERE: Final = Path(__file__).resolve().parents[1]
# Clean-up code in these touches nothing but what died too.
_HARMLESS: Final = (
    *(f"{top}{os.sep}{name}{os.sep}" for top in {_HERE, Path(os.path.abspath(__file__)).parents[1]}
      for name in ("storage", "runtime", "actors", "testing")),
    os.path.dirname(os.path.abspath(asyncio.__file__)) + os.sep,
)  # fmt: skip


def keep_for_good(one: object) -> None:
    """Never free an object, not even when the interpreter ends: a list would be emptied then."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


def lay_to_rest(tasks: Iterable[asyncio.Task[Any]]) -> bool:
    """Close the coroutines of dead tasks where that runs no code of the user's.

    Returns False when some had to be kept for good.
    """
    all_closed = True
    for task in tasks:
        coroutine = task.get_coro()
        cast("Any", task)._log_destroy_pending = False  # known to asyncio alone
        # What is kept must not make each later question for all tasks slower.
        _unregister_task(task)
        if not isinstance(coroutine, types.CoroutineType):
            keep_for_good(task)
            all_closed = False
        elif closes_silently(coroutine):
            try:
                coroutine.close()
            except BaseException:  # of our own clean-up code, which finds nothing as it was
                pass
        else:
            keep_for_good(coroutine)
            all_closed = False
    return all_closed


def closes_silently(coroutine: types.CoroutineType[Any, Any, Any]) -> bool:
    """Whether closing a suspended coroutine runs no code but the library's own."""
    awaited: object = coroutine
    while True:
        one: Any = awaited
        frame: types.FrameType | None  # a closed one has none
        following: object
        if isinstance(awaited, types.CoroutineType):
            frame, following = one.cr_frame, one.cr_await
        elif isinstance(awaited, types.GeneratorType):
            frame, following = one.gi_frame, one.gi_yieldfrom
        else:
            # An iterator over a future ends a chain; anything else may hide more of it.
            return awaited is None or type(awaited).__name__ == "FutureIter"
        if frame is not None and _may_clean_up(frame):
            return False
        awaited = following


def _may_clean_up(frame: types.FrameType) -> bool:
    code = frame.f_code
    return not code.co_filename.startswith(_HARMLESS) and _is_guarded(code, frame.f_lasti)


# Where CPython goes on its own account: none of these is a `try` or a `with`.
_PASSES_ON: Final = {"CLEANUP_THROW", "END_ASYNC_FOR"}
_OUTERMOST: Final = {"CALL_INTRINSIC_1"}


@lru_cache(maxsize=1024)
def _is_guarded(code: types.CodeType, offset: int) -> bool:
    """Whether an exception at this place of the code goes to a handler of the code itself."""
    entries: Any = cast("Any", dis)._parse_exception_table(code)
    for entry in entries:
        if entry.start <= offset < entry.end:
            target: int = entry.target
            name = dis.opname[code.co_code[target]]
            if name in _PASSES_ON:
                return _is_guarded(code, target)
            return name not in _OUTERMOST
    return False
