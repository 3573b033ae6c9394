"""The actor types of one runtime: by class, by stored name, and by the number that stands for it on disk.

A class is read when it is first used; its name gets a number then if it is new.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..storage import layout
from ..storage.errors import ActorError, Damaged
from .actor import Actor
from .errors import UnknownActorType
from .registry import find_actor_class, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..storage.group_commit import Writes
    from .actor_type import ActorType
    from .system import ActorSystem

_log = logging.getLogger("holdfast.runtime")


class ActorTypes:
    """What is known of each actor class that was used so far."""

    def __init__(
        self,
        system: ActorSystem,
        *,
        make: Callable[[type[Actor], int], ActorType],
        on_added: Callable[[ActorType], None],
    ) -> None:
        """`make` reads a class; `on_added` hears of each type before anybody uses it."""
        self.by_class: dict[type, ActorType] = {}
        self._by_number: dict[bytes, ActorType] = {}
        self._by_name: dict[str, ActorType] = {}
        self._system = system
        self._make = make
        self._on_added = on_added

    def of(self, actor_class: type) -> ActorType:
        """What is known of an actor class; its name gets a number on disk when it is new."""
        kind = self.by_class.get(actor_class)
        if kind is not None:
            return kind
        self._system.check_open()
        is_class = isinstance(actor_class, type)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not is_class or not issubclass(actor_class, Actor) or actor_class is Actor:
            raise UnknownActorType(f"expected a subclass of Actor; got {actor_class!r}")
        name = type_name(actor_class)
        taken = self._by_name.get(name)
        if taken is not None:
            raise UnknownActorType(
                f"the name {name!r} is registered twice: "
                f"{taken.actor_class.__module__}.{taken.actor_class.__qualname__} and "
                f"{actor_class.__module__}.{actor_class.__qualname__}; set `name` in one of them"
            )
        store = self._system.store
        stored = store.get(layout.TYPE + name.encode())
        number = store.next_type_number if stored is None else int.from_bytes(stored, "big")
        kind = self._make(actor_class, number)
        if stored is None:
            store.next_type_number += 1
            store.stage({layout.TYPE + name.encode(): kind.number_bytes}, reserve=True)
        self.by_class[actor_class] = kind
        self._by_name[name] = kind
        self._by_number[kind.number_bytes] = kind
        self._system.scheduler.meet(kind)
        self._on_added(kind)
        return kind

    def numbered(self, number: bytes) -> ActorType:
        """The type with a stored number; raises `UnknownActorType` when its class isn't imported here."""
        kind = self._by_number.get(number)
        if kind is not None:
            return kind
        return self.named(self.name_of(number))

    def named(self, name: str) -> ActorType:
        """The type with a stored name; raises `UnknownActorType` when its class isn't imported here."""
        kind = self._by_name.get(name)
        if kind is not None:
            return kind
        actor_class = find_actor_class(name)
        if actor_class is None:
            raise UnknownActorType(
                f"no class named {name!r} is imported in this process; import the module that defines it"
            )
        return self.of(actor_class)

    def name_of(self, number: bytes) -> str:
        """The stored name of a type's number."""
        kind = self._by_number.get(number)
        if kind is not None:
            return kind.name
        for key, stored in self._system.store.scan_prefix(layout.TYPE):
            if stored == number:
                return key[1:].decode()
        raise Damaged(f"the store has no actor type with number {number.hex()}")

    def stored(self) -> dict[str, bytes]:
        """Names and numbers of all types that ever wrote here."""
        return {key[1:].decode(): stored for key, stored in self._system.store.scan_prefix(layout.TYPE)}

    def load_known(self) -> None:
        """Make the types of all stored names whose class is imported; the others wait until somebody asks."""
        for name in self.stored():
            try:
                actor_class = find_actor_class(name)
                if actor_class is not None and actor_class not in self.by_class:
                    self.of(actor_class)
            except ActorError as error:
                _log.error("the stored type %s can't be used: %s", name, error)
            except UnknownActorType as error:
                _log.warning("the stored type %s waits: %s", name, error)

    def write_lost(self) -> None:
        """Types that were numbered by a lost commit keep their numbers: write their names again."""
        store = self._system.store
        again: Writes = {
            layout.TYPE + kind.name.encode(): kind.number_bytes
            for kind in self.by_class.values()
            if store.get(layout.TYPE + kind.name.encode()) is None
        }
        if again:
            store.stage(again, reserve=True)
