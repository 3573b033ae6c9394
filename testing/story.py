"""The story of a simulation: what happened, in order, as data and as text that people read.

Promise: the same seed and the same calls give the same story on every machine, so its hash tells whether two
stories are one.
"""

from __future__ import annotations

import hashlib

import msgspec


class StoryLine(msgspec.Struct, frozen=True):
    """One thing that happened."""

    life: int
    """The how-manyth life of the process, from 1."""
    at_us: int
    """Virtual time since the story began, in microseconds."""
    what: str
    """What it was: "opened", "commit", "body", "crash" ..."""
    text: str
    """The particulars."""

    def __str__(self) -> str:
        return f"{self.at_us / 1_000_000:12.3f} s  {self.what}{': ' if self.text else ''}{self.text}"


class Story:
    """What happened so far."""

    def __init__(self) -> None:
        self.lines: list[StoryLine] = []

    def add(self, life: int, at_us: int, what: str, text: str = "") -> None:
        """One thing more."""
        self.lines.append(StoryLine(life, at_us, what, text))

    def digest(self) -> str:
        """A hash over all that happened (SHA-256, hexadecimal)."""
        total = hashlib.sha256()
        for line in self.lines:
            total.update(f"{line.life} {line.at_us} {line.what} {line.text}\n".encode())
        return total.hexdigest()

    def __str__(self) -> str:
        shown: list[str] = []
        life = 0
        for line in self.lines:
            if line.life != life:
                life = line.life
                shown.append(f"life {life}")
            shown.append(str(line))
        return "\n".join(shown)
