"""The replay of a folder as text, as `holdfast replay` prints it: a table by workflow, then what differs."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Final

from .folder_replay import Replayed, Verdict

_VERDICTS: Final[tuple[Verdict, ...]] = ("fits", "diverges", "unknown")
_HEADINGS: Final = ("WORKFLOW", "FITS", "DIVERGES", "UNKNOWN")
# Of each workflow and reason; ten thousand runs that are stuck at one line are one finding.
SHOWN_RUNS: Final = 3


def report_lines(replayed: list[Replayed], *, shown_runs: int = SHOWN_RUNS) -> list[str]:
    """The lines of the report; of runs that don't fit for the same reason only the first are shown."""
    counts = Tally((one.workflow, one.verdict) for one in replayed)
    rows: list[tuple[str, ...]] = [_HEADINGS]
    for workflow in sorted({one.workflow for one in replayed}):
        rows.append((workflow, *(str(counts[workflow, verdict]) for verdict in _VERDICTS)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [_aligned(row, widths) for row in rows]
    groups: dict[tuple[str, str, str], list[Replayed]] = {}
    for one in replayed:
        if one.verdict != "fits":
            groups.setdefault((one.workflow, one.verdict, one.reason), []).append(one)
    for group in groups.values():
        for one in group[:shown_runs]:
            lines += ["", *_details(one)]
        if len(group) > shown_runs:
            lines += [
                "",
                f"and {len(group) - shown_runs} more runs of {group[0].workflow} for the same reason",
            ]
    bad = sum(one.verdict == "diverges" for one in replayed)
    unknown = sum(one.verdict == "unknown" for one in replayed)
    last = f"{bad} of {len(replayed)} runs would diverge"
    return [*lines, "", last + (f", {unknown} could not be replayed" if unknown else "")]


def exit_code(replayed: list[Replayed]) -> int:
    """0 when all fit, 1 when some diverge, 2 when none diverges but some could not be replayed."""
    verdicts = {one.verdict for one in replayed}
    return 1 if "diverges" in verdicts else 2 if "unknown" in verdicts else 0


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    name, *numbers = [
        text.ljust(width) if column == 0 else text.rjust(width)
        for column, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join([name, *numbers])


def _details(one: Replayed) -> list[str]:
    lines = [
        f"{one.verdict}: {one.workflow}/{one.id} ({one.status}, {one.records} records)",
        f"    {one.reason}",
    ]
    divergence = one.divergence
    if divergence is not None:
        lines += [f"    at {place}" for place in divergence.places]
        lines += [
            f"    recorded:  {divergence.shown_recorded()}",
            f"    requested: {divergence.shown_requested()}",
            f"    {divergence.code}",
        ]
    return lines
