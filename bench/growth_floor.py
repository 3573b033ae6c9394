"""The floor of `growth`: the floor's pipeline on a folder that is opened again for each size."""

from __future__ import annotations

from pathlib import Path

from .floor import Floor, process
from .growth import IN_FLIGHT
from .workload import Sample, make_events

FILL_IN_FLIGHT = 1_000


async def grow(folder: Path, stored: int, size: int, windows: int, window_events: int) -> list[Sample]:
    """Fill up to ``size``, then time ``windows`` of ``window_events`` each."""
    async with Floor(folder) as floor:
        await process(floor, make_events(max(0, size - stored), stored), FILL_IN_FLIGHT)
        first = max(size, stored)
        return [
            await process(floor, make_events(window_events, first + window * window_events), IN_FLIGHT)
            for window in range(windows)
        ]
