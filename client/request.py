"""A request as plain data: what is asked, and as what the answer is read.  No I/O here.

Request -> a driver sends it (http_client.py) -> answer.py reads what came
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from ..actors.correlation import current_correlation_id
from ..actors.ids import new_id
from ..storage.errors import CallerError

T = TypeVar("T")
Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
QueryValue: TypeAlias = str | int | bool | Sequence[str] | None
RunId: TypeAlias = str | int | tuple[str | int, ...]

_BLANK_OR_CONTROL: Final = frozenset(map(chr, range(33))) | {"\x7f"}


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One request.

    path      below the base address, quoted (`path_of`)
    into      what the answer is decoded to
    body      JSON, encoded; None for none
    key       the header Idempotency-Key
    is_safe   done twice is done once: it may be sent again when nobody knows whether it was done
    """

    method: Method
    path: str
    into: type[T]
    query: str = ""
    body: bytes | None = field(default=None, repr=False)
    key: str | None = None
    is_safe: bool = True

    @property
    def what(self) -> str:
        """The request, for messages."""
        return f"{self.method} {self.path}"

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def headers(self, token: str | None) -> dict[str, str]:
        """What goes along; from a step's body also the correlation id of its run."""
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        if self.key is not None:
            headers["Idempotency-Key"] = self.key
        correlation_id = current_correlation_id()
        if correlation_id is not None:
            headers["X-Correlation-Id"] = correlation_id
        return headers


def get(path: str, into: type[T], query: Mapping[str, QueryValue] | None = None) -> Request[T]:
    """A request that changes nothing."""
    return Request("GET", path, into, query_of(query or {}))


def send(
    method: Method,
    path: str,
    into: type[T],
    body: object = msgspec.UNSET,
    *,
    query: Mapping[str, QueryValue] | None = None,
    key: str | None = None,
    is_safe: bool = True,
) -> Request[T]:
    """A request that changes something; it has a key, a new one by default.

    Raises `CallerError` for a body that has no form in JSON.
    """
    encoded: bytes | None = None
    if body is not msgspec.UNSET:
        try:
            encoded = msgspec.json.encode(body)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise CallerError(f"{method} {path}: the body has no form in JSON: {error}") from error
    return Request(method, path, into, query_of(query or {}), encoded, key or new_id(), is_safe)


def query_of(query: Mapping[str, QueryValue]) -> str:
    """A query: a sequence comes as often as it has parts, True as a name alone, None and False don't."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        if value is None or value is False:
            continue
        if isinstance(value, Sequence) and not isinstance(value, str):
            pairs += [(name, one) for one in value]
        else:
            pairs.append((name, "" if value is True else str(value)))
    return urlencode(pairs)


def path_of(*parts: str) -> str:
    """A path of parts that hold no slash of their own, each quoted."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def run_path(id: RunId) -> str:
    """A run's id as the last part of a path: see docs/http.md.

    Slashes stay as they are, unless what is between them would mean something in an address.
    """
    if not isinstance(id, str) or id.startswith("~") or id in (".", ".."):
        id = f"~{msgspec.json.encode(id).decode()}"
    plain = all(part not in ("", ".", "..") for part in id.split("/"))
    return f"/{quote(id, safe='/' if plain else '')}"


def checked_base(url: str) -> str:
    """The address of a service, without a slash at the end; raises `CallerError`."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits, parts = False, urlsplit("")
    if (
        not fits
        or parts.username is not None
        or parts.query
        or parts.fragment
        or _BLANK_OR_CONTROL & set(url)
    ):
        raise CallerError(
            f"expected the address of a service like http://127.0.0.1:8000/_holdfast, without a user, a "
            f"query or a fragment; got {url!r:.200}"
        )
    return url.rstrip("/")


def checked_token(token: str | None) -> str | None:
    """The token as it can be sent; raises `CallerError`, which doesn't show it."""
    if token is None:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CallerError("a token is printable ASCII without blanks")
    return token
