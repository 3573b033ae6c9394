"""Serve a runtime by itself: what `holdfast serve` runs.

    tokens and address looked at -> runtime open -> set up -> listening -> a signal -> drained -> closed

Promises
  * It listens on loopback, or where it is told to and tokens are given.
  * A signal (SIGINT, SIGTERM) lets requests end, tells sockets and streams to come again, and closes the
    runtime, in bounded time: `CLOSE_SECONDS` for sockets, `drain_seconds` for requests, and
    `Limits.close_seconds` for turns.  A second SIGINT does so in a hurry.  Either way nothing that was
    acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ..storage.errors import CallerError
from .access import Token
from .app import http_app
from .draining_server import DrainingServer
from .token_text import TOKENS_VARIABLE, make_token
from .websocket import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from ..actors.system import Runtime

HOST: Final = "127.0.0.1"
PORT: Final = 8470
HIGHEST_PORT: Final = 65_535
# Sockets of hubs among them; each is a file descriptor.
MAX_CONNECTIONS: Final = 4_000
# And what comes in one read of a socket beyond them.
MAX_HEADER_BYTES: Final = 32_768
KEEP_ALIVE_SECONDS: Final = 30
DRAIN_SECONDS: Final = 10

SetUp = Callable[["Runtime"], Awaitable[object] | None]


def run_server(
    runtime: Runtime,
    *,
    host: str = HOST,
    port: int = PORT,
    tokens: Iterable[Token] = (),
    origins: Collection[str] = (),
    set_up: SetUp | None = None,
    drain_seconds: int = DRAIN_SECONDS,
    pages: bool = True,
    open_metrics: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """`serve` in an event loop of its own, uvloop's where that is installed; returns after a signal."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(
            serve(
                runtime,
                host=host,
                port=port,
                tokens=tokens,
                origins=origins,
                set_up=set_up,
                drain_seconds=drain_seconds,
                pages=pages,
                open_metrics=open_metrics,
                say=say,
            )
        )


async def serve(
    runtime: Runtime,
    *,
    host: str = HOST,
    port: int = PORT,
    tokens: Iterable[Token] = (),
    origins: Collection[str] = (),
    set_up: SetUp | None = None,
    drain_seconds: int = DRAIN_SECONDS,
    pages: bool = True,
    open_metrics: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Open a runtime, serve its `http_app` with pages, and close it when a signal comes.

    host, port      where; port 0 takes a free one
    tokens          who may ask; on loopback one is made and told when none is given
    origins, pages, open_metrics   as for `http_app`
    set_up          called with the open runtime before anybody is let in: consumers, bindings, schedules
    drain_seconds   how long requests in progress may go on behind the signal; then they are cancelled
    say             takes the lines that tell the address and the token that was made

    Raises `CallerError` for an address that can't be, and what opening the runtime raises.
    """
    import uvicorn  # draining_server.py says where it isn't there

    given = list(tokens)
    made = [] if given else [make_token()]
    if made and not _is_loopback(host):
        raise CallerError(
            f"{host} is reached from outside of this machine, and no tokens are given: give them in a file "
            f"or in {TOKENS_VARIABLE}, or serve on {HOST}"
        )
    app = http_app(runtime, tokens=given or made, origins=origins, pages=pages, open_metrics=open_metrics)
    with _listening(host, port) as listener:
        async with runtime:
            if set_up is not None:
                waiting = set_up(runtime)
                if inspect.isawaitable(waiting):
                    await waiting
            config = uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                # The one whose headers are bounded.
                http="h11",
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=drain_seconds,
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,
            )
            listener.listen(config.backlog)  # so that who is told the address is let in
            at_host, at_port = listener.getsockname()[:2]
            shown = f"[{at_host}]" if listener.family is socket.AF_INET6 else at_host
            told = f"serving {runtime.path} on http://{shown}:{at_port}"
            say(f"{told}, with pages at /ui/" if pages else told)
            for token in made:
                say(f"token of {token.name}, {token.role}, good until this ends: {token.secret}")
            with _signals_end_it():
                await DrainingServer(config, runtime).serve(sockets=[listener])


@contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    """A socket that is bound, before anything else is touched; raises `CallerError`."""
    if not 0 <= port <= HIGHEST_PORT:  # the system would take the rest of a division
        raise CallerError(f"a port is a number from 0 to {HIGHEST_PORT}; got {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise CallerError(f"{host}:{port} is no address that can be listened on: {error}") from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise CallerError(
                f"{host}:{port} can't be listened on: {error.strerror or error}; stop who does, or take "
                f"another port"
            ) from error
        yield listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name may mean anything
        return False


@contextmanager
def _signals_end_it() -> Generator[None]:
    """uvicorn raises the signals that ended it once more when it is done; the runtime still has to close."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda number, frame: None) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
