"""The two drivers: `Client` waits in its thread, `AsyncClient` in an event loop.

All that is decided is decided in request.py, tries.py and answer.py; here it is only sent.

Promises
  * A request takes `timeout` at most, all its tries and pauses together.
  * Only the address that was given is asked: redirects are not followed, and no proxy of the environment is
    used.
  * Of an answer at most MAX_ANSWER_BYTES are taken in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, TypeVar, overload

import httpx2
import msgspec

from ..runtime.durations import Duration, to_seconds
from ..storage.errors import CallerError
from .answer import MAX_ANSWER_BYTES, Answer, read_answer
from .errors import BadAnswer, ServiceError, ServiceUnreachable
from .request import Method, QueryValue, Request, checked_base, checked_token, get, send
from .tries import Tries

T = TypeVar("T")
DEFAULT_TIMEOUT: Final = "60s"
# Nothing left the machine.
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class _Settings:
    """What both drivers know."""

    def __init__(self, url: str, token: str | None, timeout: Duration) -> None:
        self.url = checked_base(url)
        """The service's address, without a slash at the end."""
        self.token = checked_token(token)
        self.timeout_seconds = to_seconds(timeout, what="timeout of the client")
        if self.timeout_seconds <= 0:
            raise CallerError(f"timeout of the client must be more than 0; got {timeout!r}")

    def socket_headers(self) -> dict[str, str]:
        """What goes along when a WebSocket is opened."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"


class Client(_Settings):
    """A service over HTTP, for code without an event loop.

        with Client("http://127.0.0.1:8000/_holdfast", token) as client:
            client.get("/runs", {"status": ["failed"]})

    timeout   of each request, with all its tries
    http      an httpx2.Client of one's own (certificates, proxies, limits); it stays open

    Raises `CallerError` for an address or a token that can't be.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: Duration = DEFAULT_TIMEOUT,
        http: httpx2.Client | None = None,
    ) -> None:
        super().__init__(url, token, timeout)
        self._is_own = http is None
        self._http = httpx2.Client(trust_env=False) if http is None else http

    @overload
    def get(self, path: str, query: Mapping[str, QueryValue] | None = None) -> object: ...
    @overload
    def get(self, path: str, query: Mapping[str, QueryValue] | None = None, *, into: type[T]) -> T: ...

    def get(
        self, path: str, query: Mapping[str, QueryValue] | None = None, *, into: type[Any] = object
    ) -> object:
        """What a GET of a path (below the address, quoted) gives, as a type; plain data by default.

        Raises `ServiceError`.
        """
        return self.ask(get(path, into, query))

    @overload
    def send(self, method: Method, path: str, body: object = ..., *, key: str | None = None) -> object: ...
    @overload
    def send(
        self, method: Method, path: str, body: object = ..., *, key: str | None = None, into: type[T]
    ) -> T: ...

    def send(
        self,
        method: Method,
        path: str,
        body: object = msgspec.UNSET,
        *,
        key: str | None = None,
        into: type[Any] = object,
    ) -> object:
        """What a request with a body gives.

        With a `key` it is tried again also when nobody knows whether it was done: the service does it once
        for a key.  Else it is tried again only where it was not done.  Raises `ServiceError`.
        """
        return self.ask(send(method, path, into, body, key=key, is_safe=key is not None))

    def ask(self, request: Request[T]) -> T:
        """What a request gives; raises `ServiceError`."""
        tries = Tries(request.what, time.monotonic() + self.timeout_seconds, is_safe=request.is_safe)
        while True:
            try:
                return read_answer(request, self._send(request, tries.seconds_left(time.monotonic())))
            except ServiceError as error:
                pause = tries.pause_after(error, time.monotonic())
            time.sleep(pause)

    def _send(self, request: Request[T], seconds: float) -> Answer:
        until = time.monotonic() + seconds
        taken = bytearray()
        try:
            with self._http.stream(
                request.method,
                self.url + request.target,
                headers=request.headers(self.token),
                content=request.body,
                timeout=seconds,
                follow_redirects=False,
            ) as response:
                for part in response.iter_bytes():
                    _take(taken, part, request)
                    if time.monotonic() > until:
                        raise _late(request)
                return Answer(response.status_code, dict(response.headers), bytes(taken))
        except httpx2.HTTPError as error:
            raise _unreachable(request, error) from error

    def close(self) -> None:
        """Close the connections."""
        if self._is_own:
            self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Settings):
    """A service over HTTP, for code in an event loop; otherwise as `Client`."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: Duration = DEFAULT_TIMEOUT,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        super().__init__(url, token, timeout)
        self._is_own = http is None
        self._http = httpx2.AsyncClient(trust_env=False) if http is None else http

    @overload
    async def get(self, path: str, query: Mapping[str, QueryValue] | None = None) -> object: ...
    @overload
    async def get(self, path: str, query: Mapping[str, QueryValue] | None = None, *, into: type[T]) -> T: ...

    async def get(
        self, path: str, query: Mapping[str, QueryValue] | None = None, *, into: type[Any] = object
    ) -> object:
        """See `Client.get`."""
        return await self.ask(get(path, into, query))

    @overload
    async def send(
        self, method: Method, path: str, body: object = ..., *, key: str | None = None
    ) -> object: ...
    @overload
    async def send(
        self, method: Method, path: str, body: object = ..., *, key: str | None = None, into: type[T]
    ) -> T: ...

    async def send(
        self,
        method: Method,
        path: str,
        body: object = msgspec.UNSET,
        *,
        key: str | None = None,
        into: type[Any] = object,
    ) -> object:
        """See `Client.send`."""
        return await self.ask(send(method, path, into, body, key=key, is_safe=key is not None))

    async def ask(self, request: Request[T]) -> T:
        """What a request gives; raises `ServiceError`."""
        tries = Tries(request.what, time.monotonic() + self.timeout_seconds, is_safe=request.is_safe)
        while True:
            try:
                return read_answer(request, await self._send(request, tries.seconds_left(time.monotonic())))
            except ServiceError as error:
                pause = tries.pause_after(error, time.monotonic())
            await asyncio.sleep(pause)

    async def _send(self, request: Request[T], seconds: float) -> Answer:
        taken = bytearray()
        try:
            async with (
                asyncio.timeout(seconds),
                self._http.stream(
                    request.method,
                    self.url + request.target,
                    headers=request.headers(self.token),
                    content=request.body,
                    timeout=seconds,
                    follow_redirects=False,
                ) as response,
            ):
                async for part in response.aiter_bytes():
                    _take(taken, part, request)
                return Answer(response.status_code, dict(response.headers), bytes(taken))
        except TimeoutError:
            raise _late(request) from None
        except httpx2.HTTPError as error:
            raise _unreachable(request, error) from error

    async def close(self) -> None:
        """Close the connections."""
        if self._is_own:
            await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _take(taken: bytearray, part: bytes, request: Request[T]) -> None:
    taken += part
    if len(taken) > MAX_ANSWER_BYTES:
        raise BadAnswer(f"{request.what}: the answer has more than {MAX_ANSWER_BYTES} bytes; ask for less")


def _late(request: Request[T]) -> ServiceUnreachable:
    return ServiceUnreachable(f"{request.what}: no answer in time")


def _unreachable(request: Request[T], error: httpx2.HTTPError) -> ServiceError:
    was_sent = not isinstance(error, _NOT_SENT)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ServiceUnreachable(f"{request.what}: {text}", was_sent=was_sent)
