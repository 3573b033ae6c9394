"""Old readers: who keeps a snapshot while commits go on, and so makes the file grow.

On the writer thread, behind a commit.  LMDB uses no page anew that an open snapshot still shows, so one that
stays open costs about half a MiB for each commit of a hundred puts, and the file never shrinks.  LMDB's own
table of readers has every open snapshot, also those of other processes; so it is asked here, and a read pays
nothing for being watched.

Promises
  * A snapshot that stays open for longer than `MAX_SNAPSHOT_SECONDS` while commits are made is told once: a
    view with the stack where it was begun, another process with its pid, a backup or a check by its name.
  * Snapshots of killed processes are cleared.  LMDB itself would keep them until the folder is opened anew.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import time
import traceback
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Final, NamedTuple

import lmdb

if TYPE_CHECKING:
    from .environment import Environment

MAX_SNAPSHOT_SECONDS: Final = 1.0
# Not at each commit: each question lets go of the interpreter, and beside a busy loop it takes a switch
# interval to win it back.
_LOOK_SECONDS: Final = 0.25
_STACK_DEPTH: Final = 10
_ROW: Final = re.compile(r"^ *(\d+) +([0-9a-f]+) +(\d+)$", re.MULTILINE)
_log = logging.getLogger("holdfast.storage")


class OpenView:
    """A view that code above holds at this moment: its snapshot, and where it was begun."""

    __slots__ = ("_places", "snapshot")

    def __init__(self, snapshot: int) -> None:
        self.snapshot = snapshot
        # Code and lines only: a frame would keep alive what its variables hold.
        self._places: list[tuple[CodeType, int]] = []
        frame = inspect.currentframe()
        while frame is not None and len(self._places) < _STACK_DEPTH:
            self._places.append((frame.f_code, frame.f_lineno))
            frame = frame.f_back

    def stack(self) -> str:
        """Where it was begun, the innermost call last."""
        places = [(code.co_filename, line, code.co_name, None) for code, line in reversed(self._places)]
        return "".join(traceback.format_list(places))


class OpenReader(NamedTuple):
    """A row of LMDB's table.  The snapshot is the number of the LMDB transaction that it shows."""

    pid: int
    thread: str
    snapshot: int


def read_table(table: str) -> list[OpenReader]:
    """The open snapshots in what `lmdb.Environment.readers` tells."""
    return [OpenReader(int(pid), thread, int(txn)) for pid, thread, txn in _ROW.findall(table)]


class ReaderWatch:
    """Looks for old readers of one environment.  Used by the thread that commits."""

    def __init__(self, environment: Environment, *, now: Callable[[], float] = time.monotonic) -> None:
        self._environment = environment
        self._now = now
        self._next_look = now()
        # Open snapshots that missed a commit, and when that was first seen.  Such a row never means another
        # read than before, since a new one would see the commit.
        self._behind: dict[OpenReader, float] = {}
        self._told: set[OpenReader] = set()

    def look(self) -> None:
        """Tell old readers, and clear those of killed processes; does nothing if it just did.

        It tells by a warning in the log and raises nothing.  Whoever commits is not to blame, the reader may
        be another process, and what it reads is right: only the file grows.
        """
        now = self._now()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        env = self._environment.lmdb
        try:
            cleared = env.reader_check()
            newest: int = env.info()["last_txnid"]
            table = env.readers()
        except lmdb.Error as error:  # the commit before is durable all the same
            _log.warning("%s: the table of readers can't be read: %s", self._environment.path, error)
            return
        if cleared:
            _log.info("%s: cleared %d places of killed readers", self._environment.path, cleared)
        open_now = read_table(table)
        self._behind = {one: self._behind.get(one, now) for one in open_now if one.snapshot < newest}
        self._told.intersection_update(self._behind)
        for one, since in self._behind.items():
            if now - since >= MAX_SNAPSHOT_SECONDS and one not in self._told:
                self._told.add(one)
                self._tell(one, now - since)

    def _tell(self, reader: OpenReader, seconds: float) -> None:
        where = self._environment
        grows = f"for {seconds:.1f} s while commits were made; the file grows until it ends"
        if reader.pid != os.getpid():
            _log.warning("%s: process %d has kept a snapshot %s", where.path, reader.pid, grows)
            return
        stacks = [view.stack() for view in list(where.open_views) if view.snapshot == reader.snapshot]
        if stacks:
            _log.warning(
                "%s: a view has been open %s, so nothing may be awaited inside; it was begun here\n%s",
                where.path, grows, "\n".join(stacks),
            )  # fmt: skip
        elif where.long_reader is not None:  # one at a time, so a second old snapshot isn't its own
            _log.info("%s: %s has kept a snapshot %s", where.path, where.long_reader, grows)
        else:
            _log.warning("%s: a read transaction of this process has been open %s", where.path, grows)
