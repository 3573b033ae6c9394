"""What a handler gets: a batch of messages, each of which it may settle by itself.

Settling is only noted here; the consumer acts on it when the handler has ended (queue_handler.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Generic, Literal, TypeVar

from ..runtime.durations import Duration, to_seconds
from ..runtime.error_text import message_text
from ..storage.errors import InvalidValue
from .durable_queue import MAX_DELAY_SECONDS
from .queue_records import Retried, Taken
from .workflow.retry import Retry

Body = TypeVar("Body")


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
        """Let it come again in a later batch, after `delay`.

        Without a delay the consumer's retry policy says when.  `error` is kept with the message if it becomes
        a dead letter.  Raises `InvalidDuration`, or `InvalidValue` for more than a day.
        """
        seconds = None if delay is None else to_seconds(delay, what="delay")
        if seconds is not None and seconds > MAX_DELAY_SECONDS:
            raise InvalidValue(f"message {self.id}: it can be delayed by a day at most; got {delay!r}")
        if self._settled is None:
            self._settled = "retry"
            self._delay_seconds = seconds
            self._error = None if error is None else message_text(error)

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
