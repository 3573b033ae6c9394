"""Errors of the runtime: more members of the tree in storage/errors.py."""

from __future__ import annotations

from ..storage.errors import ActorError, CallerError


class UnknownMethod(CallerError, AttributeError):
    """The actor has no such method."""


class PrivateMethod(CallerError, AttributeError):
    """A name that begins with an underscore, a hook or a field can't be called from outside."""


class InvalidArgument(CallerError, TypeError):
    """Arguments of a call don't match the method's signature or its annotations."""


class UnknownActorType(CallerError):
    """The class isn't an actor type, or two classes claim the same name."""


class ActorNotFound(CallerError, LookupError):
    """Nothing is stored of an actor that was to be looked at or edited."""


class InvalidCron(CallerError, ValueError):
    """A cron expression or the name of a time zone can't be read, or the expression never comes true."""


class NotRunning(CallerError):
    """The runtime was not opened yet, or is closed."""


class InvalidActor(ActorError, TypeError):
    """A class breaks the rules of an actor type; raised when the class is first used."""


class InvalidResult(ActorError, TypeError):
    """A method returned, or a turn left in a field, a value that doesn't match its annotation."""


class DeadlockError(ActorError):
    """Two chains of calls wait for each other; `cycle` names the calls of the ring."""

    def __init__(self, cycle: list[str]) -> None:
        self.cycle = cycle
        super().__init__(
            "these calls would wait for each other for ever: "
            + " -> ".join(cycle)
            + "; make one of them @shared, or "
            "don't call back while the other waits"
        )


class TurnOver(ActorError):
    """Code that outlived its turn tried to write; what a turn starts must end with it."""


class TurnPoisoned(ActorError):
    """Calls that joined this turn side by side failed, so it can't be told which half to keep.

    Nothing was kept.
    """


class SharedWriteError(ActorError):
    """A @shared method tried to change the actor."""
