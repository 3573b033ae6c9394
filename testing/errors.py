"""What a simulation raises into the test.

None of it is an error of the library's tree: it tells about the test, or about what the test found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .sent_event import SentEvent
    from .storm import Storm


class ProcessDied(Exception):
    """The simulated process died before it replied.

    Whether the call took effect shows only by asking; that is what a real caller gets to know, too.
    """


class NotFinished(AssertionError):
    """What the test waits for will never come: nothing is left that could happen."""


class NeverAtRest(AssertionError):
    """Things go on and on, beyond the limit of virtual time."""


class ReplayViolation(AssertionError):
    """A story with crashes ended otherwise than the same story without, or broke a promise on its way."""

    def __init__(
        self,
        message: str,
        inputs: Sequence[object] = (),
        storm: Storm | None = None,
        events: Sequence[SentEvent] = (),
    ) -> None:
        super().__init__(message)
        self.inputs = tuple(inputs)
        """The inputs of the story."""
        self.events = tuple(events)
        """The events that were sent to its runs."""
        self.storm = storm
        """What went wrong in it; None where that isn't known yet."""


class NotEquivalent(AssertionError):
    """Two ways differ for an input."""

    def __init__(self, message: str, input: object) -> None:
        super().__init__(message)
        self.input = input
        """The smallest input that was found."""
