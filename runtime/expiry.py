"""Expiry: keys with a ttl are swept from disk some time after they ended.

Reads skip an expired value at once; sweeping only gives the space back.  An entry whose key was written anew
since (without a ttl, or with a later one) is dropped and the key stays.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..storage import layout
from ..storage.errors import StorageError
from ..storage.group_commit import Writes
from .clock import TimerHandle

if TYPE_CHECKING:
    from .system import ActorSystem

_log = logging.getLogger("holdfast.runtime")
_SWEEP_SECONDS: Final = 60.0
_PAGE: Final = 500


class Expiry:
    """Sweeps expired keys of all actors of a runtime."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._timer: TimerHandle | None = None

    def start(self) -> None:
        """Sweep from now on."""
        self._timer = self._system.clock.call_later(0, self.sweep, upkeep=True)

    def stop(self) -> None:
        """Sweep no more."""
        if self._timer is not None:
            self._timer.cancel()

    def sweep(self) -> None:
        """Remove what expired, a page at a time, and come back later."""
        now_ms = self._system.clock.now_ms()
        store = self._system.store
        again_seconds = _SWEEP_SECONDS
        try:
            rows = store.scan(layout.EXPIRY, layout.EXPIRY + layout.time_bytes(now_ms + 1), limit=_PAGE)
            writes: Writes = {}
            for entry, _ in rows:
                writes[entry] = None
                key = entry[9:]
                stored = store.get(key)
                # What the value itself begins with decides.
                if stored is not None and stored[:1] == layout.EXPIRES and stored[1:9] == entry[1:9]:
                    writes[key] = None
            if writes:
                store.stage(writes, reserve=True)
            if len(rows) == _PAGE:
                again_seconds = 0.01
        except StorageError as error:
            _log.warning("expired keys could not be swept: %s", error)
        self._timer = self._system.clock.call_later(again_seconds, self.sweep, upkeep=True)
