"""Simulated stories: how many times a second a workflow of five steps is played, crashed and recovered.

One process, one core; nothing sleeps for real, so the rate is all work: two lives of a runtime on a fresh
folder, and the end of the story.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from holdfast import Workflow
from holdfast.testing import Crash, simulate

STEPS = 5
TARGET_PER_SECOND = 200


async def one_more(n: int) -> int:
    """A step that does nothing."""
    return n + 1


class FiveSteps(Workflow):
    """Nothing but steps."""

    async def run(self, n: int) -> int:
        for _ in range(STEPS):
            n = await self.step(one_more, n)
        return n


class Stories(NamedTuple):
    """What was played in a while."""

    per_second: float
    ms: float
    lives: int


def story(crash: Crash | None) -> tuple[list[Crash], int]:
    """One story, crashed at a place (or not); the places that it passed, and its lives."""
    with simulate() as sim:
        if crash is not None:
            sim.crash_at(crash)
        if sim.result(sim.start(FiveSteps, 0, id="1")) != STEPS:
            raise AssertionError("the simulated run has another result")
        return sim.places, sim.life


def play_stories(seconds: float, crashed: bool) -> Stories:
    """Stories for so long, crashed at each place in turn, or calm."""
    places, _ = story(None)
    played = lives = 0
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        _, in_this = story(places[played % len(places)] if crashed else None)
        played += 1
        lives += in_this
    return Stories(played / passed, passed / played * 1000, lives)
