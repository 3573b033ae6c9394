"""`@workflow`: a function as a workflow.

    @workflow(title="Invoice approval", version="1", author="finance", tags=("invoices",))
    async def approve_invoice(wf: WorkflowContext, invoice: Invoice) -> str:
        return await wf.step(check, invoice)

    run = await rt.start(approve_invoice, Invoice(...))

What comes out is a class derived from `Workflow` whose `run` is the function: the same engine, journal,
replay checks and tests.  Its name is the function's, which is stored with each run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from types import new_class
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, cast, overload

from ...runtime.durations import Duration
from ...runtime.errors import InvalidActor
from .about import About
from .retry import Retry
from .workflow import Workflow

In = TypeVar("In")
Out = TypeVar("Out")

WorkflowContext: TypeAlias = Workflow
"""What such a function gets: all that `self` is in a class."""

if TYPE_CHECKING:

    class InputWorkflow(Workflow, Generic[In, Out]):
        """A workflow made of a function with an input; only for type checkers."""

        async def run(self, input: In, /) -> Out: ...

    class PlainWorkflow(Workflow, Generic[Out]):
        """A workflow made of a function without an input; only for type checkers."""

        async def run(self) -> Out: ...


class _Decorate(Protocol):
    """What `@workflow(...)` is applied to, for type checkers."""

    @overload
    def __call__(
        self, function: Callable[[WorkflowContext, In], Coroutine[Any, Any, Out]], /
    ) -> type[InputWorkflow[In, Out]]: ...
    @overload
    def __call__(
        self, function: Callable[[WorkflowContext], Coroutine[Any, Any, Out]], /
    ) -> type[PlainWorkflow[Out]]: ...


@overload
def workflow(
    function: Callable[[WorkflowContext, In], Coroutine[Any, Any, Out]], /
) -> type[InputWorkflow[In, Out]]: ...
@overload
def workflow(
    function: Callable[[WorkflowContext], Coroutine[Any, Any, Out]], /
) -> type[PlainWorkflow[Out]]: ...
@overload
def workflow(
    *,
    name: str | None = ...,
    title: str = ...,
    description: str = ...,
    version: str = ...,
    author: str = ...,
    tags: tuple[str, ...] = ...,
    retry: Retry | None = ...,
    step_timeout: Duration | None = ...,
    max_running: int | None = ...,
    max_steps: int = ...,
    deadline: Duration | None = ...,
    events: object = ...,
    states: Mapping[str, tuple[str, ...]] | None = ...,
    retention: Duration | Mapping[str, Duration | None] | None = ...,
) -> _Decorate: ...


def workflow(
    function: Callable[..., Coroutine[Any, Any, object]] | None = None,
    /,
    *,
    name: str | None = None,
    title: str = "",
    description: str = "",
    version: str = "",
    author: str = "",
    tags: tuple[str, ...] = (),
    retry: Retry | None = None,
    step_timeout: Duration | None = Workflow.step_timeout,
    max_running: int | None = None,
    max_steps: int = Workflow.max_steps,
    deadline: Duration | None = None,
    events: object = None,
    states: Mapping[str, tuple[str, ...]] | None = None,
    retention: Duration | Mapping[str, Duration | None] | None = None,
) -> object:
    """Make an async function a workflow: `@workflow`, or `@workflow(title=..., ...)`.

    The function takes the context, and an input or nothing more.

    name          the stored name of the type, an identifier; the function's by default
    title, description, version, author, tags   see `About`; the description is by default the first paragraph
                  of the docstring
    The others are the options of a class: see `Workflow`.

    Raises `InvalidActor`.
    """

    def decorate(function: Callable[..., Coroutine[Any, Any, object]]) -> type[Workflow]:
        about = About(title=title, description=description, version=version, author=author, tags=tags)
        options: dict[str, object] = {
            "about": about,
            "step_timeout": step_timeout,
            "max_running": max_running,
            "max_steps": max_steps,
            "deadline": deadline,
            "events": events,
            "states": states,
            "retention": retention,
        }
        if retry is not None:
            options["retry"] = retry
        return _make_class(function, name, options)

    return decorate if function is None else decorate(function)


def _make_class(
    function: Callable[..., Coroutine[Any, Any, object]], name: str | None, options: dict[str, object]
) -> type[Workflow]:
    if not inspect.iscoroutinefunction(function):
        raise InvalidActor(f"@workflow needs an `async def`; got {function!r}")
    if not inspect.signature(function).parameters:
        raise InvalidActor(
            f"workflow {function.__qualname__} must take the context: async def {function.__name__}(wf: "
            f"WorkflowContext, input: ...)"
        )
    type_name = function.__name__ if name is None else name
    if not type_name.isidentifier():
        raise InvalidActor(
            f"the name of workflow {function.__qualname__} must be an identifier, since it is stored with "
            f"each run; got {type_name!r}: give free text as title"
        )
    body: dict[str, object] = {
        **options,
        "name": type_name,
        "run": function,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "__doc__": function.__doc__,
    }
    return cast(
        "type[Workflow]", new_class(function.__name__, (Workflow,), exec_body=lambda into: into.update(body))
    )
