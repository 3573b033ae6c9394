"""What the runtime asks of whoever traces it; nothing is asked where nobody does.

Who traces is given to `Runtime(telemetry=...)`; the one that there is speaks OpenTelemetry
(actors/telemetry.py).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .actor_type import ActorType
    from .ref import Ref


class Tracing(Protocol):
    """Traces actors."""

    def trace_methods(self, kind: ActorType) -> None:
        """A type is used for the first time: from now on each call of its methods is traced.

        So calls pay nothing where nobody traces.
        """
        ...

    def alarm(self, ref: Ref, name: str) -> AbstractContextManager[object]:
        """Around the handler of an alarm."""
        ...
