"""Reads over all actors: `Runtime.keys`, `query`, `table` and `dead_alarms`.

Promise P3 holds for them too.  Code outside the actors sees what is durable.  A turn sees what is staged as
well, and from then on rests on the newest of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol

from ..storage.errors import CallerError
from .chain import CALLER, Turn, rest_on

if TYPE_CHECKING:
    from ..storage.store import Store


class View(Protocol):
    """What a look over several keys reads from."""

    def read(self, key: bytes) -> bytes | None: ...

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]: ...


class Reader:
    """Reading access to a whole store, for whoever calls."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, key: bytes) -> bytes | None:
        """The value of a full key."""
        if not self._in_turn():
            return self._store.get_durable(key)
        return self._store.get(key)

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]:
        """A range of full keys."""
        durable_only = not self._in_turn()
        return self._store.scan(start, end, reverse=reverse, limit=limit, durable_only=durable_only)

    @contextlib.contextmanager
    def view(self) -> Generator[View]:
        """Several reads that fit together; nothing may be awaited inside."""
        if self._in_turn():
            yield self  # nothing can be staged while no other code runs
        else:
            with self._store.durable_view() as view:
                yield view

    def write(self, key: bytes, value: bytes | None) -> None:
        """Refuse to."""
        raise CallerError("this table is open for reading; an actor writes its own rows")

    def _in_turn(self) -> bool:
        caller = CALLER.get()
        if isinstance(caller, Turn) and not caller.over and caller.activation.system.store is self._store:
            rest_on(self._store.newest)
            return True
        return False
