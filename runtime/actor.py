"""The base class of actors: what a user writes, and what every actor is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn, cast

from .address import ActorKey
from .alarms import Alarm, Alarms
from .errors import TurnOver
from .registry import register_actor_class

if TYPE_CHECKING:
    from .activation import Activation
    from .actor_storage import ActorStorage
    from .system import ActorSystem


class Actor:
    """A keyed object with durable fields that handles one message at a time.

    Annotated names are its durable fields and need a default; names that begin with an underscore are plain
    memory, lost when the actor is evicted.  Public `async def` methods can be called through `Runtime.get(T,
    key)`.  A method is a turn: all that it writes becomes durable together, or nothing does if it raises or
    is cancelled.

    Class options
      name        the stored name of the type; the class's own name by default
      indexes     tuples of field names that `Runtime.query` can search by
      version     raise it when stored fields must be rewritten, and write `upgrade(stored_version, data) ->
                  data`
    """

    _holdfast_base: ClassVar[bool] = True
    # Its fields are the library's own business: nobody edits them from outside.
    _holdfast_owned: ClassVar[bool] = False
    name: ClassVar[str]
    indexes: ClassVar[tuple[tuple[str, ...] | str, ...]] = ()
    version: ClassVar[int] = 1

    _activation: Activation

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._holdfast_base = False
        register_actor_class(cls)

    @property
    def key(self) -> ActorKey:
        """The key this actor is addressed by."""
        return self._activation.ref.key

    @property
    def storage(self) -> ActorStorage:
        """This actor's own keys and tables."""
        return self._activation.storage

    @property
    def alarms(self) -> Alarms:
        """This actor's alarms."""
        return self._activation.alarms

    @property
    def runtime(self) -> ActorSystem:
        """The runtime that the actor lives in."""
        return self._activation.system

    async def on_activate(self) -> None:
        """Called before the first message after the actor was loaded.

        A turn of its own.  If it raises, so does that message.
        """

    async def on_alarm(self, alarm: Alarm) -> None:
        """Called when an alarm is due; a turn.  If it raises, the alarm is tried again later."""

    async def on_evict(self) -> None:
        """Called before the actor leaves memory because it was idle; not when the process ends."""


def activation_of(actor: Actor) -> Activation:
    """The activation behind an actor."""
    return actor._activation  # pyright: ignore[reportPrivateUsage]


def set_activation(actor: Actor, activation: Activation) -> None:
    """Tie an actor to its activation (or to a stand-in that only reads)."""
    actor._activation = activation  # pyright: ignore[reportPrivateUsage]


def unset_activation(actor: Actor) -> None:
    """Untie an actor that left memory; what it holds can still be looked at."""
    actor.__dict__.pop("_activation", None)


class _Nowhere:
    """What an actor has in place of an activation when it left memory."""

    def __getattr__(self, name: str) -> NoReturn:
        raise TurnOver("this actor has left memory; code that outlives its turn must not use it")


Actor._activation = cast("Activation", _Nowhere())  # pyright: ignore[reportPrivateUsage]
