"""Progress events of runs, for those who follow: numbered, kept, and told when they are durable.

    run() says emit -> staged under its number -> durable -> followers read what is behind the last they saw

Nothing of it is kept in memory but who waits: a follower that comes late or again reads from the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from ...runtime.clock import moment
from ...runtime.codec import decode_plain
from ...runtime.errors import NotRunning
from ...storage import layout
from ...storage.errors import CallerError
from ...storage.keys import next_prefix
from .saying import decode_emit, emit_key, emit_number

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...runtime.ref import Ref
    from .engine import Engine
    from .live_run import LiveRun

_PAGE: Final = 100
# Numbers are four bytes of a key.
_LAST_NUMBER: Final = 0xFFFF_FFFF


class ProgressEvent(msgspec.Struct, frozen=True):
    """A progress event of a run."""

    number: int
    """From 1 on, without gaps."""
    name: str
    data: object
    at: datetime


class Progress:
    """The followers of the runs of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Who waits for more, by the run's row in the directory.
        self._waiting: dict[bytes, list[asyncio.Future[None]]] = {}
        self._stopped = False

    def said(self, run: LiveRun) -> None:
        """A run said something that is about to be staged."""
        ref = run.activation.ref
        if ref.directory_key in self._waiting:
            self._engine.system.loop.call_soon(self._staged, run.activation)

    def _staged(self, activation: Activation) -> None:
        ref = activation.ref
        self._engine.system.store.on_durable(activation.dep, lambda failure: self._tell(ref))

    def ended(self, ref: Ref) -> None:
        """A run is over, and that is durable."""
        self._tell(ref)

    def _tell(self, ref: Ref) -> None:
        for future in self._waiting.pop(ref.directory_key, ()):
            if not future.done():
                future.set_result(None)

    def stop(self) -> None:
        """The runtime closes."""
        self._stopped = True
        for waiting in self._waiting.values():
            for future in waiting:
                if not future.done():
                    future.set_result(None)
        self._waiting.clear()

    def read(self, ref: Ref, since: int, limit: int) -> list[ProgressEvent]:
        """What is durable behind number `since`; raises `CallerError` for what is no such number."""
        _check_number(since, "since")
        _check_number(limit, "limit")
        if since >= _LAST_NUMBER:
            return []
        system = self._engine.system
        activation = ref.activation or system.directory.activate(ref)
        base = activation.prefix(b"")
        rows = system.store.scan(
            emit_key(base, since + 1), next_prefix(base + layout.EMITTED), limit=limit, durable_only=True
        )
        found: list[ProgressEvent] = []
        for key, stored in rows:
            emit = decode_emit(stored)
            found.append(
                ProgressEvent(emit_number(key), emit.name, decode_plain(emit.data), moment(emit.at_ms))
            )
        return found

    async def follow(self, ref: Ref, since: int) -> AsyncIterator[ProgressEvent]:
        """See `Run.events`."""
        engine = self._engine
        while True:
            # Asked before it is read: what comes in between is told.
            future: asyncio.Future[None] = engine.system.loop.create_future()
            self._waiting.setdefault(ref.directory_key, []).append(future)
            try:
                activation = ref.activation or engine.system.directory.activate(ref)
                if not activation.stored:
                    return  # it has ended, and was purged while the follower was busy
                is_over = engine.has_ended(activation) and activation.dep <= engine.system.store.durable
                page = self.read(ref, since, _PAGE)
                for event in page:
                    since = event.number
                    yield event
                if page:
                    continue
                if is_over:
                    return
                if activation.dep > engine.system.store.durable:
                    self._staged(activation)  # said before anybody followed
                await future
                if self._stopped:
                    raise NotRunning("the runtime was closed; follow the run again when the folder is opened")
            finally:
                waiting = self._waiting.get(ref.directory_key)
                if waiting is not None and future in waiting:
                    waiting.remove(future)
                    if not waiting:
                        del self._waiting[ref.directory_key]


def _check_number(given: object, what: str) -> None:
    if type(given) is not int or given < 0:
        raise CallerError(f"{what} must be a whole number, 0 or more; got {given!r}")
