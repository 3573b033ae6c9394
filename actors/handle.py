"""A handle of a run: what code outside holds of it.

Any number of them, for ever; none keeps the run in memory.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import msgspec

from ..runtime.address import show_key
from ..runtime.chain import CALLER
from ..runtime.clock import moment
from ..storage.errors import CallerError
from .errors import ErrorRecord, RunNotFound
from .workflow.head import ENDED, RunHead, RunStatus
from .workflow.journal import Failed, Fold, Record, StepFailed, decode_records, journal_prefix
from .workflow.live_run import LiveRun

if TYPE_CHECKING:
    from ..runtime.address import ActorKey
    from ..runtime.ref import Ref
    from .system import Runtime
    from .workflow.workflow import Workflow
    from .workflow.workflow_type import WorkflowType

Out = TypeVar("Out")


class RunInfo(msgspec.Struct, frozen=True):
    """What is known of a run without its journal."""

    workflow: str
    id: str
    status: RunStatus
    created_at: datetime
    updated_at: datetime
    correlation_id: str
    error: ErrorRecord | None = None
    fingerprint: str = ""
    """Of the code that last drove the run: another one means that a method of its class was changed."""


class DeadLetter(msgspec.Struct, frozen=True):
    """A failed run, kept until it is redriven: input, cause, attempts, history."""

    workflow: str
    id: str
    correlation_id: str
    failed_at: datetime
    input: object
    error: ErrorRecord
    step: str | None
    """The step whose failure ended the run; None when the code between steps raised."""
    attempts: int
    history: tuple[Record, ...]


class Run(Generic[Out]):
    """One run of a workflow."""

    __slots__ = ("_ref", "_runtime")

    def __init__(self, runtime: Runtime, ref: Ref) -> None:
        self._runtime = runtime
        self._ref = ref

    @property
    def key(self) -> ActorKey:
        """The id the run was started with."""
        return self._ref.key

    @property
    def id(self) -> str:
        """The id as text."""
        return show_key(self._ref.key)

    @property
    def workflow(self) -> str:
        """Name of the workflow."""
        return self._ref.type.name

    async def result(self) -> Out:
        """What `run()` returned, once it has and that is durable.

        Raises `RunFailed` when the run failed, was terminated or is stuck, and `RunNotFound` when there is
        none.
        """
        engine = self._runtime.engine
        self._must_exist()
        waiter = engine.result_waiter(self._ref)
        encoded = await (engine.stored_result(self._ref) if waiter is None else waiter)
        return cast("Out", cast("WorkflowType", self._ref.type).decode_output(encoded))

    async def status(self) -> RunStatus:
        """The run's status, once that is durable."""
        return (await self.info()).status

    async def info(self) -> RunInfo:
        """What is known of the run; raises `RunNotFound`."""
        self._must_exist()
        activation = self._ref.activation or self._runtime.directory.activate(self._ref)
        head = cast("Workflow", activation.instance).head
        await self._runtime.store.wait_durable(activation.dep)
        return run_info(self._ref, head)

    async def history(self) -> list[Record]:
        """All records of the run, in order; raises `RunNotFound`."""
        self._must_exist()
        activation = self._ref.activation or self._runtime.directory.activate(self._ref)
        rows = self._runtime.store.scan_prefix(journal_prefix(activation.prefix(b"")))
        await self._runtime.store.wait_durable(activation.dep)
        return [record for _, record in decode_records(rows, str(self._ref))]

    async def dead_letter(self) -> DeadLetter:
        """The run as a dead letter; raises `CallerError` when it hasn't failed."""
        records = await self.history()
        letter = dead_letter(self.workflow, self.id, records)
        if letter is None:
            raise CallerError(f"run {self._ref} has not failed; its status is {await self.status()}")
        return letter

    async def redrive(self, *, input: object = msgspec.UNSET) -> None:  # the word for it everywhere
        """Let a failed run go on at the failed step, with edited `input` if given.

        Raises `CallerError` when the run hasn't failed and `InvalidInput` when the input doesn't match.
        """
        info = await self.info()
        if info.status != "failed":
            raise CallerError(f"run {self._ref} is {info.status}; only a failed run can be redriven")
        encoded = (
            None if input is msgspec.UNSET else cast("WorkflowType", self._ref.type).encode_input(input)[0]
        )
        await self._runtime.store.wait_durable(self._runtime.engine.redrive(self._ref, encoded))

    async def terminate(self, reason: str = "terminated from outside") -> None:
        """Stop the run for good, without clean-up; raises `CallerError` when it has ended."""
        info = await self.info()
        if info.status in ENDED:
            raise CallerError(f"run {self._ref} is {info.status} already")
        await self._runtime.store.wait_durable(self._runtime.engine.terminate(self._ref, reason))

    def _must_exist(self) -> None:
        self._runtime.check_open()
        if isinstance(CALLER.get(), LiveRun):
            raise CallerError(
                f"run() asked for run {self._ref}: what it would see differs on replay; ask in a step"
            )
        activation = self._ref.activation
        if (
            not (activation is not None and activation.stored)
            and self._runtime.store.get(self._ref.directory_key) is None
        ):
            raise RunNotFound(f"there is no run {self._ref}")

    def __repr__(self) -> str:
        return f"<Run {self._ref}>"


def dead_letter(workflow: str, id_: str, records: list[Record]) -> DeadLetter | None:
    """A run's records as a dead letter; None when they don't end with a failure."""
    failed = records[-1]
    if not isinstance(failed, Failed):
        return None
    fold = Fold(list(enumerate(records)), f"{workflow}/{id_}")
    attempts = 0
    for record in records:
        if isinstance(record, StepFailed) and (record.name, record.nth) == (failed.step, failed.nth):
            attempts = record.attempts
    return DeadLetter(
        workflow,
        id_,
        fold.started.correlation_id,
        moment(failed.at_ms),
        msgspec.msgpack.decode(fold.input),
        failed.error,
        failed.step,
        attempts,
        tuple(records),
    )


def run_info(ref: Ref, head: RunHead) -> RunInfo:
    """A head as it is shown."""
    return RunInfo(
        ref.type.name,
        show_key(ref.key),
        head.status,
        moment(head.created_ms),
        moment(head.updated_ms),
        head.correlation_id,
        head.error,
        head.fingerprint,
    )
