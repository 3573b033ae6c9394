"""The directory: which actors are in memory, at most one activation of a key, the longest unused leave first.

Step 2 of a call.  Promise P8: memory follows activity.  An activation leaves when it was idle for
`idle_seconds` or when more than `max_active` are live, but never while somebody needs it or a write of it
isn't durable.
"""

from __future__ import annotations

import itertools
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from .activation import Activation
from .call import run
from .methods import MethodPlan
from .stack_room import check_stack_room

if TYPE_CHECKING:
    from .ref import Ref
    from .system import ActorSystem

_log = logging.getLogger("holdfast.runtime")
# Candidates looked at for one that may leave, from the longest unused on, when the cap is passed.
_LOOK_AT = 16


class Directory:
    """All live activations of a runtime, in order of use."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._live: OrderedDict[bytes, Activation] = OrderedDict()
        self.touch_live = self._live.move_to_end
        # The refs of live actors whose key is a text, by class and key: what `ActorSystem.get` tries first.
        self.refs_by_text: dict[tuple[type, object], Ref] = {}
        # What is loaded rests at least on this commit: an actor was dropped before its writes were durable.
        self.floor = 0

    def __len__(self) -> int:
        return len(self._live)

    def activate(self, ref: Ref) -> Activation:
        """Load the actor into memory.  The caller found that `ref` has no activation.

        Raises `NotRunning`, `RecursionError` (see stack_room.py), and what the class's `__init__` raises.
        """
        check_stack_room()
        found = self._live.get(ref.directory_key)
        if found is not None:  # another ref to the same key made it
            if found.more_refs is None:
                found.more_refs = []
            found.more_refs.append(ref)
            ref.activation = found
            return found
        self._system.check_open()
        if len(self._live) >= self._system.limits.max_active:
            self._make_room()
        activation = Activation(self._system, ref)
        self._system.counts.loaded += 1
        self._live[ref.directory_key] = activation
        ref.activation = activation
        # What has no methods isn't asked for by `get`: runs.
        if ref.key.__class__ is str and ref.type.methods:
            self.refs_by_text[ref.type.actor_class, ref.key] = ref
        return activation

    def touch(self, activation: Activation) -> None:
        """Note that an activation is used; raises `RecursionError` (see stack_room.py)."""
        check_stack_room()
        activation.tick = self._system.tick
        self.touch_live(activation.ref.directory_key)

    def find(self, directory_key: bytes) -> Activation | None:
        """The live activation at an address."""
        return self._live.get(directory_key)

    def drop(self, activation: Activation) -> None:
        """Forget an activation; who waits for it looks up a new one."""
        if activation.dep > self._system.store.durable:
            self.floor = max(self.floor, activation.dep)
        self._forget(activation)

    def drop_from(self, first_commit: int) -> list[Activation]:
        """Forget every activation that rests on commit `first_commit` or a later one (they failed)."""
        lost = [activation for activation in self._live.values() if activation.rests_on(first_commit)]
        for activation in lost:
            self._forget(activation)
        self.floor = 0  # all that was not durable is lost
        return lost

    def drop_all(self) -> None:
        """Forget every activation: the runtime closed."""
        for activation in list(self._live.values()):
            self._forget(activation)

    def all(self) -> list[Activation]:
        """All that are in memory."""
        return list(self._live.values())

    def waiting_calls(self) -> int:
        """Calls that wait in mailboxes."""
        return sum(len(activation.mailbox) for activation in self._live.values() if activation.mailbox)

    def busy(self) -> list[Activation]:
        """Activations that a turn runs on."""
        return [activation for activation in self._live.values() if activation.busy]

    def _forget(self, activation: Activation) -> None:
        if self._live.get(activation.ref.directory_key) is activation:
            del self._live[activation.ref.directory_key]
            ref = activation.ref
            if ref.key.__class__ is str and ref.type.methods:
                self.refs_by_text.pop((ref.type.actor_class, ref.key), None)
        activation.drop()

    def evict_idle(self, tick: int) -> None:
        """Let go of what was last used before `tick`."""
        for activation in list(self._live.values()):
            if activation.tick >= tick:
                break
            if activation.evictable():
                self.evict(activation)

    def evict(self, activation: Activation) -> None:
        """Let an evictable activation leave memory, after its `on_evict` if it has one."""
        if not activation.type.has_on_evict:
            self._system.counts.evicted += 1
            self.drop(activation)
        elif not activation.leaving:
            self._system.counts.evicted += 1
            activation.leaving = True
            self._system.spawn(self._run_on_evict(activation), f"on_evict of {activation.ref}")

    async def _run_on_evict(self, activation: Activation) -> None:
        actor_class = activation.type.actor_class
        plan = MethodPlan(actor_class, "on_evict", actor_class.on_evict)
        try:
            if activation.gone or not activation.evictable():
                return
            dep, _, error = await run(activation.ref, plan, (), {}, None, None)
            if error is not None:
                self._system.limited_log.log(
                    _log,
                    logging.ERROR,
                    f"on_evict of {activation.type.name}",
                    "on_evict of %s raised",
                    activation.ref,
                    error=error,
                )
            await self._system.store.wait_durable(dep)
            if activation.evictable():
                self.drop(activation)
        finally:
            activation.leaving = False

    def _make_room(self) -> None:
        """Evict the longest unused that may leave: two for each that comes, so that a crowd shrinks again."""
        leave = 1 + (len(self._live) > self._system.limits.max_active)
        for activation in list(itertools.islice(self._live.values(), _LOOK_AT)):
            if activation.evictable():
                self.evict(activation)
                leave -= 1
                if not leave:
                    return
            else:
                self.touch(activation)  # it is in use, and would only be looked at again
