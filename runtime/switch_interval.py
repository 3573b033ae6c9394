"""The interpreter's switch interval while runtimes are open.

It belongs to the whole process, so the runtimes of a process share it: the shortest that one of them asks for
holds, and what was set before the first of them comes back when the last one closes.
"""

from __future__ import annotations

import sys

_wanted: list[float] = []
_before: float | None = None


def hold_switch_interval(seconds: float) -> None:
    """Ask for an interval until `release_switch_interval` is called with the same one."""
    global _before
    if not _wanted:
        _before = sys.getswitchinterval()
    _wanted.append(seconds)
    sys.setswitchinterval(min(_wanted))


def release_switch_interval(seconds: float) -> None:
    """Take one `hold_switch_interval` back."""
    global _before
    _wanted.remove(seconds)
    if _wanted:
        sys.setswitchinterval(min(_wanted))
    elif _before is not None:
        sys.setswitchinterval(_before)
        _before = None
