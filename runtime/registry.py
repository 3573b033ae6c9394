"""Which class a stored type name means.

Importing a module is enough: a class registers itself by being defined.  A runtime asks here when it meets a
name on disk, for instance in an alarm of an actor that nobody has called yet.
"""

from __future__ import annotations

import weakref

from .errors import UnknownActorType

_classes: dict[str, list[weakref.ref[type]]] = {}


def type_name(actor_class: type) -> str:
    """The stored name of an actor type."""
    own = actor_class.__dict__.get("name")
    return own if isinstance(own, str) else actor_class.__name__


def register_actor_class(actor_class: type) -> None:
    """Remember a class by its name.  A class defined again in the same place replaces the former one."""
    name = type_name(actor_class)
    place = (actor_class.__module__, actor_class.__qualname__)
    kept = [
        known
        for known in _classes.get(name, [])
        if (cls := known()) is not None and (cls.__module__, cls.__qualname__) != place
    ]
    _classes[name] = [*kept, weakref.ref(actor_class)]


def forget_actor_class(actor_class: type) -> None:
    """A class is no longer meant by its name: a stand-in, whose place the real one may take."""
    name = type_name(actor_class)
    _classes[name] = [known for known in _classes.get(name, []) if known() not in (None, actor_class)]


def actor_classes() -> list[type]:
    """All actor classes that are there, in the order in which their names were first seen."""
    return [cls for known in _classes.values() for one in known if (cls := one()) is not None]


def find_actor_class(name: str) -> type | None:
    """The only class with this name, None when there is none.

    Raises `UnknownActorType` when there are several.
    """
    found = [cls for known in _classes.get(name, []) if (cls := known()) is not None]
    if len(found) > 1:
        places = " and ".join(f"{cls.__module__}.{cls.__qualname__}" for cls in found)
        raise UnknownActorType(
            f"the name {name!r} is registered twice, by {places}; set `name` in one of them, or use one of "
            "them before the runtime meets the name on disk (Runtime(types=[...]))"
        )
    return found[0] if found else None
