"""A storm: everything that goes wrong in one story, as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, cast

import msgspec

from ..storage.errors import CallerError
from .checks import check_count, check_seconds
from .crash import Crash, check_crash

# What there may be several of.
_LISTS: Final = (
    "crashes", "failing_bodies", "lost_answers", "failing_commits", "unknown_commits", "clock_jumps",
)  # fmt: skip

_ORDERS: Final = ("order", "event_order")


class ClockJump(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """The wall clock is set, right after a commit."""

    commit: int
    """After the how-manyth commit of the story, from 1."""
    seconds: float
    """By how much: back when negative."""


class Storm(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """What goes wrong.  An empty one is calm."""

    seed: int = 0
    """Chooses among tasks that are ready; 0 takes them in order."""
    crashes: tuple[Crash, ...] = ()
    """Where the process dies; all are counted from the beginning."""
    duplicates: int = 0
    """How often each start is sent once more."""
    order: tuple[int, ...] = ()
    """The order in which the inputs come, by their places; as given when empty."""
    event_copies: int = 0
    """How often each event is sent once more, with its id."""
    event_order: tuple[int, ...] = ()
    """The order in which the events come at their moments, by their places; as given when empty."""
    failing_bodies: tuple[int, ...] = ()
    """The how-manyth bodies of steps, from 1, that fail before their effect (where a retry is left)."""
    lost_answers: tuple[int, ...] = ()
    """The same, after their effect."""
    failing_commits: tuple[int, ...] = ()
    """The how-manyth commits, from 1, that the disk refuses."""
    unknown_commits: tuple[int, ...] = ()
    """The how-manyth commits, from 1, of which nobody can know whether they are on disk: the process ends."""
    slow_commits_ms: int = 0
    """How long each commit takes, in milliseconds of virtual time."""
    clock_jumps: tuple[ClockJump, ...] = ()
    """When the wall clock is set."""

    def check(self) -> Storm:
        """Itself; raises `CallerError` when there can be no such storm."""
        check_count(self.seed, "the seed of a storm", least=0)
        check_count(self.duplicates, "duplicates", least=0)
        check_count(self.event_copies, "event_copies", least=0)
        check_count(self.slow_commits_ms, "slow_commits_ms", least=0)
        for name in (*_LISTS, *_ORDERS):
            things: object = getattr(self, name)
            if not isinstance(things, (tuple, list)):
                raise CallerError(f"{name} of a storm must be a tuple; got {things!r}")
            for thing in cast("Iterable[object]", things):
                if name == "crashes":
                    check_crash(thing)
                elif name == "clock_jumps":
                    if not isinstance(thing, ClockJump):
                        raise CallerError(f"expected a ClockJump(...); got {thing!r}")
                    check_count(thing.commit, "the commit of a ClockJump")
                    check_seconds(thing.seconds, "the seconds of a ClockJump")
                else:
                    check_count(thing, f"each of {name}", least=0 if name in _ORDERS else 1)
        return self

    def size(self) -> tuple[int, int]:
        """How much goes wrong, to compare storms: the number of things, and how hard they are to read."""
        things = self.duplicates + self.event_copies + bool(self.seed) + bool(self.slow_commits_ms)
        things += bool(self.order) + bool(self.event_order)
        lists: list[tuple[object, ...]] = [getattr(self, name) for name in _LISTS]
        between = sum(crash.at == "callback" for crash in self.crashes)
        return things + sum(map(len, lists)), between

    def simpler(self, places: Iterable[Crash]) -> Iterator[Storm]:
        """Storms with less in them, the simplest first; `places` are where the process may die."""
        yield Storm()
        for place in places if self.crashes else ():
            yield Storm(crashes=(place,))
        for name in ("seed", "duplicates", "event_copies", *_ORDERS, "slow_commits_ms"):
            yield msgspec.structs.replace(self, **{name: getattr(Storm(), name)})
        for name in _LISTS:
            things: tuple[object, ...] = getattr(self, name)
            for at in range(len(things)):
                yield msgspec.structs.replace(self, **{name: things[:at] + things[at + 1 :]})


def check_storm(storm: object) -> Storm:
    """Itself; raises `CallerError` when it is something else, or can't be."""
    if not isinstance(storm, Storm):
        raise CallerError(f"expected a Storm(...); got {storm!r}")
    return storm.check()
