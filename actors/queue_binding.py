# pyright: reportPrivateUsage=false
# (The queue and its consumers are one thing in several files.)
"""Turns the messages of a queue into runs of a workflow.

The removal of a message and the start of its run are one commit, so there is nothing to lose or to double.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ..runtime.address import normal_key
from ..runtime.chain import Turn, after_commit
from ..runtime.error_text import error_text
from ..runtime.errors import NotRunning
from ..storage.errors import CallerError, InvalidKey, InvalidValue, Overloaded, StorageError
from .durable_queue import Queue
from .errors import InvalidInput, InvalidRunId
from .ids import new_id
from .queue_consumer import Consumer, ConsumerOptions, Look
from .queue_delivery import settle
from .queue_hub import LaneState
from .queue_records import Lane, Retried, StoredMessage, Taken
from .workflow.run_id import check_run_id
from .workflow.start_options import StartOptions

if TYPE_CHECKING:
    from ..runtime.ref import Ref
    from .system import Runtime
    from .workflow.workflow_type import WorkflowType

_log = logging.getLogger("holdfast.queue")


class BindingConsumer(Consumer):
    """Starts a run for each message, in the commit that removes the message."""

    def __init__(
        self,
        runtime: Runtime,
        ref: Ref,
        options: ConsumerOptions,
        kind: WorkflowType,
        *,
        run_id: Callable[[str, Any], Any] | None,
        correlation_id: Callable[[str, Any], str | None] | None,
        max_in_flight: int,
    ) -> None:
        super().__init__(runtime, ref, options)
        if max_in_flight < 1:
            raise CallerError(f"max_in_flight must be at least 1; got {max_in_flight}")
        self._kind = kind
        self._run_id = run_id
        self._correlation_id = correlation_id
        self._max_in_flight = max_in_flight
        # The commit of the batch before: one is on its way to the disk while the next is made.
        self._before = 0
        # Of any workflow: the places of the runtime are limited too.
        self._forget_places = runtime.engine.places.on_freed(self._wake.set)

    def _room(self) -> int:
        places, kind = self._runtime.engine.places, self._kind
        limit = (
            self._max_in_flight if kind.max_running is None else min(self._max_in_flight, kind.max_running)
        )
        return min(limit - places.running_of(kind), places.max_running - places.running, self._batch_size)

    def _take_in(self, queue: Queue, lane: Lane, state: LaneState, found: list[Taken]) -> None:
        """Each message becomes a run, or is put back if that fails."""
        turn = queue._activation.current_turn()
        started: list[Taken] = []
        failed: list[Retried] = []
        for one in found:
            try:
                self._start_run(turn, one.message)
                started.append(one)
            except (StorageError, Overloaded, NotRunning):
                raise  # not the message's fault
            # Trying again would not mend it.
            except (InvalidInput, InvalidRunId, InvalidKey, InvalidValue) as error:
                failed.append(Retried(one, error_text(error), 0.0, True))
            except Exception as error:
                seconds = self._retry.wait_seconds(one.message.attempts, self._runtime.random)
                failed.append(Retried(one, error_text(error), seconds, False))
        last = found[-1].place

        # Before `_settle`: what that puts back may have to set the cursor back.
        def taken(_: int) -> None:
            state.cursor = last
            for one in failed:
                _log.error(
                    "no run could be started for message %s of %s: %s",
                    one.taken.message.id,
                    self._ref,
                    one.error,
                    extra=self.log_fields(
                        message_id=one.taken.message.id, attempt=one.taken.message.attempts
                    ),
                )

        after_commit(turn, taken)
        settle(queue, lane, started, failed, self._retry.limit, self._dead_to)

    async def _end(self) -> None:
        self._forget_places()
        self._forget_places = lambda: None

    async def _consume(self, looked: Look, dep: int) -> None:
        # The runs were started by the commit; what their steps do waits for it anyway.
        before, self._before = self._before, dep
        await self._runtime.store.wait_durable(before)
        await asyncio.sleep(0)

    def _start_run(self, turn: Turn, message: StoredMessage) -> None:
        kind = self._kind
        value = kind.decode_input(message.body)
        given = message.id if self._run_id is None else self._run_id(message.id, value)
        correlation_id = None if self._correlation_id is None else self._correlation_id(message.id, value)
        given_correlation = cast("object", correlation_id)
        if given_correlation is not None and not isinstance(given_correlation, str):
            raise InvalidValue(
                f"the correlation id of message {message.id} must be a text; got {given_correlation!r}"
            )
        # What the callables above had in their hands may have been changed by them: then it is decoded anew.
        if self._run_id is not None or self._correlation_id is not None:
            value = kind.decode_input(message.body)
        normal, key_bytes = normal_key(check_run_id(given), kind.name)
        options = StartOptions("join", correlation_id or new_id(), None, kind.deadline_seconds)
        self._runtime.engine.starts.start_in(
            turn, kind, normal, key_bytes, bytes(message.body), value, options
        )
