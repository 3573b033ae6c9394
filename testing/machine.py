"""The base of state machines over actors in a simulation; made by `actor_machine`.

Imports hypothesis, so nothing imports this module before it is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ..runtime.actor import Actor
from ..runtime.address import GivenKey
from .simulation import Simulation

A = TypeVar("A", bound=Actor)
T = TypeVar("T")
P = ParamSpec("P")


class Stories(Protocol):
    """Where the stories of a machine come from."""

    def begin(self) -> Simulation:
        """A new story that has begun."""
        ...


class ActorMachine(RuleBasedStateMachine, Generic[A]):
    """Actors of one type in a story, with rules that let the process die and time pass.

    Add rules that call actors and keep a model, and invariants that compare.  Its `TestCase` is a test.
    """

    actor_type: ClassVar[type[Actor]]
    stories: ClassVar[Stories]
    longest_seconds: ClassVar[float]
    crashes: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.sim: Simulation = self.stories.begin()
        """The story; it has begun."""

    def actor(self, key: GivenKey) -> A:
        """A ref to an actor, for `run`; it belongs to the present life of the process."""
        return self.sim.get(self.actor_type, key)  # type: ignore[return-value]

    def run(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Simulation.run`: `self.run(self.actor("ann").add, "pear", 2)`."""
        return self.sim.run(function, *args, **kwargs)

    @precondition(lambda self: self.crashes)
    @rule()
    def crash(self) -> None:
        """The process dies, and the next one opens the folder."""
        self.sim.crash()

    @precondition(lambda self: self.longest_seconds > 0)
    @rule(share=st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0]))
    def advance(self, share: float) -> None:
        """Time passes."""
        self.sim.advance(share * self.longest_seconds)

    def teardown(self) -> None:
        """End the story."""
        self.sim.close()


def make_machine(name: str, members: dict[str, Any]) -> type[ActorMachine[Any]]:
    """A subclass with these class attributes."""
    return type(name, (ActorMachine,), members)
