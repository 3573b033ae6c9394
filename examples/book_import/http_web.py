"""The web over HTTP: the metadata sources by httpx2, covers by httpcore2 on connections that are checked.

Promises
  * An answer has at most so many bytes and takes at most so long, however slowly it drips.
  * A cover comes from a public address, at every hop of its redirects (public_net.py), and is a picture.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self

import httpcore2
import httpx2
import msgspec

from holdfast import Fatal, RetryAfter

from .public_net import PublicNetwork
from .records import BookMetadata, Source
from .settings import Settings
from .sources import question, read_answer
from .web import BookWeb, Cover, WebFailed

MAX_REDIRECTS: Final = 5
MAX_URL_CHARACTERS: Final = 2_000
PICTURES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/avif"})
_AGENT: Final = "holdfast-book-import/1"
_REDIRECTS: Final = (301, 302, 303, 307, 308)


class HttpBookWeb(BookWeb):
    """Use it as `async with`; give it to `Runtime(deps=[...])`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = httpx2.AsyncClient(
            timeout=settings.timeout_seconds,
            follow_redirects=False,
            # Not compressed, so that a small answer is small.
            headers={"User-Agent": _AGENT, "Accept": "application/json", "Accept-Encoding": "identity"},
        )
        self._covers = httpcore2.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            network_backend=PublicNetwork(allow_loopback=settings.allow_loopback),
            max_connections=20,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()
        await self._covers.aclose()

    # -- metadata ------------------------------------------------------------------------------------------

    async def fetch_metadata(self, source: Source, isbn: str) -> BookMetadata:
        """See `BookWeb.fetch_metadata`."""
        asked = question(source, isbn, self._settings)
        body = await self._ask(source, asked.url, asked.headers)
        try:
            answer: object = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise WebFailed(f"{source} answered with what is no JSON: {error}") from error
        return read_answer(source, isbn, answer)

    async def _ask(self, source: Source, url: str, headers: dict[str, str]) -> bytes:
        try:
            async with (
                asyncio.timeout(self._settings.timeout_seconds),
                self._client.stream("GET", url, headers=headers) as response,
            ):
                _check_status(source, response.status_code, response.headers.get("retry-after"))
                taken = bytearray()
                async for part in response.aiter_raw():
                    taken += part
                    if len(taken) > self._settings.max_answer_bytes:
                        raise Fatal(
                            f"{source} answered with more than {self._settings.max_answer_bytes} bytes"
                        )
                return bytes(taken)
        except TimeoutError as error:
            raise WebFailed(f"{source} did not answer within {self._settings.timeout_seconds:g} s") from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise WebFailed(f"{source}: {type(error).__name__}: {error}") from error

    # -- covers --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open_cover(self, url: str) -> AsyncGenerator[Cover]:
        """See `BookWeb.open_cover`."""
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                for _ in range(MAX_REDIRECTS + 1):
                    async with self._covers.stream(
                        "GET",
                        _checked_url(url),
                        headers={"User-Agent": _AGENT, "Accept": "image/*"},
                        extensions={"timeout": dict.fromkeys(_PHASES, self._settings.timeout_seconds)},
                    ) as response:
                        headers = {name.lower(): value for name, value in response.headers}
                        if response.status in _REDIRECTS:
                            target = headers.get(b"location", b"").decode("latin-1")
                            url = str(httpx2.URL(url).join(target))
                            continue
                        _check_status("the cover", response.status, _text(headers.get(b"retry-after")))
                        yield Cover(_checked_type(headers), _parts(response.aiter_stream()))
                        return
                raise Fatal(f"the cover is behind more than {MAX_REDIRECTS} redirects")
        except TimeoutError as error:
            raise WebFailed(f"the cover did not come within {self._settings.timeout_seconds:g} s") from error
        except httpx2.InvalidURL as error:
            raise Fatal(f"the cover's address is none: {error}") from error
        except httpcore2.UnsupportedProtocol as error:
            raise Fatal(f"the cover's address is none: {error}") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
            raise WebFailed(f"the cover: {type(error).__name__}: {error}") from error


_PHASES: Final = ("connect", "read", "write", "pool")


async def _parts(parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    async for part in parts:
        yield part


def _checked_url(url: str) -> str:
    parsed = httpx2.URL(url)
    if len(url) > MAX_URL_CHARACTERS or parsed.scheme not in ("http", "https") or not parsed.host:
        raise Fatal(f"a cover is fetched from http:// or https:// and a host; got {url[:200]!r}")
    if parsed.userinfo:
        raise Fatal("a cover's address names no user")
    return str(parsed)


def _checked_type(headers: dict[bytes, bytes]) -> str:
    content_type = (_text(headers.get(b"content-type")) or "").partition(";")[0].strip().lower()
    if content_type not in PICTURES:
        raise Fatal(f"the cover is no picture: its content type is {content_type[:100]!r}")
    return content_type


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _check_status(who: str, status: int, retry_after: str | None) -> None:
    """200 is an answer; 429 and 5xx may be asked again, when they say; all else won't be better."""
    if status == 200:
        return
    if status == 404:
        raise Fatal(f"{who} has none such (404)")
    if status == 429 or status >= 500:
        seconds = retry_after_seconds(retry_after, datetime.now(UTC))
        if seconds is not None:
            raise RetryAfter(f"{who} answered {status}, and to ask again in {seconds:g} s", seconds)
        raise WebFailed(f"{who} answered {status}")
    raise Fatal(f"{who} answered {status}")


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """What a Retry-After header says, seconds or a date; None for nothing that makes sense."""
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit() and len(header) <= 9:
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
