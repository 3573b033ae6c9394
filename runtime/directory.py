"""The directory: which actors are in memory, at most one activation of a key, the longest unused leave first.

Step 2 of a call.  Promise P8: memory follows activity.  An activation leaves when it was idle for `idle_seconds` or when more
than `max_active` are live, but never while somebody needs it or a write of it isn't durable.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from .activation import Activation
from .call import run
from .methods import MethodPlan

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

    def __len__(self) -> int:
        return len(self._live)

    def activate(self, ref: Ref) -> Activation:
        """Load the actor into memory.  The caller found that `ref` has no activation."""
        found = self._live.get(ref.directory_key)
        if found is not None:  # another ref to the same key made it
            ref.activation = found
            return found
        if len(self._live) >= self._system.limits.max_active:
            self._make_room()
        activation = Activation(self._system, ref)
        self._live[ref.directory_key] = activation
        ref.activation = activation
        return activation

    def touch(self, activation: Activation) -> None:
        """Note that an activation is used."""
        activation.tick = self._system.tick
        self.touch_live(activation.ref.directory_key)

    def find(self, directory_key: bytes) -> Activation | None:
        """The live activation at an address."""
        return self._live.get(directory_key)

    def drop(self, activation: Activation) -> None:
        """Forget an activation; who waits for it looks up a new one."""
        if self._live.get(activation.ref.directory_key) is activation:
            del self._live[activation.ref.directory_key]
        activation.drop()

    def drop_from(self, first_commit: int) -> list[Activation]:
        """Forget every activation that rests on commit `first_commit` or a later one (they failed)."""
        lost = [activation for activation in self._live.values() if activation.dep >= first_commit]
        for activation in lost:
            self.drop(activation)
        return lost

    def evict_idle(self, tick: int) -> None:
        """Let go of what was last used before `tick`."""
        for activation in list(self._live.values()):
            if activation.tick >= tick:
                break
            if activation.evictable():
                self.evict(activation)

    def evict(self, activation: Activation) -> None:
        """Let an evictable activation leave memory, after its `on_evict` if it has one."""
        if activation.type.has_on_evict:
            self._system.spawn(self._run_on_evict(activation), f"on_evict of {activation.ref}")
        else:
            self.drop(activation)

    async def _run_on_evict(self, activation: Activation) -> None:
        plan = MethodPlan(activation.type.actor_class, "on_evict", activation.type.actor_class.on_evict)
        if activation.gone or not activation.evictable():
            return
        _, _, error = await run(activation.ref, plan, (), {}, None, None)
        if error is not None:
            _log.error("on_evict of %s raised", activation.ref, exc_info=error)
        if not activation.gone and activation.dep > self._system.store.durable:
            await self._system.store.wait_durable(activation.dep)
        if not activation.gone and activation.evictable():
            self.drop(activation)

    def _make_room(self) -> None:
        looked_at = 0
        for activation in list(_first(self._live, _LOOK_AT)):
            looked_at += 1
            if activation.evictable():
                self.evict(activation)
                return


def _first(live: OrderedDict[bytes, Activation], count: int) -> list[Activation]:
    found = []
    for activation in live.values():
        found.append(activation)
        if len(found) == count:
            break
    return found
