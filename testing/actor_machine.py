"""`actor_machine`: the base of a hypothesis state machine over actors, with crashes and time as rules.

    class CartMachine(actor_machine(Cart)):
        def __init__(self) -> None:
            super().__init__()
            self.model: dict[str, int] = {}

        @rule(sku=st.sampled_from(["pear", "fig"]))
        def add(self, sku: str) -> None:
            self.run(self.actor("ann").add, sku)
            self.model[sku] = self.model.get(sku, 0) + 1

        @invariant()
        def it_is_all_there(self) -> None:
            assert self.run(self.actor("ann").items_now) == self.model

    TestCart = CartMachine.TestCase

It needs hypothesis, which is imported when a base is made and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar, cast

from ..runtime.actor import Actor
from ..runtime.durations import Duration, to_seconds
from ..runtime.limits import Limits
from ..storage.errors import CallerError
from .sim_process import Deps, Setup
from .sim_runtime import Plans
from .simulation import Simulation

if TYPE_CHECKING:
    from .machine import ActorMachine

A = TypeVar("A", bound=Actor)


class _Stories:
    def __init__(self, make: Callable[[], Simulation]) -> None:
        self._make = make

    def begin(self) -> Simulation:
        return self._make().__enter__()


def actor_machine(
    actor_type: type[A],
    *,
    crashes: bool = True,
    longest_advance: Duration = "1d",
    seed: int = 0,
    deps: Deps = (),
    types: Iterable[type[Actor]] = (),
    setup: Setup | None = None,
    limits: Limits | None = None,
) -> type[ActorMachine[A]]:
    """A base class for state machines over actors of a type; needs hypothesis.

    crashes           with a rule that lets the process die between two calls
    longest_advance   most that time moves by the rule `advance`; 0 for no such rule

    The others are those of `simulate`.  To let the process die *in* a call use `self.sim.crash_at` before it;
    the call raises `ProcessDied` then.
    """
    from .machine import make_machine

    wanted = cast("object", actor_type)
    if not isinstance(wanted, type) or not issubclass(wanted, Actor):
        raise CallerError(f"expected a subclass of Actor; got {wanted!r}")
    plans = Plans()
    given_types: tuple[type[Actor], ...] = (actor_type, *types)

    def make() -> Simulation:
        return Simulation(seed=seed, deps=deps, types=given_types, setup=setup, limits=limits, plans=plans)

    members = {
        "actor_type": actor_type,
        "stories": _Stories(make),
        "longest_seconds": to_seconds(longest_advance, what="longest_advance"),
        "crashes": crashes,
    }
    return cast("type[ActorMachine[A]]", make_machine(f"{actor_type.__name__}Machine", members))
