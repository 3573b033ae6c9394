"""Arguments as bytes that are the same in every process: a call that is made again is known by them.

A set is encoded in the order in which it is iterated, and that order follows the hashes of its members, which
Python draws anew for each process.  Where a parameter may hold one, its members are put into the order of
their bytes first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, cast

import msgspec
from msgspec import inspect

from .codec import ENCODER


def may_hold_sets(hints: Iterable[object]) -> bool:
    """Whether a value of one of these types may hold a set, however deep."""
    seen: list[object] = []
    return any(_may_hold(inspect.type_info(hint), seen) for hint in hints)


def _may_hold(info: object, seen: list[object]) -> bool:
    if isinstance(info, (inspect.AnyType, inspect.CustomType, inspect.SetType, inspect.FrozenSetType)):
        return True
    if not isinstance(info, inspect.Type) or any(info is one for one in seen):
        return False
    seen.append(info)
    for name in info.__struct_fields__:
        part: object = getattr(info, name)
        for one in cast("tuple[object, ...]", part if isinstance(part, tuple) else (part,)):
            if _may_hold(one.type if isinstance(one, inspect.Field) else one, seen):
                return True
    return False


def in_order(value: object) -> object:
    """A value to encode for its bytes alone: sets in an order that lasts, each kind of container marked as
    what it is.
    """
    if isinstance(value, (set, frozenset)):
        return ["set", sorted(ENCODER.encode(in_order(one)) for one in cast("set[object]", value))]
    if isinstance(value, (list, tuple)):
        return ["list", *(in_order(one) for one in cast("list[object]", value))]
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return ["dict", *([in_order(key), in_order(one)] for key, one in items)]
    if isinstance(value, msgspec.Struct):
        return ["fields", *(in_order(getattr(value, name)) for name in value.__struct_fields__)]
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(cast("Any", value))
        return ["fields", *(in_order(getattr(value, field.name)) for field in fields)]
    return value
