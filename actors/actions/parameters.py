"""The parameters of an action: read once from the signature of its handler, then checked before each run.

    signature -> plan -> check(args, kwargs) -> one value for each parameter, copied and of its type

Promises
  * Nothing runs with a parameter that is unknown, missing or of another type; the error names the action, the
    parameter, what was expected and what came.
  * A handler never shares an object with its caller: values go through the codec, as arguments of actors do.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Annotated, Any, Final, cast, get_args, get_origin

import msgspec

from ...runtime.codec import BAD_VALUE, ENCODER, SCALARS, reason
from ...runtime.error_text import shorten
from ..errors import InvalidAction, InvalidParameters
from ..json_schema import json_schema

_SHOWN_CHARACTERS: Final = 80
_DIGEST_BYTES: Final = 16
_SCALARS: Final[frozenset[object]] = frozenset(SCALARS)
# Sets lie in another order in each process.
_ordered: Final = msgspec.msgpack.Encoder(order="deterministic").encode


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of an action, as listings show it."""

    name: str
    type: str
    required: bool
    default: object = None
    """What it is when it isn't given; only where it isn't required."""
    description: str = ""
    """Of `Annotated[..., msgspec.Meta(description=...)]`."""


class ParameterPlan:
    """The parameters of one action."""

    __slots__ = ("_decoders", "_defaults", "_hints", "_scalars", "_where", "names", "positional", "public")

    def __init__(self, where: str, parameters: list[inspect.Parameter], hints: Mapping[str, object]) -> None:
        """`where` names the action in messages; raises `InvalidAction` when a parameter can't be checked."""
        self._where = where
        self.names = [parameter.name for parameter in parameters]
        # How many of them are given to the handler by position; the others by name.
        self.positional = sum(parameter.kind is not parameter.KEYWORD_ONLY for parameter in parameters)
        self._hints = {name: hints.get(name, Any) for name in self.names}
        self._defaults = {
            one.name: cast("object", one.default) for one in parameters if one.default is not one.empty
        }
        # Of these types a value that has exactly the type passes as it is.
        self._scalars: dict[str, object] = {
            name: hint for name, hint in self._hints.items() if hint in _SCALARS
        }
        self._decoders: dict[str, Callable[[bytes], object]] = {}
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise InvalidAction(f"{where} takes *{parameter.name}; an action names its parameters")
            try:
                decoder = msgspec.msgpack.Decoder(cast("Any", self._hints[parameter.name]))
            except TypeError as error:
                raise InvalidAction(
                    f"{where}: parameter {parameter.name} has a type that can't be checked: {error}"
                ) from error
            self._decoders[parameter.name] = decoder.decode
        self.public = tuple(self._public(name) for name in self.names)

    def check(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> tuple[object, ...]:
        """One value for each parameter, in order, copied; raises `InvalidParameters`."""
        given = self.bind(args, kwargs)
        return tuple([self.check_one(name, given[name]) for name in self.names])

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """All parameters by name, defaults filled in, types not looked at; raises `InvalidParameters`."""
        if len(args) > self.positional:
            raise InvalidParameters(
                f"{self._where} takes at most {self.positional} parameters by position; got {len(args)}"
            )
        given = dict(zip(self.names, args, strict=False))
        for name, value in kwargs.items():
            if name in given:
                raise InvalidParameters(f"{self._where}: parameter {name} was given twice")
            if name not in self._decoders:
                raise InvalidParameters(
                    f"{self._where} has no parameter {name}; it takes {', '.join(self.names) or 'none'}; "
                    f"got {_shown(value)}"
                )
            given[name] = value
        for name in self.names:
            if name not in given:
                if name not in self._defaults:
                    raise InvalidParameters(
                        f"{self._where}: parameter {name} is missing; expected "
                        f"{type_text(self._hints[name])}, "
                        f"got {', '.join(given) or 'no parameters'}"
                    )
                given[name] = self._defaults[name]
        return given

    def check_one(self, name: str, value: object) -> object:
        """A value for one parameter, copied; raises `InvalidParameters`."""
        if cast("object", value.__class__) is self._scalars.get(name):
            return value
        if name in self._defaults and value is self._defaults[name]:
            return copy.deepcopy(value)  # a default needn't be of the annotated type, as anywhere in Python
        try:
            return self._decoders[name](ENCODER.encode(value))
        except BAD_VALUE as error:
            raise InvalidParameters(
                f"{self._where}: parameter {name}: expected {type_text(self._hints[name])}, got "
                f"{_shown(value)}: {reason(error)}"
            ) from None

    def schema(self, title: str, description: str) -> dict[str, object]:
        """The JSON Schema of an object that holds the parameters."""
        fields: list[Any] = []
        for name in self.names:
            hint = self._hints[name]
            if name in self._defaults:
                # A factory for all of them, since a struct refuses mutable ones; the schema gets them below.
                fields.append((name, hint, msgspec.field(default_factory=str)))
            else:
                fields.append((name, hint))
        struct = msgspec.defstruct(title, fields, kw_only=True, forbid_unknown_fields=True)
        schema = json_schema(struct)
        properties = cast("dict[str, dict[str, object]]", schema["properties"])
        for name, default in self._defaults.items():
            try:
                properties[name]["default"] = msgspec.to_builtins(default, str_keys=True)
            except TypeError:  # of a type of the user's own
                properties[name].pop("default", None)
        return schema | {"description": description} if description else schema

    def _public(self, name: str) -> Parameter:
        hint = self._hints[name]
        description = ""
        if get_origin(hint) is Annotated:
            found = [one.description for one in get_args(hint)[1:] if isinstance(one, msgspec.Meta)]
            description = next((text for text in found if text), "")
        required = name not in self._defaults
        return Parameter(name, type_text(hint), required, self._defaults.get(name), description)


def digest_of(values: tuple[object, ...]) -> bytes:
    """Tells other parameters from the same ones; raises `InvalidParameters` for values without bytes."""
    try:
        encoded = _ordered(values)
    except BAD_VALUE as error:  # a number or a text of the right type that no record can hold
        raise InvalidParameters(f"parameters of an action can't be stored: {reason(error)}") from error
    return blake2b(encoded, digest_size=_DIGEST_BYTES).digest()


def type_text(hint: object) -> str:
    """A type as its users write it."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if hint is None or hint is type(None):
        return "None"
    if isinstance(hint, type) and not get_args(hint):
        return hint.__qualname__
    return str(hint).replace("typing.", "")


def _shown(value: object) -> str:
    return f"{shorten(repr(value), _SHOWN_CHARACTERS)} of type {type(value).__qualname__}"
