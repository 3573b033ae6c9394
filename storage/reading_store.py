"""A store that only reads, also beside the process that owns the folder.

For what looks into a folder with the means of a runtime.  Each read sees the owner's newest commit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from . import layout
from .errors import FolderInUse
from .store import Store

# Classes that never wrote here get numbers from here on, for this process alone.  The owner gives numbers
# from below, and its next ones must not mean those classes.
_UNSTORED_TYPES_FROM: Final = 0xF000


class ReadingStore(Store):
    """A folder opened for reading; takes the arguments of `Store`."""

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Raises `FolderRefused`, `FormatRefused` or `Damaged`."""
        super().__init__(path, read_only=True, **options)
        self.next_type_number = _UNSTORED_TYPES_FROM

    def stage(self, writes: Mapping[bytes, bytes | None], *, reserve: bool = False) -> int:
        """Raise `FolderInUse`; but the names of new types are let pass, and forgotten."""
        if all(key.startswith(layout.TYPE) for key in writes):
            return self.newest
        raise FolderInUse(f"folder {self.environment.path} is opened for reading; nothing is written to it")
