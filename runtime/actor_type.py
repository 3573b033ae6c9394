"""What a runtime knows of an actor type: class, stored name and number, fields, methods, ref class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..storage import layout
from ..storage.histogram import SECONDS, Buckets
from ..storage.keys import MAX_INDEX_ENTRY_BYTES, encode_index_values
from .actor import Actor
from .errors import InvalidActor, InvalidResult
from .fields import FieldPlan
from .methods import MethodPlan, method_plans
from .ref import Ref, make_ref_class
from .registry import type_name

if TYPE_CHECKING:
    from .activation import Activation

# A name ends where the key begins, and is shown in logs.
_MAX_NAME_CHARACTERS = 100


class ActorType:
    """One actor type in one runtime."""

    __slots__ = (
        "actor_class", "default_record", "failed_turns", "fields", "has_init", "has_on_activate",
        "has_on_alarm", "index_prefixes", "has_on_evict", "methods", "name", "number", "number_bytes",
        "on_alarm", "ref_class", "shared_calls", "turn_seconds", "turns",
    )  # fmt: skip

    def __init__(self, actor_class: type[Actor], number: int) -> None:
        """Read the class; raises `InvalidActor` when it breaks a rule."""
        self.actor_class = actor_class
        self.name = type_name(actor_class)
        if not self.name.isidentifier() or len(self.name) > _MAX_NAME_CHARACTERS:
            raise InvalidActor(
                f"the name of {actor_class.__qualname__} must be an identifier of at most "
                f"{_MAX_NAME_CHARACTERS} characters; got {self.name!r}"
            )
        self.number = number
        self.number_bytes = number.to_bytes(2, "big")
        self.fields = FieldPlan(actor_class)
        self.methods = self.make_methods()
        self.ref_class: type[Ref] = make_ref_class(self.name, self.methods)
        self.index_prefixes = tuple(
            layout.FIELD_INDEX + self.number_bytes + bytes((position,))
            for position in range(len(self.fields.indexes))
        )
        self.has_init = actor_class.__init__ is not object.__init__
        self.has_on_activate = actor_class.on_activate is not Actor.on_activate
        self.has_on_alarm = actor_class.on_alarm is not Actor.on_alarm
        self.has_on_evict = actor_class.on_evict is not Actor.on_evict
        self.on_alarm = MethodPlan(actor_class, "on_alarm", actor_class.on_alarm)
        blank = actor_class.__new__(actor_class)
        self.fields.set_defaults(blank)
        self.default_record = self.fields.encode(blank, self.name)
        if self.fields.names:
            self.fields.check(self.default_record, f"the class {self.name}")
        # For metrics.  One turn of `TIMED_TURNS` is timed: to time each would cost a fiftieth of a call.
        self.turns = 0
        self.failed_turns = 0
        self.shared_calls = 0
        self.turn_seconds = Buckets(SECONDS)

    def left_memory(self, activation: Activation) -> None:
        """For the layer above: the directory let an activation go."""

    def make_methods(self) -> dict[str, MethodPlan]:
        """The methods that may be called from outside."""
        return method_plans(self.actor_class)

    def index_keys(self, instance: object, owner: bytes) -> tuple[bytes, ...]:
        """The entries of the fields' indexes for an actor; `owner` is its number as it stands in keys."""
        found: list[bytes] = []
        for prefix, (names, getter) in zip(self.index_prefixes, self.fields.indexes.items(), strict=True):
            entry = prefix + encode_index_values(getter(instance)) + owner
            if len(entry) > MAX_INDEX_ENTRY_BYTES:
                # LMDB would refuse it, and with it the whole commit.
                raise InvalidResult(
                    f"{self.name}: the entry of index {names} takes {len(entry)} bytes, at most "
                    f"{MAX_INDEX_ENTRY_BYTES} are allowed; index a shorter field"
                )
            found.append(entry)
        return tuple(found)
