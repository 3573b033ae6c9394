"""The job manager of the import: the old way and the new one side by side, and figures of both for a week."""

from __future__ import annotations

from typing import Final

from holdfast import JobManager

from .legacy import LegacyImport
from .workflow import BookImport

IMPORTS_KEY: Final = "all"
METHODS: Final = {"new": "workflow", "old": "legacy"}


class BookImports(JobManager):
    """Which way an import goes follows from its ISBN and `set_rollout`: all take the workflow by default."""

    new = BookImport
    old = LegacyImport()
    keep_figures = "7d"
