"""Errors of workflows and queues, as members of the tree in storage/errors.py.

Live and on replay `run()` sees the same errors: what a step raised is kept as a record (`ErrorRecord`) and
given to `run()` as a `StepError` that holds that record, never the exception object itself.
"""

from __future__ import annotations

import traceback

import msgspec

from ..runtime.error_text import clean, cut, message_text
from ..storage.errors import ActorError, CallerError

_MAX_TRACE_CHARACTERS = 8_000


class ErrorRecord(msgspec.Struct, array_like=True, frozen=True):
    """What is kept of an exception: type name, message, and the trace as text."""

    type: str
    message: str
    trace: str = ""
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


def record_error(error: BaseException) -> ErrorRecord:
    """The record of an exception with its chain of causes; long texts are cut in the middle."""
    try:
        trace = "".join(traceback.format_exception(error, limit=-12))
    except Exception:  # an exception that can't even be shown must not stop the run
        trace = ""
    return ErrorRecord(
        clean(type(error).__qualname__),
        message_text(error),
        cut(clean(trace), _MAX_TRACE_CHARACTERS),
        isinstance(error, Fatal),
    )


# -- raised by user code -----------------------------------------------------------------------------------


class Fatal(Exception):  # the word of the design; users raise it
    """Raise it in a step: the step fails at once, without more retries."""


class RetryAfter(Exception):
    """Raise it in a step: the attempt failed, and the next one comes so much later at least.

    For a server that says when it is worth to ask again.  The `cap` of the step's `Retry` bounds it.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


# -- given to run() ----------------------------------------------------------------------------------------


class StepError(ActorError):
    """A step failed for good.  Raised into `run()`, where it may be caught; uncaught it fails the run."""

    def __init__(self, step: str, nth: int, attempts: int, cause: ErrorRecord) -> None:
        self.step = step
        """Name of the step."""
        self.nth = nth
        """The how-manyth use of the name, from 1."""
        self.attempts = attempts
        """Attempts made."""
        self.cause = cause
        """What the last attempt raised."""
        times = "once" if attempts == 1 else f"{attempts} times"
        which = step if nth == 1 else f"{step} (use {nth})"
        super().__init__(f"step {which} was tried {times} and failed: {cause}")


class ForeignAwait(ActorError, RuntimeError):
    """`run()` awaited something that isn't the workflow's own: I/O belongs in a step."""


class NotReplayable(ActorError):
    """In a test with `replay_guard`: `run()` asked a clock, chance or the like outside of a step."""


class BodyExit(ActorError):
    """A step's body raised `SystemExit`; that fails the attempt and ends nothing else."""


class StepOver(ActorError):
    """A step's body went on after its attempt ended (it timed out or was cancelled) and called an actor; or a
    turn below it was undone, and a call that it made, or a task that it left behind, went on.
    """


# -- the caller's ------------------------------------------------------------------------------------------


class MissingPackage(CallerError, ImportError):
    """A part that was asked for needs a package that isn't installed; the message has the command."""


class InvalidRunId(CallerError, ValueError):
    """A run id breaks the rules: 1 to 200 printable characters without blanks, or a tuple of such texts and
    numbers.
    """


class InvalidInput(CallerError, TypeError):
    """A run's input doesn't match the annotation of `run()`."""


class InvalidSchedule(CallerError, ValueError):
    """What a schedule was to be set up with, or asked for, can't be meant."""


class ScheduleNotFound(CallerError, LookupError):
    """There is no schedule with this name."""


class QueueNotFound(CallerError, LookupError):
    """Nothing was ever stored of a queue with this name."""


class LetterNotFound(CallerError, LookupError):
    """There is no such dead letter (any more)."""


class QueueDraining(CallerError):
    """A queue takes in nothing more: it is drained."""


class RunExists(CallerError):
    """The run id is in use, and `on_conflict` is "reject"."""


class WrongStatus(CallerError):
    """What is asked for can't be done to a run with its present status; the message names it."""


class WorkflowRetired(CallerError):
    """The workflow was retired: nothing new of it is started."""


class RunNotFound(CallerError, LookupError):
    """There is no run with this id."""


class JobNotFound(CallerError, LookupError):
    """A job manager has no job with this id."""


class TopicNotFound(CallerError, LookupError):
    """A hub keeps no message on this topic."""


class BlobNotFound(CallerError, LookupError):
    """There is no blob with this name."""


class BlobTooLarge(CallerError, ValueError):
    """What was put has more bytes than `max_bytes`."""


class RunFailed(ActorError):
    """Asked for the result of a run that failed, was terminated or is stuck."""

    def __init__(self, run: str, status: str, cause: ErrorRecord | None) -> None:
        self.run = run
        self.status = status
        self.cause = cause
        super().__init__(f"run {run} is {status}" + (f": {cause}" if cause is not None else ""))


class RunEnded(CallerError):
    """The run has ended, so it takes no events and no updates, and can't be paused or cancelled."""


class InvalidEvent(CallerError, TypeError):
    """An event's name, id or payload is not right, or the workflow takes no such event."""


class InvalidExport(CallerError, ValueError):
    """A file is no exported run, or one of a newer format."""


class UpdateRefused(CallerError):
    """An `@update` can't be made: there is no such method, or its arguments are not right."""


# -- of run() ----------------------------------------------------------------------------------------------


class InvalidTransition(ActorError):
    """`set_status` was given a state that the class's `states` don't allow after the present one."""


class TooManySteps(ActorError):
    """`run()` asked for more steps than `max_steps` allows; continue as new before that."""


class DeadlinePassed(ActorError, TimeoutError):
    """The run did not end before its deadline."""


# -- of actions --------------------------------------------------------------------------------------------


class InvalidAction(CallerError, TypeError):
    """A function can't be an action as it stands; raised when it is decorated."""


class UnknownAction(CallerError, LookupError):
    """No action has this name, or several have it."""


class InvalidParameters(CallerError, Fatal):
    """Parameters of an action are unknown, missing or of another type; nothing ran."""


class InvalidGraph(CallerError, ValueError):
    """A graph of actions can't be run as it stands; nothing ran."""


class ActionKeyReused(CallerError):
    """An idempotency key was used before with other parameters."""


class ActionInterrupted(ActorError, Fatal):
    """An attempt of an action with `on_interrupted="fail"` was cut off: nobody knows whether it took
    effect.
    """


class TransactionConflict(ActorError):
    """The database undid a transaction because of another one; it may be tried again."""


class HttpFailed(ActorError):
    """A request got no answer, or one that may be another the next time (429, 5xx)."""


class HttpRefused(ActorError, Fatal):
    """A request got an answer that says that it won't do as it stands (4xx), or could not be sent."""
