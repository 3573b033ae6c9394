"""Exceptions whose text is a trap: it can't be made, can't be encoded, or is huge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast import Actor, Alarm, Batch, Queue, Retry, Runtime, Workflow
from holdfast.runtime.clock import ManualClock


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("this error has no text")


BAD: dict[str, Callable[[], Exception]] = {
    "no text": NoText,
    "a lone surrogate": lambda: ValueError("file \udc80"),
    "huge": lambda: ValueError("x" * (9 << 20)),
}


class Poison(Actor):
    n: int = 0

    async def arm(self) -> None:
        self.alarms.set(0)

    async def on_alarm(self, alarm: Alarm) -> None:
        raise BAD[str(self.key)]()


class Echo(Workflow):
    async def run(self, text: str) -> str:
        return text


async def dead_ones(queue: Queue, count: int) -> list[str]:
    """The errors of the dead letters of a queue, once there are so many."""
    for _ in range(500):
        dead = await queue.dead()
        if len(dead) == count:
            return [one.error for one in dead]
        await asyncio.sleep(0.002)
    raise AssertionError(f"the messages never died: {await queue.stats()}")


@pytest.mark.parametrize("kind", BAD)
async def test_a_handler_that_raises_it(tmp_path: Path, kind: str) -> None:
    """The delivery counts as tried, so the message is a dead letter in the end."""

    async def handler(batch: Batch[str]) -> None:
        raise BAD[kind]()

    async with Runtime(tmp_path) as rt:
        rt.consume("q", handler, max_wait=0, retry=Retry(1, "1ms"))
        queue = rt.get(Queue, "q")
        await queue.send("a")
        (error,) = await dead_ones(queue, 1)
        assert len(error) < 5_000


@pytest.mark.parametrize("given", [ValueError("no"), 5, "\udc80"], ids=str)
async def test_what_is_given_to_retry_as_the_error(tmp_path: Path, given: object) -> None:
    """`Message.retry(error=...)` keeps the text of whatever it is given, and the dead letter can be read."""

    async def handler(batch: Batch[str]) -> None:
        batch.messages[0].retry(error=given)  # type: ignore[arg-type]

    async with Runtime(tmp_path) as rt:
        rt.consume("q", handler, max_wait=0, retry=Retry(0, "1ms"))
        queue = rt.get(Queue, "q")
        await queue.send("a")
        assert await dead_ones(queue, 1) == [str(given).encode("utf-8", "backslashreplace").decode()]


@pytest.mark.parametrize("kind", BAD)
async def test_a_binding_whose_id_function_raises_it(tmp_path: Path, kind: str) -> None:
    """The message becomes a dead letter, and those behind it become runs."""

    def run_id(id_: str, text: str) -> str:
        if text == "bad":
            raise BAD[kind]()
        return text

    async with Runtime(tmp_path) as rt:
        rt.bind("q", Echo, id=run_id, retry=Retry(1, "1ms"))
        queue = rt.get(Queue, "q")
        await queue.send_batch(["bad", "good"])
        await dead_ones(queue, 1)
        assert await rt.run(Echo, "good").result() == "good"


async def test_an_alarm_whose_handler_raises_it(tmp_path: Path) -> None:
    """After its retries the alarm is a dead alarm, and not fired again for ever."""
    clock = ManualClock()
    async with Runtime(tmp_path, clock=clock) as rt:
        for key in BAD:
            await rt.get(Poison, key).arm()
        for _ in range(2_000):
            if len(rt.dead_alarms()) == len(BAD):
                break
            clock.advance(1)
            await asyncio.sleep(0.001)
        assert {alarm.key for alarm in rt.dead_alarms()} == set(BAD)
        assert all(len(alarm.error) < 5_000 for alarm in rt.dead_alarms())
