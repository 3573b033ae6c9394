"""Where commands look: a folder, or the service of the process that owns it.  Both are asked in the same way.

    holdfast runs data                                        the folder, read beside its owner
    holdfast runs --url http://127.0.0.1:8470 --token ...     its owner, over HTTP

A folder answers by the same endpoints as a service, without a socket: so both show the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from ..actors.standing_runtime import FolderReader, FolderRuntime
from ..actors.system import Runtime
from ..client.errors import NotThere, ServiceUnreachable
from ..client.http_client import AsyncClient, Client
from ..client.request import QueryValue, path_of, run_path
from ..runtime.address import show_key
from ..storage.errors import CallerError, FolderInUse

URL_VARIABLE: Final = "HOLDFAST_URL"
TOKEN_VARIABLE: Final = "HOLDFAST_TOKEN"
# What a page of a listing holds at most (service/api/asked.py).
PAGE: Final = 1_000
WHO: Final = "command-line"
T = TypeVar("T")
Row = dict[str, Any]


class Source:
    """A folder or a service, asked with the addresses of docs/http.md.  Use it in a `with` block."""

    folder: Path | None = None
    name: str

    def get(self, path: str, query: Mapping[str, QueryValue] | None = None) -> Any:
        """What a GET gives, as plain data; raises `HoldfastError`."""
        raise NotImplementedError

    def send(self, path: str, body: object, *, reply: bool = True) -> Any:
        """What a POST gives, or None without `reply`; raises `HoldfastError`."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Look anew at what may have changed."""

    def release(self) -> None:
        """Give a folder back until it is asked again: a process opens it once at a time."""

    def close(self) -> None:
        """Give back what was opened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def pages(
        self,
        path: str,
        what: str,
        query: Mapping[str, QueryValue] | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Iterator[tuple[list[Row], str | None]]:
        """Pages of a listing, each with the cursor of the next one; at most `limit` rows."""
        left = limit
        while True:
            size = PAGE if left is None else min(PAGE, left)
            page = self.get(path, {**(query or {}), "limit": size, "cursor": cursor})
            rows, cursor = cast("list[Row]", page[what]), page["next"]
            yield rows, cursor
            if left is not None:
                left -= len(rows)
            if cursor is None or left == 0:
                return

    def rows(
        self,
        path: str,
        what: str,
        query: Mapping[str, QueryValue] | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """The rows of a listing, page after page."""
        for page, _ in self.pages(path, what, query, limit=limit):
            yield from page

    def at(self, before: str, address: str) -> Any:
        """GET `/before/TYPE/KEY` for an address `TYPE/KEY` as it is shown; raises `NotThere`."""
        kind, slash, key = address.partition("/")
        if not (kind and slash and key):
            raise CallerError(f"{address!r} is no address; expected one like Workflow/id, as it is listed")
        try:
            return self.get(path_of(before, kind) + key_path(key))
        except NotThere:
            stored = self._stored_key(kind, key)
            if stored is None:
                what = "" if before == "actors" else "run "
                raise NotThere(404, f"there is no {what}{address} in {self.name}") from None
            return self.get(path_of(before, kind) + key_path(stored))

    def _stored_key(self, kind: str, shown: str) -> str | None:
        """The key that is shown so where it is a number or a tuple, as addresses have it."""
        try:
            for row in self.rows(path_of("actors", kind), "actors"):
                key = row["key"]
                if not isinstance(key, str) and shown_key(key) == shown:
                    return str(row["name"])
        except NotThere:
            pass
        return None


def key_path(key: str) -> str:
    """A key as it was typed: behind a tilde it is JSON already."""
    return path_of(key) if key.startswith("~") else run_path(key)


def shown_key(key: Any) -> str:
    """A key of JSON as it is shown."""
    return show_key(tuple(cast("list[str | int]", key)) if isinstance(key, list) else cast("str | int", key))


class Service(Source):
    """A service over HTTP."""

    def __init__(self, url: str, token: str | None) -> None:
        self._client = Client(url, token)
        self.name = url

    def get(self, path: str, query: Mapping[str, QueryValue] | None = None) -> Any:
        """See `Source.get`."""
        with self._told():
            return self._client.get(path, query)

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        """Errors of a service that doesn't answer, with its address."""
        try:
            yield
        except ServiceUnreachable as error:
            told = f"no service answers at {self.name} ({error})"
            raise ServiceUnreachable(told, was_sent=error.was_sent) from error

    def send(self, path: str, body: object, *, reply: bool = True) -> Any:
        """See `Source.send`."""
        with self._told():
            return self._client.send("POST", path, body, into=object if reply else type(None))

    def close(self) -> None:
        """See `Source.close`."""
        self._client.close()


class Folder(Source):
    """A folder: read beside its owner; written to, for one request, when nobody has it open."""

    def __init__(self, folder: Path) -> None:
        self.folder = self._path = folder
        self.name = str(folder)
        self._runner = asyncio.Runner()
        self._reader: FolderReader | None = None
        self._client: AsyncClient | None = None

    def get(self, path: str, query: Mapping[str, QueryValue] | None = None) -> Any:
        """See `Source.get`."""
        return self._run(self._get(path, query))

    def send(self, path: str, body: object, *, reply: bool = True) -> Any:
        """See `Source.send`."""
        return self._run(self._own(path, body, object if reply else type(None)))

    async def _get(self, path: str, query: Mapping[str, QueryValue] | None) -> Any:
        if self._client is None:
            reader = FolderReader(self._path)
            await reader.open()
            self._reader, self._client = reader, _client_of(reader)
        return await self._client.get(path, query)

    async def _own(self, path: str, body: object, into: type[Any]) -> Any:
        await self._close()
        try:
            async with FolderRuntime(self._path) as owner:
                return await _client_of(owner).send("POST", path, body, into=into)
        except FolderInUse as error:
            raise FolderInUse(f"{error}, or ask its owner: --url") from error

    def refresh(self) -> None:
        """See `Source.refresh`."""
        if self._reader is not None:
            self._run(self._refresh())

    async def _refresh(self) -> None:
        assert self._reader is not None
        self._reader.refresh()

    def release(self) -> None:
        """See `Source.release`."""
        self._run(self._close())

    def close(self) -> None:
        """See `Source.close`."""
        try:
            self._run(self._close())
        finally:
            self._runner.close()

    async def _close(self) -> None:
        reader, self._reader, self._client = self._reader, None, None
        if reader is not None:
            await reader.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


def _client_of(runtime: Runtime) -> AsyncClient:
    """A client that asks a runtime of this process, without a socket."""
    import httpx2

    from ..service.access import Token
    from ..service.app import http_app

    token = secrets.token_urlsafe()
    app = http_app(runtime, tokens=[Token(token, WHO, "operator")])
    http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    return AsyncClient("http://folder", token, http=http)


# -- as commands have it -------------------------------------------------------------------------------------

_Command = Callable[..., Any]


def in_source(*names: str, at_least: int | None = None) -> Callable[[_Command], _Command]:
    """A command that looks into a folder or a service; it gets the open `Source` and the words of `names`.

    `[FOLDER] NAME ...` are its arguments: with `--url`, or HOLDFAST_URL, the folder is left out.  The last
    name may be missing when `at_least` is less than their number; one that ends in `...` stands for several.
    """
    fewest = len(names) if at_least is None else at_least
    many = bool(names) and names[-1].endswith("...")
    metavar = " ".join(["[FOLDER]", *(f"[{n}]" if at > fewest else n for at, n in enumerate(names, 1))])

    def decorate(command: _Command) -> _Command:
        @click.argument("words", nargs=-1, metavar=metavar, shell_complete=complete_words)
        @click.option(
            "--url", envvar=URL_VARIABLE, metavar="URL",
            help=f"ask the service there in place of a folder (or {URL_VARIABLE})",
        )  # fmt: skip
        @click.option(
            "--token", envvar=TOKEN_VARIABLE, metavar="SECRET",
            help=f"a token of that service; better in {TOKEN_VARIABLE}, where no list of processes shows it",
        )  # fmt: skip
        @functools.wraps(command)
        def wrapped(words: Sequence[str], url: str | None, token: str | None, **options: Any) -> Any:
            source, rest = split_words(words, names, fewest, url, token, many=many)
            with source:
                return command(source, *rest, **options)

        return wrapped

    return decorate


def split_words(
    words: Sequence[str],
    names: Sequence[str],
    fewest: int,
    url: str | None,
    token: str | None,
    *,
    many: bool = False,
) -> tuple[Source, list[str]]:
    """Where to look, and the other words; raises `click.UsageError`."""
    from_environment = _from_environment("url")
    in_folder = url is None or (from_environment and _looks_like_folder(words, fewest))
    rest = list(words[1:] if in_folder else words)
    if in_folder and not words:
        raise click.UsageError(f"expected a FOLDER, or --url (or {URL_VARIABLE}) in its place")
    if len(rest) < fewest or (len(rest) > len(names) and not many):
        wanted = " ".join(names) or "nothing more"
        where = "behind the FOLDER" if in_folder else "without a FOLDER, since a URL is given"
        raise click.UsageError(f"expected {wanted} {where}; got {' '.join(rest) or 'nothing'}")
    if in_folder:
        return Folder(Path(words[0])), rest
    assert url is not None
    return Service(url, token), rest


def _from_environment(name: str) -> bool:
    context = click.get_current_context(silent=True)
    return (
        context is not None and context.get_parameter_source(name) is click.core.ParameterSource.ENVIRONMENT
    )


def _looks_like_folder(words: Sequence[str], fewest: int) -> bool:
    """Whether a folder was given although the environment names a service: it counts then."""
    return len(words) > fewest and os.path.isdir(words[0])


def complete_words(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names for the shell: folders, then what is in the one that was given."""
    words = cast("Sequence[str]", context.params.get("words") or ())
    if not words and not context.params.get("url"):
        return [CompletionItem(incomplete, type="dir")]
    command = context.info_name or ""
    try:
        with _completed_in(context, words) as source:
            return [CompletionItem(one) for one in _names_in(source, command, incomplete)]
    except Exception:  # a shell that completes shows no errors
        return []


def _completed_in(context: click.Context, words: Sequence[str]) -> Source:
    url = context.params.get("url")
    return Service(url, context.params.get("token")) if url else Folder(Path(words[0]))


def _names_in(source: Source, command: str, incomplete: str) -> list[str]:
    if command in ("run", "history", "debug", "export-run"):
        found = [
            f"{row['workflow']}/{row['id']}"
            for row in source.rows("/runs", "runs", {"newest": True}, limit=PAGE)
        ]
    elif command == "dead":
        found = ["list", "causes", "show", "redrive", "drop"]
    else:
        found = [str(row["type"]) for row in source.get("/actors")["types"]]
    return [one for one in found if one.startswith(incomplete)]
