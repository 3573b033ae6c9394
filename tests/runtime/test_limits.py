"""Limits: nonsense is told where it is given."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import CallerError, Limits


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_active", 0, "at least 1; got 0"),
        ("max_mailbox", -5, "at least 1"),
        ("max_firing", 2.5, "a whole number; got 2.5"),
        ("max_batch_puts", True, "a whole number"),
        ("max_batch_bytes", "1 MiB", "a whole number"),
        ("max_history_records", None, "a whole number"),
        ("idle_seconds", 0, "more than 0"),
        ("idle_seconds", float("nan"), "more than 0"),
        ("stall_seconds", -1, "more than 0"),
        ("close_seconds", "1s", "a number of seconds; got '1s'"),
    ],
)
def test_nonsense_is_told(name: str, value: Any, expected: str) -> None:
    """With the name of the bound, what was expected and what came."""
    with pytest.raises(CallerError, match=f"Limits.{name} must be .*{expected}"):
        Limits(**{name: value})


def test_what_makes_sense_is_taken() -> None:
    """No watchdog, no wait at close, and whole seconds."""
    assert Limits(stall_seconds=None, close_seconds=0, idle_seconds=1).close_seconds == 0
