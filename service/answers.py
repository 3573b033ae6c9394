"""Answers to POSTs that came with an Idempotency-Key, for as long as somebody may repeat one.

Starts, events, updates and messages have ids of their own and need none of this.  For all else:

    free -> begun -> kept -> free (after `KEEP_SECONDS`)
              |  \\-> free   it was refused: nothing happened
              \\-> begun      the process died, or the outcome isn't known: 409 whenever it is repeated

Promise: what was begun under a key is not begun again under it.  Each token has keys of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..runtime.actor import Actor
from ..storage.errors import CallerError
from .refusals import problem

if TYPE_CHECKING:
    from ..actors.system import Runtime
    from .access import Caller

KEEP_SECONDS: Final = 86_400.0
MAX_KEPT_BYTES: Final = 65_536
MAX_KEY_CHARACTERS: Final = 200


class KeptAnswer(msgspec.Struct, array_like=True, frozen=True):
    """What is stored for a key; a status of 0 while there is no answer."""

    asked: bytes
    status: int = 0
    body: bytes = b""


class HttpAnswers(Actor):
    """The answers to one token's POSTs."""

    _holdfast_owned: ClassVar[bool] = True

    async def begin(self, key: bytes, asked: bytes) -> KeptAnswer | None:
        """Note that a request is begun; what is kept when it was before."""
        found = self.storage.get(key)
        if found is not None:
            return msgspec.convert(found, KeptAnswer)
        self.storage.put(key, KeptAnswer(asked), ttl=KEEP_SECONDS)
        return None

    async def keep(self, key: bytes, answer: KeptAnswer) -> None:
        """Keep an answer."""
        self.storage.put(key, answer, ttl=KEEP_SECONDS)

    async def forget(self, key: bytes) -> None:
        """The request was refused: under its key it may be made again."""
        self.storage.delete(key)


async def answered_once(
    runtime: Runtime,
    request: Request,
    caller: Caller,
    encoded: bytes,
    answer: Callable[[], Awaitable[Response]],
    refused: Callable[[Exception], Response],
) -> Response:
    """The answer to a POST with a key: the first one when it is repeated."""
    given = request.headers["idempotency-key"]
    if not 0 < len(given) <= MAX_KEY_CHARACTERS:
        raise CallerError(f"an Idempotency-Key has 1 to {MAX_KEY_CHARACTERS} characters; got {len(given)}")
    key = sha256(given.encode("utf-8", "surrogateescape")).digest()
    about = "\0".join((request.scope["path"], request.scope["query_string"].decode("latin-1"), ""))
    asked = sha256(about.encode("utf-8", "surrogateescape") + encoded).digest()
    answers = runtime.get(HttpAnswers, (caller.name, caller.tenant or ""))
    kept = await answers.begin(key, asked)
    if kept is not None:
        if kept.asked != asked:
            told = "this Idempotency-Key came before with another request; give each one a key of its own"
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, told)
        if not kept.status:
            told = (
                "a request with this Idempotency-Key was begun and has no answer: it is still in progress, "
                "or it was cut off. Ask again in a moment; if this goes on, look what it did"
            )
            return problem(HTTPStatus.CONFLICT, told)
        return Response(kept.body, kept.status, media_type="application/json" if kept.body else None)
    try:
        response = await answer()
    except Exception as error:
        response = refused(error)
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return response  # who knows what happened
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        await answers.forget(key)
    elif len(response.body) <= MAX_KEPT_BYTES:
        await answers.keep(key, KeptAnswer(asked, response.status_code, bytes(response.body)))
    return response
