"""An event that is sent to a run in a story: when, what, and to which run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, cast

import msgspec

from ..actors.workflow.events import encode_event
from ..storage.errors import CallerError
from .checks import check_count, check_seconds
from .source import Source

_LAST_SECONDS: Final = 10 * 365 * 86_400


class SentEvent(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """An event of a story."""

    event: object
    """An instance of an event type, or a name."""
    at: float = 0.0
    """Virtual seconds after the start of the runs."""
    payload: object = None
    """With a name: what is sent."""
    run: int = 1
    """To the run of the how-manyth input."""

    def source(self, source: Source) -> str:
        """As Python source."""
        parts = [source.value(self.event), f"at={self.at!r}"]
        if self.payload is not None:
            parts.append(f"payload={source.value(self.payload)}")
        if self.run != 1:
            parts.append(f"run={self.run}")
        return f"SentEvent({', '.join(parts)})"


def check_events(events: Iterable[object], runs: int) -> tuple[SentEvent, ...]:
    """The events of a story of so many runs; raises `CallerError` or `InvalidEvent`."""
    checked: list[SentEvent] = []
    for one in events:
        if not isinstance(one, SentEvent):
            raise CallerError(f"expected a SentEvent(...); got {one!r}")
        check_seconds(one.at, "the moment of an event")
        if not 0 <= one.at <= _LAST_SECONDS:
            raise CallerError(f"an event is sent within ten years after the start; got at={one.at!r}")
        check_count(one.run, "the run of an event")
        if one.run > runs:
            raise CallerError(f"an event is for run {one.run}, and the story has {runs}")
        encode_event(one.event, one.payload if isinstance(one.event, str) else msgspec.UNSET)
        checked.append(one)
    return tuple(checked)


def made_event(drawn: object, at: float, run: int) -> SentEvent:
    """The event that a strategy gave: an instance of an event type, a name, or a name and a payload."""
    pair = _pair(drawn)
    if len(pair) == 2 and isinstance(pair[0], str):
        return SentEvent(pair[0], at, pair[1], run)
    return SentEvent(drawn, at, None, run)


def _pair(drawn: object) -> tuple[object, ...]:
    return cast("tuple[object, ...]", drawn) if type(drawn) is tuple else ()


def in_order(events: Sequence[SentEvent], order: Sequence[int]) -> list[SentEvent]:
    """The events with their moments dealt out in another order; as they are when `order` is empty."""
    if not order:
        return sorted(events, key=lambda one: one.at)
    if sorted(order) != [*range(len(events))]:
        raise CallerError(
            f"the order of events in a storm names each of them once, by its place from 0; got {tuple(order)}"
        )
    times = [one.at for one in events]
    moved = [msgspec.structs.replace(events[place], at=at) for place, at in zip(order, times, strict=True)]
    return sorted(moved, key=lambda one: one.at)
