"""Lines of the user's own code, as messages show them: where run() waits, or ended.

Frames of the library and of Python's own modules are left out: what one can mend stands in one's own code.
"""

from __future__ import annotations

import asyncio
import sys
from types import CodeType, CoroutineType, FrameType, GeneratorType, TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from .live_run import LiveRun

_SHOWN_PLACES: Final = 4


def where(run: LiveRun, frame: FrameType | None = None) -> list[str]:
    """Where run() waits or ended, then where its other tasks wait, each once, as file, line and function.

    `frame` is run()'s: without it nobody knows where it returned.
    """
    main = run.main
    found: list[str] = []
    if main is not None and main.done():
        error = None if main.cancelled() else main.exception()
        line = None if error is None else _raised_at(error.__traceback__)
        if line is None and frame is not None:
            line = place(frame.f_code, frame.f_lineno)
        found += [] if line is None else [line]
    elif main is not None:
        found += _waits_at(main)
    others = sorted({line for task in run.loop.tasks or () if not task.done() for line in _waits_at(task)})
    found += [line for line in others if line not in found]
    return found[:_SHOWN_PLACES]


def _waits_at(task: asyncio.Task[Any]) -> list[str]:
    """The innermost line of the user's own code that a task waits in; nothing when it has none."""
    inner: object = task.get_coro()
    found: str | None = None
    while True:
        if isinstance(inner, CoroutineType):
            frame, inner = inner.cr_frame, cast("object", inner.cr_await)
        elif isinstance(inner, GeneratorType):
            frame, inner = inner.gi_frame, cast("object", cast("Any", inner).gi_yieldfrom)
        else:
            break
        if frame is not None and is_users(frame):
            found = place(frame.f_code, frame.f_lineno)
    return [] if found is None else [found]


def _raised_at(trace: TracebackType | None) -> str | None:
    found: str | None = None
    while trace is not None:
        if is_users(trace.tb_frame):
            found = place(trace.tb_frame.f_code, trace.tb_lineno)
        trace = trace.tb_next
    return found


def is_users(frame: FrameType) -> bool:
    """Whether code is neither Python's, nor this library's, nor anyio's."""
    module = cast("object", frame.f_globals.get("__name__"))
    parts = module.split(".") if isinstance(module, str) else [""]
    if parts[0] == "holdfast":
        return parts[1:2] == ["examples"]
    return parts[0] != "anyio" and parts[0] not in sys.stdlib_module_names


def place(code: CodeType, line: int | None) -> str:
    """File, line and function as they stand in messages."""
    return f"{code.co_filename}:{line or code.co_firstlineno} in {code.co_qualname}"
