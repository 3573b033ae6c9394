"""What is asked for in the query of an address: `limit`, `cursor`, filters by name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Final, TypeAlias

import msgspec
from starlette.requests import Request

from ...storage.errors import CallerError
from ..access import Caller

MAX_LISTED: Final = 1_000
DEFAULT_LISTED: Final = 100

Limit: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED, description="How many at most.")]
Cursor: TypeAlias = Annotated[str, msgspec.Meta(description="`next` of the page before.")]


class PageQuery(msgspec.Struct, frozen=True):
    """Which part of a listing is asked for."""

    limit: Limit = DEFAULT_LISTED
    cursor: Cursor | None = None


def check_names(request: Request, allowed: Collection[str]) -> None:
    """Raise `CallerError` for a name that this listing doesn't know: it would be left out in silence."""
    for name in request.query_params:
        if name not in allowed:
            raise CallerError(f"?{name}= is not known here; it takes {', '.join(sorted(allowed))}")


def limit_of(request: Request) -> int:
    """How many are asked for; raises `CallerError`."""
    text = request.query_params.get("limit", str(DEFAULT_LISTED))
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 0 < int(text) <= MAX_LISTED):
        raise CallerError(f"limit is a whole number from 1 to {MAX_LISTED}; got {text!r:.100}")
    return int(text)


def tenant_of(caller: Caller, asked: str | None) -> str | None:
    """The tenant whose things are meant; raises `PermissionError` for another one than the token's."""
    if caller.tenant is None or asked in (None, caller.tenant):
        return caller.tenant or asked
    raise PermissionError(f"the token of {caller.name} is for tenant {caller.tenant} alone")
