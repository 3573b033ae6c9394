"""Where a run of the bench is: one line that is written over on a terminal, one line a case elsewhere."""

from __future__ import annotations

import time
from typing import TextIO


class Progress:
    """Tells of ``total`` cases."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._stream = stream
        self._over = stream.isatty()
        self._began = time.perf_counter()
        self._done = 0
        self._name = ""

    def begin(self, name: str) -> None:
        """The next case."""
        self._done += 1
        self._name = name
        self._tell("")

    def detail(self, text: str) -> None:
        """What of the case is measured now; only a terminal hears of it."""
        if self._over:
            self._tell(text)

    def end(self) -> None:
        """Leave the terminal's line empty."""
        if self._over:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _tell(self, detail: str) -> None:
        seconds = time.perf_counter() - self._began
        head = f"[{self._done}/{self._total}] {seconds:4.0f} s  {self._name}"
        text = f"{head}: {detail}" if detail else head
        # The line is cut where it could wrap: what wrapped cannot be written over.
        self._stream.write(f"\r\x1b[K{text[:100]}" if self._over else f"{text}\n")
        self._stream.flush()
