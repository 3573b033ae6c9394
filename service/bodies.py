"""The bodies of requests and answers: JSON, bounded in size, time and depth."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import parse_qsl

import anyio
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..runtime.codec import BAD_VALUE, reason

Body = TypeVar("Body")
MAX_BODY_BYTES: Final = 1 << 20
BODY_SECONDS: Final = 30.0
MAX_FORM_FIELDS: Final = 1_000
# Where a request's scope has the type that its endpoint declares.
DECLARED_BODY: Final = "holdfast.body"
_BODY: Final = "holdfast.body_bytes"
_ENCODER: Final = msgspec.json.Encoder(enc_hook=repr)


class BadBody(Exception):
    """A body that isn't taken, and the status that says so."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


async def read_body(request: Request, kind: type[Body], max_bytes: int) -> Body:
    """The JSON of a request as its type.

    Raises `BadBody`: 415 for another type of content, 413 for more than `max_bytes`, 408 when it takes longer
    than `BODY_SECONDS` to come, 400 with the path of the field for what doesn't fit.
    """
    assert request.scope.get(DECLARED_BODY) is kind, "the declared body is the one that is read"
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json":
        # Also what keeps a page of another host from sending a form with somebody's rights.
        raise BadBody(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected application/json; got {content_type[:100]}"
        )
    encoded = await read_bytes(request, max_bytes)
    try:
        return msgspec.json.decode(encoded, type=kind)
    except BAD_VALUE as error:
        raise BadBody(HTTPStatus.BAD_REQUEST, f"the body: {reason(error)}") from error


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """The body of a request as it came, which is kept with it; raises `BadBody`."""
    kept: bytes | None = request.scope.get(_BODY)
    if kept is not None:
        return kept
    too_large = BadBody(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {max_bytes} bytes")
    told = request.headers.get("content-length", "")
    if told.isascii() and told.isdigit() and (len(told) > len(str(max_bytes)) or int(told) > max_bytes):
        raise too_large
    read = bytearray()
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for chunk in request.stream():
                read += chunk
                if len(read) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise BadBody(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {BODY_SECONDS:g} s"
        ) from None
    except ClientDisconnect as gone:
        raise BadBody(HTTPStatus.BAD_REQUEST, "the client was gone before its body was there") from gone
    request.scope[_BODY] = bytes(read)
    return bytes(read)


class Form:
    """The fields of a form of a page."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self.fields = fields

    def get(self, name: str, default: str = "") -> str:
        """The first field with a name."""
        return next((value for given, value in self.fields if given == name), default)

    def all(self, name: str) -> list[str]:
        """All fields with a name, in the order of the form."""
        return [value for given, value in self.fields if given == name]


async def read_form(request: Request, max_bytes: int) -> Form:
    """The fields that a form of a page sent; raises `BadBody` as `read_body` does."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise BadBody(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"expected application/x-www-form-urlencoded; got {content_type[:100]!r}",
        )
    encoded = await read_bytes(request, max_bytes)
    try:
        given = parse_qsl(
            encoded.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS
        )
    except ValueError as error:
        raise BadBody(HTTPStatus.BAD_REQUEST, f"the form: {error}") from error
    # Browsers send the ends of lines as Windows has them.
    return Form([(name, value.replace("\r\n", "\n")) for name, value in given])


def answer(
    value: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    """A value as JSON; what JSON doesn't know is shown as Python does."""
    return Response(_ENCODER.encode(value), int(status), headers, media_type="application/json")
