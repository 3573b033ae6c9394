"""A runtime in which nothing goes on by itself: no alarm fires, no run is taken up, nothing expires.

For the command line, which looks into a folder, or does one thing to it, with the runtime's own means.
`FolderReader` only reads, also beside the folder's owner.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

from ..runtime.actor import Actor
from ..runtime.actor_type import ActorType
from ..runtime.limits import Limits
from ..runtime.registry import find_actor_class, forget_actor_class
from ..storage import layout
from ..storage.keys import next_prefix
from ..storage.reading_store import ReadingStore
from ..storage.store import Store
from .system import Runtime
from .workflow.journal import journal_prefix, position_key
from .workflow.workflow import Workflow

# Actors of a type that are looked at to tell whether it is a workflow: runs have a journal.
_LOOKED_AT: Final = 8


class StandingRuntime(Runtime):
    """A runtime of a folder in which nothing begins."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        types: Iterable[type[Actor]] = (),
        deps: Iterable[object] = (),
        **options: Any,
    ) -> None:
        super().__init__(
            path,
            types=types,
            deps=deps,
            limits=Limits(stall_seconds=None),
            min_free_bytes=0,
            switch_interval_seconds=None,
            gc_threshold=None,
            **options,
        )
        self.engine.places.stop()

    def _start_parts(self) -> None:
        """Neither alarms nor what expires, and no run."""

    def _type_added(self, kind: ActorType) -> None:
        """Its runs are not taken up."""


class FolderRuntime(StandingRuntime):
    """A folder with a stand-in for the class of each workflow that isn't imported, so that its runs can be
    listed and looked at.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(path, **options)
        # The registry keeps no class alive.
        self._stand_ins: list[type[Workflow]] = []

    def _start_parts(self) -> None:
        self.meet_stored()

    def meet_stored(self) -> None:
        """Make the types of all stored names known; also of those that the owner made since."""
        for name, number in self.actor_types.stored().items():
            if find_actor_class(name) is None and self._has_runs(number):
                self._stand_ins.append(_stand_in(name))
        self.actor_types.load_known()

    def _has_runs(self, number: bytes) -> bool:
        base = layout.DIRECTORY + number
        rows = self.store.scan(base, next_prefix(base), limit=_LOOKED_AT)
        return any(
            self.store.get(position_key(journal_prefix(layout.DATA + owner), 0)) is not None
            for _, owner in rows
        )

    def refresh(self) -> None:
        """Forget what was read so far: the folder's owner goes on."""
        self.directory.drop_all()
        self.meet_stored()

    async def close(self) -> None:
        """Close it; the stand-ins are gone afterwards, so that the classes themselves may be imported."""
        await super().close()
        while self._stand_ins:
            forget_actor_class(self._stand_ins.pop())


class FolderReader(FolderRuntime):
    """A folder, opened for reading beside its owner; whatever would write raises `FolderInUse`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, make_store=_reading_store)


def _reading_store(path: str | os.PathLike[str], **options: Any) -> Store:
    return ReadingStore(path, **options)


def _stand_in(name: str) -> type[Workflow]:
    async def run(self: Workflow, given: object = None) -> object:
        raise NotImplementedError

    return type(
        f"StandIn{name}",
        (Workflow,),
        {"run": run, "name": name, "__module__": __name__, "__doc__": "A workflow that isn't imported."},
    )
