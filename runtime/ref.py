"""Refs: typed proxies of actors.  Making one touches nothing; it can be kept for ever.

First step of a call.  For each actor type one ref class is made, with a method for each method that may be
called.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import TYPE_CHECKING, NoReturn

from ..storage import layout
from .address import ActorKey, show_address
from .call import invoke
from .errors import PrivateMethod, UnknownMethod
from .methods import hooks_of

if TYPE_CHECKING:
    from .activation import Activation
    from .actor_type import ActorType
    from .methods import MethodPlan
    from .system import ActorSystem


class Ref:
    """An address in one runtime, with the activation while there is one."""

    __slots__ = ("__weakref__", "activation", "directory_key", "key", "key_bytes", "system", "type")

    def __init__(self, system: ActorSystem, kind: ActorType, key: ActorKey, key_bytes: bytes) -> None:
        self.system = system
        self.type = kind
        self.key = key
        self.key_bytes = key_bytes
        self.directory_key = layout.DIRECTORY + kind.number_bytes + key_bytes
        self.activation: Activation | None = None

    def __str__(self) -> str:
        return show_address(self.type.name, self.key)

    def __repr__(self) -> str:
        return f"<ref to {self}>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Ref)
            and self.system is other.system
            and self.directory_key == other.directory_key
        )

    def __hash__(self) -> int:
        return hash(self.directory_key)

    def __getattr__(self, name: str) -> NoReturn:
        """Only names that can't be called end here."""
        where = f"{self.type.name}.{name}"
        if name.startswith("__"):
            raise AttributeError(name)
        if name.startswith("_"):
            raise PrivateMethod(
                f"{where} is private: a name that begins with an underscore can't be called from outside"
            )
        if name in hooks_of(self.type.actor_class):
            raise PrivateMethod(f"{where} is a hook: only the runtime calls it")
        if hasattr(self.type.actor_class, name):
            raise PrivateMethod(
                f"{where} is not an async method; what an actor holds is read through a method (perhaps a "
                "@shared one)"
            )
        raise UnknownMethod(
            f"{self.type.name} has no method {name!r}; it has "
            f"{', '.join(sorted(self.type.methods)) or 'none'}"
        )


def make_ref_class(class_name: str, plans: dict[str, MethodPlan]) -> type[Ref]:
    """A ref class with one method for each plan."""
    methods: dict[str, object] = {"__slots__": ()}
    for name, plan in plans.items():
        methods[name] = _method(plan)
    return type(f"{class_name}Ref", (Ref,), methods)


def _method(plan: MethodPlan) -> Callable[..., Coroutine[object, object, object]]:
    def call(self: Ref, *args: object, **kwargs: object) -> Coroutine[object, object, object]:
        return invoke(self, plan, args, kwargs)

    return update_wrapper(call, plan.function, updated=())
