"""Dead letters as clients see them, of every kind in one shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from ...actors.dead_letters import (
    CauseCount,
    Letter,
    LetterAddress,
    LetterFilter,
    LetterKind,
    LetterPlace,
    MessagePlace,
    count_causes,
    list_letters,
    read_letter,
)
from ..cursors import cursor_place, cursor_text
from .addresses import address_of
from .run_views import view_history

if TYPE_CHECKING:
    from ...actors.system import Runtime

_PLACES: Final[dict[LetterKind, Any]] = {"run": str, "message": MessagePlace, "alarm": bytes}


def letter_text(address: LetterAddress) -> str:
    """What a letter is called in addresses."""
    return cursor_text(address)


def letter_address(text: str) -> LetterAddress:
    """The letter that a text means; raises `CallerError` for what is none."""
    return cursor_place(text, LetterAddress)


async def view_letters(
    runtime: Runtime, wanted: LetterFilter, limit: int, cursor: str | None = None
) -> dict[str, object]:
    """A page of dead letters of a kind."""
    after = None if cursor is None else cast("LetterPlace", cursor_place(cursor, _PLACES[wanted.kind]))
    found, place = await list_letters(runtime, wanted, after=after, limit=limit)
    return {
        "dead_letters": [view_letter(one) for one in found],
        "next": None if place is None else cursor_text(place),
    }


def view_letter(letter: Letter) -> dict[str, object]:
    """A dead letter without what is in it."""
    address = letter.address
    return {
        "letter": letter_text(address),
        "kind": address.kind,
        "type": address.type,
        "key": address.key,
        "name": address_of(address.actor_key),
        "id": letter.id,
        "died_at": letter.died_at,
        "error": {"type": letter.error_type, "message": letter.error_message, "fatal": letter.fatal},
        "cause": letter.cause,
        "attempts": letter.attempts,
        "step": letter.step,
        "tenant": letter.tenant,
    }


async def view_whole_letter(runtime: Runtime, address: LetterAddress) -> dict[str, object]:
    """One dead letter with its content, and of a run its history."""
    whole = await read_letter(runtime, address)
    return {
        **view_letter(whole.letter),
        "content": whole.content,
        "history": view_history(whole.history),
    }


async def view_causes(runtime: Runtime, filters: list[LetterFilter], limit: int) -> dict[str, object]:
    """Dead letters by kind, type and cause, the most frequent first."""
    found: list[CauseCount] = []
    more = False
    for wanted in filters:
        counts, is_cut = await count_causes(runtime, wanted)
        found.extend(counts)
        more = more or is_cut
    found.sort(key=lambda one: -one.count)
    return {"causes": [_view_cause(one) for one in found[:limit]], "more": more or len(found) > limit}


def _view_cause(one: CauseCount) -> dict[str, object]:
    return {**msgspec.structs.asdict(one), "example": letter_text(one.example)}
