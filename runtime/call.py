"""The way of a call: from a ref to the reply, when it may leave.

    caller -> ref -> directory -> mailbox -> turn -> write set -> group commit -> gate -> caller

The caller's own task runs the turn when the actor is idle; else it waits in the mailbox and runs it when the
actor is handed over.  Between actors nothing waits for the disk; code outside waits at the gate.

Promises
  * P3: a reply (or an error) reaches code outside only when every commit that it rests on is durable.
  * A cancelled caller leaves the mailbox, or its running turn rolls back.
"""

from __future__ import annotations

from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Final

from ..storage.errors import StorageFailed
from .chain import CALLER, ENDED, Turn, block, find_cycle, lost_in_chain, turn_in_chain, unblock
from .errors import DeadlockError, NotRunning, TurnOver

if TYPE_CHECKING:
    from .activation import Activation
    from .chain import ExactCall
    from .methods import MethodPlan
    from .ref import Ref
    from .system import ActorSystem

    # The newest commit that the reply rests on, the reply, and the user's error in place of one.
    Reply = tuple[int, object, Exception | None]

# One turn of so many of a type is timed, a power of two.
TIMED_TURNS: Final = 64
_UNTIMED: Final = TIMED_TURNS - 1


async def invoke(ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """Make a call and return the reply when the caller may see it."""
    caller = CALLER.get()
    if caller is None:
        turn = None
    elif isinstance(caller, Turn):
        turn = caller
        if caller.over:
            turn = None
            if caller.exact is not None:
                caller.exact.check_left_behind(caller)
    else:
        return await caller.call(ref, plan, args, kwargs)
    if args or kwargs:
        args, kwargs = plan.check_arguments(args, kwargs, ref)
    elif plan.required:
        plan.check_arguments(args, kwargs, ref)
    if turn is not None and turn.activation.system is ref.system:
        return await _call_within(ref, plan, args, kwargs, turn)
    # From outside, or from an actor of another runtime: that one has a log of its own, so its turn waits here
    # too.
    # Asking for the running loop would cost a tenth of a call.
    if get_ident() != ref.system.thread_id:
        ref.system.check_loop()
    dep, reply, error = await run(ref, plan, args, kwargs, turn, None)
    commits = ref.system.store.group_commit
    try:  # the gate
        waiter = commits.waiter(dep)
        if waiter is not None:
            await waiter
    except StorageFailed as failure:
        raise failure from error
    if error is not None:
        try:
            raise error
        finally:
            del error  # its trace holds this frame, and with it all that the call was given
    return reply


async def wait_gate(system: ActorSystem, dep: int, error: BaseException | None = None) -> None:
    """The output gate: return once commit `dep` is durable; raises `StorageFailed` when it failed."""
    try:
        await system.store.wait_durable(dep)
    except StorageFailed as failure:
        raise failure from error


async def _call_within(
    ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object], caller: Turn
) -> object:
    """A call between actors: the reply carries its dependency upward in place of waiting."""
    exact = caller.exact
    if exact is None:
        dep, reply, error = await run(ref, plan, args, kwargs, caller, None)
    else:
        dep, reply, error = await exact.call_within(caller, ref, plan, args, kwargs)
    if caller.over:
        await wait_gate(ref.system, dep, error)  # a task that outlived its turn: it is outside by now
    elif dep > caller.dep:
        caller.dep = dep
        if dep > caller.root.dep:
            caller.root.dep = dep
    if error is not None:
        try:
            raise error
        finally:
            del error  # its trace holds this frame, and with it all that the call was given
    return reply


async def run(
    ref: Ref,
    plan: MethodPlan,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    parent: Turn | None,
    exact: ExactCall | None,
) -> Reply:
    """Get hold of the actor and run one turn (or join one); returns what came of it.

    `exact` is given where the call takes effect exactly once.
    """
    system = ref.system
    while True:
        if system.failures and (lost := lost_in_chain(parent, ref)) is not None:
            raise lost.activation.refusal(lost)
        activation = ref.activation
        if activation is None:
            activation = system.directory.activate(ref)
        else:
            system.directory.touch(activation)
        if plan.shared and activation.ready and turn_in_chain(parent, activation) is None:
            return await _run_shared(activation, plan, args, kwargs, parent, exact)
        if activation.busy:
            if parent is not None:
                mine = turn_in_chain(parent, activation)
                if mine is not None:
                    return await _join(activation, mine.root, plan, args, kwargs, parent, exact)
                await _wait_in_chain(activation, parent)
            else:
                await activation.wait_turn()
            if activation.gone:
                continue  # it was dropped while we waited: look up a new one
        else:
            activation.busy = True
        if not activation.ready:
            failed = await _run_on_activate(activation, parent)
            if failed is not None:
                return failed
            if activation.gone:
                continue
        if plan.shared:
            activation.hand_over()  # it was only held for `on_activate`
            continue
        break
    turn = Turn(activation, plan.name, parent, exact)
    activation.turn = turn
    kind = activation.type
    kind.turns = turns = kind.turns + 1
    began = 0.0 if turns & _UNTIMED else perf_counter()
    token = CALLER.set(turn)
    try:
        reply = await plan.function(activation.instance, *args, **kwargs)
        if reply is not None or plan.returns_value:
            reply = plan.check_result(reply, turn)
        if activation.wrote_large:
            await system.large_writes.acquire(turn)
            try:
                if exact is not None:
                    exact.keep(turn, reply)
                activation.end_turn(turn)
            finally:
                system.large_writes.release(activation.dep)
        else:
            if exact is not None:
                exact.keep(turn, reply)
            activation.end_turn(turn)
        return activation.dep, reply, None
    except Exception as error:
        kind.failed_turns += 1
        activation.roll_back(turn)
        if activation.gone and not isinstance(error, (StorageFailed, NotRunning)):
            # It rests on what was lost, whatever it says.
            raise activation.refusal(turn) from error
        return max(activation.dep, turn.dep), None, error
    except BaseException:
        activation.roll_back(turn)
        raise
    finally:
        if began:
            kind.turn_seconds.observe(perf_counter() - began)
        turn.over = True
        turn.root = ENDED
        activation.turn = None
        activation.wrote_large = False
        if activation.mailbox:
            activation.hand_over()
        else:
            activation.busy = False
        CALLER.reset(token)


async def _run_shared(
    activation: Activation,
    plan: MethodPlan,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    parent: Turn | None,
    exact: ExactCall | None,
) -> Reply:
    # It may go on while turns come and go, so it works on a copy of the state that was last staged.
    view = activation.view()
    turn = Turn(activation, plan.name, parent, exact)
    turn.shared = True
    activation.type.shared_calls += 1
    failures = activation.system.failures
    error: Exception | None = None
    reply: object = None
    token = CALLER.set(turn)
    activation.running_shared += 1
    try:
        try:
            reply = await plan.function(view, *args, **kwargs)
            activation.check_view(view, plan.name)
            reply = plan.check_result(reply, turn)
        except Exception as raised:
            error = raised
        if activation.system.failures != failures:
            raise StorageFailed(
                f"{turn}: a commit failed while it ran, so it may have read what is lost"
            ) from error
        # What it read from storage may be younger than the copy.
        return max(turn.dep, activation.dep), reply, error
    finally:
        turn.over = True
        turn.root = ENDED
        activation.running_shared -= 1
        CALLER.reset(token)


async def _wait_in_chain(activation: Activation, parent: Turn) -> None:
    ring = find_cycle(parent, activation)
    if ring is not None:
        raise DeadlockError(ring)
    block(parent, activation)
    try:
        await activation.wait_turn()
    finally:
        unblock(parent, activation)


async def _join(
    activation: Activation,
    root: Turn,
    plan: MethodPlan,
    args: tuple[object, ...],
    kwargs: dict[str, object],
    parent: Turn,
    exact: ExactCall | None,
) -> Reply:
    """A call that came back to an actor of its own chain: part of the turn that runs there.

    If it raises, what it changed is undone, so that the outer turn may catch the error and go on.  When other
    calls joined at the same time their changes can't be told apart; then the whole turn is poisoned and
    nothing of it is kept.
    """
    turn = Turn(activation, plan.name, parent, exact)
    turn.root = root
    turn.writes = root.writes
    fields = activation.type.fields
    writes_before = dict(root.writes)
    after_before = None if root.after_commit is None else list(root.after_commit)
    stage_before = None if root.before_stage is None else list(root.before_stage)
    record_before = fields.encode(activation.instance, str(turn))
    _note_join(turn, root)
    rollbacks_before = len(root.after_rollback or ())
    token = CALLER.set(turn)
    try:
        reply = plan.check_result(await plan.function(activation.instance, *args, **kwargs), turn)
        if root.over:
            raise TurnOver(f"{turn} joined {root}, which ended before it; await every call that a turn makes")
        if activation.gone:
            # What it joined is lost with a commit that failed meanwhile.  The turn that called back may not
            # be, and must not go on as if this had happened.
            raise activation.refusal(turn)
        if exact is not None:
            exact.keep(turn, reply)
        return turn.dep, reply, None
    except BaseException as error:
        if root.over:
            pass  # it was rolled back, and left this call an instance that nobody else uses
        elif not turn.tangled:
            root.writes.clear()
            root.writes.update(writes_before)
            root.after_commit = after_before
            root.before_stage = stage_before
            if root.after_rollback is not None:
                for callback in root.after_rollback[rollbacks_before:]:
                    callback()
                del root.after_rollback[rollbacks_before:]
            fields.restore(activation.instance, record_before, str(turn))
        elif root.poison is None:
            root.poison = error
        if isinstance(error, Exception):
            return turn.dep, None, error
        raise
    finally:
        turn.over = True
        turn.root = ENDED
        if root.joined is not None:
            root.joined.remove(turn)
        CALLER.reset(token)


def _note_join(turn: Turn, root: Turn) -> None:
    """Add a call to those that joined `root`; it is tangled with those that it doesn't lie within."""
    if root.joined is None:
        root.joined = []
    for other in root.joined:
        above = turn.parent
        while above is not None and above is not other:
            above = above.parent
        if above is None:
            turn.tangled = other.tangled = True
    root.joined.append(turn)


async def _run_on_activate(activation: Activation, parent: Turn | None) -> Reply | None:
    """The turn before the first turn; returns its error's reply when it fails.

    Then this activation is given up and the next call makes a new one.
    """
    turn = Turn(activation, "on_activate", parent)
    activation.turn = turn
    token = CALLER.set(turn)
    try:
        await activation.instance.on_activate()
        activation.end_turn(turn)
        activation.ready = True
        return None
    except Exception as error:
        activation.system.directory.drop(activation)
        return max(activation.dep, turn.dep), None, error
    except BaseException:
        activation.system.directory.drop(activation)
        raise
    finally:
        turn.over = True
        activation.turn = None
        CALLER.reset(token)
