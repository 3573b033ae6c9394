"""Messages to runs: events that they wait for, updates that change them, queries that look at them.

An event and an update are records of the run's journal, in the commit of whoever sends; a query is nothing on
disk.  What is wrong with one is told to the sender, before anything is written.

Promises
  * An event that was accepted is delivered exactly once; one with an id that the run knows is not taken
    again.
  * The reply to an update leaves when what it rests on is durable.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import msgspec

from ...runtime.codec import encode_unchecked
from ...runtime.errors import NotRunning
from ...storage import layout
from ...storage.errors import CallerError, HoldfastError, Overloaded, StorageFailed
from ...storage.group_commit import Writes
from ..errors import RunEnded, RunNotFound, UpdateRefused, WrongStatus
from .arrivals import Arrival, NothingArrives, live_run_of, must_go_on
from .debugging import observe
from .journal import EventArrived, UpdateAccepted
from .labels import check_label

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ...runtime.activation import Activation
    from ...runtime.ref import Ref
    from .engine import Engine
    from .live_run import LiveRun
    from .updates import Update
    from .workflow import Workflow
    from .workflow_type import WorkflowType


class Messages:
    """The messages of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Who waits for the reply to an update, by the run's row in the directory and the update's id.
        self._waiting: dict[tuple[bytes, str], asyncio.Future[tuple[Update, int]]] = {}

    # -- events --------------------------------------------------------------------------------------------

    def check_event(self, ref: Ref, record: EventArrived, writes: Writes | None = None) -> Activation:
        """Raise what is wrong with an event: `RunNotFound`, `RunEnded`, `InvalidEvent` or `Overloaded`."""
        engine = self._engine
        if record.user is not None:
            check_label(record.user, "the user of an event")
        activation = ref.activation or engine.system.directory.activate(ref)
        if self._knows(activation, record, writes):
            self.check_tenant(activation, record.tenant)
            return activation  # who sends again after a crash is told the same, also when the run has ended
        activation = must_go_on(engine, ref, writes)
        self.check_tenant(activation, record.tenant)
        cast("WorkflowType", ref.type).events.check(record.name, bytes(record.payload), ref)
        run = live_run_of(activation)
        limit = engine.system.limits.max_history_records
        if run is not None and run.next_position >= limit:
            raise Overloaded(
                f"the history of run {ref} has max_history_records={limit} records; it takes no more events"
            )
        return activation

    def _knows(self, activation: Activation, record: EventArrived, writes: Writes | None) -> bool:
        """Whether the run took an event with this id."""
        if record.id is None or activation.number is None:
            return False
        key = _id_key(activation, record)
        return (writes is not None and key in writes) or self._engine.system.store.get(key) is not None

    def check_tenant(self, activation: Activation, tenant: str | None) -> None:
        """Raise `RunNotFound` when a tenant is named and the run is another one's."""
        if tenant is None:
            return
        labels = cast("Workflow", activation.instance).head.labels
        if labels is None or labels.tenant != tenant:
            raise RunNotFound(f"there is no run {activation.ref} of tenant {tenant!r}")

    def event_arrival(self, ref: Ref, record: EventArrived, writes: Writes) -> Arrival | NothingArrives:
        """Add an event to a write set that is staged at once; raises what `check_event` raises."""
        activation = self.check_event(ref, record, writes)
        if self._knows(activation, record, writes):
            return NothingArrives()
        if record.id is not None:
            writes[_id_key(activation, record)] = encode_unchecked(record.at_ms)
        return Arrival(self._engine, ref, (record,), writes)

    def send(self, ref: Ref, record: EventArrived, extra: Writes | None = None) -> int:
        """Accept an event in a commit of its own; returns the commit to wait for."""
        writes: Writes = dict(extra) if extra else {}
        arrival = self.event_arrival(ref, record, writes)
        if not writes:
            return (ref.activation or self._engine.system.directory.activate(ref)).dep
        return self._engine.commit_arrival(ref, arrival, writes)

    # -- updates -------------------------------------------------------------------------------------------

    async def update(
        self,
        ref: Ref,
        name: str,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        id_: str,
        user: str | None,
        tenant: str | None = None,
    ) -> Update:
        """Validate, record, run, and return what came of it when that is durable.

        tenant   whose run it must be, until the update is recorded
        """
        engine, kind = self._engine, cast("WorkflowType", ref.type)
        found = kind.updates.get(name)
        if found is None:
            known = ", ".join(sorted(kind.updates)) or "none"
            raise UpdateRefused(f"{kind.name} has no update {name!r}; it has {known}")
        args, kwargs, encoded = found.plan.store_arguments(args, kwargs, ref)
        if user is not None:
            check_label(user, "the user of an update")
        activation = must_go_on(engine, ref)
        status = cast("Workflow", activation.instance).head.status
        if status in ("paused", "stuck"):
            raise WrongStatus(f"run {ref} is {status}, so it takes no update; let it go on first")
        key = (ref.directory_key, id_)
        if key not in self._waiting:
            run = live_run_of(activation)
            update = None if run is None else run.update_reply(id_)
            if update is not None:
                _check_same(ref, update, name, encoded)
                if update.is_done:
                    return await self._settled(update, activation.dep)
            if update is None and found.validator is not None:
                await self._validate(ref, found.validator, args, kwargs)
        waiter = self._waiting.get(key)  # others may have asked with this id meanwhile
        if waiter is None:
            waiter = self._waiting[key] = engine.system.loop.create_future()
            record = UpdateAccepted(engine.system.clock.now_ms(), name, msgspec.Raw(encoded), id_, user)
            try:
                await self._accept(ref, record, tenant)
            except HoldfastError as error:
                self._fail(key, error)
        done, dep = await asyncio.shield(waiter)
        _check_same(ref, done, name, encoded)
        return await self._settled(done, dep)

    async def _accept(self, ref: Ref, record: UpdateAccepted, tenant: str | None) -> None:
        """Record an update, unless it is; raises why no reply will come."""
        engine = self._engine
        activation = must_go_on(engine, ref)
        # While it was validated the run may have been erased and another tenant's begun under its id.
        self.check_tenant(activation, tenant)
        run = live_run_of(activation)
        if run is None or not run.knows_update(record.id):
            id_key = activation.prefix(layout.EVENT_ID) + b"\0" + record.id.encode()
            if engine.system.store.get(id_key) is None:
                writes: Writes = {id_key: encode_unchecked(record.at_ms)}
                engine.commit_arrival(ref, Arrival(engine, ref, (record,), writes), writes)
                return
            # An earlier process accepted it; the reply comes when the run is in memory.
            run = await engine.in_callback(lambda: engine.resume(ref))
            if run is None or not run.knows_update(record.id):
                must_go_on(engine, ref)
                raise UpdateRefused(
                    f"run {ref} took update {record.id!r} before, and its reply is gone: the run is paused "
                    f"or stuck, or continued as new"
                )
        self.done(run)

    async def _settled(self, update: Update, dep: int) -> Update:
        await self._engine.system.store.wait_durable(dep)
        return update

    async def _validate(
        self,
        ref: Ref,
        validator: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> None:
        """Raise what the validator does; a run that isn't in memory takes no place for that."""
        engine = self._engine
        run = live_run_of(must_go_on(engine, ref))
        if run is not None:
            await engine.in_callback(lambda: validator(run.workflow, *args, **kwargs))
            return
        observed = await observe(engine, ref)
        try:
            validator(observed.workflow, *args, **kwargs)
        finally:
            observed.close()

    def done(self, run: LiveRun) -> None:
        """A run came to rest: tell those whose updates have a reply by now."""
        directory_key = run.activation.ref.directory_key
        if not self._waiting:
            return
        for update in run.updates_done():
            waiter = self._waiting.pop((directory_key, update.id), None)
            if waiter is not None and not waiter.done():
                waiter.set_result((update, run.activation.dep))

    def ended(self, run: LiveRun) -> None:
        """A run is over: updates without a reply get none."""
        if not self._waiting:
            return
        self.done(run)
        self.over(run.activation.ref, "ended")

    def over(self, ref: Ref, how: str, carried: Collection[str] = ()) -> None:
        """A run ended, or began anew: updates without a reply get none, but for `carried` ones, by id."""
        for key in [key for key in self._waiting if key[0] == ref.directory_key]:
            if key[1] not in carried:
                self._fail(key, RunEnded(f"run {ref} {how} before the update {key[1]!r} did"))

    def stuck(self, ref: Ref) -> None:
        """A run is stuck: who waits may ask again, with the update's id, when it goes on."""
        for key in [key for key in self._waiting if key[0] == ref.directory_key]:
            self._fail(key, CallerError(f"run {ref} is stuck, so the update {key[1]!r} has no reply yet"))

    def lost(self, ref: Ref) -> None:
        """A failed commit undid a run: whether its updates were accepted is for the sender to find out."""
        for key in [key for key in self._waiting if key[0] == ref.directory_key]:
            self._fail(key, StorageFailed(f"a commit of run {ref} failed; send the update again with its id"))

    def stop(self) -> None:
        """The runtime closes."""
        for key in list(self._waiting):
            self._fail(key, NotRunning("the runtime was closed before the update had a reply"))

    def _fail(self, key: tuple[bytes, str], error: HoldfastError) -> None:
        waiter = self._waiting.pop(key, None)
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
            waiter.exception()  # nobody may be left to ask

    # -- queries -------------------------------------------------------------------------------------------

    async def query(self, ref: Ref, name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """The reply of a `@query` method, once what it rests on is durable.

        A run that isn't in memory is replayed for it without effects.
        """
        engine, kind = self._engine, cast("WorkflowType", ref.type)
        plan = kind.queries.get(name)
        if plan is None:
            known = ", ".join(sorted(kind.queries)) or "none"
            raise CallerError(f"{kind.name} has no query {name!r}; it has {known}")
        args, kwargs = plan.check_arguments(args, kwargs, ref)
        method = cast("Callable[..., object]", plan.function)

        def ask(workflow: Workflow) -> object:
            return plan.check_result(method(workflow, *args, **kwargs), f"{ref}.{name}")

        activation = ref.activation or engine.system.directory.activate(ref)
        run = live_run_of(activation)
        if run is not None and run.has_begun and not run.replaying:
            reply = ask(run.workflow)
            await engine.system.store.wait_durable(activation.dep)
            return reply
        observed = await observe(engine, ref)
        try:
            return ask(observed.workflow)
        finally:
            observed.close()


def _id_key(activation: Activation, record: EventArrived) -> bytes:
    """Where the id of an event is kept."""
    assert record.id is not None, "asked only of events that have one"
    return activation.prefix(layout.EVENT_ID) + record.id.encode()


def _check_same(ref: Ref, update: Update, name: str, arguments: bytes) -> None:
    """Raise `UpdateRefused` when an update's id was used for something else: its reply is not this one's."""
    if (update.name, update.arguments) != (name, arguments):
        what = "with other arguments" if update.name == name else f"for {update.name!r}"
        raise UpdateRefused(
            f"update {update.id!r} of run {ref} was asked for before {what}; give each update an id of its "
            f"own"
        )
