"""Consumers: who takes messages out of a queue.

A `HandlerConsumer` gives batches to an async function, which is outside code: the batch is leased durably before the handler sees it, and
each message is settled by itself.  A `BindingConsumer` turns messages into runs of a workflow: the removal of a message and the start of its
run are one commit, so there is nothing to lose or to double.

A batch is delivered when it is full or `max_wait` passed since its first message could be taken; never an empty one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar


from ..runtime.address import ActorKey, normal_key
from ..runtime.call import invoke
from ..runtime.chain import Turn
from ..runtime.durations import Duration, to_seconds
from ..runtime.methods import MethodPlan
from ..storage.errors import CallerError, HoldfastError, Overloaded, StorageError
from .correlation import new_correlation_id
from .durable_queue import MAX_BATCH_MESSAGES, Place, Queue, QueueState, Retried, StoredMessage, Taken, read_body
from .errors import InvalidInput, InvalidRunId
from .workflow.engine import StartOptions, check_run_id
from .workflow.retry import Retry

if TYPE_CHECKING:
    from ..runtime.ref import Ref
    from .system import Runtime
    from .workflow.workflow_type import WorkflowType

_log = logging.getLogger("holdfast.queue")
T = TypeVar("T")
Body = TypeVar("Body")
_AGAIN_SECONDS: Final = 1.0  # after the store refused


class Message(Generic[Body]):
    """One delivered message.  The first of `ack` and `retry` counts; without either, the handler's end decides."""

    __slots__ = ("_delay_seconds", "_error", "_settled", "_taken", "body")

    def __init__(self, taken: Taken, body: Body) -> None:
        self._taken = taken
        self.body = body
        self._settled: str | None = None
        self._delay_seconds: float | None = None
        self._error = "retry was asked for"

    @property
    def id(self) -> str:
        """The message's id; the same in every delivery."""
        return self._taken.message.id

    @property
    def attempts(self) -> int:
        """1 at the first delivery."""
        return self._taken.message.attempts

    @property
    def sent_at_ms(self) -> int:
        """When it was sent, in milliseconds since 1970."""
        return self._taken.message.sent_ms

    def ack(self) -> None:
        """It is done; it doesn't come again."""
        if self._settled is None:
            self._settled = "ack"

    def retry(self, *, delay: Duration | None = None, error: str | None = None) -> None:
        """Let it come again in a later batch, after `delay` (by default what the consumer's retry policy says)."""
        if self._settled is None:
            self._settled = "retry"
            self._delay_seconds = None if delay is None else to_seconds(delay, what="delay")
            self._error = error or self._error


class Batch(Generic[Body]):
    """Messages delivered together; also an iterable of them."""

    __slots__ = ("messages", "queue")

    def __init__(self, queue: str, messages: list[Message[Body]]) -> None:
        self.queue = queue
        self.messages = messages

    def __iter__(self) -> Any:
        return iter(self.messages)

    def __len__(self) -> int:
        return len(self.messages)

    def ack_all(self) -> None:
        """Acknowledge those that are not settled yet."""
        for message in self.messages:
            message.ack()

    def retry_all(self, *, delay: Duration | None = None) -> None:
        """Retry those that are not settled yet."""
        for message in self.messages:
            message.retry(delay=delay)


Handler = Callable[[Batch[Any]], Awaitable[None]]


class QueueHub:
    """What is known in memory of the queues of one runtime, and who consumes them."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._states: dict[ActorKey, QueueState] = {}
        self._consumers: list[Consumer] = []

    def state(self, key: ActorKey) -> QueueState:
        """The state of a queue; kept as long as the runtime is open."""
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = QueueState()
        return state

    def notice(self, key: ActorKey, place: Place) -> None:
        """A message was put at a place."""
        state = self.state(key)
        if state.cursor is not None and place <= state.cursor:
            state.cursor = (place[0], place[1] - 1)
        state.wake.set()

    def add(self, consumer: Consumer) -> None:
        """Start a consumer."""
        self._consumers.append(consumer)
        consumer.start()

    async def stop(self) -> None:
        """Stop all consumers; messages in their hands come again when the queue is opened."""
        for consumer in self._consumers:
            await consumer.stop()
        self._consumers.clear()

    def lost(self) -> None:
        """A failed commit may have undone what was taken: look from the front again."""
        for state in self._states.values():
            state.cursor = None
            state.wake.set()


class Consumer:
    """A loop that takes messages out of one queue until it is stopped."""

    def __init__(self, hub: QueueHub, ref: Ref, *, batch_size: int, max_wait: Duration) -> None:
        if not 1 <= batch_size <= MAX_BATCH_MESSAGES:
            raise CallerError(f"batch_size must be from 1 to {MAX_BATCH_MESSAGES}; got {batch_size}")
        self.hub = hub
        self.ref = ref
        self.batch_size = batch_size
        self.max_wait_seconds = to_seconds(max_wait, what="max_wait")
        self.state = hub.state(ref.key)
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def start(self) -> None:
        """Begin to consume."""
        self._task = self.hub.runtime.loop.create_task(self._run(), name=f"consumer of {self.ref}")

    async def stop(self) -> None:
        """End the loop; a handler in progress is cancelled."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            try:
                if await self._wait_for_batch():
                    await self._consume()
            except (StorageError, Overloaded) as error:
                _log.error("consumer of %s: %s; it goes on in %g s", self.ref, error, _AGAIN_SECONDS)
                await self._sleep(_AGAIN_SECONDS)

    async def _wait_for_batch(self) -> bool:
        """Wait until a batch is full or its time is up; False to look again."""
        clock = self.hub.runtime.clock
        self.state.wake.clear()
        wanted = await self._wanted()
        ready, next_ms = await call_queue(self.ref, "_look", wanted)
        if ready >= wanted:
            return True
        if ready == 0:
            await self._wait(None if next_ms is None else max(0.0, (next_ms - clock.now_ms()) / 1000))
            return False
        deadline_ms = clock.now_ms() + round(self.max_wait_seconds * 1000)
        while ready < wanted and (left_ms := deadline_ms - clock.now_ms()) > 0:
            self.state.wake.clear()
            await self._wait(left_ms / 1000)
            ready, _ = await call_queue(self.ref, "_look", wanted)
        return ready > 0

    async def _wanted(self) -> int:
        """How many messages to take at most; waits while there is no room for any."""
        return self.batch_size

    async def _consume(self) -> None:
        raise AssertionError("each kind consumes in its own way")

    async def _wait(self, seconds: float | None) -> None:
        """Wait for a message, or for so long by the runtime's clock."""
        wake = self.state.wake
        timer = None if seconds is None else self.hub.runtime.clock.call_later(seconds, wake.set)
        try:
            await wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self.hub.runtime.clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()


class HandlerConsumer(Consumer):
    """Gives batches to a function."""

    def __init__(
        self, hub: QueueHub, ref: Ref, handler: Handler, *, body_type: object, batch_size: int, max_wait: Duration, retry: Retry,
        concurrency: int,
    ) -> None:  # fmt: skip
        super().__init__(hub, ref, batch_size=batch_size, max_wait=max_wait)
        self._handler = handler
        self._body_type = body_type
        self._retry = retry
        self._free = asyncio.Semaphore(concurrency)
        self._batches: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        await super().stop()
        for task in self._batches:
            task.cancel()
        if self._batches:
            await asyncio.wait(self._batches)

    async def _consume(self) -> None:
        await self._free.acquire()
        try:
            taken = await call_queue(self.ref, "_take", self.batch_size)
        except BaseException:
            self._free.release()
            raise
        if not taken:
            self._free.release()
            return
        self.state.cursor = max(self.state.cursor or taken[-1].place, taken[-1].place)
        task = self.hub.runtime.loop.create_task(self._deliver(taken), name=f"batch of {self.ref}")
        self._batches.add(task)
        task.add_done_callback(self._delivered)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._free.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a batch of %s could not be settled; it comes again: %s", self.ref, error)

    async def _deliver(self, taken: list[Taken]) -> None:
        messages: list[Message[Any]] = []
        retried: list[Retried] = []
        for one in taken:
            try:
                messages.append(Message(one, read_body(one.message, self._body_type, str(self.ref))))
            except HoldfastError as error:  # it will never decode: no use in trying again
                retried.append(Retried(one.place, f"{type(error).__name__}: {error}", 0.0, True))
        failure: str | None = None
        if messages:
            try:
                await self._handler(Batch(str(self.ref.key), messages))
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
                _log.warning("the handler of %s raised; messages not acknowledged come again", self.ref, exc_info=error)
        acked: list[Place] = []
        for message in messages:
            place = message._taken.place
            settled = message._settled or ("ack" if failure is None else "retry")
            if settled == "ack":
                acked.append(place)
            else:
                seconds = message._delay_seconds
                if seconds is None:
                    seconds = self._retry.wait_seconds(message.attempts, self.hub.runtime.random)
                retried.append(Retried(place, failure or message._error, seconds, False))
        lease = taken[0].place[1]
        try:
            buried = await call_queue(self.ref, "_settle", lease, acked, retried, self._retry.limit)
        except (StorageError, Overloaded):
            self.state.leased.difference_update(one.place for one in taken)
            self.state.cursor = None
            raise
        for id_ in buried:
            _log.error("message %s of %s is a dead letter after its retries", id_, self.ref)


class BindingConsumer(Consumer):
    """Starts a run for each message, in the commit that removes the message."""

    def __init__(
        self, hub: QueueHub, ref: Ref, kind: WorkflowType, *, run_id: Callable[[str, Any], Any] | None,
        correlation_id: Callable[[str, Any], str | None] | None, batch_size: int, max_wait: Duration, retry: Retry, max_in_flight: int,
    ) -> None:  # fmt: skip
        super().__init__(hub, ref, batch_size=batch_size, max_wait=max_wait)
        self._kind = kind
        self._run_id = run_id
        self._correlation_id = correlation_id
        self._retry = retry
        self._max_in_flight = max_in_flight
        self._plan = internal_plan("_settle").with_function(self._start_runs)
        hub.runtime.engine.on_place_freed(kind, self._place_freed)

    def _place_freed(self) -> None:
        self._wake.set()

    def _room(self) -> int:
        engine = self.hub.runtime.engine
        return min(self._max_in_flight - engine.running_of(self._kind), engine.max_running - engine.running)

    async def _wanted(self) -> int:
        while (room := self._room()) <= 0:
            self._wake.clear()
            await self._wake.wait()
        return min(room, self.batch_size)

    async def _consume(self) -> None:
        limit = min(self._room(), self.batch_size)
        if limit > 0:
            await invoke(self.ref, self._plan, (None, [], [], limit), {})

    async def _start_runs(self, queue: Queue, lease: None, acked: object, retried: object, limit: int) -> list[str]:
        """A turn of the queue: each message becomes a run, or is put back if that fails."""
        state = queue._state()
        if queue.paused:
            return []
        taken = queue._ready(state, limit)
        started: list[Place] = []
        failed: list[Retried] = []
        turn = queue._activation.current_turn()
        for one in taken:
            try:
                self._start(turn, one.message)
                started.append(one.place)
            except (InvalidInput, InvalidRunId) as error:  # trying again would not mend it
                failed.append(Retried(one.place, f"{type(error).__name__}: {error}", 0.0, True))
            except (HoldfastError, ValueError, TypeError, LookupError) as error:
                seconds = self._retry.wait_seconds(one.message.attempts, self.hub.runtime.random)
                failed.append(Retried(one.place, f"{type(error).__name__}: {error}", seconds, False))
        if taken:
            self.state.cursor = max(self.state.cursor or taken[-1].place, taken[-1].place)
        buried = await queue._settle(None, started, failed, self._retry.limit)
        for one_failed in failed:
            _log.error("no run could be started for a message of %s: %s", self.ref, one_failed.error)
        return buried

    def _start(self, turn: Turn, message: StoredMessage) -> None:
        kind = self._kind
        encoded = bytes(message.body)
        value = kind.decode_input(encoded)
        given = message.id if self._run_id is None else self._run_id(message.id, value)
        correlation_id = None if self._correlation_id is None else self._correlation_id(message.id, value)
        normal, key_bytes = normal_key(check_run_id(given), kind.name)
        options = StartOptions("join", correlation_id or new_correlation_id())
        self.hub.runtime.engine.start_in(turn, kind, normal, key_bytes, encoded, options)


_plans: dict[str, MethodPlan] = {}


def internal_plan(name: str) -> MethodPlan:
    """The plan of one of the queue's methods for consumers, which no ref offers."""
    plan = _plans.get(name)
    if plan is None:
        plan = _plans[name] = MethodPlan(Queue, name, Queue.__dict__[name])
    return plan


async def call_queue(ref: Ref, method: str, *args: object) -> Any:
    """Call one of the queue's methods for consumers."""
    return await invoke(ref, internal_plan(method), args, {})


