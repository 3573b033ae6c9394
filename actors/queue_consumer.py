"""Consumers: who takes messages out of a queue, until it is stopped.

    look --enough, or waited long enough--> take --> deliver --> settle
      \\--too few--> wait for a message, for room, or for the time at which one is due

A batch is delivered when it is full or `max_wait` passed since its first message could be taken; never an
empty one.  What is done with a batch is the business of the two kinds: a function gets it
(queue_handler.py), or runs are started (queue_binding.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from ..runtime.address import show_key
from ..runtime.call import run
from ..runtime.chain import CALLER
from ..runtime.durations import Duration, to_seconds
from ..runtime.errors import NotRunning
from ..storage.errors import CallerError, Overloaded, StorageError
from .durable_queue import MAX_BATCH_MESSAGES, Queue, QueueWork, turn_plan
from .queue_delivery import find_ready, lane_for, recover
from .queue_hub import LaneState, QueueHub
from .queue_records import Lane, Taken, queue_of
from .workflow.retry import Retry

if TYPE_CHECKING:
    from ..runtime.ref import Ref
    from .system import Runtime

_log = logging.getLogger("holdfast.queue")
MAX_GROUP_CHARACTERS: Final = 100
_AGAIN_SECONDS: Final = 1.0  # after the store refused


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerOptions:
    """What every consumer is started with; `Runtime.consume` says what they mean."""

    group: str
    batch_size: int
    max_wait: Duration
    retry: Retry
    dead_letters: Ref | None

    def check(self, ref: Ref) -> None:
        """Raise `CallerError` when a consumer of the queue `ref` can't have these."""
        # Annotations promise the types; who breaks the promise would learn it from dead letters.
        size: object = self.batch_size
        if type(size) is not int or not 1 <= size <= MAX_BATCH_MESSAGES:
            raise CallerError(
                f"batch_size must be a whole number from 1 to {MAX_BATCH_MESSAGES}; got {size!r}"
            )
        retry = cast("object", self.retry)
        if not isinstance(retry, Retry):
            raise CallerError(f"retry must be a Retry; got {retry!r}")
        group = cast("object", self.group)
        if not isinstance(group, str) or len(group) > MAX_GROUP_CHARACTERS or not group.isprintable():
            raise CallerError(
                f"a consumer group's name must have at most {MAX_GROUP_CHARACTERS} printable characters; got "
                f"{group!r}"
            )
        if self.dead_letters is not None and self.dead_letters.directory_key == ref.directory_key:
            raise CallerError(
                f"queue {ref.key} can't be its own dead-letter queue; name another one, or none to keep them "
                f"in it"
            )


class Consumer:
    """A loop that takes messages out of one queue until it is stopped."""

    def __init__(self, runtime: Runtime, ref: Ref, options: ConsumerOptions) -> None:
        """Raises `CallerError` when an option is out of bounds."""
        options.check(ref)
        self._runtime = runtime
        self._ref = ref
        self.queue_key = ref.directory_key
        self.group = options.group
        self._batch_size = options.batch_size
        self._max_wait_ms = round(to_seconds(options.max_wait, what="max_wait") * 1000)
        self._retry = options.retry
        self._dead_to = None if options.dead_letters is None else queue_of(options.dead_letters)
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

    def log_fields(self, **more: object) -> dict[str, object]:
        """The fields of a log line about the queue, with `more`: a message's id, its attempt."""
        return {"queue": show_key(self._ref.key), "group": self.group, **more}

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
            _log.error("%s: what it had in hand comes again: %s", self, error, extra=self.log_fields())
        if self._state is not None and self._wake.set in self._state.listeners:
            self._state.listeners.remove(self._wake.set)
        self._state = None
        self._hub.remove(self)

    def abandon(self) -> None:
        """Stop without waiting for anything; what is in our hands comes again when the folder is opened."""
        if self._task is not None:
            self._task.cancel()

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
                _log.error(
                    "consumer of %s: %s; it goes on in %g s",
                    self._ref,
                    error,
                    _AGAIN_SECONDS,
                    extra=self.log_fields(),
                )
                self._refused = True
            except Exception:
                _log.exception(
                    "consumer of %s; it goes on in %g s", self._ref, _AGAIN_SECONDS, extra=self.log_fields()
                )
                self._refused = True

    async def _take(self, wanted: int) -> None:
        """Take a batch, or wait for what is missing."""
        before = 0 if self._state is None else self._state.arrived
        changes = 0 if self._state is None else self._state.changes
        looked = Look()

        async def look(queue: Queue) -> None:
            await self._look(queue, wanted, looked)

        dep = await self._turn(look)
        if looked.taken:
            await self._consume(looked, dep)
        elif not looked.fresh_state:
            # The first message sets the time at which a batch goes out in any case, so it must be looked at.
            missing = wanted - looked.ready if looked.ready else 1
            await self._wait(looked, before + missing, changes)

    async def _look(self, queue: Queue, wanted: int, looked: Look) -> None:
        """A turn of the queue: take what can be taken, unless a fuller batch may come in time."""
        lane, state = lane_for(queue, self.group)
        if state is not self._state:
            self._state = state
            state.listeners.append(self._wake.set)
            looked.fresh_state = True
        if not state.recovered:
            recover(queue, lane, state, self._retry.limit, self._dead_to)
        if queue.paused:
            return
        found, looked.next_ms = find_ready(queue, lane, state, wanted)
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

    async def _consume(self, looked: Look, dep: int) -> None:
        """Go on with messages that were taken in commit `dep`."""
        raise NotImplementedError

    async def _turn(self, work: QueueWork) -> int:
        """Do work in a turn of the queue; returns the commit to wait for."""
        dep, _, error = await run(self._ref, turn_plan(work), (), {}, None, None)
        if error is not None:
            raise error
        return dep

    async def _wait(self, looked: Look, enough: int, changes: int) -> None:
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


class Look:
    """What came of looking for messages."""

    __slots__ = ("fresh_state", "next_ms", "ready", "taken")

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.ready = 0
        self.next_ms: int | None = None
        # The lane was seen for the first time, so messages that came before could not be counted.
        self.fresh_state = False
