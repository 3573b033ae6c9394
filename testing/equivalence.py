"""`assert_equivalent`: an old way and a new way do the same, for inputs made up by hypothesis.

    def test_the_new_import_does_what_the_old_one_did() -> None:
        assert_equivalent(old_import, BookImport, inputs=orders(), deps=make_world, observe=what_was_stored)

Each example lives in two simulations, one for each way, with worlds of their own: neither sees the other.
What differs is made as small as it can be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from ..actors.errors import InvalidInput
from ..actors.system import Runtime
from ..actors.workflow.workflow import Workflow
from ..storage.errors import CallerError
from .checks import check_callable, check_count
from .errors import NotEquivalent
from .replay_check import MakeDeps, Observe
from .simulation import Simulation, simulate

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Way: TypeAlias = type[object] | Callable[[Runtime, Any], Awaitable[object]]


class WayEnding(msgspec.Struct, frozen=True):
    """What one way came to for one input."""

    result: object
    """What it returned, as plain data; None when it failed."""
    error: str
    """What it failed with; empty when it returned."""
    seen: object
    """What `observe` made of the world outside."""


_NOTHING = WayEnding(None, "", None)


def assert_equivalent(
    old: Way,
    new: Way,
    *,
    inputs: SearchStrategy[Any],
    deps: MakeDeps | None = None,
    observe: Observe | None = None,
    same: Callable[[WayEnding, WayEnding], bool] | None = None,
    examples: int = 100,
) -> None:
    """Run both ways on each input; raises `NotEquivalent` with the smallest one that they differ for.

    old, new   a workflow, or an async function of the runtime and the input
    inputs     makes an input; each way gets a copy of its own from the codec
    deps       makes the objects of a world for `runtime.deps`; called for each way and example
    observe    what outside saw: called with the objects of `deps` when the way has ended
    same       whether two endings are as good as the same.  By default both returned equal data, or both
               failed with whatever error, and outside saw the same

    Raises `NotEquivalent` too when the old way failed for each input, and `CallerError` for what is no way.
    """
    from hypothesis import HealthCheck, given, settings

    for way, what in ((old, "old"), (new, "new")):
        _check_way(way, what)
    for function, what in ((deps, "deps"), (observe, "observe"), (same, "same")):
        if function is not None:
            check_callable(function, what)
    check_count(examples, "examples")
    agree = same if same is not None else _same
    returned, last = 0, _NOTHING

    @settings(
        max_examples=examples,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(inputs)
    def holds(given_input: object) -> None:
        nonlocal returned, last
        endings = [_play(way, given_input, deps, observe) for way in (old, new)]
        last = endings[0]
        returned += not last.error
        if not agree(*endings):
            raise NotEquivalent(
                f"for the input {given_input!r:.1000}\n  the old way {_told(endings[0])}\n  the new way "
                f"{_told(endings[1])}",
                given_input,
            )

    holds()
    if not returned:
        raise NotEquivalent(f"the old way failed for each input, so nothing was compared: {last.error}", None)


def _check_way(way: object, what: str) -> None:
    if isinstance(way, type):
        if not issubclass(way, Workflow):
            raise CallerError(f"{what} must be a workflow or an async function; got the class {way.__name__}")
    else:
        check_callable(way, what)


def _play(way: Way, given_input: object, deps: MakeDeps | None, observe: Observe | None) -> WayEnding:
    world = [] if deps is None else list(deps())
    result, error = None, ""
    with simulate(deps=world) as sim:
        try:
            result = _plain(_run(sim, way, given_input))
        except (AssertionError, InvalidInput):  # the story itself went wrong, not the way
            raise
        except Exception as raised:  # its failure is what is compared
            error = f"{type(raised).__name__}: {raised}"
    return WayEnding(result, error, None if observe is None else _plain(observe(*world)))


def _run(sim: Simulation, way: Any, given_input: object) -> object:
    if isinstance(way, type):
        starts: Any = sim.start
        return sim.result(starts(way, given_input))
    runtime = sim.runtime
    copied = msgspec.msgpack.decode(msgspec.msgpack.encode(given_input), type=type(given_input))
    return sim.run(way, runtime, copied)


def _plain(value: object) -> object:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


def _same(old: WayEnding, new: WayEnding) -> bool:
    return (old.result, bool(old.error), old.seen) == (new.result, bool(new.error), new.seen)


def _told(ending: WayEnding) -> str:
    did = f"failed with {ending.error}" if ending.error else f"returned {ending.result!r:.1000}"
    return did if ending.seen is None else f"{did}, and outside saw {ending.seen!r:.1000}"
