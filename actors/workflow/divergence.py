"""Whether run() still asks for what is recorded, and the sentence that says where it doesn't.

Replay delivers the outcomes in the order of the journal.  Before each one `ReplayCheck` looks whether this
code can be the code that got it then:

  * what the outcome belongs to was asked for by now: a step or call by name and use, a timer by its number;
  * a timer was due when the recorded one was;
  * what run() gave up, or left behind when it ended, is recorded only where it was in flight: asked for
    before the outcome by which it was given up, as all that was recorded in between;
  * a step or call that was tried and has no outcome is asked for by the end;
  * run() doesn't raise where the run went on before.

It may ask for more than is recorded, at any time: that hasn't happened yet.  Where the check fails the run is
stuck, never failed, and nothing of it is lost.

The uses of one name, and sleeps of the same end, are told apart by their numbers alone; what a step is called
with is not recorded.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import TYPE_CHECKING, Final

import msgspec

from ...runtime.clock import moment
from ...runtime.codec import BAD_VALUE, reason
from ...runtime.error_text import message_text
from ..errors import ErrorRecord
from .fold import Fold
from .journal import (
    CancelAsked,
    EventArrived,
    Outcome,
    Resumed,
    StepDone,
    StepFailed,
    TimerFired,
    UndoBegan,
    UpdateAccepted,
)
from .user_lines import is_users, place, where

if TYPE_CHECKING:
    from .live_run import LiveRun
    from .ops import Op

# Nobody asks for these.
_FROM_OUTSIDE: Final = (EventArrived, UpdateAccepted, Resumed, CancelAsked, UndoBegan)
# The name of a divergence among the errors of runs; it is a record, not a class.
DIVERGENCE: Final = "Divergence"
# So many of each sequence are shown before the difference, and behind it: the rest is in the history.
_SHOWN_BEFORE: Final = 12
_SHOWN_BEHIND: Final = 3
_ADVICE: Final = (
    "put back the code that asked for it, or fix the change (self.version() tells old runs from new ones), "
    "and open the folder again"
)


class Divergence(msgspec.Struct, frozen=True):
    """Where code and journal part."""

    position: int
    """Of the first record that the code doesn't fit; 0 when it is not one record."""
    recorded: tuple[str, ...]
    """What was recorded, in order."""
    requested: tuple[str, ...]
    """What run() asked for, in order; timers stand behind the steps that were asked for at the same time."""
    difference: str
    """The first difference."""
    places: tuple[str, ...]
    """File, line and function where run() waits, or ended; then where its other tasks wait."""
    code: str
    """Whether the code of the class has changed since it last drove the run."""

    def __str__(self) -> str:
        return (
            f"{self.difference}; at {', '.join(self.places) or 'an unknown line'}; "
            f"recorded: {self.shown_recorded()}; requested: {self.shown_requested()}; {self.code}; {_ADVICE}"
        )

    def shown_recorded(self) -> str:
        """What was recorded around the difference, on one line."""
        return _cut(self.recorded, self._index())

    def shown_requested(self) -> str:
        """What run() asked for last, on one line."""
        return _cut(self.requested, len(self.requested))

    def record(self) -> ErrorRecord:
        """What is kept of it in the run's head."""
        return ErrorRecord(DIVERGENCE, message_text(self))

    def _index(self) -> int:
        mark = f"{self.position} "
        return next((n for n, one in enumerate(self.recorded) if one.startswith(mark)), len(self.recorded))


class UnreadableResult(Exception):
    """A recorded result doesn't fit the type that the code has for it now."""


class ReplayCheck:
    """Follows one replay, from the beginning of run() to the last recorded outcome."""

    __slots__ = ("_cancelled", "_ended_by", "_fold", "_frame", "_index", "_marks", "_run", "position")

    def __init__(self, run: LiveRun, fold: Fold, frame: FrameType | None) -> None:
        """`frame` is run()'s; it tells the line where run() ended when there is no coroutine any more."""
        self._run = run
        self._fold = fold
        self._frame = frame
        # The outcome that is delivered now, and its position; none yet: -1 and that of the first record.
        self._index = -1
        self.position = 0
        # How many steps and calls, and timers, had been asked for before each delivery so far.
        self._marks: list[tuple[int, int]] = []
        # Which delivery made run() give up a step, a call or a timer; by which one it ended.
        self._cancelled: dict[tuple[str, int] | int, int] = {}
        self._ended_by: int | None = None

    # -- what the run tells --------------------------------------------------------------------------------

    def given_up(self, key: tuple[str, int] | int) -> None:
        """run() gave up a step or a call (by name and use) or a timer (by number)."""
        self._cancelled.setdefault(key, self._index)

    def decode(self, op: Op, answer: StepDone) -> object:
        """A recorded result as the code has it now; raises `UnreadableResult`."""
        try:
            return op.decode_result(answer.value)
        except BAD_VALUE as error:
            raise UnreadableResult(f"{reason(error)}") from error

    def has_passed(self) -> bool:
        """Whether the run was beyond the present point of run() before: something is recorded that was not
        asked for yet, or the run rested behind it.
        """
        if self.position < self._run.workflow.head.rested:
            return True
        fold = self._fold
        return any(
            not self._was_asked(outcome) and not fold.waives(position)
            for position, outcome in fold.outcomes[self._index + 1 :]
        ) or any(not self._knows(key) for key in fold.open_attempts())

    # -- before each outcome -------------------------------------------------------------------------------

    def next_is(self, position: int, outcome: Outcome, *, has_ended: bool) -> Divergence | None:
        """An outcome is about to be delivered; returns where the code doesn't fit, else None."""
        run = self._run
        if has_ended and self._ended_by is None:
            self._ended_by = self._index
        self._index += 1
        self.position = position
        self._marks.append((run.asked_count, run.loop.timer_count))
        if self._fold.waives(position):
            return None
        if isinstance(outcome, UndoBegan):
            if not run.ended_badly():
                return self._differs(f"run() {self._waits()}")
            self._ended_by = None  # what comes is asked for by the undoing
            return None
        if isinstance(outcome, _FROM_OUTSIDE):
            return None
        if not self._was_asked(outcome):
            return self._differs(f"run() {self._waits()}")
        key = outcome.nth if isinstance(outcome, TimerFired) else (outcome.name, outcome.nth)
        if self._is_childs(key):
            return None
        if self._ended_by is not None:
            if not self._in_flight_since(self._ended_by):
                return self._differs(f"run() {self._waits()}")
            return None
        by = self._cancelled.get(key)
        if by is not None:
            return None if self._in_flight_since(by) else self._differs("run() gave it up before")
        if isinstance(outcome, TimerFired):
            due_ms = run.loop.timers[outcome.nth].due_ms
            # A timer that was due while something else was being delivered bears that time.
            if due_ms != outcome.at_ms and not (due_ms < outcome.at_ms <= run.loop.now_ms):
                return self._differs(f"it was due {_time(outcome.at_ms)} and is due {_time(due_ms)} now")
        return None

    def end(self) -> Divergence | None:
        """All outcomes are delivered; returns where the code doesn't fit, else None."""
        raised = self._raised()
        if raised is not None:
            return raised
        missing = next((key for key in self._fold.open_attempts() if not self._knows(key)), None)
        if missing is None:
            return None
        self._marks.append((self._run.asked_count, self._run.loop.timer_count))
        return self._divergence(
            0, f"the journal has attempts of {_step(*missing)}, but run() {self._waits()}"
        )

    def _raised(self) -> Divergence | None:
        """run() raised although the run went on at this point before.

        It did when it rested behind it.  And most likely when something is recorded and other code drove it
        then; if not, putting that code back fails the run as it would have.
        """
        run = self._run
        main = run.main
        if main is None or not main.done() or main.cancelled() or self._fold.just_redriven:
            return None
        error, head = main.exception(), run.workflow.head
        changed = head.fingerprint not in ("", run.type.fingerprint) and bool(self._fold.outcomes)
        if error is None or not (self.position < head.rested or changed):
            return None
        self._marks.append((run.asked_count, run.loop.timer_count))
        return self._divergence(0, f"run() raised {_shown(error)} where the run went on before")

    def unreadable(self, error: UnreadableResult) -> Divergence:
        """The recorded result of the outcome that is being delivered doesn't fit."""
        return self._differs(f"its recorded result doesn't fit the step any more: {error}")

    def _in_flight_since(self, by: int) -> bool:
        """Whether all that was recorded behind a delivery up to now had been asked for before that delivery.

        Else it was not there yet when that delivery was made, and so was never given up by it.
        """
        if by < 0:
            return False
        asked, timers = self._marks[by]
        known = set(self._run.asked(asked))
        return all(
            one.nth <= timers if isinstance(one, TimerFired) else (one.name, one.nth) in known
            for position, one in self._fold.outcomes[by + 1 : self._index + 1]
            if not isinstance(one, _FROM_OUTSIDE) and not self._fold.waives(position)
            if isinstance(one, TimerFired) or not self._is_childs((one.name, one.nth))
        )

    def _is_childs(self, key: tuple[str, int] | int) -> bool:
        """Whether an outcome was recorded by a child: it may end long after run() gave it up, while only the
        disk knows this run.
        """
        children = self._run.children
        return children is not None and key in children

    def _was_asked(self, outcome: Outcome) -> bool:
        if isinstance(outcome, TimerFired):
            return outcome.nth <= self._run.loop.timer_count
        if isinstance(outcome, _FROM_OUTSIDE):
            return True  # nobody asks for it
        return self._knows((outcome.name, outcome.nth))

    def _knows(self, key: tuple[str, int]) -> bool:
        return key[1] <= self._run.uses(key[0])

    # -- the sentence --------------------------------------------------------------------------------------

    def _differs(self, how: str) -> Divergence:
        position, outcome = self._fold.outcomes[self._index]
        return self._divergence(position, f"record {position} of the journal is {_name(outcome)}, but {how}")

    def _divergence(self, position: int, difference: str) -> Divergence:
        run = self._run
        recorded = [f"{at} {_name(outcome)}" for at, outcome in self._fold.outcomes]
        recorded += [f"attempts of {_step(*key)}" for key in self._fold.open_attempts()]
        return Divergence(
            position,
            tuple(recorded),
            tuple(self._requested()),
            difference,
            tuple(where(run, self._frame)),
            code_changed(run.workflow.head.fingerprint, run.type.fingerprint),
        )

    def _requested(self) -> list[str]:
        run, texts = self._run, list[str]()
        asked = timers = 0
        ops = run.asked(run.asked_count)
        for until, timers_until in [*self._marks, (len(ops), run.loop.timer_count)]:
            texts += [_step(name, nth) for name, nth in ops[asked:until]]
            texts += [f"timer {nth}" for nth in range(timers + 1, timers_until + 1)]
            asked, timers = until, timers_until
        return texts

    def _waits(self) -> str:
        main = self._run.main
        if main is not None and main.done():
            if main.cancelled():
                return "has ended already: it was cancelled"
            error = main.exception()
            return "has ended already" + ("" if error is None else f": it raised {_shown(error)}")
        waits = [_step(name, nth) for name, nth in self._run.pending]
        waits += [f"timer {nth}" for nth in self._run.loop.timers]
        return f"waits for {', '.join(waits) or 'nothing'}"


def newer_version(run: LiveRun, tag: str, taken: int, number: int) -> Divergence:
    """run() asked for a version with a number that is lower than the run's; called by run()'s code."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and not is_users(frame):
        frame = frame.f_back
    return Divergence(
        0,
        (f"version {taken} of {tag!r}",),
        (f"version {number} of {tag!r}",),
        f"the run has version {taken} of {tag!r}, and run() knows {number} at most",
        () if frame is None else (place(frame.f_code, frame.f_lineno),),
        code_changed(run.workflow.head.fingerprint, run.type.fingerprint),
    )


def code_changed(then: str, now: str) -> str:
    """What two fingerprints say, as a part of a sentence."""
    if not then:
        return "whether the code has changed since is not known"
    if then != now:
        return f"the code of the class has changed since (fingerprint {then} then, {now} now)"
    return (
        f"the code of the class has not changed since (fingerprint {now}): look for what run() takes from "
        "elsewhere, such as a clock, chance, the order of a set, or a function or constant of a module"
    )


def _name(outcome: Outcome) -> str:
    if isinstance(outcome, TimerFired):
        return f"timer {outcome.nth}" if outcome.nth else "deadline"
    if isinstance(outcome, EventArrived):
        return f"event {outcome.name}"
    if isinstance(outcome, UpdateAccepted):
        return f"update {outcome.name}"
    if isinstance(outcome, (StepDone, StepFailed)):
        return _step(outcome.name, outcome.nth)
    if isinstance(outcome, UndoBegan):
        return "the beginning of undo"
    return "resumed" if isinstance(outcome, Resumed) else "cancel"


def _step(name: str, nth: int) -> str:
    return f"step {name} (use {nth})"


def _time(at_ms: int) -> str:
    return f"at {moment(at_ms):%Y-%m-%d %H:%M:%S.%f}"


def _shown(error: BaseException) -> str:
    text = message_text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _cut(texts: tuple[str, ...], around: int) -> str:
    """A sequence without what is far from the difference."""
    first, last = max(0, around - _SHOWN_BEFORE), around + 1 + _SHOWN_BEHIND
    shown = list(texts[first:last])
    if first > 0:
        shown.insert(0, f"({first} more)")
    if len(texts) > last:
        shown.append(f"({len(texts) - last} more)")
    return ", ".join(shown) or "nothing"
