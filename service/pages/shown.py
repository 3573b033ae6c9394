"""Values as people read them: times, lengths of time, sizes, JSON; the filters of the templates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from ...runtime.codec import BAD_VALUE
from ...runtime.error_text import cut, repr_text

MAX_SHOWN_CHARACTERS: Final = 20_000
_ENCODE: Final = msgspec.json.Encoder(enc_hook=repr, order="deterministic").encode
_KIB: Final = 1024


def when(moment: datetime | int | None) -> str:
    """A moment (or its milliseconds) in UTC, to the second."""
    if moment is None:
        return ""
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment / 1000, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def stamp(moment: datetime | int) -> str:
    """The same for the attribute of a `<time>`."""
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment / 1000, UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(ms: float | None) -> str:
    """A length of time, in its two largest units at most."""
    if ms is None:
        return "\N{EN DASH}"
    seconds = ms / 1000
    if ms < 1:
        return f"{ms:.2f} ms" if ms else "0 ms"
    if ms < 1000:
        return f"{ms:.3g} ms" if ms < 100 else f"{ms:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    first = next(nth for nth, (count, _) in enumerate(units) if count)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count)


def size(count: float | None) -> str:
    """So many bytes."""
    if count is None:
        return "\N{EN DASH}"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < _KIB:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KIB
    return f"{count:.1f} TiB"


def number(value: float | None) -> str:
    """A number with thin spaces between its thousands."""
    if value is None:
        return "\N{EN DASH}"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}")


def share(value: float | None) -> str:
    """A part of one, in percent; what isn't whole is never shown as if it were."""
    if value is None:
        return "\N{EN DASH}"
    percent = value * 100
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"


def as_json(value: object) -> str:
    """A value as JSON for people; what JSON doesn't know as Python shows it."""
    try:
        return msgspec.json.format(_ENCODE(value)).decode()
    except BAD_VALUE:
        return repr_text(value)


def pretty(value: object) -> str:
    """The same, cut in its middle when it is long."""
    return cut(as_json(value), MAX_SHOWN_CHARACTERS)


def brief(text: str, limit: int = 160) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text[: limit * 4].split())
    return line if len(line) <= limit else f"{line[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


FILTERS: Final[dict[str, Callable[..., str]]] = {
    "when": when,
    "stamp": stamp,
    "duration": duration,
    "size": size,
    "number": number,
    "share": share,
    "pretty": pretty,
    "brief": brief,
}
