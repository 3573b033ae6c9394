"""A guard for tests: while run() is driven, clocks, chance and ids of the outside are told, with the line.

    from holdfast.testing import replay_guard

    with replay_guard():
        async with Runtime(folder) as rt:
            await (await rt.start(Order, order, id="o")).result()

`holdfast lint` sees the same in the source, before anything runs; the guard sees what is reached through
other modules and variables too, but only where a test gets to.

It is a profile function of the thread that drives run(), set for just so long; functions of C are found
however they were imported.  While no guard is on nothing of it is there: the loop's method is put in its
place, and back.  Steps, actors and everything else outside of run() may do as they like.
"""

from __future__ import annotations

import datetime
import gc
import random
import sys
from collections.abc import Collection, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from ..actors.errors import NotReplayable
from ..actors.workflow.lint_rules import CLOCK, rule_of
from ..actors.workflow.replay_loop import ReplayLoop
from ..actors.workflow.user_lines import is_users, place

_CLOCKS: Final = frozenset(
    {
        "clock_gettime", "clock_gettime_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
        "process_time", "process_time_ns", "thread_time", "thread_time_ns", "time", "time_ns",
    }
)  # fmt: skip
_DATES: Final = frozenset({"now", "today", "utcnow"})
_SYSTEM: Final = frozenset({"urandom", "getrandom"})
# What the functions of the module `random` are methods of; a `Random` of the run's own is another one.
_SHARED_CHANCE: Final[object] = getattr(random.random, "__self__", None)
# Modules of Python that ask for clocks or chance in the name of their caller; others do it for themselves, as
# logging does for the time of a line.
_IN_ANOTHERS_NAME: Final = frozenset({"random", "secrets", "uuid"})


class _Guard:
    """One `with` block: what is allowed in it, and what it was told."""

    def __init__(self, allow: Collection[str]) -> None:
        self.allow = frozenset(allow)
        self.told: list[str] = []


_guards: list[_Guard] = []
_run_until_rest: Final = ReplayLoop.run_until_rest


@contextmanager
def replay_guard(*, allow: Collection[str] = ()) -> Generator[list[str]]:
    """Within the block, code of run() that calls a clock, chance or an id gets `NotReplayable` there.

    allow   names of modules that may do so, with all below them (a logging library's, for instance)

    The run fails by that, if its code lets it.  At the end of the block all of it is raised again where
    nothing else is, so a run that swallowed it is told as well.  The value of `with ... as` is the list of
    what was told so far.  Blocks may be nested, and hold for all runtimes of the process.
    """
    guard = _Guard(allow)
    _guards.append(guard)
    ReplayLoop.run_until_rest = _guarded  # type: ignore[assignment, method-assign]
    try:
        yield guard.told
    finally:
        _guards.remove(guard)
        if not _guards:
            ReplayLoop.run_until_rest = _run_until_rest  # type: ignore[method-assign]
    if guard.told:
        raise NotReplayable("; ".join(dict.fromkeys(guard.told)))


def _guarded(loop: ReplayLoop) -> None:
    before = sys.getprofile()
    sys.setprofile(_watch)
    try:
        _run_until_rest(loop)
    finally:
        sys.setprofile(before)


def _watch(frame: FrameType, event: str, called: object) -> None:
    if event != "c_call":
        return
    name = _outside(called)
    if name is None:
        return
    caller: FrameType | None = frame
    while caller is not None and _module(caller) in _IN_ANOTHERS_NAME:
        name = f"{_module(caller)}.{caller.f_code.co_name}"
        caller = caller.f_back
    if caller is None or not is_users(caller) or _collects(frame):
        return
    rule = rule_of(name, 0) or CLOCK
    text = (
        f"{place(caller.f_code, caller.f_lineno)}: run() calls {name}(), and {rule.why}; use {rule.instead}"
    )
    module = _module(caller)
    asked = [guard for guard in _guards if not _is_below(module, guard.allow)]
    for guard in asked:
        guard.told.append(text)
    if asked:
        raise NotReplayable(text)


def _collects(frame: FrameType) -> bool:
    """Whether a callback of the garbage collector is at work: it comes at any time, not by run()."""
    codes = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    at: FrameType | None = frame
    while at is not None:
        if at.f_code in codes:
            return True
        at = at.f_back
    return False


def _outside(called: object) -> str | None:
    """The name of a function of C that gives something else on replay; None for all others."""
    name: str = getattr(called, "__name__", "")
    owner: object = getattr(called, "__self__", None)
    module: object = getattr(called, "__module__", None)
    if name in _CLOCKS and module == "time":
        return f"time.{name}"
    if name in _DATES and isinstance(owner, type) and issubclass(owner, datetime.date):
        return f"datetime.{'datetime' if issubclass(owner, datetime.datetime) else 'date'}.{name}"
    if name in _SYSTEM and module in ("posix", "nt"):
        return f"os.{name}"
    if owner is not None and owner is _SHARED_CHANCE:
        return f"random.{name}"
    if name == "generate_time_safe" and module == "_uuid":
        return "uuid.uuid1"
    return None


def _module(frame: FrameType) -> str:
    name: object = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else ""


def _is_below(module: str, names: Collection[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)
