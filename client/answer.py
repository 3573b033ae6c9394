"""What a service answered, read: the value that was asked for, or an error.  No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar, cast

import msgspec

from .errors import BadAnswer, refused
from .request import Request

T = TypeVar("T")
MAX_ANSWER_BYTES: Final = 64 << 20
_SHOWN_CHARACTERS: Final = 200
_MAX_RETRY_AFTER_SECONDS: Final = 3600


class Problem(msgspec.Struct, frozen=True):
    """A problem as RFC 9457 has it, as far as it is looked at."""

    title: str = ""
    detail: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What came: the status, headers with small letters, the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read_answer(request: Request[T], answer: Answer) -> T:
    """The value that was asked for; raises `ServiceRefused` or `BadAnswer`."""
    where = request.what
    if answer.status >= 400:
        raise refused(answer.status, _detail(answer), _retry_after(answer.headers))
    if answer.status >= 300:
        raise BadAnswer(f"{where}: expected an answer; got status {answer.status}, which leads elsewhere")
    if answer.status == 204 or request.into is type(None):
        try:
            return msgspec.convert(None, request.into)
        except msgspec.ValidationError as error:
            raise BadAnswer(f"{where}: expected a body; got none") from error
    if not _is_json(answer.headers):
        if request.into is str:
            return cast("T", answer.body.decode("utf-8", "replace"))
        if request.into is bytes:
            return cast("T", answer.body)
        raise BadAnswer(f"{where}: expected JSON; got {answer.headers.get('content-type', 'no type')}")
    try:
        return msgspec.json.decode(answer.body, type=request.into)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadAnswer(f"{where}: the answer can't be read: {error}") from error


def _is_json(headers: Mapping[str, str]) -> bool:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _detail(answer: Answer) -> str:
    if _is_json(answer.headers):
        try:
            problem = msgspec.json.decode(answer.body, type=Problem)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            problem = Problem()
        if problem.detail or problem.title:
            return problem.detail or problem.title
    return (
        answer.body[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "replace")[:_SHOWN_CHARACTERS] or "no word why"
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    given = headers.get("retry-after", "")  # in seconds; a date is not understood, and none is sent here
    return min(int(given), _MAX_RETRY_AFTER_SECONDS) if given.isascii() and given.isdigit() else None
