"""An exact counter: every increment counts once, also beside a thousand others and over crashes.

The smallest actor there is, and nothing but one: what it promises is what turns promise (P1, P2, P4).
"""

from __future__ import annotations

from ..runtime.actor import Actor
from ..runtime.methods import shared


class Counter(Actor):
    """A whole number by key."""

    value: int = 0
    updated_ms: int | None = None

    async def increment(self, n: int = 1) -> int:
        """Add `n` and return the new value."""
        self.value += n
        self.updated_ms = self._activation.system.clock.now_ms()
        return self.value

    async def decrement(self, n: int = 1) -> int:
        """Take `n` away and return the new value."""
        self.value -= n
        self.updated_ms = self._activation.system.clock.now_ms()
        return self.value

    async def reset(self, value: int = 0) -> int:
        """Set the value and return the one before."""
        before, self.value = self.value, value
        self.updated_ms = self._activation.system.clock.now_ms()
        return before

    @shared
    async def get(self) -> int:
        """The value."""
        return self.value

    @shared
    async def updated_at_ms(self) -> int | None:
        """When it last changed, in milliseconds since 1970; None when it never did."""
        return self.updated_ms
