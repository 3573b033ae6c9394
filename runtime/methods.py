"""Methods as the outside sees them: who may be called, and how arguments and results are checked and copied.

Step 1 of a call.  A plan is made once for each method.  Arguments and results go through the codec against
the annotations, so a caller and an actor never share an object; plain scalars of the right type pass as they
are.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, get_type_hints

import msgspec

from .codec import BAD_VALUE, ENCODER, SCALARS, reason
from .error_text import shorten
from .errors import InvalidActor, InvalidArgument, InvalidResult
from .identity import in_order, may_hold_sets

Method = TypeVar("Method", bound=Callable[..., Coroutine[Any, Any, Any]])

# What a ref holds itself, and what every actor is given.
_REF_NAMES: Final = frozenset(
    {"activation", "alarms", "directory_key", "key", "key_bytes", "runtime", "storage", "system", "type"}
)
# Hooks: called by the runtime, never by others.
HOOKS: Final = frozenset({"on_activate", "on_alarm", "on_evict"})


def shared(method: Method) -> Method:
    """Mark a method that only reads: it may run beside a turn, on the fields as last staged."""
    method._holdfast_shared = True  # type: ignore[attr-defined]
    return method


_decode_stored = msgspec.msgpack.Decoder(tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]).decode


class MethodPlan:
    """One callable method of an actor type."""

    __slots__ = (
        "_decode_all", "_decode_result", "_may_hold_sets", "_parameters", "_positional",
        "_required_positional", "_result_scalar", "_signature", "function", "name", "required",
        "returns_value", "shared",
    )  # fmt: skip

    def __init__(
        self, actor_class: type, name: str, function: Callable[..., Coroutine[Any, Any, object]]
    ) -> None:
        self.name = name
        self.function = function
        self.shared: bool = getattr(function, "_holdfast_shared", False)
        where = f"{actor_class.__name__}.{name}"
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1:]
        self._signature = signature.replace(parameters=parameters)
        try:
            hints = get_type_hints(function, include_extras=True, localns=vars(actor_class))
        except NameError as error:
            raise InvalidActor(
                f"an annotation of {where} can't be resolved: {error}; define it at module level"
            ) from error
        self._parameters: dict[str, tuple[type, Callable[[bytes], object]]] = {}
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise InvalidActor(
                    f"{where} takes *{parameter.name}; a method that is called by message names its "
                    f"parameters"
                )
            hint = hints.get(parameter.name, Any)
            self._parameters[parameter.name] = (
                _scalar(hint),
                _decoder(hint, f"parameter {parameter.name} of {where}"),
            )
        # The plain way: nothing but positional arguments; the others have defaults.
        positional = [parameter for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
        self._positional = tuple(self._parameters[parameter.name][0] for parameter in positional)
        required = [parameter for parameter in parameters if parameter.default is parameter.empty]
        self.required = bool(required)
        # So many positional arguments are enough for the plain way; more than there are when one must be
        # given by keyword.
        self._required_positional = len(required)
        if any(parameter.kind is parameter.KEYWORD_ONLY for parameter in required):
            self._required_positional = len(positional) + 1
        self._may_hold_sets = may_hold_sets(hints.get(one.name, Any) for one in parameters)
        every = [hints.get(parameter.name, Any) for parameter in positional]
        every = [Any if hint is object else hint for hint in every]
        self._decode_all = msgspec.msgpack.Decoder(tuple[tuple(every)] if every else tuple[()]).decode  # type: ignore[misc]
        result = hints.get("return", Any)
        self._result_scalar = _scalar(result)
        self.returns_value = self._result_scalar is not type(None)
        self._decode_result = _decoder(result, f"the result of {where}")

    def check_arguments(
        self, args: tuple[object, ...], kwargs: dict[str, object], ref: object
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """The arguments copied and checked; raises `InvalidArgument`."""
        if not kwargs and self._required_positional <= len(args) <= len(self._positional):
            for value, scalar in zip(args, self._positional, strict=False):  # the others have defaults
                if value.__class__ is not scalar:
                    break
            else:
                return args, kwargs
            names = zip(self._parameters, args, strict=False)
            return tuple([self._copy(name, value, ref) for name, value in names]), kwargs
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArgument(f"{ref}.{self.name}{self._signature}: {error}") from None
        for name, value in bound.arguments.items():
            bound.arguments[name] = self._copy(name, value, ref)
        return bound.args, bound.kwargs

    def encode_arguments(
        self, args: tuple[object, ...], kwargs: dict[str, object], ref: object
    ) -> tuple[tuple[object, ...], dict[str, object], bytes]:
        """The arguments copied and checked, and bytes that are the same for the same arguments, in every
        process.
        """
        if not kwargs and len(args) == len(self._positional) >= self._required_positional:
            try:
                encoded = ENCODER.encode(args)
                copied = self._decode_all(encoded)
                return copied, kwargs, ENCODER.encode(in_order(args)) if self._may_hold_sets else encoded
            except BAD_VALUE:
                pass  # the other way finds out which argument it is
        copies, named = self.check_arguments(args, kwargs, ref)
        if not self._may_hold_sets:
            return copies, named, ENCODER.encode((copies, sorted(named.items())))
        bound = self._signature.bind(*args, **kwargs)  # the copies may have lost their sets
        return copies, named, ENCODER.encode(in_order((bound.args, sorted(bound.kwargs.items()))))

    def decode_arguments(self, encoded: bytes | msgspec.Raw) -> tuple[tuple[object, ...], dict[str, object]]:
        """What `store_arguments` made of arguments; raises `InvalidArgument` when they don't fit any more."""
        args, kwargs = _decode_stored(encoded)
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArgument(f"stored call of {self.name}{self._signature}: {error}") from None
        for name, value in bound.arguments.items():
            try:
                bound.arguments[name] = self._parameters[name][1](value)
            except BAD_VALUE as error:
                raise InvalidArgument(
                    f"stored call of {self.name}: argument {name!r}: {reason(error)}"
                ) from None
        return bound.args, bound.kwargs

    def store_arguments(
        self, args: tuple[object, ...], kwargs: dict[str, object], ref: object
    ) -> tuple[tuple[object, ...], dict[str, object], bytes]:
        """The arguments copied and checked, and as they are stored; raises `InvalidArgument`."""
        args, kwargs = self.check_arguments(args, kwargs, ref)
        try:
            return args, kwargs, ENCODER.encode((args, kwargs))
        except BAD_VALUE as error:  # a plain value of the right type that no record can hold
            raise InvalidArgument(
                f"{ref}.{self.name}: the arguments can't be stored: {reason(error)}"
            ) from error

    def check_result(self, result: object, where: object) -> object:
        """The result copied and checked; raises `InvalidResult`."""
        if result.__class__ is self._result_scalar:
            return result
        try:
            return self._decode_result(ENCODER.encode(result))
        except BAD_VALUE as error:
            raise InvalidResult(
                f"{where} returned a {type(result).__qualname__} that doesn't match its annotation or can't "
                f"be copied: {reason(error)}"
            ) from error

    def with_function(self, function: Callable[..., Coroutine[Any, Any, object]]) -> MethodPlan:
        """The same plan around another function: a turn that the runtime makes itself."""
        plan = copy.copy(self)
        plan.function = function
        return plan

    def decode_result(self, encoded: bytes) -> object:
        """A stored result as its type."""
        return self._decode_result(encoded)

    def _copy(self, name: str, value: object, ref: object) -> object:
        scalar, decode = self._parameters[name]
        if value.__class__ is scalar:
            return value
        try:
            return decode(ENCODER.encode(value))
        except BAD_VALUE as error:
            raise InvalidArgument(
                f"{ref}.{self.name}: argument {name!r}: {reason(error)}; got {shorten(repr(value), 80)} of "
                f"type {type(value).__qualname__}"
            ) from None


def hooks_of(actor_class: type) -> frozenset[str]:
    """Names of an actor class that only the runtime calls."""
    hooks: frozenset[str] = getattr(actor_class, "_holdfast_hooks", HOOKS)
    return hooks


def method_plans(actor_class: type) -> dict[str, MethodPlan]:
    """The plans of all methods that may be called from outside."""
    plans: dict[str, MethodPlan] = {}
    hooks = hooks_of(actor_class)
    for name in dir(actor_class):
        if name.startswith("_") or name in hooks:
            continue
        attribute = inspect.getattr_static(actor_class, name)
        if inspect.iscoroutinefunction(attribute):
            if name in _REF_NAMES:
                raise InvalidActor(
                    f"{actor_class.__name__}.{name}: every ref has a {name} of its own; choose another name"
                )
            plans[name] = MethodPlan(actor_class, name, attribute)
        elif getattr(attribute, "_holdfast_shared", False):
            raise InvalidActor(f"{actor_class.__name__}.{name} is marked @shared but is not an async method")
    return plans


def _scalar(hint: object) -> type:
    if hint is None:
        return type(None)
    return hint if isinstance(hint, type) and hint in SCALARS else _NeverAType


def _decoder(hint: object, what: str) -> Callable[[bytes], object]:
    if hint is object:
        hint = Any  # msgspec's word for it
    try:
        return msgspec.msgpack.Decoder(hint).decode
    except TypeError as error:
        raise InvalidActor(f"{what} has a type that can't be sent: {error}") from error


class _NeverAType:
    """Stands for "no plain scalar": no value has this class."""
