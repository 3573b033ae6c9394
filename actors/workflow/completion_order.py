"""The order of the coroutines that `asyncio.as_completed` was given.

It puts them in a set before it makes tasks of them, and coroutines lie in a set by their addresses: the tasks
would be made in another order in each process, and with it the order of their timers and of the uses of a
name.  So a run's loop asks here, whenever it makes a task, what it is made among.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from types import CodeType
from typing import Any, Final, cast

from ..errors import ForeignAwait

# Frames between `create_task` and `as_completed`: `ensure_future` (two functions in some versions) and a set
# comprehension (a frame of its own in some).
_FRAMES_BETWEEN: Final = 4


def _codes(*names: str) -> frozenset[CodeType]:
    """Code of functions of `asyncio.tasks`, of those that this version has."""
    found: set[CodeType] = set()
    for name in names:
        function: Any = asyncio.tasks
        for part in name.split("."):
            function = getattr(function, part, None)
        code = getattr(function, "__code__", None)
        if code is not None:
            found.add(code)
    return frozenset(found)


_ENSURE_FUTURE: Final = _codes("ensure_future", "_ensure_future")
_AS_COMPLETED: Final = _codes("as_completed", "_AsCompletedIterator.__init__")


def made_among(coroutine: Coroutine[Any, Any, object]) -> list[Coroutine[Any, Any, object]] | None:
    """For a task's coroutine: all those that `as_completed` was given with it, in order; None for others.

    Called by `create_task` itself.  Raises `ForeignAwait` when they were given without an order.
    """
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    if frame.f_code not in _ENSURE_FUTURE:
        return None
    for _ in range(_FRAMES_BETWEEN):
        if frame.f_code in _AS_COMPLETED or frame.f_back is None:
            break
        frame = frame.f_back
    if frame.f_code not in _AS_COMPLETED:
        return None
    given: object = frame.f_locals.get("fs", frame.f_locals.get("aws"))
    if isinstance(given, (list, tuple)):
        return [one for one in cast("list[Any]", given) if asyncio.iscoroutine(one)]
    unordered = cast("set[Any]", given) if isinstance(given, (set, frozenset, dict)) else {coroutine}
    for one in unordered:
        if asyncio.iscoroutine(one):
            one.close()  # else each would warn that nobody awaited it
    raise ForeignAwait(
        "as_completed was given coroutines in no order, so replay could not tell them apart; give it a list"
    )
