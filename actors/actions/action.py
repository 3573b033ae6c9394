"""`@action`: a function with a name, a description and typed parameters, that a workflow runs as a step.

    @action(retry=Retry(5, "1s"))
    async def charge_card(context: ActionContext, cents: int, currency: str = "EUR") -> str:
        \"\"\"Charge the customer's card.\"\"\"
        return await bank.charge(cents, currency, key=context.idempotency_key)

    await self.run_action(charge_card, cents=500)       # in run(): a step named after it
    await self.actions.charge_card(cents=500)           # the same, by name
    await charge_card.once(rt, "order-7", cents=500)    # outside of runs: one recorded result for the key
    await charge_card(cents=500)                        # a plain call

Promises
  * Parameters are checked before anything runs.
  * P5: in a run an action is a step: what is recorded never runs again.
  * With `on_interrupted="fail"` an attempt that was cut off is never repeated: see once.py.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

import msgspec

from ...runtime.chain import CALLER
from ...runtime.durations import Duration, to_seconds
from ...storage.errors import CallerError
from ..errors import InvalidAction
from ..workflow.live_run import LiveRun
from ..workflow.retry import Retry
from ..workflow.step_op import ATTEMPT, StepScope
from .context import ActionContext, plain_context, step_context
from .handler import Handler, checked_name, in_thread
from .parameters import Parameter, digest_of
from .registry import register_action

if TYPE_CHECKING:
    from ..system import Runtime
    from ..workflow.workflow import Workflow

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
OnInterrupted = Literal["retry", "fail"]
Performer = Callable[[Handler, ActionContext, tuple[object, ...]], Awaitable[object]]
InRun = Callable[..., Awaitable[object]]
KEEP: Final = "1d"


class ActionInfo(msgspec.Struct, frozen=True):
    """What a listing shows of an action."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    parameters_schema: dict[str, object] | None
    """JSON Schema of an object that holds the parameters; None where a type of the user's own has none."""
    on_interrupted: OnInterrupted
    module: str


class Action(Generic[P, R_co]):
    """A registered action; made by `@action` and its like."""

    def __init__(
        self,
        function: Callable[..., object],
        *,
        name: str | None = None,
        description: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        on_interrupted: OnInterrupted = "retry",
        keep: Duration = KEEP,
        leading: int = 0,
        perform: Performer | None = None,
        in_run: InRun | None = None,
    ) -> None:
        """See `action`; besides:

        leading   how many parameters of the function belong to the kind of action
        perform   how this kind calls its handler
        in_run    what run() itself does in place of a step
        """
        self.name = checked_name(name, function)
        self.description = _first_words(function) if description is None else description
        if on_interrupted not in ("retry", "fail"):
            raise InvalidAction(
                f"action {self.name}: on_interrupted must be 'retry' or 'fail'; got {on_interrupted!r}"
            )
        self.retry = retry
        """Policy of its steps, in place of the workflow's."""
        self.timeout = timeout
        self.on_interrupted: OnInterrupted = on_interrupted
        self.keep_seconds = to_seconds(keep, what=f"keep of action {self.name}")
        self.function = function
        """The function as it was decorated."""
        self.place = f"{function.__module__}.{function.__qualname__}"
        self.in_run = in_run
        self.step_name = self.name
        self.event_id: str | None = None
        self.tenant: str | None = None
        self._thread = thread
        self._leading = leading
        self._perform = perform
        # For whoever asks what it is called and what it returns: the plan of a step does.
        self.__name__ = self.name
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__
        self._read: Handler | None = None
        self._body: Callable[..., Awaitable[object]]
        try:
            self._read_handler()  # now, so that a mistake is told where it stands
        except NameError:
            pass  # it names something further down in the module
        register_action(self)

    # -- what it is ----------------------------------------------------------------------------------------

    @property
    def handler(self) -> Handler:
        """What was read of the function; raises `InvalidAction`."""
        if self._read is not None:
            return self._read
        try:
            return self._read_handler()
        except NameError as error:
            raise InvalidAction(
                f"an annotation of action {self.name} can't be resolved: {error}; define it at module level"
            ) from error

    def _read_handler(self) -> Handler:
        read = Handler(self.name, self.function, self._leading)
        if self._thread and read.is_async:
            raise InvalidAction(f"action {self.name} is async, so it can't run in a thread")
        self._read = read
        self._body = _make_body(self.name, read.result_hint)
        self.__annotations__ = {"return": read.result_hint}
        self.__signature__ = read.signature
        return read

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its parameters, in order."""
        return self.handler.plan.public

    def schema(self) -> dict[str, object]:
        """JSON Schema of an object that holds the parameters; raises `InvalidAction` where there is none."""
        try:
            return self.handler.plan.schema(self.name, self.description)
        except TypeError as error:
            raise InvalidAction(
                f"action {self.name}: a parameter has a type without JSON Schema: {error}"
            ) from error

    def info(self) -> ActionInfo:
        """What a listing shows."""
        try:
            schema = self.schema()
        except InvalidAction:
            schema = None
        module = self.function.__module__
        return ActionInfo(self.name, self.description, self.parameters, schema, self.on_interrupted, module)

    def with_options(
        self,
        *,
        step: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        event_id: str | None = None,
        tenant: str | None = None,
    ) -> Action[P, R_co]:
        """The same action with other options, for one use.

        step            name of the step in place of the action's
        retry, timeout  of the step
        event_id        the event that it answers, for the context
        tenant          likewise, outside of runs; in a run it is the run's
        """
        self.handler  # noqa: B018  # read once, and not by each copy
        other = copy.copy(self)
        other.step_name = self.step_name if step is None else step
        other.retry = self.retry if retry is None else retry
        other.timeout = self.timeout if timeout is None else timeout
        other.event_id = self.event_id if event_id is None else event_id
        other.tenant = self.tenant if tenant is None else tenant
        return other

    def __repr__(self) -> str:
        return f"<Action {self.name}>"

    # -- how it runs ---------------------------------------------------------------------------------------

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call it: as the body of a step it gets the step's context, elsewhere one of its own.

        Raises `InvalidParameters`, and `CallerError` in run() itself.
        """
        values = self.handler.plan.check(args, kwargs)
        scope = ATTEMPT.get()
        if scope is None:
            if isinstance(CALLER.get(), LiveRun):
                raise CallerError(
                    f"run() called action {self.name} as a plain function, so it would run again on each "
                    f"replay; use self.run_action({self.name}, ...)"
                )
            context = plain_context(self.name, tenant=self.tenant, event_id=self.event_id)
            return cast("R_co", await self.call_handler(context, values))
        if cast("object", scope.op.function) is self:
            return cast("R_co", await self._in_step(scope, values))
        within = self.name.encode() + b"\0" + digest_of(values)
        context = step_context(self.name, scope, event_id=self.event_id, within=within)
        return cast("R_co", await self.perform(context, values))

    async def once(self, runtime: Runtime, key: str, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run it outside of a run, once for each key; the recorded result is given to all who use the key.

        The same key at the same time runs it once, and all get the result.  It is recorded when the handler
        returned, and kept for `keep`.  If the process dies before that, the next call with the key runs the
        handler again, or, with `on_interrupted="fail"`, raises `ActionInterrupted`.  What the handler raises
        is not recorded, and reaches all who wait.  Raises `InvalidParameters`, and `ActionKeyReused` when the
        key was used with other parameters.
        """
        return cast("R_co", await runtime.actions.once(self, key, self.handler.plan.check(args, kwargs)))

    def step_body(self) -> Callable[..., Awaitable[object]]:
        """What a step runs: it is given one value for each parameter, checked already."""
        self.handler  # noqa: B018  # raises what keeps it from being one
        # A method of this object: the plan of a step is made once for its function, that is for each action.
        return cast("Callable[..., Awaitable[object]]", MethodType(self._body, self))

    async def _in_step(self, scope: StepScope, values: tuple[object, ...]) -> object:
        return await self.perform(step_context(self.name, scope, event_id=self.event_id), values)

    async def perform(self, context: ActionContext, values: tuple[object, ...]) -> object:
        """Run the handler under the context's key."""
        if self.on_interrupted == "fail" and context.runtime is not None:
            return await context.runtime.actions.perform_guarded(self, context, values)
        return await self.call_handler(context, values)

    async def call_handler(self, context: ActionContext, values: tuple[object, ...]) -> object:
        """Call the handler, in the way of this kind of action."""
        handler = self.handler
        if self._perform is not None:
            return await self._perform(handler, context, values)
        if self._thread:
            return await in_thread(lambda: handler.call((), context, values))
        result = handler.call((), context, values)
        return await result if hasattr(result, "__await__") else result

    def request(
        self, workflow: Workflow, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Awaitable[object]:
        """run() asks for it: parameters are checked, then it is a step; raises `InvalidParameters`."""
        values = self.handler.plan.check(args, kwargs)
        if self.in_run is not None:
            return self.in_run(workflow, *values)
        return workflow.step(
            self.step_body(), *values, name=self.step_name, retry=self.retry, timeout=self.timeout
        )


def _make_body(name: str, result_hint: object) -> Callable[..., Awaitable[object]]:
    async def body(self: Action[..., Any], *values: object) -> object:
        scope = ATTEMPT.get()
        if scope is None:
            raise CallerError(f"{self} was called as the body of a step, outside of a step")
        return await self._in_step(scope, values)  # pyright: ignore[reportPrivateUsage]

    body.__name__ = name
    body.__annotations__ = {"return": result_hint}
    return body


def _first_words(function: Callable[..., object]) -> str:
    """The first paragraph of a docstring, as one line."""
    text = (function.__doc__ or "").strip()
    return " ".join(text.partition("\n\n")[0].split())


class _Decorate(Protocol):
    """What `@action(...)` is applied to, for type checkers: async or plain, with or without a context."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[ActionContext, Q], Awaitable[S]], /
    ) -> Action[Q, S]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[ActionContext, Q], S], /) -> Action[Q, S]: ...
    @overload
    def __call__(self, function: Callable[Q, Awaitable[S]], /) -> Action[Q, S]: ...
    @overload
    def __call__(self, function: Callable[Q, S], /) -> Action[Q, S]: ...


@overload
def action(function: Callable[Concatenate[ActionContext, P], Awaitable[R]], /) -> Action[P, R]: ...
@overload
def action(function: Callable[Concatenate[ActionContext, P], R], /) -> Action[P, R]: ...
@overload
def action(function: Callable[P, Awaitable[R]], /) -> Action[P, R]: ...
@overload
def action(function: Callable[P, R], /) -> Action[P, R]: ...
@overload
def action(
    *,
    name: str | None = ...,
    description: str | None = ...,
    retry: Retry | None = ...,
    timeout: Duration | None = ...,
    thread: bool = ...,
    on_interrupted: OnInterrupted = ...,
    keep: Duration = ...,
) -> _Decorate: ...


def action(
    function: Callable[..., object] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    thread: bool = False,
    on_interrupted: OnInterrupted = "retry",
    keep: Duration = KEEP,
) -> object:
    """Make a function an action: `@action`, or `@action(name=..., ...)`.

    name          by default the function's; an identifier
    description   by default the first paragraph of its docstring
    retry, timeout   of its steps, in place of the workflow's
    thread        run a plain function in a thread
    on_interrupted   what becomes of an attempt that was cut off (the process died, or its time was up):
                  "retry" runs the handler again, "fail" never does and fails the step for good
    keep          how long a result is kept that was recorded outside of runs

    A first parameter that is annotated `ActionContext` is given the context.  Raises `InvalidAction`.
    """

    def decorate(function: Callable[..., object]) -> Action[..., object]:
        return Action(
            function,
            name=name,
            description=description,
            retry=retry,
            timeout=timeout,
            thread=thread,
            on_interrupted=on_interrupted,
            keep=keep,
        )

    return decorate if function is None else decorate(function)
