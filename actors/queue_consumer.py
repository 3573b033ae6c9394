# pyright: reportPrivateUsage=false
# (The queue and its consumers are one thing in two files.)
"""Consumers: who takes messages out of a queue.

A `HandlerConsumer` gives batches to an async function, which is outside code: the batch is leased durably
before the handler sees it, and each message is settled by itself.  A `BindingConsumer` turns messages into
runs of a workflow: the removal of a message and the start of its run are one commit, so there is nothing to
lose or to double.

    look --enough, or waited long enough--> take --> deliver --> settle
      \\--too few--> wait for a message, for room, or for the time at which one is due

A batch is delivered when it is full or `max_wait` passed since its first message could be taken; never an
empty one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from random import Random
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

import msgspec

from ..runtime.address import normal_key
from ..runtime.alarms import after_commit
from ..runtime.call import run
from ..runtime.chain import CALLER, Turn
from ..runtime.durations import Duration, to_seconds
from ..runtime.errors import NotRunning
from ..storage.errors import CallerError, InvalidKey, InvalidValue, Overloaded, StorageError
from .correlation import new_correlation_id
from .durable_queue import (
    MAX_BATCH_MESSAGES,
    MAX_DELAY_SECONDS,
    Lane,
    Queue,
    QueueWork,
    Retried,
    StoredMessage,
    Taken,
    queue_of,
    read_body,
    turn_plan,
)
from .errors import InvalidInput, InvalidRunId
from .queue_hub import LaneState, QueueHub
from .workflow.engine import StartOptions
from .workflow.retry import Retry
from .workflow.run_id import check_run_id

if TYPE_CHECKING:
    from ..runtime.ref import Ref
    from .system import Runtime
    from .workflow.workflow_type import WorkflowType

_log = logging.getLogger("holdfast.queue")
Body = TypeVar("Body")
MAX_GROUP_CHARACTERS: Final = 100
_AGAIN_SECONDS: Final = 1.0  # after the store refused


class Message(Generic[Body]):
    """One delivered message.

    The first call of `ack` or `retry` counts; without either, the handler's end decides.
    """

    __slots__ = ("_delay_seconds", "_error", "_settled", "_taken", "body")

    def __init__(self, taken: Taken, body: Body) -> None:
        self._taken = taken
        self.body = body
        self._settled: Literal["ack", "retry"] | None = None
        self._delay_seconds: float | None = None
        self._error: str | None = None

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
        """Let it come again in a later batch, after `delay` (by default what the consumer's retry policy
        says).

        `error` is kept with it if it becomes a dead letter.  Raises `InvalidDuration`, or `InvalidValue` for
        more than a day.
        """
        seconds = None if delay is None else to_seconds(delay, what="delay")
        if seconds is not None and seconds > MAX_DELAY_SECONDS:
            raise InvalidValue(f"message {self.id}: it can be delayed by a day at most; got {delay!r}")
        if self._settled is None:
            self._settled = "retry"
            self._delay_seconds = seconds
            self._error = error

    def _outcome(self, failure: str | None, retry: Retry, random: Random) -> Retried | None:
        """What becomes of it now that the handler has ended: None when it is done."""
        settled = self._settled or ("ack" if failure is None else "retry")
        if settled == "ack":
            return None
        seconds = self._delay_seconds
        if seconds is None:
            seconds = retry.wait_seconds(self.attempts, random)
        return Retried(self._taken, self._error or failure or "the handler asked for a retry", seconds, False)


class Batch(Generic[Body]):
    """Messages delivered together; also an iterable of them."""

    __slots__ = ("messages", "queue")

    def __init__(self, queue: str, messages: list[Message[Body]]) -> None:
        self.queue = queue
        """The queue's name."""
        self.messages = messages

    def __iter__(self) -> Iterator[Message[Body]]:
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


class Consumer:
    """A loop that takes messages out of one queue until it is stopped."""

    def __init__(
        self,
        runtime: Runtime,
        ref: Ref,
        *,
        group: str,
        batch_size: int,
        max_wait: Duration,
        retry: Retry,
        dead_letters: Ref | None,
    ) -> None:
        if not 1 <= batch_size <= MAX_BATCH_MESSAGES:
            raise CallerError(f"batch_size must be from 1 to {MAX_BATCH_MESSAGES}; got {batch_size}")
        if len(group) > MAX_GROUP_CHARACTERS or not group.isprintable():
            raise CallerError(
                f"a consumer group's name must have at most {MAX_GROUP_CHARACTERS} printable characters; got "
                f"{group!r}"
            )
        if dead_letters is not None and dead_letters.directory_key == ref.directory_key:
            raise CallerError(
                f"queue {ref.key} can't be its own dead-letter queue; name another one, or none to keep them "
                f"in it"
            )
        self._runtime = runtime
        self._ref = ref
        self.queue_key = ref.directory_key
        self.group = group
        self._batch_size = batch_size
        self._max_wait_ms = round(to_seconds(max_wait, what="max_wait") * 1000)
        self._retry = retry
        self._dead_to = None if dead_letters is None else queue_of(dead_letters)
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        # The lane as last seen; None before the first turn.
        self._state: LaneState | None = None
        # The store refused something: wait before trying again.
        self._refused = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._ref}{self.group and f', group {self.group}'}>"

    @property
    def _hub(self) -> QueueHub:
        return self._runtime.queues

    def start(self) -> None:
        """Begin to consume."""
        self._task = self._spawn(self._run(), f"consumer of {self._ref}")

    async def stop(self) -> None:
        """Stop consuming; handlers in progress are cancelled, and what they have not settled comes again.

        When this returns, what was acknowledged is durable.
        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        try:
            await self._end()
            await self._runtime.store.wait_durable(self._runtime.store.newest)
        except (StorageError, Overloaded, NotRunning) as error:
            _log.error("%s: what it had in hand comes again: %s", self, error)
        if self._state is not None and self._wake.set in self._state.listeners:
            self._state.listeners.remove(self._wake.set)
        self._state = None
        self._hub.remove(self)

    async def _end(self) -> None:
        """Give back what is in our hands."""

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        # Not a part of the turn or step whose code started the consumer.
        token = CALLER.set(None)
        try:
            return self._runtime.loop.create_task(work, name=name)
        finally:
            CALLER.reset(token)

    async def _run(self) -> None:
        while not self._runtime.is_closed:
            self._wake.clear()
            try:
                if self._refused:
                    self._refused = False
                    await self._sleep(_AGAIN_SECONDS)
                wanted = self._room()
                if wanted > 0:
                    await self._take(wanted)
                else:
                    await self._wake.wait()
            except NotRunning:
                return  # the runtime closed
            except (StorageError, Overloaded) as error:
                _log.error("consumer of %s: %s; it goes on in %g s", self._ref, error, _AGAIN_SECONDS)
                self._refused = True
            except Exception:
                _log.exception("consumer of %s; it goes on in %g s", self._ref, _AGAIN_SECONDS)
                self._refused = True

    async def _take(self, wanted: int) -> None:
        """Take a batch, or wait for what is missing."""
        before = 0 if self._state is None else self._state.arrived
        changes = 0 if self._state is None else self._state.changes
        looked = _Look()

        async def look(queue: Queue) -> None:
            await self._look(queue, wanted, looked)

        dep = await self._turn(look)
        if looked.taken:
            await self._consume(looked, dep)
        elif not looked.fresh_state:
            # The first message sets the time at which a batch goes out in any case, so it must be looked at.
            missing = wanted - looked.ready if looked.ready else 1
            await self._wait(looked, before + missing, changes)

    async def _look(self, queue: Queue, wanted: int, looked: _Look) -> None:
        """A turn of the queue: take what can be taken, unless a fuller batch may come in time."""
        lane, state = queue._lane_for(self.group)
        if state is not self._state:
            self._state = state
            state.listeners.append(self._wake.set)
            looked.fresh_state = True
        if not state.recovered:
            queue._recover(lane, state, self._retry.limit, self._dead_to)
        if queue.paused:
            return
        found, looked.next_ms = queue._ready(lane, state, wanted)
        looked.ready = len(found)
        if not found:
            return
        if len(found) < wanted and self._max_wait_ms:
            deadline_ms = found[0].place[0] + self._max_wait_ms
            if self._runtime.clock.now_ms() < deadline_ms:
                looked.next_ms = deadline_ms if looked.next_ms is None else min(deadline_ms, looked.next_ms)
                return
        looked.taken = found
        self._take_in(queue, lane, state, found)

    def _room(self) -> int:
        """How many messages to take at most; who makes room sets `_wake`."""
        raise NotImplementedError

    def _take_in(self, queue: Queue, lane: Lane, state: LaneState, found: list[Taken]) -> None:
        """Make messages ours, in a turn of the queue."""
        raise NotImplementedError

    async def _consume(self, looked: _Look, dep: int) -> None:
        """Go on with messages that were taken in commit `dep`."""
        raise NotImplementedError

    async def _turn(self, work: QueueWork) -> int:
        """Do work in a turn of the queue; returns the commit to wait for."""
        dep, _, error = await run(self._ref, turn_plan(work), (), {}, None, None)
        if error is not None:
            raise error
        return dep

    async def _wait(self, looked: _Look, enough: int, changes: int) -> None:
        """Wait until so many messages arrived in all, something else changed, or it is time for the next."""
        state = self._state
        assert state is not None
        timer = None
        due = asyncio.Event()
        if looked.next_ms is not None:
            seconds = max(0.0, (looked.next_ms - self._runtime.clock.now_ms()) / 1000)

            def is_due() -> None:
                due.set()
                self._wake.set()

            timer = self._runtime.clock.call_later(seconds, is_due)
        try:
            while state.arrived < enough and state.changes == changes and not due.is_set():
                await self._wake.wait()
                self._wake.clear()
        finally:
            if timer is not None:
                timer.cancel()

    async def _sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        timer = self._runtime.clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()


class _Look:
    """What came of looking for messages."""

    __slots__ = ("fresh_state", "next_ms", "ready", "taken")

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.ready = 0
        self.next_ms: int | None = None
        # The lane was seen for the first time, so messages that came before could not be counted.
        self.fresh_state = False


class HandlerConsumer(Consumer):
    """Gives batches to a function."""

    def __init__(
        self,
        runtime: Runtime,
        ref: Ref,
        handler: Handler,
        *,
        group: str,
        body_type: object,
        batch_size: int,
        max_wait: Duration,
        retry: Retry,
        concurrency: int,
        dead_letters: Ref | None,
    ) -> None:
        super().__init__(
            runtime,
            ref,
            group=group,
            batch_size=batch_size,
            max_wait=max_wait,
            retry=retry,
            dead_letters=dead_letters,
        )
        if concurrency < 1:
            raise CallerError(f"concurrency must be at least 1; got {concurrency}")
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
                )
        leases, self._leases = self._leases, set()
        if leases:

            async def give_back(queue: Queue) -> None:
                for lease in leases:
                    queue._return(self.group, lease)

            await self._turn(give_back)

    def _room(self) -> int:
        return self._batch_size if len(self._batches) < self._concurrency else 0

    def _take_in(self, queue: Queue, lane: Lane, state: LaneState, found: list[Taken]) -> None:
        queue._lease(lane, state, found)

    async def _consume(self, looked: _Look, dep: int) -> None:
        task = self._spawn(self._deliver(looked.taken, dep), f"batch of {self._ref}")
        self._batches.add(task)
        task.add_done_callback(self._delivered)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._refused = True
            _log.error("a batch of %s could not be settled; it comes again: %s", self._ref, error)

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
                    queue._settle_lease(
                        self.group, lease, acked, retried, returned, self._retry.limit, self._dead_to
                    )
                )

            buried: list[str] = []
            await self._turn(settle)
        except BaseException:
            state.give_back(lease)
            raise
        for id_ in buried:
            _log.error("message %s of %s is a dead letter after its retries", id_, self._ref)

    async def _handle(self, taken: list[Taken]) -> tuple[list[Taken], list[Retried], list[Taken]]:
        """Run the handler; returns what is done, what is to come again, and what it was stopped in."""
        messages: list[Message[Any]] = []
        retried: list[Retried] = []
        for one in taken:
            try:
                messages.append(Message(one, read_body(one.message, self._body_type, str(self._ref))))
            except InvalidValue as error:  # it will never decode: no use in trying again
                retried.append(Retried(one, _text(error), 0.0, True))
        failure: str | None = None
        stopped = False
        if messages:
            task = asyncio.current_task()
            assert task is not None
            self._handling.add(task)
            try:
                await self._handler(Batch(str(self._ref.key), messages))
            except asyncio.CancelledError as error:
                stopped = self._stopping
                failure = _text(error)
            except Exception as error:
                failure = _text(error)
                _log.warning(
                    "the handler of %s raised; messages not acknowledged come again",
                    self._ref,
                    exc_info=error,
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


class BindingConsumer(Consumer):
    """Starts a run for each message, in the commit that removes the message."""

    def __init__(
        self,
        runtime: Runtime,
        ref: Ref,
        kind: WorkflowType,
        *,
        group: str,
        run_id: Callable[[str, Any], Any] | None,
        correlation_id: Callable[[str, Any], str | None] | None,
        batch_size: int,
        max_wait: Duration,
        retry: Retry,
        max_in_flight: int,
        dead_letters: Ref | None,
    ) -> None:
        super().__init__(
            runtime,
            ref,
            group=group,
            batch_size=batch_size,
            max_wait=max_wait,
            retry=retry,
            dead_letters=dead_letters,
        )
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
            except (InvalidInput, InvalidRunId, InvalidKey) as error:  # trying again would not mend it
                failed.append(Retried(one, _text(error), 0.0, True))
            except Exception as error:
                seconds = self._retry.wait_seconds(one.message.attempts, self._runtime.random)
                failed.append(Retried(one, _text(error), seconds, False))
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
                    extra={"message_id": one.taken.message.id, "attempt": one.taken.message.attempts},
                )

        after_commit(turn, taken)
        queue._settle(lane, started, failed, self._retry.limit, self._dead_to)

    async def _end(self) -> None:
        self._forget_places()
        self._forget_places = lambda: None

    async def _consume(self, looked: _Look, dep: int) -> None:
        # The runs were started by the commit; what their steps do waits for it anyway.
        before, self._before = self._before, dep
        await self._runtime.store.wait_durable(before)
        await asyncio.sleep(0)

    def _start_run(self, turn: Turn, message: StoredMessage) -> None:
        kind = self._kind
        value = kind.decode_input(message.body)
        given = message.id if self._run_id is None else self._run_id(message.id, value)
        correlation_id = None if self._correlation_id is None else self._correlation_id(message.id, value)
        # What the callables above had in their hands may have been changed by them: then it is decoded anew.
        given_input = value if self._run_id is None and self._correlation_id is None else msgspec.UNSET
        normal, key_bytes = normal_key(check_run_id(given), kind.name)
        options = StartOptions("join", correlation_id or new_correlation_id())
        self._runtime.engine.start_in(
            turn, kind, normal, key_bytes, bytes(message.body), given_input, options
        )


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
