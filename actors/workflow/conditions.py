"""Conditions that `run()` waits for: `await self.until(lambda: self.approved, timeout="2d")`.

They are looked at whenever `run()` has come to rest, in the order in which it asked: what they look at is
changed by its own tasks and by updates, so that is the same on replay.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...storage.errors import CallerError
from .replay_loop import ReplayFuture

if TYPE_CHECKING:
    from .replay_loop import ReplayLoop, ReplayTimer


class ConditionWait(ReplayFuture[None]):
    """A wait for a condition."""

    __slots__ = ("conditions", "predicate", "timer")

    conditions: Conditions
    predicate: Callable[[], object]
    timer: ReplayTimer | None

    def cancel(self, msg: object | None = None) -> bool:
        """Give the wait up; False when it is done."""
        if not super().cancel(msg):
            return False
        self.conditions.given_up(self)
        return True


class Conditions:
    """The conditions that one run in memory waits for."""

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: list[ConditionWait] = []

    def __len__(self) -> int:
        return len(self._waits)

    @property
    def waits(self) -> list[ConditionWait]:
        """Those that don't hold yet, in order."""
        return self._waits

    def wait(
        self, loop: ReplayLoop, predicate: Callable[[], object], timeout_seconds: float | None
    ) -> ConditionWait:
        """A future that is done once the condition holds; it may be done at once."""
        wait = ConditionWait(loop=loop)
        wait.conditions, wait.predicate, wait.timer = self, predicate, None
        if not self._look_at(wait):
            self._waits.append(wait)
            if timeout_seconds is not None:
                wait.timer = loop.call_later(timeout_seconds, self._timed_out, wait, timeout_seconds)
        return wait

    def look(self) -> bool:
        """Look at all of them; returns whether one holds now."""
        held = [wait for wait in self._waits if self._look_at(wait)]
        for wait in held:
            self.given_up(wait)
        return bool(held)

    def given_up(self, wait: ConditionWait) -> None:
        """Nobody waits for it any more."""
        if wait in self._waits:
            self._waits.remove(wait)
        if wait.timer is not None:
            wait.timer.cancel()
            wait.timer = None

    def _look_at(self, wait: ConditionWait) -> bool:
        if wait.done():
            return True
        try:
            value = wait.predicate()
            if not value:
                return False
            if inspect.isawaitable(value):  # true by itself, whatever it would give
                if inspect.iscoroutine(value):
                    value.close()
                raise CallerError(f"the condition of until() must give a value and not {value!r:.200}")
        except Exception as error:
            wait.set_exception(error)
        else:
            wait.set_result(None)
        return True

    def _timed_out(self, wait: ConditionWait, seconds: float) -> None:
        wait.timer = None
        if not wait.done():
            self.given_up(wait)
            wait.set_exception(TimeoutError(f"the condition did not hold within {seconds:g} s"))
