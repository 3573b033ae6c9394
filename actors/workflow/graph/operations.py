"""Calls that are something in the flow by themselves: steps, waits, sleeps, actor calls.

One table says what the methods of a workflow are called and how they are shown.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Final, NamedTuple

from ..module_names import is_step
from .model import NodeKind, Setting
from .scope import Scope
from .source_text import plain, setting, short, text_of


class Operation(NamedTuple):
    """What a call is, as a node shows it."""

    kind: NodeKind
    text: str
    name: str | None
    settings: dict[str, Setting]
    # What is worked out before the call: its arguments, but for functions that are called later.
    before: list[ast.expr]
    # Has to be awaited; if it isn't, it is only begun.
    waits: bool = True


_SLEEPS: Final = frozenset({"asyncio.sleep", "anyio.sleep"})
_BODIES: Final = frozenset({"undo"})
# What may be asked of a step in place of its result.
_OUTCOMES: Final = frozenset({"optional", "outcome"})


def operation(call: ast.Call, scope: Scope) -> Operation | None:
    """The operation that a call is; None when it is something else."""
    function = call.func
    if scope.full_name(function) in _SLEEPS:
        return _sleep(call, scope)
    if not isinstance(function, ast.Attribute):
        return None
    if is_step(call) and call.args:  # of the workflow or of a group
        return _step(call, scope)
    if scope.is_context(function.value):
        make = _METHODS.get(function.attr)
        return None if make is None else make(call, scope)
    if function.attr in _OUTCOMES and isinstance(function.value, ast.Call):
        return _outcome(call, function.attr, operation(function.value, scope))
    if _is_actions(function.value, scope):
        return Operation("step", function.attr, function.attr, {}, _values(call))
    actor = scope.actor(function.value)
    if actor is None:
        return None
    return Operation("actor", f"{actor}.{function.attr}", function.attr, {}, _values(call))


def _outcome(call: ast.Call, name: str, step: Operation | None) -> Operation | None:
    """`self.step(...).optional(default)`: the step, and what comes in place of its result."""
    if step is None or not step.waits:
        return None
    values = _values(call)
    given = setting(values[0]) if values else Setting("as a value", True)
    return step._replace(settings={**step.settings, name: given}, before=[*step.before, *values])


def _step(call: ast.Call, scope: Scope) -> Operation:
    body = call.args[0]
    settings = _settings(call)
    given = settings.pop("name", None)
    name: str | None
    if given is not None:
        value = next(one.value for one in call.keywords if one.arg == "name")
        name, text = text_of(value), plain(value)
        if name is None:
            settings = {"name": given, **settings}
    else:
        name = _function_name(body, scope)
        text = name or short(body)
    before = [*call.args[1:], *(one.value for one in call.keywords if one.arg not in _BODIES)]
    if isinstance(body, ast.Call):  # a partial: what it holds is made here
        before = [*body.args, *(one.value for one in body.keywords), *before]
    return Operation("step", text, name, settings, before)


def _action(call: ast.Call, scope: Scope) -> Operation:
    """`self.run_action(action, ...)`: a step named after the action."""
    body = call.args[0] if call.args else call.func
    name = _function_name(body, scope)
    return Operation("step", name or short(body), name, {}, _values(call)[1:])


def _is_actions(node: ast.expr, scope: Scope) -> bool:
    """`self.actions`, of which each method is an action."""
    return isinstance(node, ast.Attribute) and node.attr == "actions" and scope.is_context(node.value)


def _function_name(body: ast.expr, scope: Scope) -> str | None:
    """The name that a step gets from its function; None when only the run knows the function."""
    if (
        isinstance(body, ast.Call)
        and isinstance(body.func, ast.Attribute)
        and body.func.attr == "with_options"
    ):
        given = [one.value for one in body.keywords if one.arg == "step"]
        return text_of(given[0]) if given else _function_name(body.func.value, scope)
    if isinstance(body, ast.Name) and body.id in scope.module.functions:
        for decorator in scope.module.functions[body.id].decorator_list:
            if isinstance(decorator, ast.Call):  # an action with a name of its own
                for one in decorator.keywords:
                    if one.arg == "name":
                        return text_of(one.value)
    if isinstance(body, ast.Lambda):
        return "<lambda>"
    if isinstance(body, ast.Attribute):
        return body.attr
    if isinstance(body, ast.Name) and body.id not in scope.local:
        return (scope.full_name(body) or body.id).rpartition(".")[2]
    if isinstance(body, ast.Call) and scope.full_name(body.func) == "functools.partial":
        return "partial"
    return None


def _sleep(call: ast.Call, scope: Scope) -> Operation:
    what = _first(call)
    return Operation("sleep", f"sleep {what}", None, {}, _values(call))


def _sleep_until(call: ast.Call, scope: Scope) -> Operation:
    return Operation("sleep", f"sleep until {_first(call)}", None, {}, _values(call))


def _wait(call: ast.Call, scope: Scope) -> Operation:
    events = " | ".join(plain(one) for one in call.args) or "any event"
    names = [text_of(one) for one in call.args]
    name = names[0] if len(names) == 1 else None
    if len(call.args) == 1 and isinstance(call.args[0], ast.Name) and call.args[0].id not in scope.local:
        name = call.args[0].id
    return Operation("wait", f"wait for {events}", name, _settings(call), _values(call))


def _until(call: ast.Call, scope: Scope) -> Operation:
    predicate = call.args[0] if call.args else None
    shown = predicate.body if isinstance(predicate, ast.Lambda) else predicate
    text = "until" if shown is None else f"until {short(shown)}"
    return Operation("until", text, None, _settings(call), _values(call)[1:])


def _child(call: ast.Call, scope: Scope) -> Operation:
    which = call.args[0] if call.args else None
    known = isinstance(which, ast.Name) and which.id not in scope.local
    text = _first(call)
    return Operation("child", text, text if known else None, _settings(call), _values(call))


def _start(call: ast.Call, scope: Scope) -> Operation:
    started = _child(call, scope)
    return started._replace(text=f"start {started.text}")


def _send(call: ast.Call, scope: Scope) -> Operation:
    event = plain(call.args[2], 40) if len(call.args) > 2 else "event"  # send(Other, id, event)
    return Operation("send", f"send {event} to {_first(call)}", None, _settings(call), _values(call))


def _emit(call: ast.Call, scope: Scope) -> Operation:
    name = text_of(call.args[0]) if call.args else None
    return Operation("emit", f"emit {_first(call)}", name, {}, _values(call), waits=False)


def _status(call: ast.Call, scope: Scope) -> Operation:
    name = text_of(call.args[0]) if call.args else None
    return Operation("status", f"status {_first(call)}", name, {}, _values(call), waits=False)


def _continue(call: ast.Call, scope: Scope) -> Operation:
    inputs = f" with {_first(call)}" if call.args else ""
    return Operation(
        "continue", f"continue as new{inputs}", None, _settings(call), _values(call), waits=False
    )


_METHODS: Final[dict[str, Callable[[ast.Call, Scope], Operation]]] = {
    "sleep": _sleep,
    "sleep_until": _sleep_until,
    "wait": _wait,
    "wait_event": _wait,
    "until": _until,
    "child": _child,
    "start": _start,
    "send": _send,
    "emit": _emit,
    "set_status": _status,
    "continue_as_new": _continue,
    "run_action": _action,
}


def _first(call: ast.Call) -> str:
    """The first argument as text, by position or by name."""
    values = _values(call)
    return plain(values[0]) if values else "?"


def _values(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(one.value for one in call.keywords)]


def _settings(call: ast.Call) -> dict[str, Setting]:
    return {one.arg or "**": setting(one.value) for one in call.keywords}
