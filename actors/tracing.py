"""What workflows, queues and the service ask of whoever traces them: see runtime/tracing.py.

A run outlives processes and spans don't, so a run is two spans: a short one when it is started, whose context
is kept in the journal and is the parent of all attempts, also after a crash; and one from its start to its
end, told when the end is durable.  What replay delivers from the journal is told to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from ..runtime.tracing import Tracing

if TYPE_CHECKING:
    from ..runtime.ref import Ref
    from .workflow.journal import End, Started
    from .workflow.start_options import StartOptions
    from .workflow.step_op import StepScope


class AttemptSpan(Protocol):
    """One attempt of a step."""

    def enter(self) -> None:
        """Its body begins: what it starts belongs to it."""
        ...

    def leave(self) -> None:
        """The body has begun, or ended at once: the code that runs belongs to whom it did before."""
        ...

    def failed(self, error: BaseException) -> None:
        """It failed, and ends next."""
        ...

    def end(self) -> None:
        """It is over."""
        ...


class RunTracing(Tracing, Protocol):
    """Traces everything."""

    def run_starts(self, ref: Ref, options: StartOptions) -> str | None:
        """A run is started: what is kept of the trace with it, as in the header `traceparent`."""
        ...

    def run_ended(self, ref: Ref, started: Started, record: End) -> None:
        """A run ended, durably."""
        ...

    def attempt_begins(self, scope: StepScope) -> AttemptSpan:
        """An attempt of a step."""
        ...

    def delivery(self, queue: Ref, group: str, message_ids: list[str]) -> AbstractContextManager[object]:
        """Around the handler of a batch."""
        ...

    def incoming(self, headers: Mapping[str, str]) -> AbstractContextManager[object]:
        """Around what a request from outside causes."""
        ...

    def outgoing(self) -> dict[str, str]:
        """Headers for a request that the running code sends."""
        ...
