"""The story of a simulation: what happened, in order, as data and as text that people read.

Promise: the same seed and the same calls give the same story on every machine, so its hash tells whether two
stories are one.
"""

from __future__ import annotations

import hashlib

import msgspec


class Event(msgspec.Struct, frozen=True):
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
        self.events: list[Event] = []

    def add(self, life: int, at_us: int, what: str, text: str = "") -> None:
        """One thing more."""
        self.events.append(Event(life, at_us, what, text))

    def digest(self) -> str:
        """A hash over all that happened (SHA-256, hexadecimal)."""
        total = hashlib.sha256()
        for event in self.events:
            total.update(f"{event.life} {event.at_us} {event.what} {event.text}\n".encode())
        return total.hexdigest()

    def __str__(self) -> str:
        lines: list[str] = []
        life = 0
        for event in self.events:
            if event.life != life:
                life = event.life
                lines.append(f"life {life}")
            lines.append(str(event))
        return "\n".join(lines)
