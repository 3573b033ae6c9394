"""What a test may ask of a story: a mistake in it is told at once, and not by a story without it."""

from __future__ import annotations

import math

from ..storage.errors import CallerError

# A thousand years: what a clock is set by stays within what it can show.
_MAX_SECONDS = 31_536_000_000


def check_count(value: object, what: str, *, least: int = 1) -> None:
    """Raises `CallerError` unless it is a whole number that is not too small."""
    if type(value) is not int or value < least:
        raise CallerError(f"{what} must be a whole number from {least} on; got {value!r}")


def check_step_name(step: object) -> None:
    """Raises `CallerError` unless it can be the name of a step."""
    if not isinstance(step, str) or not step:
        name = getattr(step, "__name__", None)
        hint = f"; write {name!r}" if isinstance(name, str) else ""
        raise CallerError(f"a step is told by its name, a text; got {step!r}{hint}")


def check_probability(value: object) -> None:
    """Raises `CallerError` unless it is one."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise CallerError(f"a probability lies between 0 and 1; got {value!r}")


def check_callable(function: object, what: str) -> None:
    """Raises `CallerError` unless it can be called."""
    if not callable(function):
        raise CallerError(f"{what} must be a function; got {function!r}")


def check_seconds(seconds: object, what: str) -> None:
    """Raises `CallerError` unless it is a number of seconds, back or forth."""
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds) or abs(seconds) > _MAX_SECONDS:
        raise CallerError(f"{what} must be a number of seconds, back or forth; got {seconds!r}")
