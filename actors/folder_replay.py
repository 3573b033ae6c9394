"""Replays the runs of a folder against the present code, without effects: which of them would diverge?

It works on a copy of one moment, made as a backup is and removed in the end, so it may be used beside a
living owner and changes nothing.  On the copy there is a runtime in which nothing goes on by itself: no alarm
fires, no run is taken up, no step or call begins.  Each run gets what is recorded for it and is left where it
comes to rest.  The code of run() itself is executed; what it does to the world outside of steps is done.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import new_class
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

import msgspec

from ..runtime.address import show_key
from ..runtime.deps import Deps
from ..runtime.errors import UnknownActorType
from ..runtime.ref import Ref
from ..storage import layout
from ..storage.backup import backup_now
from ..storage.environment import Environment
from ..storage.errors import HoldfastError, StorageError
from ..storage.keys import decode_key, next_prefix
from .errors import RunNotFound, record_error
from .folder_view import decode_head
from .standing_runtime import StandingRuntime
from .workflow.debugging import DebugView, ObservedRun, debug_view
from .workflow.divergence import Divergence
from .workflow.fold import Fold
from .workflow.head import ENDED, RunStatus
from .workflow.journal import Finished, decode_records, journal_prefix, position_key
from .workflow.user_lines import where
from .workflow.workflow import Workflow
from .workflow.workflow_type import WorkflowType

# fits      the code asks for all that is recorded; an ended run ends in the same way
# diverges  it doesn't: the run would be stuck
# unknown   the run can't be replayed: its class isn't imported, or the journal or the input can't be read
Verdict: TypeAlias = Literal["fits", "diverges", "unknown"]
_PAGE: Final = 500
T = TypeVar("T")


class Replayed(msgspec.Struct, frozen=True):
    """What the replay of one run came to."""

    workflow: str
    id: str
    status: RunStatus
    records: int
    verdict: Verdict
    reason: str = ""
    """The first difference, or why the run could not be replayed."""
    divergence: Divergence | None = None
    """The whole of it, where code and journal part."""


async def replay_folder(
    path: str | os.PathLike[str],
    *,
    workflows: Collection[type[Workflow]] = (),
    only_these: bool = False,
    ended: bool = False,
    deps: Iterable[object] = (),
    scratch: str | os.PathLike[str] | None = None,
) -> list[Replayed]:
    """Replay the runs of a folder against the classes that are imported, the oldest actors first.

    workflows    classes to use for their names, where several claim one name
    only_these   leave out the runs of all other classes
    ended        replay runs that have ended too: they must end again, with the same result
    deps         objects for `runtime.deps`.  In place of others run() gets blank ones of the type, never set
                 up: enough to name a method as a step's body, which is not called
    scratch      where the copy is made for the time being; the system's temporary folder by default.  It
                 takes about as much room as the folder

    Raises `FolderRefused`, `FormatRefused` or `Damaged` when the folder can't be read, and `StorageError`
    when the copy can't be made.
    """
    try:
        room = tempfile.TemporaryDirectory(prefix="holdfast-replay-", dir=scratch)
    except OSError as error:
        raise StorageError(f"no copy can be made in {scratch or 'the temporary folder'}: {error}") from error
    with room as made:
        copy = Path(made) / "copy"
        environment = Environment(path, read_only=True)
        try:
            await asyncio.to_thread(backup_now, environment, copy)
        finally:
            environment.close()
        async with _ReplayRuntime(copy, workflows, deps) as runtime:
            return await _replay_all(runtime, {*workflows} if only_these else None, ended=ended)


class _ReplayRuntime(StandingRuntime):
    """A runtime of the copy, with blank objects for those that steps would use."""

    def __init__(self, path: Path, workflows: Collection[type[Workflow]], deps: Iterable[object]) -> None:
        super().__init__(path, types=workflows, deps=deps)
        self.deps = _BlankDeps(tuple(deps))


class _BlankDeps(Deps):
    """The objects that were given, and blank ones in place of all others."""

    def get(self, wanted: type[T]) -> T:
        """An object of this type; raises `CallerError` when it can't be made without being set up."""
        found = self.find(wanted)
        if found is None:
            try:
                blank = cast("type[Any]", new_class(wanted.__name__, (wanted,)))
                blank.__abstractmethods__ = frozenset()
                found = cast("T", object.__new__(blank))
            except TypeError:  # of a type in C, or one that allows no subclass
                return super().get(wanted)
            self.put(found, as_type=wanted)
        return found


class _StandingRun(ObservedRun):
    """A run that gets what is recorded, and begins nothing."""

    __slots__ = ()

    def other_end(self, fold: Fold) -> str | None:
        """How the end differs from the recorded one; None when it doesn't."""
        main = self.main
        if main is None or not main.done():
            return "the run has ended, but run() goes on"
        if not isinstance(fold.ended, Finished):
            return None
        if main.cancelled():
            return "the run is complete, but run() was cancelled"
        error = main.exception()
        if error is not None:
            return f"the run is complete, but run() raised {record_error(error)}"
        recorded = self.type.decode_output(fold.ended.value)
        try:
            result = self.type.decode_output(self.type.encode_output(main.result()))
        except TypeError as mistake:
            return f"the run is complete, but {mistake}"
        return None if result == recorded else "run() returns another result than is recorded"


async def debug_folder(
    path: str | os.PathLike[str], workflow: type[Workflow], id_: str, at: int | None
) -> DebugView:
    """See `Runtime.debug`, for a run of a folder that may be in use: on a copy, without effects.

    Raises `RunNotFound`, and what `replay_folder` raises.
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-debug-") as made:
        copy = Path(made) / "copy"
        environment = Environment(path, read_only=True)
        try:
            await asyncio.to_thread(backup_now, environment, copy)
        finally:
            environment.close()
        async with _ReplayRuntime(copy, (workflow,), ()) as runtime:
            kind = runtime.workflow_type(workflow)
            for row, _ in _directory(runtime):
                if row[1:3] == kind.number_bytes and show_key(decode_key(row[3:])) == id_:
                    return await debug_view(runtime.engine, runtime.ref_from_bytes(row[1:3], row[3:]), at)
            raise RunNotFound(f"there is no run {kind.name}/{id_} in {path}")


async def _replay_all(
    runtime: _ReplayRuntime, only: set[type[Workflow]] | None, *, ended: bool
) -> list[Replayed]:
    names = {number: name for name, number in runtime.actor_types.stored().items()}
    found: list[Replayed] = []
    for row, number in _directory(runtime):
        base = layout.DATA + number
        if runtime.store.get(position_key(journal_prefix(base), 0)) is None:
            continue  # an actor, not a run
        name = names.get(row[1:3], row[1:3].hex())
        head = decode_head(runtime.store.get(base + layout.FIELDS) or b"")
        if head.status in ENDED and not ended:
            continue
        rows = runtime.store.scan_prefix(journal_prefix(base))
        about = Replayed(name, show_key(decode_key(row[3:])), head.status, len(rows), "fits")
        try:
            ref = runtime.ref_from_bytes(row[1:3], row[3:])
            if only is not None and ref.type.actor_class not in only:
                continue
            if not isinstance(ref.type, WorkflowType):
                raise UnknownActorType(f"the class named {name!r} is an actor and no workflow")
            fold = Fold(decode_records(rows, str(ref)), str(ref))
            found.append(await _replay(runtime, ref, fold, about))
        except UnknownActorType as error:
            if only is None:
                found.append(msgspec.structs.replace(about, verdict="unknown", reason=str(error)))
        except HoldfastError as error:  # of the class, or of the journal
            found.append(msgspec.structs.replace(about, verdict="unknown", reason=str(error)))
    return found


def _directory(runtime: _ReplayRuntime) -> Iterator[tuple[bytes, bytes]]:
    """Rows of the directory: type and key, and the number."""
    after = layout.DIRECTORY
    end = next_prefix(layout.DIRECTORY)
    while rows := runtime.store.scan(after, end, limit=_PAGE):
        yield from rows
        after = rows[-1][0] + b"\x00"


async def _replay(runtime: _ReplayRuntime, ref: Ref, fold: Fold, about: Replayed) -> Replayed:
    activation = runtime.directory.activate(ref)
    run = _StandingRun(runtime.engine, activation, fold.started, fold)
    done = runtime.loop.create_future()

    def replay() -> None:
        run.replay()
        done.set_result(None)

    try:
        runtime.loop.call_soon(replay)  # never from inside a task
        await done
        difference = run.difference
        if difference is not None:
            return msgspec.structs.replace(
                about, verdict="diverges", reason=difference.difference, divergence=difference
            )
        reason = None if run.problem is None else str(run.problem)
        if reason is None and fold.ended is not None:
            reason = run.other_end(fold)
            if reason is not None:
                reason = "; at ".join([reason, *where(run)[:1]])
        return about if reason is None else msgspec.structs.replace(about, verdict="diverges", reason=reason)
    finally:
        run.close()
        runtime.directory.drop(activation)
