"""Run ids: what may identify a run among those of its workflow."""

from __future__ import annotations

import uuid
from typing import Final, cast

from ...runtime.address import GivenKey
from ..errors import InvalidRunId

MAX_ID_CHARACTERS: Final = 200


def check_run_id(given: object) -> GivenKey:
    """The key of a run; raises `InvalidRunId`."""
    if (
        type(given) is str
        and given.isprintable()
        and 0 < len(given) <= MAX_ID_CHARACTERS
        and " " not in given
    ):
        return given
    parts: tuple[object, ...] = cast("tuple[object, ...]", given) if isinstance(given, tuple) else (given,)
    for part in parts:
        text = str(part) if isinstance(part, (str, int, uuid.UUID)) and not isinstance(part, bool) else ""
        if not text or not text.isprintable() or " " in text:
            raise InvalidRunId(
                f"a run id must be a text of printable characters without blanks, or a tuple of such "
                f"texts and whole numbers; "
                f"got {given!r}"
            )
    if not parts or sum(len(str(part)) + 1 for part in parts) - 1 > MAX_ID_CHARACTERS:
        raise InvalidRunId(f"a run id must have 1 to {MAX_ID_CHARACTERS} characters; got {len(str(parts))}")
    return cast("GivenKey", given)
