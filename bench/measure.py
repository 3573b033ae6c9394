"""Measuring cases in turn, to and fro, so that what else the machine does falls on all sides."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .result import Result
from .scenarios import Case
from .sides import Side, SideFailed
from .workload import Sample

# A case of some 30 ms is at the mercy of whatever else the machine does: it is repeated up to five times as
# often as asked, while all its repetitions on all sides together took less than so many seconds.
SHORT_FACTOR = 5
SHORT_SECONDS = 1.5


def measure_once(case: Case, side: Side, place: Path, slow_sync_seconds: float) -> Sample:
    """One repetition of one case on one side, in a fresh folder under ``place``."""
    folder = Path(tempfile.mkdtemp(dir=place))
    # What the side before left in the caches would be written while this one waits for its syncs.
    os.sync()
    try:
        return side.measure(case, folder, slow_sync_seconds + case.slow_sync_seconds)
    finally:
        shutil.rmtree(folder)


def measure_in_turn(
    case: Case,
    sides: Mapping[str, Side],
    place: Path,
    slow_sync_seconds: float,
    repeat: int,
    tell: Callable[[str], None],
) -> tuple[Result, dict[str, str]]:
    """All repetitions of one case: A B B A ...; more than ``repeat`` of them where they are short.

    Also why a side that failed is not among them.
    """
    answering = {name: side for name, side in sides.items() if side.answers(case)}
    result = Result(case, {name: [] for name in answering})
    failed: dict[str, str] = {}
    began = time.perf_counter()
    for done in range(repeat * SHORT_FACTOR):
        if done >= repeat and time.perf_counter() - began > SHORT_SECONDS:
            break
        # To and fro: it is not always the same one that comes behind a side that left the disk worse off.
        for name, side in list(answering.items())[:: 1 if done % 2 == 0 else -1]:
            if name in failed:
                continue
            tell(f"{name}, {done + 1}" + (f" of {repeat}" if done < repeat else ""))
            try:
                result.samples[name].append(measure_once(case, side, place, slow_sync_seconds))
            except SideFailed as error:
                # Without it, since the n-th samples of all sides belong together.
                failed[name] = str(error)
                del result.samples[name]
    return result, failed
