"""What a runtime knows of a workflow class beyond an actor type: input, result, options, events, methods.

Read once, when the class is first used; a class that breaks a rule is told then, before anything of it runs.
Input and result of runs go through it, so what is stored always fits what `run()` is annotated with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast, get_args, get_type_hints

import msgspec

from ...runtime.actor_type import ActorType
from ...runtime.codec import BAD_VALUE, ENCODER, reason
from ...runtime.durations import to_seconds
from ...runtime.error_text import shorten
from ...runtime.errors import InvalidActor
from ...runtime.fields import declared_hints
from ...runtime.methods import MethodPlan
from ...storage.errors import CallerError
from ...storage.keys import encode_index_int, encode_index_values
from ..errors import InvalidInput
from .about import About
from .events import DeclaredEvents
from .fingerprint import fingerprint
from .head import RunHead, RunStatus
from .labels import index_entries
from .retention import check_retention
from .retry import Retry
from .run_counts import RunCounts
from .saying import check_states
from .updates import read_class
from .workflow import Workflow

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from .live_run import LiveRun

MAX_INPUT_BYTES: Final = 8 << 20
_SHOWN_CHARACTERS: Final = 200


class WorkflowType(ActorType):
    """One workflow type in one runtime."""

    __slots__ = (
        "_decode_input",
        "_default_input",
        "_decode_output",
        "_status_prefixes",
        "counts",
        "deadline_seconds",
        "events",
        "fingerprint",
        "input_hint",
        "max_running",
        "max_steps",
        "queries",
        "output_hint",
        "retention_seconds",
        "retry",
        "standing",
        "states",
        "step_timeout_seconds",
        "takes_input",
        "updates",
        "warn_steps",
    )

    def __init__(self, actor_class: type[Workflow], number: int) -> None:
        """Read the class; raises `InvalidActor` when it breaks a rule of workflows."""
        own = [name for name in declared_hints(actor_class) if name != "head"]
        if own:
            raise InvalidActor(
                f"{actor_class.__name__} declares the fields {', '.join(own)}; a workflow's state is "
                f"its journal: keep values in "
                f"local variables of run(), options without annotation"
            )
        run = inspect.getattr_static(actor_class, "run", None)
        if not inspect.iscoroutinefunction(run):
            raise InvalidActor(f"{actor_class.__name__} needs `async def run(self, input: ...) -> ...`")
        super().__init__(actor_class, number)
        where = f"{actor_class.__name__}.run"
        parameters = list(inspect.signature(run).parameters.values())[1:]
        required = [p for p in parameters if p.default is p.empty]
        if len(required) > 1 or any(
            p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters[:1]
        ):
            raise InvalidActor(f"{where} must take one input (or none); gather several values in a struct")
        self.fingerprint = fingerprint(actor_class, Workflow)
        self.takes_input = bool(parameters)
        # What a start without input means: the parameter's default, else None.
        self._default_input = parameters[0].default if parameters and not required else None
        try:
            hints = get_type_hints(run, include_extras=True, localns=vars(actor_class))
            self.input_hint = hints.get(parameters[0].name, Any) if parameters else None
            self.output_hint = hints.get("return", Any)
            self._decode_input: Callable[[bytes | msgspec.Raw], object] = msgspec.msgpack.Decoder(
                self.input_hint
            ).decode
            self._decode_output: Callable[[bytes | msgspec.Raw], object] = msgspec.msgpack.Decoder(
                self.output_hint
            ).decode
        except NameError as error:
            raise InvalidActor(
                f"an annotation of {where} can't be resolved: {error}; define the type at module level"
            ) from error
        except TypeError as error:
            raise InvalidActor(
                f"the input or the result of {where} has a type that can't be stored: {error}"
            ) from error
        if actor_class.indexes is not Workflow.indexes:
            raise InvalidActor(
                f"{actor_class.__name__}.indexes: the indexes over runs are the engine's; leave them alone"
            )
        if actor_class.version is not Workflow.version:
            raise InvalidActor(
                f"{actor_class.__name__}.version: a run has no fields with a version; the name is that of "
                f"self.version(tag, number), which tells old runs from new ones"
            )
        limit = actor_class.max_running
        if limit is not None and (type(limit) is not int or limit < 1):
            raise InvalidActor(
                f"{actor_class.__name__}.max_running must be None or at least 1; got {limit!r}"
            )
        if not isinstance(cast("object", actor_class.about), About):
            raise InvalidActor(f"{actor_class.__name__}.about must be an About; got {actor_class.about!r}")
        if not isinstance(cast("object", actor_class.retry), Retry):
            raise InvalidActor(f"{actor_class.__name__}.retry must be a Retry; got {actor_class.retry!r}")
        self.retry = actor_class.retry
        # See standing.py: active, paused or retired.
        self.standing = "active"
        self.counts = RunCounts()
        timeout = actor_class.step_timeout
        self.step_timeout_seconds = None if timeout is None else to_seconds(timeout, what="step_timeout")
        if self.step_timeout_seconds == 0:
            raise InvalidActor(
                f"{actor_class.__name__}.step_timeout must be more than 0, or None for no timeout"
            )
        self.max_running = actor_class.max_running
        most = actor_class.max_steps
        if type(most) is not int or most < 1:
            raise InvalidActor(f"{actor_class.__name__}.max_steps must be at least 1; got {most!r}")
        self.max_steps = most
        # From so many on a run that is in memory says so in the log: four fifths.
        self.warn_steps = most - most // 5
        deadline = actor_class.deadline
        self.deadline_seconds = None if deadline is None else to_seconds(deadline, what="deadline")
        if self.deadline_seconds == 0:
            raise InvalidActor(f"{actor_class.__name__}.deadline must be more than 0, or None for none")
        try:
            self.states = check_states(actor_class.states, self.name)
            self.retention_seconds = check_retention(actor_class.retention, self.name)
            self.events = DeclaredEvents(actor_class.events, actor_class)
        except CallerError as error:
            raise InvalidActor(str(error)) from error
        self.queries, self.updates = read_class(actor_class)
        self._status_prefixes = {
            status: self.index_prefixes[0] + encode_index_values((status,)) for status in get_args(RunStatus)
        }

    def index_keys(self, instance: object, owner: bytes) -> tuple[bytes, ...]:
        """As in `ActorType`: for the one index that each run has, and for its labels."""
        workflow: Workflow = instance  # type: ignore[assignment]
        head = workflow.head
        by_status = self._status_prefixes[head.status] + encode_index_int(head.created_ms) + owner
        if head.labels is None:
            return (by_status,)
        return (by_status, *index_entries(head.labels, head.created_ms, self.number_bytes, owner))

    def decode_head(self, record: bytes, ref: object) -> RunHead:
        """The head in a run's stored fields."""
        blank = self.actor_class.__new__(self.actor_class)
        self.fields.restore(blank, record, str(ref))
        return cast("Workflow", blank).head

    def left_memory(self, activation: Activation) -> None:
        """See `ActorType`: a run that rested goes with it."""
        run: LiveRun | None = activation.instance.__dict__.get("_live")
        if run is not None and run.resting:
            run.engine.left_memory(run)

    def make_methods(self) -> dict[str, MethodPlan]:
        """A run is driven by the engine; nothing of it is called from outside."""
        return {}

    def encode_input(self, value: object) -> tuple[bytes, object]:
        """The input as it is stored, and as `run()` gets it; raises `InvalidInput` when it doesn't match the
        annotation of `run()`.
        """
        if value is msgspec.UNSET:
            value = self._default_input
        try:
            encoded = ENCODER.encode(value)
            decoded = self._decode_input(encoded)
        except BAD_VALUE as error:
            raise InvalidInput(
                f"the input of {self.name} doesn't match run(): {reason(error)}; got "
                f"{shorten(repr(value), _SHOWN_CHARACTERS)}"
            ) from error
        if len(encoded) > MAX_INPUT_BYTES:
            raise InvalidInput(
                f"the input of {self.name} takes {len(encoded)} bytes; at most {MAX_INPUT_BYTES} are allowed"
            )
        return encoded, decoded

    def decode_input(self, encoded: bytes | msgspec.Raw) -> object:
        """A stored input as its type."""
        try:
            return self._decode_input(encoded)
        except BAD_VALUE as error:
            raise InvalidInput(
                f"the stored input of {self.name} doesn't match run(): {reason(error)}"
            ) from error

    def encode_output(self, value: object) -> bytes:
        """The result as it is stored; raises `TypeError` when it doesn't match the annotation."""
        try:
            encoded = ENCODER.encode(value)
            self._decode_output(encoded)
        except BAD_VALUE as error:
            raise TypeError(
                f"{self.name}.run() returned {shorten(repr(value), _SHOWN_CHARACTERS)}, which doesn't match "
                f"its annotation: {reason(error)}"
            ) from error
        if len(encoded) > MAX_INPUT_BYTES:
            raise TypeError(
                f"{self.name}.run() returned {len(encoded)} bytes; at most {MAX_INPUT_BYTES} are allowed"
            )
        return encoded

    def decode_output(self, encoded: bytes | msgspec.Raw) -> object:
        """A stored result as its type."""
        return self._decode_output(encoded)
