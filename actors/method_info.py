"""The methods of an actor type as others see them: a line of words, the schema of the arguments, and the way
from JSON to arguments.

A call from outside the process comes as JSON, which knows fewer types than Python: here text becomes a
datetime or bytes where the method says so.  The method's own checks (runtime/methods.py) come after that.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Union, cast, get_type_hints

import msgspec

from ..runtime.codec import BAD_VALUE, reason
from ..runtime.errors import InvalidArgument
from .json_schema import json_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..runtime.actor_type import ActorType
    from ..runtime.methods import MethodPlan


_decode_given = msgspec.json.Decoder(list[msgspec.Raw] | dict[str, msgspec.Raw]).decode


class MethodInfo(msgspec.Struct, frozen=True):
    """One method in a listing."""

    name: str
    about: str
    """The first line of its docstring."""
    reads_only: bool
    """It is `@shared`."""
    arguments: dict[str, object] | None
    """JSON Schema of its arguments, by name; None where a type of the user's own has none."""
    result: dict[str, object] | None
    """Likewise of what it returns."""


def method_infos(kind: ActorType) -> list[MethodInfo]:
    """All methods that may be called from outside, by name."""
    return [_info(kind, plan) for _, plan in sorted(kind.methods.items())]


def _info(kind: ActorType, plan: MethodPlan) -> MethodInfo:
    hints = _hints(kind, plan)
    documented = inspect.getdoc(plan.function) or ""
    return MethodInfo(
        plan.name,
        documented.partition("\n")[0].strip(),
        plan.shared,
        _arguments_schema(plan, hints),
        _schema(hints.get("return", Any)),
    )


def _arguments_schema(plan: MethodPlan, hints: dict[str, object]) -> dict[str, object] | None:
    parameters = _parameters(plan)
    try:
        schema = json_schema(fields_struct(plan.name, {name: hints.get(name, Any) for name in parameters}))
    except (TypeError, NotImplementedError):
        return None
    properties = cast("dict[str, dict[str, object]]", schema["properties"])
    required: list[str] = []
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty:
            required.append(name)
        else:
            try:
                properties[name] = {**properties[name], "default": msgspec.to_builtins(parameter.default)}
            except BAD_VALUE:
                pass  # what JSON can't tell
    return {**schema, "title": plan.name, "required": required}


def _schema(hint: object) -> dict[str, object] | None:
    try:
        return json_schema(_plain(hint))
    except (TypeError, NotImplementedError):
        return None


def arguments_from_json(
    kind: ActorType, plan: MethodPlan, given: bytes | msgspec.Raw
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Arguments of a call from JSON: an array of them in their order, or an object of them by name.

    Raises `InvalidArgument` with the path of what doesn't fit.
    """
    where = f"{kind.name}.{plan.name}"
    hints, parameters = _hints(kind, plan), _parameters(plan)
    try:
        raw = cast("list[msgspec.Raw] | dict[str, msgspec.Raw]", _decode_given(given))
    except BAD_VALUE as error:
        raise InvalidArgument(f"{where}: the arguments are an array or an object: {reason(error)}") from error
    if isinstance(raw, list):
        names = [name for name, one in parameters.items() if one.kind is not one.KEYWORD_ONLY]
        if len(raw) > len(names):
            raise InvalidArgument(f"{where} takes at most {len(names)} arguments in order; got {len(raw)}")
        raw = dict(zip(names, raw, strict=False))
    fields = {name: hints.get(name, Any) for name in parameters}
    by_name = decode_fields(fields_struct(plan.name, fields), raw, where)
    args = tuple(
        by_name.pop(name)
        for name, one in parameters.items()
        if one.kind is one.POSITIONAL_ONLY and name in by_name
    )
    return args, by_name


def fields_struct(name: str, hints: Mapping[str, object]) -> type[msgspec.Struct]:
    """A struct whose fields are all optional; raises `TypeError` for a type that JSON can't hold."""
    fields = [
        (field, Union[_plain(hint), msgspec.UnsetType], msgspec.UNSET)  # noqa: UP007  # made at run time
        for field, hint in hints.items()
    ]
    return msgspec.defstruct(name, fields, forbid_unknown_fields=True)


def decode_fields(
    struct: type[msgspec.Struct], raw: Mapping[str, msgspec.Raw], where: str
) -> dict[str, object]:
    """What JSON gives for fields of a struct, and only for those; raises `InvalidArgument`."""
    try:
        values = msgspec.json.decode(msgspec.json.encode(raw), type=struct)
    except BAD_VALUE as error:
        raise InvalidArgument(f"{where}: {reason(error)}") from error
    found = {name: getattr(values, name) for name in struct.__struct_fields__}
    return {name: value for name, value in found.items() if value is not msgspec.UNSET}


def _plain(hint: object) -> Any:
    """A type as JSON has it: what is handed on as encoded bytes comes as any value."""
    return Any if hint is object or "msgspec.Raw" in repr(hint) else hint


def _hints(kind: ActorType, plan: MethodPlan) -> dict[str, object]:
    return get_type_hints(plan.function, include_extras=True, localns=vars(kind.actor_class))


def _parameters(plan: MethodPlan) -> dict[str, inspect.Parameter]:
    found = inspect.signature(plan.function).parameters
    return dict(list(found.items())[1:])
