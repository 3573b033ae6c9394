"""For tests of your own actors and workflows: simulation, crashes at any point, properties of replay."""

from .crash import Crash
from .errors import NeverAtRest, NotFinished, ProcessDied, ReplayViolation
from .simulation import Pending, SimRun, Simulation, simulate
from .story import Event, Story

__all__ = [
    "Crash",
    "Event",
    "NeverAtRest",
    "NotFinished",
    "Pending",
    "ProcessDied",
    "ReplayViolation",
    "SimRun",
    "Simulation",
    "Story",
    "simulate",
]
