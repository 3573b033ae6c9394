"""Cases and reports for the tests of the bench."""

from __future__ import annotations

from bench.report import FORMAT, Line, Report
from bench.result import Result, find_growth
from bench.scenarios import Case
from bench.workload import Sample


def make_case(size: int = 10, headline: str = "rate") -> Case:
    """A case of a few writes."""
    return Case(
        "commit",
        f"{size} writes",
        "writes/s",
        "a put",
        "a write",
        "commit",
        (2, size, 10),
        ("2", size),
        headline=headline,
    )


def sample_of(rate: float, latency_ms: float = 2.0) -> Sample:
    """A repetition of ``rate`` units in one second."""
    return Sample(int(rate), 1.0, [latency_ms / 2000, latency_ms / 1000, latency_ms / 500])


def make_report(
    rates: dict[str, tuple[float, ...]], lines: tuple[Line, ...] = (), headline: str = "rate"
) -> Report:
    """A report of one case with these rates by side."""
    results = [
        Result(
            make_case(headline=headline),
            {side: [sample_of(rate, 1000 / rate) for rate in values] for side, values in rates.items()},
        )
    ]
    return Report(
        format=FORMAT,
        machine={
            "model": "a processor",
            "cores": 2,
            "file_system": "ext4",
            "fdatasync_ms": {"median": 0.1, "min": 0.1, "max": 4.0},
        },
        versions={"python": "CPython 3.11", "holdfast": "0.1.0"},
        git_commit="0123456789abcdef",
        load_before=0.5,
        load_after=1.5,
        measured_at="2026-01-01T00:00+00:00",
        settings={"quick": False, "loop": "asyncio", "slow_disk_ms_per_sync": 0.0},
        took_seconds=12.0,
        results=[result.figures() for result in results],
        growth=find_growth(results),
        scale=list(lines),
        skipped={},
    )
