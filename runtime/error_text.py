"""Exceptions as text that can be kept, and texts that leave a message readable.

What is kept is always valid Unicode and never too long, whatever the exception's `__str__` does.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final

_MAX_MESSAGE_CHARACTERS: Final = 4_000
# What calls itself without end leaves a thousand, which take a log 20 ms to write.
_LOGGED_FRAMES: Final = 30


def error_text(error: BaseException) -> str:
    """`Type: message`, as dead letters and dead alarms keep it."""
    return f"{clean(type(error).__name__)}: {message_text(error)}"


def message_text(value: object) -> str:
    """The text of an exception (or of what was given in place of one)."""
    return _text(value, str)


def repr_text(value: object) -> str:
    """The same of what `repr` gives, for people."""
    return _text(value, repr)


def _text(value: object, how: Callable[[object], str]) -> str:
    try:
        text = how(value)
    except KeyboardInterrupt:
        raise
    except BaseException as mistake:  # what can't even be shown must not stop whoever keeps the text
        return f"(its text can't be made: {clean(type(mistake).__qualname__)})"
    return cut(clean(text), _MAX_MESSAGE_CHARACTERS)


def last_frames(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """An exception as `exc_info` of a log line, with the innermost frames of its trace."""
    trace = error.__traceback__
    frames = 0
    ahead = trace
    while ahead is not None:
        ahead = ahead.tb_next
        frames += 1
        if frames > _LOGGED_FRAMES and trace is not None:
            trace = trace.tb_next
    return type(error), error, trace


def clean(text: str) -> str:
    """The text with lone surrogates written out; they can't be stored."""
    return text.encode("utf-8", "backslashreplace").decode()


def shorten(text: str, limit: int) -> str:
    """The text, without its end when it is longer than `limit`: for messages and listings."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def cut(text: str, limit: int) -> str:
    """The text, without its middle when it is longer than `limit`."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]} ... [{len(text) - limit} characters left out] ... {text[-limit // 2 :]}"
