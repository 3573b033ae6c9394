"""A handle of a run: what code outside holds of it.

Any number of them, for ever; none keeps the run in memory.  What is asked of it is looked up on disk, or goes
to the engine: messages to workflow/messages.py, verbs to workflow/control.py.

Promises
  * P3: what it tells is durable, and so is what it was asked to do when it returns.
  * A handle that a tenant's view gave finds no run of another tenant.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

import msgspec

from ..runtime.address import GivenKey, normal_key, show_key
from ..runtime.chain import CALLER, Turn
from ..runtime.codec import encode
from ..storage.errors import CallerError
from .audit import checked_by
from .dead_letter import DeadLetter, dead_letter
from .errors import RunNotFound, WrongStatus
from .exported_run import export_run
from .ids import new_id
from .run_info import RunInfo, run_info
from .workflow.events import check_event_id, encode_event
from .workflow.journal import EventArrived, Record, decode_records, journal_prefix
from .workflow.labels import check_label
from .workflow.live_run import LiveRun
from .workflow.run_id import check_run_id
from .workflow.saying import data_of

if TYPE_CHECKING:
    from ..runtime.address import ActorKey
    from ..runtime.ref import Ref
    from .workflow.control import Control
    from .workflow.head import RunStatus
    from .workflow.progress import ProgressEvent
    from .workflow.updates import Update
    from .workflow.workflow import Workflow
    from .workflow.workflow_type import WorkflowType
    from .workflow_calls import WorkflowCalls

P = ParamSpec("P")
R = TypeVar("R")
Out = TypeVar("Out")


class Run(Generic[Out]):
    """One run of a workflow."""

    __slots__ = ("_ref", "_runtime", "_tenant")

    def __init__(self, runtime: WorkflowCalls, ref: Ref, tenant: str | None = None) -> None:
        self._runtime = runtime
        self._ref = ref
        # Whose run it must be, for a handle that a tenant's view gave.
        self._tenant = tenant

    def of_tenant(self, tenant: str) -> Run[Out]:
        """A handle by which the run is found only if it is this tenant's."""
        return Run(self._runtime, self._ref, tenant)

    @property
    def ref(self) -> Ref:
        """The run's address."""
        return self._ref

    @property
    def key(self) -> ActorKey:
        """The id the run was started with."""
        return self._ref.key

    @property
    def id(self) -> str:
        """The id as text."""
        return show_key(self._ref.key)

    @property
    def workflow(self) -> str:
        """Name of the workflow."""
        return self._ref.type.name

    async def result(self) -> Out:
        """What `run()` returned, once it has and that is durable.

        Raises `RunFailed` when the run failed, was terminated or is stuck, and `RunNotFound` when there is
        none.
        """
        engine = self._runtime.engine
        self._must_exist()
        waiter = engine.result_waiter(self._ref)
        if waiter is None:
            encoded = await engine.stored_result(self._ref)
        else:
            try:
                encoded = await waiter
            except asyncio.CancelledError:
                engine.results.gave_up(self._ref, waiter)
                raise
        kind: WorkflowType = self._ref.type  # type: ignore[assignment]
        out: Out = kind.decode_output(encoded)  # type: ignore[assignment]
        return out

    async def status(self) -> RunStatus:
        """The run's status, once that is durable."""
        return (await self.info()).status

    async def info(self) -> RunInfo:
        """What is known of the run; raises `RunNotFound`."""
        self._must_exist()
        activation = self._ref.activation or self._runtime.directory.activate(self._ref)
        head = cast("Workflow", activation.instance).head
        await self._runtime.store.wait_durable(activation.dep)
        return run_info(self._ref, head)

    async def history(self) -> list[Record]:
        """All records of the run, in order; raises `RunNotFound`."""
        return [record for _, record in await self._records()]

    async def export(self) -> str:
        """The run as a file of JSON, for people and for `holdfast.testing.replay_exported`.

        Raises `RunNotFound`.
        """
        return export_run(await self.info(), await self._records())

    async def _records(self) -> list[tuple[int, Record]]:
        """Positions and records, once they are durable."""
        self._must_exist()
        activation = self._ref.activation or self._runtime.directory.activate(self._ref)
        rows = self._runtime.store.scan_prefix(journal_prefix(activation.prefix(b"")))
        await self._runtime.store.wait_durable(activation.dep)
        return decode_records(rows, str(self._ref))

    async def dead_letter(self) -> DeadLetter:
        """The run as a dead letter; raises `CallerError` when it hasn't failed."""
        records = await self.history()
        letter = dead_letter(self.workflow, self.id, records)
        if letter is None:
            raise WrongStatus(f"run {self._ref} has not failed; its status is {await self.status()}")
        return letter

    async def data(self) -> dict[str, object]:
        """The business data that `run()` has set, as it is durable; raises `RunNotFound`."""
        return data_of(await self.history())

    # -- messages ------------------------------------------------------------------------------------------

    async def send(
        self,
        event: object,
        payload: object = msgspec.UNSET,
        *,
        user: str | None = None,
        tenant: str | None = None,
        id: str | None = None,
    ) -> None:
        """Send an event to the run; returns when it is durable.  The run processes it later, in any case.

        event    an instance of an event type, or a name with a `payload`
        user     who sends it; `wait_event` shows it
        tenant   whose run it must be: another's run is not found
        id       against doubles: a run takes an id once

        In an actor's turn it is part of the turn's commit; in a step it happens once however often the step
        is tried; `run()` itself has `self.send`.  Raises `RunNotFound`, `RunEnded`, `InvalidEvent` or
        `Overloaded`, and then nothing is sent.
        """
        name, encoded = encode_event(event, payload)
        if id is not None:
            check_event_id(id)
        if tenant is not None:
            check_label(tenant, "the tenant of an event")
        if self._tenant is not None:
            if tenant not in (None, self._tenant):
                raise RunNotFound(f"there is no run {self._ref} of tenant {tenant!r} for {self._tenant!r}")
            tenant = self._tenant
        now_ms = self._runtime.clock.now_ms()
        record = EventArrived(now_ms, name, msgspec.Raw(encoded), user, tenant, id)
        await self._runtime.send_event(self._ref, record)

    @overload
    async def update(
        self,
        method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    async def update(
        self, method: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def update(self, method: str, /, *args: object, **kwargs: object) -> object: ...

    async def update(self, method: object, /, *args: Any, **kwargs: Any) -> Any:
        """Call an `@update` method: `await run.update(Order.change_address, "Main St 1")`, or by its name.

        It is validated, recorded, run, and replied to when that is durable.  Raises what the validator and
        the method raise, `UpdateRefused`, `InvalidArgument`, `RunNotFound`, `RunEnded`, or `CallerError`
        while the run is paused or stuck.
        """
        self._must_exist()
        messages, name = self._runtime.engine.messages, _method_name(method)
        done = await messages.update(self._ref, name, args, kwargs, new_id(), None, self._tenant)
        return done.result()

    async def update_once(self, method: object, id: str, /, *args: object, user: str | None = None) -> object:
        """As `update`, under an id that the run takes once: who asks again with it gets the same reply."""
        return (await self.settle_update(method, id, *args, user=user)).result()

    async def settle_update(
        self, method: object, id: str, /, *args: object, user: str | None = None
    ) -> Update:
        """As `update_once`, but what the method raised is told, so that it isn't taken for a refusal."""
        self._must_exist()
        check_event_id(id)
        messages, name = self._runtime.engine.messages, _method_name(method)
        return await messages.update(self._ref, name, args, {}, id, user, self._tenant)

    @overload
    async def query(
        self, method: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def query(self, method: str, /, *args: object, **kwargs: object) -> object: ...

    async def query(self, method: object, /, *args: Any, **kwargs: Any) -> Any:
        """Call a `@query` method: `await run.query(Order.lines)`, or by its name.

        The run goes on undisturbed; one that isn't in memory, or has ended, is replayed for it without
        effects.  Raises what the method raises, `InvalidArgument`, `RunNotFound` or `CallerError`.
        """
        self._must_exist()
        return await self._runtime.engine.messages.query(self._ref, _method_name(method), args, kwargs)

    def progress(self, since: int = 0, *, limit: int = 1000) -> list[ProgressEvent]:
        """Progress events so far that are durable, behind number `since`, at most `limit`."""
        self._must_exist()
        return self._runtime.engine.progress.read(self._ref, since, limit)

    async def events(self, since: int = 0) -> AsyncIterator[ProgressEvent]:
        """Progress events behind number `since`, as they come, until the run has ended.

        Each is there once; after a restart of the process go on with the last number seen.
        """
        self._must_exist()
        async for event in self._runtime.engine.progress.follow(self._ref, since):
            yield event

    # -- control -------------------------------------------------------------------------------------------

    async def pause(self, *, by: str | None = None, reason: str = "") -> None:
        """Let nothing of the run begin any more and no time pass for it, until `resume`.

        Steps in progress end first; until then the status is `pausing`.  Raises `RunNotFound`, `RunEnded`, or
        `CallerError` for a run that is stuck.
        """
        about = checked_by(by, reason)
        await self._do(lambda control: control.pause(self._ref, about))

    async def resume(self, *, by: str | None = None, reason: str = "") -> None:
        """Let a paused run go on: sleeps and timeouts have as much time left as they had.

        Raises `RunNotFound`, `RunEnded`, or `CallerError` for a run that isn't paused.
        """
        about = checked_by(by, reason)
        await self._do(lambda control: control.resume(self._ref, about))

    async def cancel(self, *, by: str | None = None, reason: str = "") -> None:
        """Ask the run to end: `run()` is cancelled where it waits, cleans up, and its steps are undone.

        A run that catches it and returns is complete all the same.  Raises `RunNotFound`, `RunEnded`, or
        `CallerError` for a run that is stuck.
        """
        about = checked_by(by, reason)
        await self._do(lambda control: control.cancel(self._ref, about))

    async def terminate(
        self, reason: str = "terminated from outside", *, undo: bool = False, by: str | None = None
    ) -> None:
        """End the run for good, without clean-up; with `undo` its steps are undone first.

        Raises `RunNotFound`, `RunEnded`, and with `undo` `CallerError` for a run that is stuck.
        """
        about = checked_by(by, reason)
        await self._do(lambda control: control.terminate(self._ref, about, undo=undo))

    async def restart(
        self, *, input: object = msgspec.UNSET, by: str | None = None, reason: str = ""
    ) -> None:
        """Begin the run anew from the top, with the same input or another one; its history is erased.

        In any status.  Raises `RunNotFound` or `InvalidInput`.
        """
        about = checked_by(by, reason)
        encoded = self._encoded_input(input)
        await self._do(lambda control: control.restart(self._ref, encoded, about))

    async def retry_now(self, *, by: str | None = None, reason: str = "") -> None:
        """Begin the attempts now that wait for their time; raises `CallerError` when none does."""
        about = checked_by(by, reason)
        await self._do(lambda control: control.retry_now(self._ref, about))

    async def redrive(
        self, *, input: object = msgspec.UNSET, by: str | None = None, reason: str = ""
    ) -> None:
        """Let a failed run go on at the failed step, with edited `input` if given.

        Raises `CallerError` when the run hasn't failed or its steps were undone, and `InvalidInput` when the
        input doesn't match.
        """
        about = checked_by(by, reason)
        encoded = self._encoded_input(input)
        await self._do(lambda control: control.redrive(self._ref, encoded, about))

    async def purge(self, *, by: str | None = None, reason: str = "") -> None:
        """Erase a run that has ended; it is gone soon after this returns, its audit records stay.

        Raises `RunNotFound`, or `CallerError` when it goes on.
        """
        about = checked_by(by, reason)
        await self._do(lambda control: control.purge(self._ref, about))

    async def fork(
        self,
        at: str | tuple[str, int],
        *,
        id: GivenKey,
        input: object = msgspec.UNSET,
        overrides: Mapping[str | tuple[str, int], object] | None = None,
        by: str | None = None,
        reason: str = "",
    ) -> Run[Out]:
        """Start another run that has the history of this one up to a step, and goes on by itself from there.

        at          the step's name, or name and use: it and all that is recorded behind it are left out
        overrides   other results for steps before it, as plain values, by name or name and use

        This run is left as it is.  Raises `RunNotFound`, `RunExists`, `InvalidInput`, or `CallerError` when
        there is no such step.
        """
        kind = cast("WorkflowType", self._ref.type)
        new = self._runtime.make_ref(kind, *normal_key(check_run_id(id), kind.name))
        encoded = self._encoded_input(input)
        step, about = _step(at), checked_by(by, reason)
        if overrides is not None and not isinstance(cast("object", overrides), Mapping):
            raise CallerError(f"overrides must be a mapping of steps to results; got {overrides!r:.200}")
        changed = {
            _step(one): encode(value, f"the override of step {one!r}")
            for one, value in (overrides or {}).items()
        }
        await self._do(lambda control: control.fork(self._ref, new, step, encoded, changed, about))
        return Run(self._runtime, new, self._tenant)

    async def _do(self, verb: Callable[[Control], int]) -> None:
        self._must_exist()
        caller = CALLER.get()
        if isinstance(caller, Turn) and caller.shared and not caller.over:
            raise CallerError(f"a @shared method can't change run {self._ref}; take the mark away")
        engine = self._runtime.engine

        def do() -> int:
            # By now the run may have been erased and another tenant's begun under its id.
            self._must_be_mine()
            return verb(engine.control)

        number = await engine.in_callback(do)
        await self._runtime.store.wait_durable(number)

    def _encoded_input(self, value: object) -> bytes | None:
        if value is msgspec.UNSET:
            return None
        return cast("WorkflowType", self._ref.type).encode_input(value)[0]

    def _must_exist(self) -> None:
        self._runtime.check_open()
        if isinstance(CALLER.get(), LiveRun):
            raise CallerError(
                f"run() asked for run {self._ref}: what it would see differs on replay; ask in a step"
            )
        activation = self._ref.activation
        if (
            not (activation is not None and activation.stored)
            and self._runtime.store.get(self._ref.directory_key) is None
        ):
            raise RunNotFound(f"there is no run {self._ref}")
        self._must_be_mine()

    def _must_be_mine(self) -> None:
        if self._tenant is not None:
            activation = self._ref.activation or self._runtime.directory.activate(self._ref)
            self._runtime.engine.messages.check_tenant(activation, self._tenant)

    def __repr__(self) -> str:
        return f"<Run {self._ref}>"


def _method_name(method: object) -> str:
    return method if isinstance(method, str) else str(getattr(method, "__name__", method))


def _step(given: object) -> tuple[str, int]:
    parts = cast("tuple[object, ...]", given if isinstance(given, tuple) else (given, 1))
    if len(parts) == 2 and isinstance(parts[0], str) and type(parts[1]) is int:
        return parts[0], parts[1]
    raise CallerError(f"a step is its name, or a tuple of name and use (from 1 on); got {given!r:.200}")
