"""Values as Python source, with the imports that it needs: for scripts that people paste into a test."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterable
from typing import Any, cast

import msgspec


class Source:
    """Collects the imports of what it renders."""

    def __init__(self) -> None:
        # Names by module.
        self._names: dict[str, set[str]] = {}
        self._modules: set[str] = set()
        # What can't be imported, since it was made in a function.
        self.unreachable: list[str] = []

    def imports(self) -> str:
        """The import lines, sorted."""
        lines = [f"import {module}" for module in sorted(self._modules)]
        lines += [
            f"from {module} import {', '.join(sorted(names))}"
            for module, names in sorted(self._names.items())
        ]
        return "\n".join(lines)

    def named(self, one: object) -> str:
        """The name of a class or a function, imported."""
        module = str(getattr(one, "__module__", ""))
        name = str(getattr(one, "__qualname__", repr(one)))
        top = name.partition(".")[0]
        if "<" in name:
            self.unreachable.append(f"{module}.{name}")
            return name.rpartition(".")[2].strip("<>")
        if module != "builtins":
            self._names.setdefault(module, set()).add(top)
        return name

    def value(self, value: object) -> str:
        """Source of a value; what is no data is shown by its `repr`."""
        if isinstance(value, enum.Enum):
            return f"{self.named(type(value))}.{value.name}"
        if isinstance(value, msgspec.Struct):
            return self._made(value, value.__struct_fields__)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._made(value, [field.name for field in dataclasses.fields(value) if field.init])
        kind = type(value)
        if kind in (list, set, frozenset, tuple, dict):
            return self._container(value)
        if isinstance(value, float) and not math.isfinite(value):
            return f"float({str(value)!r})"
        if kind.__module__ == "datetime":
            self._modules.add("datetime")
            if "zoneinfo." in repr(value):
                self._modules.add("zoneinfo")
        elif kind.__module__ != "builtins":
            self.named(kind)
        return repr(value)

    def _made(self, value: object, names: Iterable[str]) -> str:
        fields = ", ".join(f"{name}={self.value(getattr(value, name))}" for name in names)
        return f"{self.named(type(value))}({fields})"

    def _container(self, value: object) -> str:
        if isinstance(value, dict):
            pairs: Iterable[tuple[object, object]] = cast("Any", value).items()
            return "{" + ", ".join(f"{self.value(key)}: {self.value(one)}" for key, one in pairs) + "}"
        each = [self.value(one) for one in cast("Iterable[object]", value)]
        if isinstance(value, list):
            return f"[{', '.join(each)}]"
        if isinstance(value, tuple):
            return f"({each[0]},)" if len(each) == 1 else f"({', '.join(each)})"
        each.sort()  # the order of a set depends on the process
        if isinstance(value, set) and each:
            return f"{{{', '.join(each)}}}"
        kind = "set" if isinstance(value, set) else "frozenset"
        return f"{kind}([{', '.join(each)}])"
