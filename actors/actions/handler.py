"""The function behind an action: what it takes besides its parameters, and how it is called.

A handler's first parameter may be the context; what it takes before that belongs to its kind (a SQL action's
connection).  It is read when it is decorated, or, where its annotations name what is defined further down in
the module, when it is first used.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final, get_type_hints

from ..errors import InvalidAction
from .context import ActionContext
from .parameters import ParameterPlan

MAX_NAME_CHARACTERS: Final = 100


class Handler:
    """One function, read."""

    __slots__ = ("function", "is_async", "plan", "result_hint", "signature", "takes_context")

    def __init__(self, name: str, function: Callable[..., object], leading: int) -> None:
        """`leading` parameters belong to the kind of action.

        Raises `InvalidAction` when it breaks a rule and `NameError` when an annotation can't be resolved.
        """
        where = f"action {name}"
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        hints: dict[str, Any] = get_type_hints(function, include_extras=True)
        parameters = list(inspect.signature(function).parameters.values())
        if len(parameters) < leading:
            raise InvalidAction(f"{where} must take {leading} parameters before its own; see its decorator")
        parameters = parameters[leading:]
        self.takes_context = bool(parameters) and hints.get(parameters[0].name) is ActionContext
        if self.takes_context:
            parameters = parameters[1:]
        for parameter in parameters:
            if hints.get(parameter.name) is ActionContext:
                raise InvalidAction(f"{where}: the context ({parameter.name}) must be the first parameter")
        self.plan = ParameterPlan(where, parameters, hints)
        self.signature = inspect.signature(function).replace(parameters=parameters)
        self.result_hint = hints.get("return", Any)

    def call(
        self, leading: tuple[object, ...], context: ActionContext | None, values: tuple[object, ...]
    ) -> Any:
        """Call the function; an async one gives something to be awaited."""
        if self.takes_context:
            leading = (*leading, context)
        plan = self.plan
        at = plan.positional
        if len(values) == at:
            return self.function(*leading, *values)
        return self.function(*leading, *values[:at], **dict(zip(plan.names[at:], values[at:], strict=True)))


def checked_name(name: object, function: Callable[..., object]) -> str:
    """The name of an action, its function's by default; raises `InvalidAction`."""
    if not inspect.isfunction(function):
        raise InvalidAction(f"an action is made of a function (def or async def); got {function!r}")
    if name is None:
        name = function.__name__
    if (
        not isinstance(name, str)
        or not name.isidentifier()
        or name.startswith("_")
        or len(name) > MAX_NAME_CHARACTERS
    ):
        raise InvalidAction(
            f"the name of an action must be an identifier of at most {MAX_NAME_CHARACTERS} characters that "
            f"doesn't begin with an underscore; got {name!r} for {function!r}"
        )
    return name


async def in_thread(call: Callable[[], object]) -> object:
    """Run a call in a thread, with the context variables of the caller."""
    return await asyncio.to_thread(_guarded, call)


def _guarded(call: Callable[[], object]) -> object:
    try:
        return call()
    except StopIteration as error:  # no future takes it
        raise RuntimeError("the handler raised StopIteration") from error
