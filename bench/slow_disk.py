"""A slow disk under Holdfast: each of the two flushes of a commit takes so much longer.

``Runtime(wrap_log=...)`` puts it before LMDB's own commit log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from holdfast.storage.commit_log import CommitLog, CommitResult, Space


class SlowCommits:
    """A commit log that adds a delay to each of the two flushes of every commit."""

    def __init__(self, log: CommitLog, flush_seconds: float) -> None:
        self._log = log
        self._flush_seconds = flush_seconds

    def commit(self, writes: Mapping[bytes, bytes | None], staged: Callable[[], None]) -> CommitResult:
        """See `CommitLog`."""
        result = self._log.commit(writes, staged)
        time.sleep(2 * self._flush_seconds)
        return result

    def space(self) -> Space:
        """See `CommitLog`."""
        return self._log.space()
