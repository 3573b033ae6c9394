"""`rt.deps`: the user's own objects (clients, settings) for actors and steps.

They are found by type and can be replaced in tests.
"""

from __future__ import annotations

from typing import TypeVar, cast

from ..storage.errors import CallerError

T = TypeVar("T")


class Deps:
    """Objects by type; an object is also found by each of its base classes."""

    def __init__(self, objects: tuple[object, ...] = ()) -> None:
        self._by_type: dict[type, object] = {}
        for one in objects:
            self.put(one)

    def put(self, value: object, *, as_type: type | None = None) -> None:
        """Add or replace an object, under its own type or under `as_type`."""
        self._by_type[as_type or type(value)] = value

    def get(self, wanted: type[T]) -> T:
        """The object of this type; raises `CallerError` when none was put."""
        found = self.find(wanted)
        if found is None:
            known = ", ".join(sorted(kind.__qualname__ for kind in self._by_type)) or "nothing"
            raise CallerError(
                f"rt.deps holds no {wanted.__qualname__} (it holds {known}); give it to "
                "Runtime(deps=[...]) or rt.deps.put"
            )
        return found

    def find(self, wanted: type[T]) -> T | None:
        """The object of this type, or None."""
        if wanted in self._by_type:
            return cast("T", self._by_type[wanted])
        for one in self._by_type.values():
            if isinstance(one, wanted):
                return one
        return None
