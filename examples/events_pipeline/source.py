"""Where the demo's events come from: made up by number, or read from JSON lines.

Everything about a source follows from its arguments: which events, under which ids, in which order, sent
again how often.  So whoever knows how many messages were sent knows what is left.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from .events import ProcessEventInput, pack

_KINDS: Final = ("created", "paid", "shipped", "returned")
_MADE_UP_AT: Final = "2024-01-01T00:00:00Z"
# Spreads the second sendings over the events sent before; any prime that is larger than a batch does.
_STRIDE: Final = 7919


class BadInput(ValueError):
    """A line of the input can't be read."""


class Source:
    """`count` events, of which every so many are sent twice."""

    def __init__(self, count: int, *, duplicates_percent: int = 0) -> None:
        if count < 0 or not 0 <= duplicates_percent <= 100:
            raise BadInput("expected a number of events from 0 on and a percentage from 0 to 100")
        self.count = count
        self._duplicates_percent = duplicates_percent

    @property
    def messages(self) -> int:
        """How many messages there are to send."""
        return self.count + self.count * self._duplicates_percent // 100

    @property
    def distinct(self) -> int:
        """How many different events they are."""
        return self.count

    @property
    def name(self) -> str:
        """Tells this source from every other one."""
        return f"{self._what()}, {self.count} events, {self._duplicates_percent}% sent twice"

    def bodies(self, after: int = 0) -> Iterator[object]:
        """What to send, from the message number `after` on."""
        for number, event in enumerate(self._order()):
            if number >= after:
                yield self.body(event)

    def body(self, number: int) -> object:
        """The event with this number."""
        raise NotImplementedError

    def _what(self) -> str:
        raise NotImplementedError

    def _order(self) -> Iterator[int]:
        percent = self._duplicates_percent
        for number in range(self.count):
            yield number
            if (number + 1) * percent // 100 > number * percent // 100:
                yield number * _STRIDE % (number + 1)


class MadeUpEvents(Source):
    """Orders, made up."""

    def __init__(self, count: int, *, duplicates_percent: int = 0, invalid_percent: int = 0) -> None:
        super().__init__(count, duplicates_percent=duplicates_percent)
        if not 0 <= invalid_percent <= 100:
            raise BadInput("expected a percentage from 0 to 100")
        self._invalid_percent = invalid_percent

    def body(self, number: int) -> ProcessEventInput:
        """An order; one that is invalid has a text as its payload."""
        event_id = f"order-{number:07d}"
        payload: object = {
            "kind": _KINDS[number % len(_KINDS)],
            "order": number,
            "customer": f"customer-{number * 31 % 997:04d}",
            "amount_cents": 100 + number * 7919 % 100_000,
            "items": [
                {"sku": f"sku-{(number + n) % 250:03d}", "quantity": 1 + n} for n in range(1 + number % 3)
            ],
        }
        if (number + 1) * self._invalid_percent // 100 > number * self._invalid_percent // 100:
            payload = "not an object"
        return ProcessEventInput(
            event_id=event_id,
            payload=pack(payload),
            metadata=pack({"source": "made up"}),
            timestamp=_MADE_UP_AT,
            correlation_id=_correlation_id(event_id),
        )

    def _what(self) -> str:
        return f"made up, {self._invalid_percent}% invalid"


class FileEvents(Source):
    """The lines of a file, so many copies of them, each copy under event ids of its own."""

    def __init__(self, path: Path, *, repeat: int = 1, duplicates_percent: int = 0) -> None:
        """Reads the whole file; raises `BadInput` naming the line that is no JSON object, and `OSError`."""
        if repeat < 1:
            raise BadInput("expected a number of copies from 1 on")
        content = path.read_bytes()
        try:
            text = gzip.decompress(content) if path.suffix == ".gz" else content
        except (OSError, EOFError) as error:
            raise BadInput(f"{path} is no gzip file: {error}") from error
        self._lines: list[dict[str, object]] = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                self._lines.append(_read_line(line, number, path))
        super().__init__(len(self._lines) * repeat, duplicates_percent=duplicates_percent)
        self._digest = hashlib.sha256(content).hexdigest()
        self._copies = repeat
        ids = {body["event_id"] for body in self._lines if isinstance(body["event_id"], str)}
        self._distinct = len(ids) * repeat

    @property
    def distinct(self) -> int:
        """Different event ids; a line without a text there can't become an event."""
        return self._distinct

    def body(self, number: int) -> dict[str, object]:
        """A line, as it was, with what is missing filled in."""
        copy, line = divmod(number, len(self._lines))
        body = self._lines[line]
        event_id = body["event_id"]
        if copy and isinstance(event_id, str):
            body = {**body, "event_id": (event_id := f"{event_id}#{copy + 1}")}
        if "correlation_id" not in body:
            body = {**body, "correlation_id": _correlation_id(str(event_id))}
        return body

    def _what(self) -> str:
        return f"file {self._digest}, {self._copies} copies"


def _read_line(line: bytes, number: int, path: Path) -> dict[str, object]:
    try:
        body = msgspec.json.decode(line, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}, line {number}: expected a JSON object: {error}") from error
    body.setdefault("event_id", f"line-{number:07d}")
    body.setdefault("timestamp", _MADE_UP_AT)
    for name in ("payload", "metadata"):
        # Packed once, however many copies are sent.
        if name in body:
            body[name] = pack(body[name])
    return body


def _correlation_id(event_id: str) -> str:
    return hashlib.blake2b(event_id.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
