"""Queries and updates: methods of a running workflow that are called from outside.

    @query    a plain method that only reads what `run()` left in `self`
    @update   an async or plain method that changes it, recorded before it runs: on replay it runs again at
              the same place.  A validator may refuse it before anything is recorded

An update that is async may ask for steps; it is a task of `run()`'s loop and ends with it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ...runtime.errors import InvalidActor
from ...runtime.methods import MethodPlan
from ..errors import UpdateRefused

if TYPE_CHECKING:
    from .journal import UpdateAccepted
    from .replay_loop import ReplayLoop

Method = TypeVar("Method", bound=Callable[..., Any])
_QUERY: Final = "_holdfast_query"
_UPDATE: Final = "_holdfast_update"


def query(method: Method) -> Method:
    """Mark a plain method that reads what `run()` left in `self`; called by `Run.query`.

    It may run at any time, also when the run has ended, and must change nothing.
    """
    setattr(method, _QUERY, True)
    return method


def update(method: Method) -> Method:
    """Mark a method that changes a run from outside; called by `Run.update`.

    A method named `validate_NAME` with the same parameters may refuse it by raising, before it is recorded.
    """
    setattr(method, _UPDATE, True)
    return method


class UpdatePlan:
    """One update of a workflow class."""

    __slots__ = ("is_async", "plan", "validator")

    def __init__(self, plan: MethodPlan, validator: Callable[..., object] | None) -> None:
        self.plan = plan
        self.is_async = inspect.iscoroutinefunction(plan.function)
        self.validator = validator


class Update:
    """An update that was delivered, until its reply is there."""

    __slots__ = ("arguments", "error", "id", "is_done", "name", "reply")

    def __init__(self, record: UpdateAccepted) -> None:
        self.id = record.id
        self.name = record.name
        self.arguments = bytes(record.arguments)
        self.is_done = False
        self.reply: object = None
        self.error: BaseException | None = None

    def result(self) -> object:
        """The reply; raises what the method raised."""
        if self.error is not None:
            raise self.error
        return self.reply

    def done(self, reply: object, error: BaseException | None) -> None:
        """The method returned, or raised."""
        self.reply, self.error, self.is_done = reply, error, True


def read_class(actor_class: type) -> tuple[dict[str, MethodPlan], dict[str, UpdatePlan]]:
    """Queries and updates of a class by name; raises `InvalidActor`."""
    queries: dict[str, MethodPlan] = {}
    updates: dict[str, UpdatePlan] = {}
    for name in dir(actor_class):
        method = inspect.getattr_static(actor_class, name)
        if name.startswith("__") or not inspect.isfunction(method):
            continue
        if getattr(method, _QUERY, False):
            if inspect.iscoroutinefunction(method):
                raise InvalidActor(f"{actor_class.__name__}.{name} is a @query, so it must be a plain method")
            queries[name] = MethodPlan(actor_class, name, method)
        elif getattr(method, _UPDATE, False):
            validator = getattr(actor_class, f"validate_{name}", None)
            if validator is not None and inspect.iscoroutinefunction(validator):
                raise InvalidActor(f"{actor_class.__name__}.validate_{name} must be a plain method")
            updates[name] = UpdatePlan(MethodPlan(actor_class, name, method), validator)
    return queries, updates


def begin_update(
    update: Update, found: UpdatePlan, record: UpdateAccepted, instance: object, loop: ReplayLoop
) -> None:
    """Run an update that was delivered; called in `run()`'s loop."""
    try:
        args, kwargs = found.plan.decode_arguments(record.arguments)
        result: Any = found.plan.function(cast("Any", instance), *args, **kwargs)
        if found.is_async:
            task = loop.create_task(result)
            task.add_done_callback(lambda task: _task_done(update, found, instance, task))
        else:
            update.done(found.plan.check_result(result, found.plan.name), None)
    except asyncio.CancelledError:
        update.done(None, _cancelled(record.name, instance))
    except Exception as error:
        update.done(None, error)
    except BaseException as error:  # SystemExit: it counts as raised by run(), as in any callback
        raised = f"{type(instance).__name__}.{record.name} raised {type(error).__name__}"
        update.done(None, UpdateRefused(f"the update {raised}, which is for ending processes"))
        raise


def _cancelled(name: str, instance: object) -> UpdateRefused:
    """What the caller gets, who isn't cancelled by that."""
    return UpdateRefused(f"the update {type(instance).__name__}.{name} was cancelled before it had a reply")


def _task_done(update: Update, found: UpdatePlan, instance: object, task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        update.done(None, _cancelled(found.plan.name, instance))
        return
    error = task.exception()
    if error is not None:
        update.done(None, error)
        return
    try:
        update.done(found.plan.check_result(task.result(), found.plan.name), None)
    except Exception as mistake:
        update.done(None, mistake)
