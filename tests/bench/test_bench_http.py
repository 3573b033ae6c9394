"""bench/http_requests.py: both sides answer what they are asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench import http_requests
from bench.scale import Scale


@pytest.mark.parametrize("side", ["floor", "holdfast"])
def test_every_request_is_answered(tmp_path: Path, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the status that its kind has."""
    monkeypatch.setattr(http_requests, "CONNECTIONS", 3)
    scale = Scale(tmp_path, True, "asyncio", asyncio.new_event_loop)
    for kind in http_requests.KINDS[1::2]:  # a process for each
        found = http_requests.measure_kind(scale, side, kind, 10)
        assert found["statuses"] == {str(kind.status): 10}
