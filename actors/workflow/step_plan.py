"""How a step's function is called: sync or async, what it takes and returns.  Made once for each function.

Arguments are copied by the codec according to the annotations, since a body that changed an object of `run()`
would change it live and not on replay.  A live result goes through the codec too, so it is what replay
returns.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, Final, cast, get_type_hints

import msgspec

from ...runtime.codec import BAD_VALUE, ENCODER, SCALARS, reason
from ...storage.errors import InvalidValue
from ..errors import Fatal

MAX_RESULT_BYTES: Final = 8 << 20


class StepPlan:
    """One function that is used as a step."""

    __slots__ = ("_copiers", "_decode", "_scalar", "function", "is_async", "name")

    def __init__(self, function: Callable[..., object]) -> None:
        target = inspect.unwrap(function)
        if not callable(function):
            raise InvalidValue(f"a step needs a function; got {function!r}")
        self.function = function
        self.name = getattr(target, "__name__", type(function).__name__)
        called: object = getattr(cast("type[object]", type(target)), "__call__", None)  # noqa: B004  # is it async?
        self.is_async = inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(called)
        try:
            hints = get_type_hints(target, include_extras=True)
        except (NameError, TypeError):
            hints = {}  # annotations that can't be resolved are as good as none
        try:
            parameters = list(inspect.signature(target).parameters.values())
        except (TypeError, ValueError):
            parameters = []
        if parameters and parameters[0].name in ("self", "cls") and parameters[0].name not in hints:
            parameters = parameters[1:]  # planned as a plain function; called bound
        self._copiers = [
            _copier(hints.get(p.name, Any))
            for p in parameters
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        result = hints.get("return", Any)
        self._scalar = type(None) if result is None else result if result in SCALARS else _Never
        try:
            self._decode: Callable[[bytes], object] = msgspec.msgpack.Decoder(result).decode
        except TypeError:
            self._decode = msgspec.msgpack.Decoder().decode

    def copy_arguments(self, args: tuple[object, ...], where: object) -> tuple[object, ...]:
        """The arguments as the body gets them; raises `InvalidValue` when one doesn't match its
        annotation.
        """
        copiers = self._copiers
        copied: list[object] = []
        for position, value in enumerate(args):
            if value.__class__ in _IMMUTABLE:
                copied.append(value)
                continue
            copier = copiers[position] if position < len(copiers) else _deep_copy
            try:
                copied.append(copier(value))
            except BAD_VALUE as error:
                raise InvalidValue(f"{where}: argument {position + 1}: {reason(error)}") from error
        return tuple(copied)

    def encode_result(self, result: object, where: object) -> tuple[bytes, object]:
        """The stored form of a result, and the result as replay would return it; raises `Fatal` when it can't
        be stored.
        """
        try:
            encoded = ENCODER.encode(result)
            if len(encoded) > MAX_RESULT_BYTES:
                raise Fatal(
                    f"{where} returned {len(encoded)} bytes; at most {MAX_RESULT_BYTES} are allowed: "
                    f"store them elsewhere"
                )
            return encoded, result if result.__class__ is self._scalar else self._decode(encoded)
        except BAD_VALUE as error:
            raise Fatal(
                f"{where} returned a {type(result).__qualname__} that can't be stored as annotated: "
                f"{reason(error)}"
            ) from error

    def decode_result(self, encoded: bytes | msgspec.Raw) -> object:
        """A stored result as its type."""
        return self._decode(encoded)


class _Never:
    """No value has this class."""


_IMMUTABLE: Final = frozenset({int, str, bytes, float, bool, type(None)})


def _copier(hint: object) -> Callable[[object], object]:
    if hint is Any:
        return _deep_copy
    try:
        decode: Callable[[bytes], object] = msgspec.msgpack.Decoder(cast("type[object]", hint)).decode
    except TypeError:
        return _deep_copy
    encode = ENCODER.encode
    return lambda value: decode(encode(value))


def _deep_copy(value: object) -> object:
    return copy.deepcopy(value)
