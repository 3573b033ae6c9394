# pyright: reportPrivateUsage=false
# (The queue and its consumers are one thing in several files.)
"""Gives the messages of a queue to an async function, in batches.

The function is outside code: a batch is leased durably before it sees it, and each message is settled by
itself when the function has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..runtime.error_text import error_text
from ..storage.errors import CallerError, InvalidValue
from .durable_queue import Queue
from .queue_batch import Batch, Message
from .queue_consumer import Consumer, ConsumerOptions, Look
from .queue_delivery import lease_batch, return_batch, settle_batch
from .queue_hub import LaneState
from .queue_records import Lane, Retried, Taken, read_body

if TYPE_CHECKING:
    from ..runtime.ref import Ref
    from .system import Runtime

_log = logging.getLogger("holdfast.queue")
Handler = Callable[[Batch[Any]], Awaitable[None]]


class HandlerConsumer(Consumer):
    """Gives batches to a function."""

    def __init__(
        self,
        runtime: Runtime,
        ref: Ref,
        options: ConsumerOptions,
        handler: Handler,
        *,
        body_type: object,
        concurrency: int,
    ) -> None:
        super().__init__(runtime, ref, options)
        if concurrency < 1:
            raise CallerError(f"concurrency must be at least 1; got {concurrency}")
        given: object = handler
        if not callable(given):
            raise CallerError(f"a handler of {ref} must be an async function; got {given!r}")
        self._handler = handler
        self._body_type = body_type
        self._concurrency = concurrency
        self._batches: set[asyncio.Task[None]] = set()
        # Those among them whose handler runs.
        self._handling: set[asyncio.Task[None]] = set()
        # Leases that became durable only after we were stopped: no handler saw them.
        self._leases: set[int] = set()
        self._stopping = False

    async def _end(self) -> None:
        self._stopping = True
        current = asyncio.current_task()  # a handler may stop its own consumer
        for task in self._handling - {current}:
            task.cancel()
        batches = self._batches - {current}
        if batches:
            _, late = await asyncio.wait(batches, timeout=self._runtime.limits.close_seconds)
            if late:
                _log.warning(
                    "%s: %d handlers go on though they were cancelled; their messages come again",
                    self,
                    len(late),
                    extra=self.log_fields(),
                )
        leases, self._leases = self._leases, set()
        if leases:

            async def give_back(queue: Queue) -> None:
                for lease in leases:
                    return_batch(queue, self.group, lease)

            await self._turn(give_back)

    def abandon(self) -> None:
        super().abandon()
        self._stopping = True
        for task in self._batches - {asyncio.current_task()}:
            task.cancel()

    def _room(self) -> int:
        return self._batch_size if len(self._batches) < self._concurrency else 0

    def _take_in(self, queue: Queue, lane: Lane, state: LaneState, found: list[Taken]) -> None:
        lease_batch(queue, lane, state, found)

    async def _consume(self, looked: Look, dep: int) -> None:
        task = self._spawn(self._deliver(looked.taken, dep), f"batch of {self._ref}")
        self._batches.add(task)
        task.add_done_callback(self._delivered)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._refused = True
            _log.error(
                "a batch of %s could not be settled; it comes again: %s",
                self._ref,
                error,
                extra=self.log_fields(),
            )

    async def _deliver(self, taken: list[Taken], dep: int) -> None:
        lease = taken[0].place[1]
        state = self._state
        assert state is not None
        try:
            await self._runtime.store.wait_durable(dep)
            if self._stopping:
                self._leases.add(lease)
                return
            acked, retried, returned = await self._handle(taken)

            async def settle(queue: Queue) -> None:
                buried.extend(
                    settle_batch(
                        queue, self.group, lease, acked, retried, returned, self._retry.limit, self._dead_to
                    )
                )

            buried: list[str] = []
            await self._turn(settle)
        except BaseException:
            state.give_back(lease)
            raise
        for id_ in buried:
            self._runtime.limited_log.log(
                _log,
                logging.ERROR,
                str(self._ref),
                "message %s of %s is a dead letter after its retries",
                id_,
                self._ref,
                extra=self.log_fields(message_id=id_),
            )

    async def _hand_over(self, batch: Batch[Any]) -> None:
        telemetry = self._runtime.telemetry
        if telemetry is None:
            await self._handler(batch)
            return
        with telemetry.delivery(self._ref, self.group, [one.id for one in batch.messages]):
            await self._handler(batch)

    async def _handle(self, taken: list[Taken]) -> tuple[list[Taken], list[Retried], list[Taken]]:
        """Run the handler; returns what is done, what is to come again, and what it was stopped in."""
        messages: list[Message[Any]] = []
        retried: list[Retried] = []
        for one in taken:
            try:
                messages.append(Message(one, read_body(one.message, self._body_type, str(self._ref))))
            except InvalidValue as error:  # it will never decode: no use in trying again
                retried.append(Retried(one, error_text(error), 0.0, True))
        failure: str | None = None
        stopped = False
        if messages:
            task = asyncio.current_task()
            assert task is not None
            self._handling.add(task)
            try:
                # A list of its own: what the handler takes out of it is settled all the same.
                await self._hand_over(Batch(str(self._ref.key), list(messages)))
            except asyncio.CancelledError as error:
                stopped = self._stopping
                failure = error_text(error)
            except Exception as error:
                failure = error_text(error)
                self._runtime.limited_log.log(
                    _log,
                    logging.WARNING,
                    str(self._ref),
                    "the handler of %s raised; messages not acknowledged come again",
                    self._ref,
                    error=error,
                    extra=self.log_fields(message_ids=[one.id for one in messages]),
                )
            finally:
                self._handling.discard(task)
        acked: list[Taken] = []
        returned: list[Taken] = []
        for message in messages:
            if stopped and message._settled is None:
                returned.append(message._taken)
                continue
            again = message._outcome(failure, self._retry, self._runtime.random)
            if again is None:
                acked.append(message._taken)
            else:
                retried.append(again)
        return acked, retried, returned
