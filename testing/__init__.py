"""For tests of your own actors and workflows: simulation, crashes anywhere, properties of replay, a guard."""

from .actor_machine import actor_machine
from .crash import Crash
from .equivalence import WayEnding, assert_equivalent
from .errors import NeverAtRest, NotEquivalent, NotFinished, ProcessDied, ReplayViolation
from .replay_check import check_replay
from .replay_exported import replay_exported
from .replay_guard import replay_guard
from .replay_property import replay_property
from .sent_event import SentEvent
from .sim_run import Pending, SimRun
from .simulation import Simulation, simulate
from .storm import ClockJump, Storm
from .story import Story, StoryLine

__all__ = [
    "ClockJump",
    "Crash",
    "NeverAtRest",
    "NotEquivalent",
    "NotFinished",
    "Pending",
    "ProcessDied",
    "ReplayViolation",
    "SentEvent",
    "SimRun",
    "Simulation",
    "Storm",
    "Story",
    "StoryLine",
    "WayEnding",
    "actor_machine",
    "assert_equivalent",
    "check_replay",
    "replay_exported",
    "replay_guard",
    "replay_property",
    "simulate",
]
