"""The chain of calls: who called whom, from the code outside down to the turn that runs now.

A context variable holds the caller.  It is None outside; a `Turn` inside an actor; another `Caller` where a
layer above takes calls in its own way (a workflow's `run()` and its steps).

A call that comes back to an actor of its own chain joins that turn.  Two chains that wait for each other are
told so at once (`find_cycle`) instead of waiting for ever.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ..storage.group_commit import Writes
    from .activation import Activation
    from .call import Reply
    from .methods import MethodPlan
    from .ref import Ref


class Caller(Protocol):
    """Code of a layer above that makes calls."""

    async def call(
        self, ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        """Make the call in the layer's own way."""
        ...


class ExactCall(Protocol):
    """A call that takes effect exactly once, in the hands of the turn that answers it.

    A layer above makes such calls.
    """

    def keep(self, turn: Turn, reply: object) -> None:
        """Just before the turn ends: add rows to its commit, or raise to undo it."""
        ...

    def call_within(
        self, turn: Turn, ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Awaitable[Reply]:
        """Make a call of the turn's, so that it takes effect exactly once, too."""
        ...

    def check_left_behind(self, turn: Turn) -> None:
        """A task that outlived the turn calls somebody: raise when the turn is repeated, and calls anew."""
        ...


class Turn:
    """One message being handled by one actor."""

    __slots__ = (
        "activation", "after_commit", "after_rollback", "before_stage", "blocked_on", "dep", "exact",
        "joined", "method", "over", "parent", "poison", "reserve", "root", "shared", "tangled", "writes",
    )  # fmt: skip

    def __init__(
        self, activation: Activation, method: str, parent: Turn | None, exact: ExactCall | None = None
    ) -> None:
        self.activation = activation
        self.method = method
        self.parent = parent
        # What the turn answers, where that is a call of a workflow; its own calls are made through it then.
        self.exact = exact
        # The turn whose write set is used; another one than self for a call that joined.
        self.root = self
        self.writes: Writes = {}
        # The newest commit that this turn rests on.
        self.dep = activation.dep
        self.over: bool = False
        # A @shared method: it doesn't hold the actor, so nothing joins it and nothing waits for it.
        self.shared = False
        # It completes what was begun, so it may use the room that is kept back when the store is full.
        self.reserve = False
        # What a layer above adds to the write set just before it is staged.
        self.before_stage: list[Callable[[Writes], None]] | None = None
        self.after_commit: list[Callable[[int], None]] | None = None
        self.after_rollback: list[Callable[[], None]] | None = None
        # Actors that calls made below this turn are queued for.
        self.blocked_on: list[Activation] | None = None
        # Calls that joined this turn and still run; those of one chain lie within each other.
        self.joined: list[Turn] | None = None
        # A call that joined beside another one of its turn, so that their changes can't be told apart.
        self.tangled = False
        self.poison: BaseException | None = None

    def __str__(self) -> str:
        return f"{self.activation.ref}.{self.method}"


# Takes the place of an ended turn's root, which is most often itself: a ring that the collector would have to
# find.
ENDED: Final[Turn] = Turn.__new__(Turn)
ENDED.over = True
ENDED.root = ENDED

CALLER: ContextVar[Turn | Caller | None] = ContextVar("holdfast_caller", default=None)


def turn_in_chain(turn: Turn | None, activation: Activation) -> Turn | None:
    """The turn of this chain that runs on `activation`, if there is one.

    A task that outlived the turn that started it still has it in its chain; such a turn holds nothing any
    more.
    """
    while turn is not None:
        if turn.activation is activation and not turn.shared and not turn.over:
            return turn
        turn = turn.parent
    return None


def lost_in_chain(turn: Turn | None, ref: Ref) -> Turn | None:
    """The turn of this chain that runs on an activation of `ref` which a failed commit has dropped, if any.

    Nothing can join it any more, and beside it the call would not belong to it.
    """
    while turn is not None:
        if (
            turn.activation.gone
            and not turn.shared
            and not turn.over
            and turn.activation.ref.directory_key == ref.directory_key
            and turn.activation.system is ref.system
        ):
            return turn
        turn = turn.parent
    return None


def before_stage(turn: Turn, callback: Callable[[Writes], None]) -> None:
    """Call `callback(writes)` when the turn has ended well, just before its write set is staged.

    What it adds has its place in the log only then, so it may depend on what others stage meanwhile.  When it
    raises, the turn is rolled back.
    """
    root = turn.root
    if root.before_stage is None:
        root.before_stage = []
    root.before_stage.append(callback)


def after_commit(turn: Turn, callback: Callable[[int], None]) -> None:
    """Call `callback(commit number)` when the turn was staged; never if it rolls back."""
    root = turn.root
    if root.after_commit is None:
        root.after_commit = []
    root.after_commit.append(callback)


def after_rollback(turn: Turn, callback: Callable[[], None]) -> None:
    """Call `callback` when the turn rolls back."""
    root = turn.root
    if root.after_rollback is None:
        root.after_rollback = []
    root.after_rollback.append(callback)


def rest_on(number: int) -> None:
    """Note that the calling turn read something that commit `number` brings."""
    caller = CALLER.get()
    if isinstance(caller, Turn) and not caller.over and number > caller.dep:
        caller.dep = number
        if number > caller.root.dep:
            caller.root.dep = number


def find_cycle(caller: Turn, wanted: Activation) -> list[str] | None:
    """The ring of calls that waiting for `wanted` would close, or None.

    The turn that holds `wanted` ends only after all that its own calls wait for; if one of those is held by a
    turn of the caller's chain, nobody would ever go on.
    """
    # Along the way as a list, not by recursion: thousands of calls may wait one behind the other.
    seen: set[int] = set()
    path: list[tuple[Turn, Iterator[Activation]]] = []
    ring: list[str] | None = None
    found: Activation | None = wanted
    while True:
        holder = None if found is None else found.turn
        if holder is not None and id(holder) not in seen:
            seen.add(id(holder))
            path.append((holder, iter(holder.blocked_on or ())))
        if not path:
            break
        found = next(path[-1][1], None)
        if found is None:
            path.pop()
            continue
        mine = turn_in_chain(caller, found)
        if mine is not None:
            ring = [*(str(turn) for turn, _ in path), str(mine)]
            break
    if ring is None:
        return None
    start = ring[-1]
    own: list[str] = []
    turn: Turn | None = caller
    while turn is not None:
        own.append(str(turn))
        if str(turn) == start:
            break
        turn = turn.parent
    return [*reversed(own), *ring]


def block(caller: Turn, activation: Activation) -> None:
    """Note that calls below every turn of the chain wait for `activation`."""
    turn: Turn | None = caller
    while turn is not None:
        if turn.blocked_on is None:
            turn.blocked_on = []
        turn.blocked_on.append(activation)
        turn = turn.parent


def unblock(caller: Turn, activation: Activation) -> None:
    """Take back one `block`."""
    turn: Turn | None = caller
    while turn is not None:
        if turn.blocked_on is not None:
            turn.blocked_on.remove(activation)
        turn = turn.parent
