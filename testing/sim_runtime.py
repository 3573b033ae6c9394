"""The runtime of one life of a simulated process: the real one, with what it has read of classes shared.

Chance is taken out of its waits, and it can be taken apart when it is dead.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any, cast

from ..actors.system import Runtime
from ..runtime.actor import Actor
from ..runtime.actor_type import ActorType
from ..runtime.spare_memory import SpareMemory
from .bodies import BodyWrapper
from .sim_loop import SimLoop


class Plans:
    """What was read of actor classes: a class is read once for all lives, since that takes a while."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[type[Actor], int], ActorType] = {}


class SimRuntime(Runtime):
    """The real runtime, with plans that are shared and without jitter."""

    def __init__(self, plans: Plans, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, **options)
        self.random = NoChance()
        # What it does depends on the memory of the process that the test runs in.
        self._spare_memory = _NoSpareMemory()
        self._plans = plans

    def _make_type(self, actor_class: type[Actor], number: int) -> ActorType:
        kinds = self._plans.kinds
        kind = kinds.get((actor_class, number))
        if kind is None:
            kind = kinds[actor_class, number] = super()._make_type(actor_class, number)
        return kind


class _NoSpareMemory(SpareMemory):
    """Leaves memory alone."""

    def __init__(self) -> None:
        pass

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """See `SpareMemory`."""


class NoChance(random.Random):
    """Waits without jitter, so that a crash more or less doesn't move the times of what follows."""

    def random(self) -> float:
        return 0.0


def take_apart(loop: SimLoop, runtime: Runtime) -> None:
    """Code that is kept for good must not keep a whole process."""
    loop.forget()
    if runtime.engine.wrap_body is not None:
        cast("BodyWrapper", runtime.engine.wrap_body).forget()
    for part in (
        runtime.engine,
        runtime.directory,
        runtime.scheduler,
        runtime.actor_types,
        runtime.store,
        runtime,
    ):
        vars(part).clear()
