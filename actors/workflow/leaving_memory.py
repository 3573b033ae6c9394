"""What run() waits in is closed when the run leaves memory, in that moment and without any effect.

Left to the collector, `finally` blocks would run at any time, and ended runs pile up in memory first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast

from ...runtime.chain import CALLER

if TYPE_CHECKING:
    from ...runtime.chain import Caller
    from .replay_loop import ReplayLoop

# Coroutines of runs that left memory and refuse to be closed: kept, so that the collector doesn't run them
# on.
UNCLOSED: list[Coroutine[Any, Any, object]] = []


def close_tasks(loop: ReplayLoop, main: asyncio.Task[object] | None, caller: Caller) -> None:
    """Close the coroutines of run() and of the tasks that it started: their `finally` blocks run now.

    A dead process would not run them at all.  Steps and calls that they ask `caller` for never end, and what
    they raise is nobody's.
    """
    started, loop.tasks = loop.tasks, None
    # The task of run() itself is made past the loop's create_task, so it isn't among them.
    tasks = [task for task in (*(started or ()), main) if task is not None and not task.done()]
    if not tasks:
        return
    context = Context()
    context.run(CALLER.set, caller)
    for task in tasks:
        cast("Any", task)._log_destroy_pending = False  # known to asyncio alone
        coroutine = cast("Coroutine[Any, Any, object]", task.get_coro())
        if not loop.close_coroutine(coroutine, context):
            UNCLOSED.append(coroutine)
        _stop_waiting(task)


def _stop_waiting(task: asyncio.Task[Any]) -> None:
    """Take apart the ring of a task whose coroutine was closed: it, the future it waited for, its callback.

    The ring holds the whole run by its context.  Left to the collector, ended runs pile up in memory first.
    """
    future: Any = getattr(task, "_fut_waiter", None)  # known to asyncio alone, as the callbacks are
    if future is not None:
        for callback, _ in getattr(future, "_callbacks", None) or ():
            future.remove_done_callback(callback)
