"""Places: how many runs work at the same time, and which of those that wait on disk is next.

A run that works holds a place.  One that sleeps, waits or ended gives it back.  Runs beyond the limits wait
on disk as `queued`, the oldest first; when a folder is opened, those that were running come before them.

Promise P8: a waiting run costs no memory.  All that is known here is whether a type may have some.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ...storage.errors import StorageError
from ...storage.keys import next_prefix
from .head import RESUMED, RunStatus
from .run_index import status_prefix

if TYPE_CHECKING:
    from ..system import Runtime
    from .workflow_type import WorkflowType

_log = logging.getLogger("holdfast.workflow")
_RECOVERY_PAGE: Final = 200
_AGAIN_SECONDS: Final = 0.5


class Places:
    """The places of one runtime."""

    def __init__(
        self, system: Runtime, *, max_running: int, resume: Callable[[WorkflowType, bytes], None]
    ) -> None:
        """`resume(type, key)` is called for a run on disk that gets a place."""
        self.max_running = max_running
        self.running = 0
        self._system = system
        self._resume = resume
        self._running_by_type: dict[str, int] = {}
        self._on_freed: list[Callable[[], None]] = []
        # Types that may have queued runs on disk, and pages of runs to be taken up again.
        self._maybe_queued: dict[WorkflowType, bool] = {}
        self._to_resume: deque[tuple[WorkflowType, RunStatus, bytes]] = deque()
        self._fill_scheduled = False
        self._stopped = False

    def add_type(self, kind: WorkflowType) -> None:
        """A workflow type is used in this process: take its runs up again."""
        self._maybe_queued[kind] = True
        for status in RESUMED:
            self._to_resume.append((kind, status, b""))
        self.fill_later()

    def stop(self) -> None:
        """Give no more places."""
        self._stopped = True

    def expect_queued(self, kind: WorkflowType) -> None:
        """A run of a type was put on disk as queued."""
        self._maybe_queued[kind] = True

    def expect_running(self, kind: WorkflowType) -> None:
        """A run of a type lies on disk as running and found no place."""
        self._maybe_queued[kind] = True
        self._to_resume.append((kind, "running", b""))

    def set_standing(self, kind: WorkflowType, standing: str) -> None:
        """A type is active, paused or retired from now on (standing.py)."""
        kind.standing = standing
        self._maybe_queued[kind] = True
        self.fill_later()

    def has(self, kind: WorkflowType) -> bool:
        """Whether one more run of a type may work."""
        if self.running >= self.max_running or kind.standing == "paused":
            return False
        return kind.max_running is None or self.running_of(kind) < kind.max_running

    def running_of(self, kind: WorkflowType) -> int:
        """Runs of a type that hold a place."""
        return self._running_by_type.get(kind.name, 0)

    def on_freed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` whenever a run gives its place back, until what is returned is called."""
        self._on_freed.append(callback)
        return lambda: self._on_freed.remove(callback)

    def take(self, kind: WorkflowType) -> None:
        """A run begins to work."""
        self.running += 1
        self._running_by_type[kind.name] = self._running_by_type.get(kind.name, 0) + 1

    def free(self, kind: WorkflowType) -> None:
        """A run works no more: its place goes to one that waits on disk."""
        self.running -= 1
        self._running_by_type[kind.name] -= 1
        for callback in self._on_freed:
            callback()
        if self._to_resume or True in self._maybe_queued.values():
            self.fill_later()

    def fill_later(self) -> None:
        """Look for runs that wait, in the next callback."""
        if not self._fill_scheduled and not self._stopped:
            self._fill_scheduled = True
            self._system.loop.call_soon(self._fill)

    def _fill(self) -> None:
        """Give free places to runs on disk: first those that were running, then the queued, the "
        "oldest first."""
        self._fill_scheduled = False
        if self._stopped:
            return
        try:
            taken = self._resume_page()
            for kind, maybe in self._maybe_queued.items():
                if maybe and not self.will_resume(kind):
                    taken += self._start_queued(kind, _RECOVERY_PAGE)
        except StorageError as error:
            _log.error("waiting runs can't be read: %s", error)
            self._system.clock.call_later(_AGAIN_SECONDS, self.fill_later)
            return
        if taken and (self._to_resume or True in self._maybe_queued.values()):
            self.fill_later()

    def will_resume(self, kind: WorkflowType) -> bool:
        """Whether runs of a type are still to be taken up again."""
        return any(waiting is kind for waiting, _, _ in self._to_resume)

    def _resume_page(self) -> int:
        taken = full = 0
        while full < len(self._to_resume) and taken < _RECOVERY_PAGE:
            kind, status, after = self._to_resume[0]
            if not self.has(kind):
                self._to_resume.rotate(-1)  # others may have places
                full += 1
                continue
            prefix = status_prefix(kind, status)
            rows = self._system.store.scan(
                max(prefix, after), next_prefix(prefix), limit=_RECOVERY_PAGE - taken
            )
            if not rows:
                self._to_resume.popleft()
                continue
            for entry, key_bytes in rows:
                if not self.has(kind):
                    break
                self._to_resume[0] = (kind, status, entry + b"\x00")
                taken += 1
                self._resume(kind, key_bytes)
        return taken

    def _start_queued(self, kind: WorkflowType, limit: int) -> int:
        taken = 0
        prefix = status_prefix(kind, "queued")
        while taken < limit and self.has(kind):
            rows = self._system.store.scan(prefix, next_prefix(prefix), limit=min(64, limit - taken))
            if not rows:
                self._maybe_queued[kind] = False
                break
            for _, key_bytes in rows:
                if not self.has(kind):
                    break
                taken += 1
                self._resume(kind, key_bytes)
        return taken
