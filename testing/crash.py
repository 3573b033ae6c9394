"""Crash points: where a simulated process dies.

A point is counted from the moment at which it is set, also over further lives of the process.

    set --reached n times--> the process dies there --> the next life begins
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec

from ..storage.errors import CallerError
from .checks import check_count, check_probability, check_step_name

Place: TypeAlias = Literal["commit", "step", "callback", "any"]
When: TypeAlias = Literal["before", "after"]
_PLACES: Final = ("commit", "step", "callback", "any")
WHENS: Final = ("before", "after")


class Crash(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """The process dies at the n-th such place."""

    at: Place = "commit"
    """"commit": around a commit.  "step": around the body of a step, which is where its effect happens.
    "callback": between two callbacks of the event loop, so also while a body waits.  "any": all of the first
    two in the order in which they come, before and after each."""
    n: int = 1
    """The how-manyth place, from 1."""
    when: When = "after"
    """"before" or "after" a commit or a body.  After a commit: it is on disk and nobody was told.  After a
    body: its effect happened and nothing is recorded."""
    step: str | None = None
    """Only bodies of the step with this name."""

    def check(self) -> Crash:
        """Itself; raises `CallerError` when there is no such place."""
        if self.at not in _PLACES or self.when not in WHENS or type(self.n) is not int or self.n < 1:
            raise CallerError(
                f"a crash is at one of {', '.join(_PLACES)}, before or after it, for the n-th time from 1; "
                f"got {self}"
            )
        if self.step is not None:
            check_step_name(self.step)
            if self.at != "step":
                raise CallerError(f"only bodies of steps have a name to crash at; got {self}")
        return self

    def __str__(self) -> str:
        nth = f"{self.at} {self.n}" if self.step is None else f"body {self.n} of step {self.step}"
        return f"at {nth}" if self.at in ("any", "callback") else f"{self.when} {nth}"


def check_crash(crash: object) -> Crash:
    """Itself; raises `CallerError` when it is something else, or there is no such place."""
    if not isinstance(crash, Crash):
        raise CallerError(f"expected a Crash(...); got {crash!r}")
    return crash.check()


class CrashPlan:
    """The crashes that are still to come."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        # Points with how often they are still to be reached.
        self._waiting: list[tuple[Crash, int]] = []
        self._probability = 0.0
        self._most = 0
        # Places passed so far.
        self._passed: list[tuple[Place, When, str | None]] = []

    def add(self, crashes: Iterable[Crash]) -> None:
        """Set points."""
        self._waiting += [(check_crash(crash), crash.n) for crash in crashes]

    def at_random(self, probability: float, most: int) -> None:
        """From now on die at each place with a probability, at most so many times."""
        check_probability(probability)
        check_count(most, "the most crashes", least=0)
        self._probability, self._most = probability, most

    def clear(self) -> None:
        """No crash is to come."""
        self._waiting.clear()
        self._most = 0

    @property
    def waiting(self) -> list[Crash]:
        """Points that were not reached yet."""
        return [crash for crash, _ in self._waiting]

    def reached(self, at: Place, when: When, step: str | None = None) -> bool:
        """A place is passed: whether the process dies here."""
        self._passed.append((at, when, step))
        dies = False
        if self._waiting:
            dies = self._count(at, when, step)
        if self._most and self._chance.random() < self._probability:
            self._most -= 1
            dies = True
        return dies

    def _count(self, at: Place, when: When, step: str | None) -> bool:
        dies = False
        left: list[tuple[Crash, int]] = []
        for crash, times in self._waiting:
            if crash.at == "any" or (crash.at == at and crash.when == when and crash.step in (None, step)):
                times -= 1
            if times:
                left.append((crash, times))
            else:
                dies = True
        self._waiting = left
        return dies

    def begin(self) -> None:
        """The story begins here: places are told from now on."""
        self._passed.clear()

    def places(self) -> list[Crash]:
        """The places passed so far, as crashes."""
        counts: Counter[tuple[Place, When, str | None]] = Counter()
        found: list[Crash] = []
        for place in self._passed:
            counts[place] += 1
            at, when, step = place
            found.append(Crash(at, counts[place], when, step))
        return found

    def callbacks_left(self) -> int | None:
        """Callbacks until the next crash at one; None when there is none."""
        return min((times for crash, times in self._waiting if crash.at == "callback"), default=None)

    def callbacks_ran(self, count: int) -> None:
        """So many callbacks ran since it was asked."""
        self._waiting = [
            (crash, times - count if crash.at == "callback" else times)
            for crash, times in self._waiting
            if crash.at != "callback" or times > count
        ]
