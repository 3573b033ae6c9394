"""Commits in the loop of a simulation, in place of the writer thread: each at a moment of the story's choice.

A commit is handed over, and made in a callback of its own: what happens in between is what a busy process
does while its disk works.  Before and after it the process may die; or the disk refuses it.
"""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Final, Protocol

from ..storage.commit_log import CommitLog, CommitResult, Space
from ..storage.commit_writer import Committed, commit_batch
from .sim_loop import SimLoop

if TYPE_CHECKING:
    from ..storage.group_commit import Batch

# What the machine has free must not decide about a story.
_FREE_BYTES: Final = 1 << 60


class CommitStage(Protocol):
    """What decides about commits: the simulation."""

    def commit_seconds(self) -> float:
        """How long the next commit takes, in virtual seconds."""
        ...

    def before_commit(self, batch: Batch) -> CommitResult | None:
        """A commit is about to be made; a result stands in its place.  The process may die here."""
        ...

    def after_commit(self, batch: Batch, result: CommitResult) -> CommitResult:
        """A commit was made, and nobody was told yet: what to tell.  The process may die here."""
        ...


class LoopWriter:
    """See `CommitWriter`."""

    def __init__(self, log: CommitLog, committed: Committed, *, loop: SimLoop, stage: CommitStage) -> None:
        self._log = log
        self._committed = committed
        self._loop = loop
        self._stage = stage
        self._under_way: Batch | None = None

    def hand_over(self, batch: Batch) -> None:
        """See `CommitWriter`."""
        self._under_way = batch
        seconds = self._stage.commit_seconds()
        if seconds:
            self._loop.call_later(seconds, self._commit, batch, context=Context())
        else:
            self._loop.call_soon(self._commit, batch, context=Context())

    def wait(self) -> None:
        """See `CommitWriter`: the moment is the story's choice."""

    def stop(self) -> None:
        """See `CommitWriter`."""
        if self._under_way is not None and not self._loop.dead:
            self._commit(self._under_way)

    def _commit(self, batch: Batch) -> None:
        if self._under_way is not batch:
            return  # it was made when the writer was stopped
        result = self._stage.before_commit(batch)
        if self._loop.dead:
            return
        self._under_way = None
        space: Space | None = None
        if result is None:
            result, space = commit_batch(self._log, batch, _nothing)
        result = self._stage.after_commit(batch, result)
        if not self._loop.dead:
            self._committed(batch, result, None if space is None else space._replace(free_bytes=_FREE_BYTES))


def _nothing() -> None:
    pass
