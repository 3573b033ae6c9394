"""The class a user writes a workflow as: `run()` and what it may use.

    class Greet(Workflow):
        async def run(self, name: str) -> str:
            text = await self.step(compose, name, retry=Retry(3, "1s"), timeout="10s")
            await self.sleep("1h")
            await self.runtime.get(Counter, "greetings").increment()
            return text

`run()` is replayed from its beginning whenever the run comes back to memory, so what it does between steps
must follow from its input and from what steps returned; time, chance and ids come from `now`, `random` and
`uuid`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, TypeVar, TypeVarTuple, cast, overload

import msgspec

from ...runtime.actor import Actor
from ...runtime.address import GivenKey, normal_key
from ...runtime.alarms import Alarm
from ...runtime.durations import Duration, to_due_ms, to_seconds
from ...storage.errors import CallerError
from .about import About
from .children import ChildStart
from .continuing import ContinueAsNew
from .events import Event, EventKinds, check_event_id, encode_event
from .group import Group
from .head import RunHead
from .labels import RunLabels, check_labels, given_tags
from .ops import OpFuture as StepFuture
from .protocols import TakesInput, TakesNothing
from .retention import PURGE_ALARM, purge_slice
from .retry import Retry
from .run_id import check_run_id
from .start_options import StartOptions

if TYPE_CHECKING:
    from ..actions.action import Action
    from ..actions.proxy import Actions
    from ..system import Runtime
    from .live_run import LiveRun

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
In = TypeVar("In")
Out = TypeVar("Out")
Ts = TypeVarTuple("Ts")


class _NoRun:
    """Stands in for the working part of a run that isn't running."""

    def __getattr__(self, name: str) -> NoReturn:
        raise CallerError("steps, sleeps and the rest are for run() itself, while it runs; not after the run")


class Workflow(Actor):
    """Base of workflows.  A run of it is an actor keyed by the run's id.

    Class options
      retry          the retry policy of its steps: `Retry(3, 1.0, "exponential")` by default
      step_timeout   how long an attempt may take: 10 minutes by default, None for ever
      max_running    runs of this type at the same time; None for as many as the runtime allows
      max_steps      steps, calls and children that a run may ask for before it continues as new
      deadline       how long a run may take from its start; None for ever
      events         the events it takes, as types or names: others are refused.  None takes any
      retention      how long a run is kept after its end: a duration, or a mapping from "complete", "failed",
                     "cancelled" and "terminated" to durations.  None keeps it for ever
      states         for `set_status`: which states may follow each state, and "" for the first ones; None
                     allows all
      about          title, description, version, author and tags, for listings: `About(title=..., ...)`
    """

    _holdfast_owned: ClassVar[bool] = True
    retry: ClassVar[Retry] = Retry()
    step_timeout: ClassVar[Duration | None] = 600.0
    max_running: ClassVar[int | None] = None
    max_steps: ClassVar[int] = 25_000
    deadline: ClassVar[Duration | None] = None
    events: ClassVar[object] = None
    retention: ClassVar[Duration | Mapping[str, Duration | None] | None] = None
    states: ClassVar[Mapping[str, tuple[str, ...]] | None] = None
    about: ClassVar[About] = About()
    indexes: ClassVar[tuple[tuple[str, ...] | str, ...]] = (("head.status", "head.created_ms"),)

    head: RunHead = RunHead()
    # A run's fields are the engine's, so `version` is free to be a method here.
    _fields_version: ClassVar[int] = 1

    # The instance's own while the run is in memory.
    _live: LiveRun = cast("LiveRun", _NoRun())

    @overload
    def step(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        undo: Callable[[T], object] | None = None,
        heartbeat: Duration | None = None,
    ) -> StepFuture[T]: ...
    @overload
    def step(
        self,
        function: Callable[[*Ts], T],
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        undo: Callable[[T], object] | None = None,
        heartbeat: Duration | None = None,
    ) -> StepFuture[T]: ...

    def step(
        self,
        function: Callable[..., object],
        *args: object,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        undo: Callable[[Any], object] | None = None,
        heartbeat: Duration | None = None,
    ) -> StepFuture[Any]:
        """Run `function(*args)` as a step: once it succeeded it never runs again, whatever crashes.

        function   async, or plain (then it runs in the loop, so keep it short, or set `thread`)
        name       identifies the step together with the how-manyth use of it; the function's name by default
        retry      policy in place of the class's
        timeout    for each attempt, in place of the class's `step_timeout`
        thread     run a plain function in a thread
        undo       called with the result, as a step by itself, when the run fails or is cancelled later on;
                   the steps of a run are undone in reverse order
        heartbeat  the attempt fails when `heartbeat()` isn't called for so long

        The result is what the function returned, as its annotation says; awaiting raises `StepError` when all
        attempts failed.  `.optional(default)` gives the default in its place.
        """
        return self._live.request_step(function, args, name, retry, timeout, thread, undo, heartbeat)

    # -- waiting -------------------------------------------------------------------------------------------

    @overload
    def wait(self, kind: type[A], /, *, timeout: Duration | None = None) -> Awaitable[A]: ...
    @overload
    def wait(
        self, kind: type[A], second: type[B], /, *, timeout: Duration | None = None
    ) -> Awaitable[A | B]: ...
    @overload
    def wait(
        self, kind: type[A], second: type[B], third: type[C], /, *, timeout: Duration | None = None
    ) -> Awaitable[A | B | C]: ...
    @overload
    def wait(self, kind: UnionType, /, *, timeout: Duration | None = None) -> Awaitable[object]: ...
    @overload
    def wait(self, kind: str, /, *more: str, timeout: Duration | None = None) -> Awaitable[Event[object]]: ...

    def wait(self, *kinds: object, timeout: Duration | None = None) -> Awaitable[Any]:
        """Wait for an event: `await self.wait(Approve | Reject, timeout="2d")`.

        kinds     types of events, or a union of them: the result is the event itself.  Or names: the result
                  is an `Event` with name and payload
        timeout   from now on; durable, as a sleep is

        An event that came earlier is taken at once, the oldest first; each goes to one wait.  Raises
        `TimeoutError`, and `InvalidEvent` for a payload that doesn't fit the type.
        """
        whole = any(isinstance(kind, str) for kind in kinds)
        live = self._live
        return live.request_wait(EventKinds(kinds, live.activation.ref), timeout, whole=whole)

    @overload
    def wait_event(self, kind: type[A], /, *, timeout: Duration | None = None) -> Awaitable[Event[A]]: ...
    @overload
    def wait_event(
        self, kind: type[A], second: type[B], /, *, timeout: Duration | None = None
    ) -> Awaitable[Event[A] | Event[B]]: ...
    @overload
    def wait_event(
        self, kind: str | UnionType, /, *more: str, timeout: Duration | None = None
    ) -> Awaitable[Event[object]]: ...

    def wait_event(self, *kinds: object, timeout: Duration | None = None) -> Awaitable[Event[Any]]:
        """As `wait`, but gives the whole `Event`: who sent it, and when."""
        live = self._live
        return live.request_wait(EventKinds(kinds, live.activation.ref), timeout, whole=True)

    def until(self, condition: Callable[[], object], *, timeout: Duration | None = None) -> Awaitable[None]:
        """Wait until `condition()` is true: of what `@update` methods and tasks of `run()` leave in `self`.

        It is looked at whenever the run has come to rest, so it must only look.  Raises `TimeoutError`, and
        what the condition raises.
        """
        return self._live.request_until(condition, timeout)

    # -- what a run says -----------------------------------------------------------------------------------

    def emit(self, name: str, data: object = None) -> None:
        """Tell of progress: kept with a number, exactly once, for those who follow `Run.events`.

        Raises `InvalidKey` for a name and `InvalidValue` for data that can't be stored.
        """
        self._live.saying().emit(name, data)

    def set_status(self, state: str) -> None:
        """Give the run a business state, such as "submitted": runs are found by it.

        Raises `InvalidTransition` when the class's `states` don't allow it now.
        """
        self._live.saying().set_state(state)

    @property
    def state(self) -> str | None:
        """The business state that `set_status` gave last."""
        return self._live.said.state

    @property
    def data(self) -> MutableMapping[str, object]:
        """Business data by name: plain values, kept in the journal, read from outside with `Run.data`.

        What is read is a copy: set it again to change it.
        """
        return self._live.said.data

    @property
    def tags(self) -> MutableMapping[str, str]:
        """Names with values that runs are found by; those of the start, and what `run()` sets."""
        return self._live.said.tags

    # -- other runs ----------------------------------------------------------------------------------------

    @overload
    def child(
        self,
        workflow: type[TakesInput[In, Out]],
        input: In,
        *,
        id: GivenKey | None = None,
        detached: bool = False,
        tags: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
    ) -> StepFuture[Out]: ...
    @overload
    def child(
        self,
        workflow: type[TakesNothing[Out]],
        *,
        id: GivenKey | None = None,
        detached: bool = False,
        tags: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
    ) -> StepFuture[Out]: ...

    def child(
        self,
        workflow: type[object],
        input: object = msgspec.UNSET,
        *,
        id: GivenKey | None = None,
        detached: bool = False,
        tags: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
    ) -> StepFuture[Any]:
        """Start another run as a child; awaiting gives its result, or raises `StepError` when it failed.

        id         by default made from this run's id, the workflow's name and the use of it
        detached   it goes on when this run ends or gives it up; else it is cancelled then

        Begun anew (restarted, continued as new), a run that asks for a child under the same id begins that
        one anew, too; a detached one only when it has ended.

        The child has this run's tenant and correlation id.
        """
        return self._live.request_child(self._child_start(workflow, input, id, detached, tags, deadline))

    @overload
    def start(
        self,
        workflow: type[TakesInput[In, Out]],
        input: In,
        *,
        id: GivenKey,
        tags: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
    ) -> StepFuture[str]: ...
    @overload
    def start(
        self,
        workflow: type[TakesNothing[Out]],
        *,
        id: GivenKey,
        tags: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
    ) -> StepFuture[str]: ...

    def start(
        self,
        workflow: type[object],
        input: object = msgspec.UNSET,
        *,
        id: GivenKey,
        tags: Mapping[str, str] | None = None,
        deadline: Duration | None = None,
    ) -> StepFuture[str]:
        """Start a run that goes its own way; awaiting gives its id once it is started.

        A run that is there already is left alone.
        """
        return self._live.request_start(self._child_start(workflow, input, id, True, tags, deadline))

    def _child_start(
        self,
        workflow: type[object],
        input: object,
        id_: GivenKey | None,
        detached: bool,
        tags: Mapping[str, str] | None,
        deadline: Duration | None,
    ) -> ChildStart:
        kind = self.runtime.workflow_type(workflow)
        encoded, decoded = kind.encode_input(input)
        mine = self.head.labels
        labels = check_labels(RunLabels(tenant=None if mine is None else mine.tenant, tags=given_tags(tags)))
        seconds = kind.deadline_seconds if deadline is None else to_seconds(deadline, what="deadline")
        options = StartOptions(
            "join", self._live.correlation_id, labels, seconds, self._live.started.traceparent
        )
        key = None if id_ is None else normal_key(check_run_id(id_), kind.name)[0]
        return ChildStart(kind, key, encoded, decoded, options, detached)

    def send(
        self,
        workflow: type[object],
        id: GivenKey,
        event: object,
        payload: object = msgspec.UNSET,
        *,
        event_id: str | None = None,
        user: str | None = None,
    ) -> StepFuture[None]:
        """Send an event to another run, exactly once; awaiting raises `StepError` when it can't be.

        event     an instance of an event type, or a name with a `payload`
        event_id  against doubles: the other run takes an id once
        """
        name, encoded = encode_event(event, payload)
        kind = self.runtime.workflow_type(workflow)
        ref = self.runtime.make_ref(kind, *normal_key(check_run_id(id), kind.name))
        if event_id is not None:
            check_event_id(event_id)
        return self._live.request_send(ref, name, encoded, event_id, user)

    def continue_as_new(self, input: object = msgspec.UNSET) -> NoReturn:
        """Begin anew under the same id with other input and an empty history; `run()` ends here.

        Events that nobody waited for, tags, business state and progress are kept, data is not; children that
        are not detached are cancelled.  Updates that have not begun, a pause and a cancel are for the run
        that begins.  Call it where nothing is in progress that should be kept.  Raises
        `InvalidInput`.
        """
        live = self._live
        live.saying()  # raises outside of run()
        raise ContinueAsNew(*live.type.encode_input(input))

    def run_action(self, action: Action[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run an action as a step named after it: `await self.run_action(charge_card, cents=500)`.

        Raises `InvalidParameters` at once, before anything runs; else as `step`.  Other names, retries and
        timeouts: `charge_card.with_options(...)`.
        """
        request = getattr(action, "request", None)
        if request is None:
            raise CallerError(f"run_action takes an action, made with @action; got {action!r:.200}")
        return cast("Awaitable[T]", request(self, args, kwargs))

    @property
    def actions(self) -> Actions:
        """Actions by name: `await self.actions.charge_card(cents=500)`."""
        from ..actions.proxy import Actions

        return Actions(self)

    async def sleep(self, duration: Duration) -> None:
        """Sleep durably: the end is fixed when it begins, also over restarts."""
        await asyncio.sleep(to_seconds(duration, what="sleep"))

    async def sleep_until(self, moment: datetime) -> None:
        """Sleep until a moment (a datetime with a zone); not at all when it passed."""
        loop = self._live.loop
        due_ms = to_due_ms(moment, loop.now_ms, what="sleep_until")
        await asyncio.sleep(max(0, due_ms - loop.now_ms) / 1000)

    def now(self) -> datetime:
        """The time (UTC) of what was last recorded for this run: the same on replay."""
        return datetime.fromtimestamp(self._live.loop.now_ms / 1000, UTC)

    @property
    def random(self) -> random.Random:
        """Chance that is the same on replay."""
        return self._live.random

    def uuid(self) -> uuid.UUID:
        """A fresh UUID that is the same on replay."""
        return uuid.UUID(int=self._live.random.getrandbits(128), version=4)

    def version(self, tag: str, number: int) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Which way to go where the code was changed: for a run that comes here now `number`, and for a run
        that was further on before this call was in the code 0.

        tag      names the change: 1 to 256 printable characters, for each place one of its own
        number   of this code's way, from 1 on; raise it when the code changes there again

        The first call with a tag is recorded, with what is recorded next; it costs no commit.  From then on
        all calls with it return the same number in this run, also on replay and with a higher `number`.  A
        run that has a higher number than this code knows is stuck until newer code is there.  Raises
        `CallerError` for a tag or a number that break the rules, and outside of `run()`.

            if self.version("charge after packing", 1) >= 1:
                await self.step(pack, order)
                await self.step(charge, order)
            else:
                await self.step(charge, order)
                await self.step(pack, order)
        """
        return self._live.version(tag, number)

    @property
    def steps_left(self) -> int:
        """So many steps, calls and children `run()` may still ask for before `max_steps` is reached."""
        return self._live.steps_left

    def group(self) -> Group:
        """Steps side by side: `async with self.group() as g: a = g.step(f, x); b = g.step(h, y)`, then
        `a.result()`.
        """
        return Group(self)

    @property
    def runtime(self) -> Runtime:
        """The runtime that the run lives in."""
        return self._activation.system  # type: ignore[return-value]

    @property
    def id(self) -> str:
        """The run's id as text."""
        key = self.key
        return "/".join(str(part) for part in key) if isinstance(key, tuple) else str(key)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger for `run()`, `holdfast.run`, whose lines bear the run and its correlation id.

        It is silent on replay, so that each line is written once.
        """
        return self._live.log

    @property
    def correlation_id(self) -> str:
        """The id that ties the run to what started it; in every log line of its steps."""
        return self._live.correlation_id

    async def on_alarm(self, alarm: Alarm) -> None:
        """A sleep or a retry is due, so the run counts as running from this commit on; or it is purged."""
        engine = self.runtime.engine
        if alarm.name == PURGE_ALARM:
            purge_slice(engine, self._activation)
        else:
            engine.alarm_fired(self)
