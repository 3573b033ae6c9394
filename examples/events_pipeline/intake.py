"""The intake: sends a source into the queue, and knows how far it came.

Promise
  * Started again after a crash it goes on behind the last message that it acknowledged.  The cursor is
    committed with the messages, or, when a commit is full, behind them; then messages may be sent twice, and
    join the runs that they have.
"""

from __future__ import annotations

import msgspec

from holdfast import Actor, Queue

from .pipeline import EVENT_QUEUE


class OtherSource(ValueError):
    """The folder holds events of another source."""


class Intake(Actor):
    """One intake for each queue."""

    source: str = ""
    sent: int = 0

    async def begin(self, source: str) -> int:
        """Say what will be sent; returns how many messages of it were sent before."""
        if self.source not in ("", source):
            raise OtherSource(f"it holds: {self.source}; asked for: {source}")
        self.source = source
        return self.sent

    async def forget(self) -> int:
        """Begin the source again; returns how many messages were sent.  What was sent joins its runs."""
        forgotten, self.sent = self.sent, 0
        return forgotten

    async def send(self, first: int, bodies: list[msgspec.Raw]) -> int:
        """Send the messages from number `first` on, and return how many were sent so far."""
        if first != self.sent:
            raise ValueError(f"message {self.sent} is next; got {first}")
        await self.runtime.get(Queue, EVENT_QUEUE).send_batch(list[object](bodies))
        self.sent += len(bodies)
        return self.sent
