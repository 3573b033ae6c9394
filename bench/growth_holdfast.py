"""Holdfast's side of `growth`: its pipeline on a folder that is opened again for each size."""

from __future__ import annotations

from pathlib import Path

from holdfast import Runtime

from .growth import IN_FLIGHT
from .growth_floor import FILL_IN_FLIGHT
from .holdfast_side import process
from .workload import Sample, make_events


async def grow(folder: Path, stored: int, size: int, windows: int, window_events: int) -> list[Sample]:
    """Fill up to ``size``, then time ``windows`` of ``window_events`` each."""
    async with Runtime(folder) as rt:
        await process(rt, make_events(max(0, size - stored), stored), FILL_IN_FLIGHT)
        first = max(size, stored)
        return [
            await process(rt, make_events(window_events, first + window * window_events), IN_FLIGHT)
            for window in range(windows)
        ]
