"""`http`: a request as an action (extra `http`, which brings httpx2).

Answers decide: 2xx and 3xx are results, 429 and 5xx and no answer at all are failed attempts, other 4xx fail
the step at once.  The idempotency key goes along as a header, unless the caller gave one, so that a server
that knows such keys does a repeated request once.

Promises
  * Only http and https are spoken, and redirects are not followed: a run asks whom it was told to ask.
  * A request takes `timeout` at most, and of an answer at most MAX_ANSWER_BYTES are taken in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ...runtime.durations import to_seconds
from ..errors import HttpFailed, HttpRefused
from .action import action
from .context import ActionContext

if TYPE_CHECKING:
    import httpx2

MAX_ANSWER_BYTES: Final = 1 << 20
DEFAULT_TIMEOUT: Final = "30s"
_SHOWN_BYTES: Final = 200
_TOO_MANY_REQUESTS: Final = 429
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class HttpAnswer(msgspec.Struct, frozen=True):
    """What a server answered."""

    status: int
    headers: dict[str, str]
    """With names in small letters; of one that came several times the values, with commas between."""
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8; what is none of it is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> object:
        """The body as JSON; raises `msgspec.DecodeError`."""
        return msgspec.json.decode(self.body)


@action
async def http(
    context: ActionContext,
    method: Method,
    url: str,
    headers: dict[str, str] | None = None,
    json: object = None,
    body: bytes | None = None,
    timeout: str | float = DEFAULT_TIMEOUT,
) -> HttpAnswer:
    """Send an HTTP request and return the answer."""
    try:
        import httpx2
    except ImportError as error:
        raise HttpRefused("the action http needs httpx2: pip install 'holdfast[http]'") from error
    sent = {"idempotency-key": context.idempotency_key}
    sent |= {name.lower(): value for name, value in (headers or {}).items()}
    if context.runtime is not None and context.runtime.telemetry is not None:
        sent = context.runtime.telemetry.outgoing() | sent
    if json is not None:
        if body is not None:
            raise HttpRefused(f"{method} {url}: give json or body, not both")
        body = msgspec.json.encode(json)
        sent.setdefault("content-type", "application/json")
    _check_url(url)
    seconds = to_seconds(timeout, what="timeout of http")
    try:
        async with asyncio.timeout(seconds), _client(context) as client:
            request = client.build_request(method, url, headers=sent, content=body, timeout=seconds)
            answer = await _send(client, request)
    except TimeoutError as error:
        raise HttpFailed(f"{method} {url}: no answer within {seconds:g} s") from error
    except httpx2.InvalidURL as error:
        raise HttpRefused(f"{method} {url}: {error}") from error
    except httpx2.TransportError as error:
        raise HttpFailed(f"{method} {url}: {type(error).__name__}: {error}") from error
    if answer.status >= 500 or answer.status == _TOO_MANY_REQUESTS:
        raise HttpFailed(f"{method} {url}: {_told(answer)}")
    if answer.status >= 400:
        raise HttpRefused(f"{method} {url}: {_told(answer)}")
    return answer


def _check_url(url: str) -> None:
    scheme, separator, rest = url.partition("://")
    if scheme.lower() not in ("http", "https") or not separator or not rest or rest[0] == "/":
        raise HttpRefused(f"expected a URL that begins with http:// or https:// and a host; got {url!r}")


async def _send(client: httpx2.AsyncClient, request: httpx2.Request) -> HttpAnswer:
    response = await client.send(request, stream=True, follow_redirects=False)
    try:
        taken = bytearray()
        async for part in response.aiter_bytes():
            taken += part
            if len(taken) > MAX_ANSWER_BYTES:
                raise HttpRefused(
                    f"{request.method} {request.url}: the answer has more than {MAX_ANSWER_BYTES} bytes; "
                    "fetch it in an action of your own and keep it elsewhere"
                )
        return HttpAnswer(response.status_code, dict(response.headers), bytes(taken))
    finally:
        await response.aclose()


@asynccontextmanager
async def _client(context: ActionContext) -> AsyncGenerator[httpx2.AsyncClient]:
    """The client in the runtime's deps, which stays open, or one for this request."""
    from httpx2 import AsyncClient

    found = None if context.runtime is None else context.deps.find(AsyncClient)
    if found is not None:
        yield found
        return
    async with AsyncClient() as own:
        yield own


def _told(answer: HttpAnswer) -> str:
    text = answer.body[:_SHOWN_BYTES].decode("utf-8", "replace")
    return f"status {answer.status}" + (f": {text}" if text else "")
