"""Methods of an actor as plain functions: `sim.call(Counter, "total").increment(2)`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..runtime.actor import Actor
from ..runtime.address import GivenKey

if TYPE_CHECKING:
    from .simulation import Simulation


class Calls:
    """Methods of an actor as plain functions; see `Simulation.call`."""

    def __init__(self, sim: Simulation, actor_type: type[Actor], key: GivenKey) -> None:
        self._sim = sim
        self._actor_type = actor_type
        self._key = key

    def __getattr__(self, name: str) -> Callable[..., object]:
        method: Callable[..., Awaitable[object]] = getattr(self._sim.get(self._actor_type, self._key), name)

        def call(*args: object, **kwargs: object) -> object:
            return self._sim.run(method, *args, **kwargs)

        return call
