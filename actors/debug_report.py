"""A look at a run behind a record, as text: what `holdfast debug` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .workflow.debugging import DebugView


def report_lines(view: DebugView) -> Iterator[str]:
    """The lines of a report."""
    yield f"{view.run} behind record {view.at} of {view.records - 1}: {view.last}"
    yield f"state      {view.state or '-'}"
    for name, value in view.data.items():
        yield f"data       {name} = {value!r}"
    for name, text in view.variables.items():
        yield f"variable   {name} = {text}"
    for step in view.waits:
        yield f"asked for  {step}"
    if view.timers:
        yield f"timers     {view.timers}"
    if view.events:
        yield f"events     {', '.join(view.events)} (nobody waited for them yet)"
    for line in view.lines:
        yield f"at         {line}"
    if view.has_ended:
        yield "run() had ended"
    if view.problem:
        yield f"the code doesn't fit: {view.problem}"
