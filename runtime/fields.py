"""Declared fields: an actor's durable state as one record.

Every annotated name of the class that does not begin with an underscore is a field.  The record is encoded at
the end of a turn and written when its bytes changed; decoding the last bytes is the rollback.

Records are maps by name, so a field added later with a default just works.  For other changes raise `version`
and give the class an `upgrade(stored_version, data)`.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar, Final, cast, get_origin, get_type_hints

import msgspec

from ..storage.errors import Damaged
from ..storage.keys import IndexValue
from ..storage.table import index_value
from .codec import BAD_VALUE, ENCODER, decode_plain, reason
from .errors import InvalidActor, InvalidResult

# Written anew with each turn that changes any of the fields, and in one piece; as large as a value may be.
MAX_RECORD_BYTES: Final = 8 << 20
# The first entry of a stored record: what `version` of the class wrote it.
VERSION_FIELD: Final = "__version"
_TAKEN: Final = frozenset({"alarms", "indexes", "key", "name", "runtime", "storage", "version"})


class FieldPlan:
    """How the fields of one actor type are encoded, checked, restored and indexed."""

    __slots__ = (
        "_before_value", "_decode", "_defaults", "_getter", "_struct", "_version", "actor_class", "indexes",
        "names",
    )  # fmt: skip

    def __init__(self, actor_class: type) -> None:
        """Read the annotations of `actor_class`.

        Raises `InvalidActor` for a field that has no default or can't be stored.
        """
        self.actor_class = actor_class
        hints = declared_hints(actor_class)
        self.names = tuple(hints)
        self._version = _class_version(actor_class)
        self._defaults: dict[str, Callable[[], object]] = {}
        fields: list[tuple[str, object, object]] = [("version_", int, self._version)]
        for name, hint in hints.items():
            if name in _TAKEN:
                raise InvalidActor(
                    f"field {actor_class.__name__}.{name}: actors have a {name} of their own; choose another "
                    f"name for the field (and write the options name, version and indexes without annotation)"
                )
            if not hasattr(actor_class, name):
                raise InvalidActor(
                    f"field {actor_class.__name__}.{name} needs a default, which a new actor starts with"
                )
            factory = _default_factory(getattr(actor_class, name))
            self._defaults[name] = factory
            fields.append((name, hint, msgspec.field(default_factory=factory)))
        try:
            self._struct = msgspec.defstruct(
                f"{actor_class.__name__}Fields",
                fields,
                rename={"version_": VERSION_FIELD},
            )
            self._decode = msgspec.msgpack.Decoder(self._struct).decode
        except TypeError as error:
            raise InvalidActor(
                f"a field of {actor_class.__name__} has a type that can't be stored: {error}"
            ) from error
        # The values, as a tuple; of a single field the value itself, as attrgetter has it.
        self._getter: Callable[[object], Any] | None = attrgetter(*self.names) if self.names else None
        # What stands before the value in the record of a single field, which is always the same: a run's
        # head is written twice for each run.
        self._before_value = b""
        if len(self.names) == 1:
            self._before_value = ENCODER.encode(self._struct(self._version, None)).removesuffix(b"\xc0")
        self.indexes = _index_getters(actor_class, hints)

    def set_defaults(self, instance: object) -> None:
        """Give `instance` the fields of a new actor."""
        for name, factory in self._defaults.items():
            setattr(instance, name, factory())

    def encode(self, instance: object, where: object) -> bytes:
        """The record of `instance`; raises `InvalidResult` when a field can't be stored."""
        getter = self._getter
        if getter is None:
            return b""
        try:
            if self._before_value:
                return self._before_value + ENCODER.encode(getter(instance))
            return ENCODER.encode(self._struct(self._version, *getter(instance)))
        except BAD_VALUE as error:
            raise InvalidResult(f"{where} left a field that can't be stored: {reason(error)}") from error
        except AttributeError as error:
            raise InvalidResult(f"{where} deleted a declared field: {error}") from error

    def check(self, record: bytes, where: object) -> None:
        """Raise `InvalidResult` when a record is too large or its values don't match the annotations."""
        if len(record) > MAX_RECORD_BYTES:
            raise InvalidResult(
                f"{where} left fields that take {len(record)} bytes together; at most {MAX_RECORD_BYTES} are "
                "allowed: keep large values in self.storage"
            )
        try:
            self._decode(record)
        except BAD_VALUE as error:
            raise InvalidResult(
                f"{where} left a field that doesn't match its annotation: {reason(error)}"
            ) from error

    def restore(self, instance: object, record: bytes, where: str) -> None:
        """Set the fields of `instance` from a record; raises `Damaged` when it doesn't fit the class."""
        if not self.names:
            return
        try:
            values: object = self._decode(record)
            if values.version_ != self._version:  # type: ignore[attr-defined]
                values = self._upgraded(record)
        except BAD_VALUE as error:
            raise Damaged(
                f"the stored fields of {where} don't fit the class: {reason(error)}; give new fields "
                "defaults, or raise `version` and write `upgrade`"
            ) from error
        for name in self.names:
            setattr(instance, name, getattr(values, name))

    def _upgraded(self, record: bytes) -> object:
        data: dict[str, object] = decode_plain(record)
        stored_version = data.pop(VERSION_FIELD, 1)
        upgrade = getattr(self.actor_class, "upgrade", None)
        if upgrade is None:
            raise ValueError(
                f"stored version {stored_version}, the class has version {self._version} and no upgrade()"
            )
        upgraded = dict(upgrade(stored_version, data))
        upgraded[VERSION_FIELD] = self._version
        return self._decode(ENCODER.encode(upgraded))


def declared_hints(actor_class: type) -> dict[str, object]:
    """Names and types of the declared fields, base classes first."""
    hints: dict[str, object] = {}
    for base in reversed(actor_class.__mro__):
        if base.__dict__.get("_holdfast_base", False):
            continue
        # Only the fields' own annotations are resolved: others may name what only a type checker imports.
        own = {name: hint for name, hint in inspect.get_annotations(base).items() if not name.startswith("_")}
        namespace = dict(vars(sys.modules[base.__module__])) if base.__module__ in sys.modules else {}
        try:
            # As a class of its own, since ClassVar is allowed in classes alone.
            stand_in = type(base.__name__, (), {"__annotations__": own})
            resolved = get_type_hints(stand_in, namespace, dict(vars(base)), include_extras=True)
        except NameError as error:
            raise InvalidActor(
                f"an annotation of {base.__name__} can't be resolved: {error}; define the type at module "
                "level"
            ) from error
        hints.update(
            {
                name: hint
                for name, hint in resolved.items()
                if get_origin(hint) is not ClassVar and hint is not ClassVar
            }
        )
    return hints


def _class_version(actor_class: type) -> int:
    version = getattr(actor_class, "_fields_version", getattr(actor_class, "version", 1))
    if type(version) is not int or version < 1:
        raise InvalidActor(
            f"{actor_class.__name__}.version must be a whole number from 1 on; got {version!r}"
        )
    return version


def _default_factory(default: object) -> Callable[[], object]:
    if isinstance(default, (int, str, bytes, float, type(None))):
        return lambda: default
    if isinstance(default, msgspec.Struct) and default.__struct_config__.frozen:
        try:
            hash(default)  # frozen to the bottom, so it can be shared
        except TypeError:
            pass
        else:
            return lambda: default
    return lambda: copy.deepcopy(default)


IndexGetter = Callable[[object], "tuple[IndexValue, ...]"]


def _index_getters(actor_class: type, hints: dict[str, object]) -> dict[tuple[str, ...], IndexGetter]:
    declared: object = getattr(actor_class, "indexes", ())
    getters: dict[tuple[str, ...], IndexGetter] = {}
    for one in _tuple_of(declared, actor_class):
        names = tuple(str(name) for name in ((one,) if isinstance(one, str) else _tuple_of(one, actor_class)))
        for name in names:
            if name.split(".")[0] not in hints:
                raise InvalidActor(
                    f"{actor_class.__name__}.indexes names {name!r}, which is no declared field"
                )
        getters[names] = _values_getter(names, index_value)
    return getters


def _tuple_of(value: object, actor_class: type) -> tuple[object, ...]:
    if not isinstance(value, tuple):
        raise InvalidActor(
            f"{actor_class.__name__}.indexes must be a tuple of tuples of field names; got {value!r}"
        )
    return cast("tuple[object, ...]", value)


def _values_getter(names: tuple[str, ...], convert: Callable[[object], IndexValue]) -> IndexGetter:
    getter = attrgetter(*names)
    if len(names) == 1:
        return lambda instance: (convert(getter(instance)),)
    return lambda instance: tuple([convert(value) for value in getter(instance)])
