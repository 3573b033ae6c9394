"""P7 in the simulation: random workflow programs in storms end as they do in calm, thousands of them.

The programs are those of test_p7_random_programs.py, which runs them on the real writer thread.  Here time is
virtual and the process dies anywhere: before and after each commit and each body, and between any two
callbacks.  replay_property compares results, what run() got in between, stored state and the bodies that ran.
"""

from __future__ import annotations

import asyncio

import pytest

from holdfast import Runtime
from holdfast.testing import Crash, Storm, check_replay, replay_property
from tests.promises.test_p7_random_programs import RUNTIME, WORLD, WRITTEN, Interpreter, World, programs


class SimulatedWorld(World):
    """Jobs outside that end at a fixed virtual time, whatever becomes of who waits for them."""

    async def job(self, key: tuple[str, int, int], took_ms: int) -> None:
        self.begun.append(key)
        clock = RUNTIME[-1].clock
        # Uses of one step that begin together must not end together: which comes first is chance then.
        end = self.ends_ms.setdefault(key, clock.now_ms() + took_ms + key[1] - 1)
        await asyncio.sleep(max(0, end - clock.now_ms()) / 1000)


def make_world() -> list[World]:
    """A new world for each story."""
    WORLD[:] = [SimulatedWorld()]
    return list(WORLD)


def enter(runtime: Runtime) -> None:
    """The runtime of a new life of the process."""
    RUNTIME[:] = [runtime]


def seen(world: World) -> object:
    """Which attempts were begun, and what run() got since it was last begun."""
    return sorted(set(world.begun)), list(world.trace)


def storms(examples: int) -> None:
    """So many programs, each calm and in a storm."""
    replay_property(
        Interpreter,
        inputs=programs(),
        crashes=4,
        duplicates=1,
        deps=make_world,
        setup=enter,
        observe=seen,
        examples=examples,
    )


def test_p7_random_programs_in_storms() -> None:
    """Three hundred stories, others each time."""
    storms(150)


@pytest.mark.slow
def test_p7_ten_thousand_stories() -> None:
    """The same for longer."""
    storms(5_000)


@pytest.mark.parametrize("name", list(WRITTEN))
def test_p7_written_programs_in_storms(name: str) -> None:
    """Programs of the shapes that go wrong most easily: the process dies once at each of the first places."""
    for n in range(1, 25):
        for crash in (Crash("commit", n, "before"), Crash("commit", n, "after"), Crash("callback", 5 * n)):
            check_replay(
                Interpreter,
                [WRITTEN[name]],
                Storm(seed=n, crashes=(crash,)),
                deps=make_world,
                setup=enter,
                observe=seen,
            )
