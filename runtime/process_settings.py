"""Settings of the whole process that a runtime holds while it is open.

The runtimes of a process share them: of what they ask for the best holds, and what was set before the first
of them comes back when the last one closes.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value", int, float)


class ProcessSetting(Generic[Value]):
    """One setting, and those who ask for a value of it."""

    def __init__(
        self,
        read: Callable[[], Value],
        write: Callable[[Value], None],
        choose: Callable[[Iterable[Value]], Value],
    ) -> None:
        self._read: Callable[[], Value] = read
        self._write: Callable[[Value], None] = write
        self._choose: Callable[[Iterable[Value]], Value] = choose
        self._wanted: list[Value] = []
        self._before: Value | None = None

    def hold(self, value: Value) -> None:
        """Ask for a value until `release` is called with the same one.

        Raises, and holds nothing, when the value can't be.
        """
        before = self._read()
        self._wanted.append(value)
        try:
            self._write(self._choose(self._wanted))
        except BaseException:
            self._wanted.remove(value)
            raise
        if len(self._wanted) == 1:
            self._before = before

    def release(self, value: Value) -> None:
        """Take one `hold` back."""
        self._wanted.remove(value)
        if self._wanted:
            self._write(self._choose(self._wanted))
        elif self._before is not None:
            self._write(self._before)
            self._before = None


# `sys.setswitchinterval`, in seconds.
switch_interval: Final = ProcessSetting[float](sys.getswitchinterval, sys.setswitchinterval, min)
# How many new objects start a run of the garbage collector (the first of `gc.set_threshold`).
gc_threshold: Final = ProcessSetting[int](
    lambda: gc.get_threshold()[0], lambda value: gc.set_threshold(value, *gc.get_threshold()[1:]), max
)
