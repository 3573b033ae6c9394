"""Consumers that are given nonsense, or do something odd with what they are given."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import Batch, CallerError, Queue, Retry, Runtime, Workflow


class Echo(Workflow):
    async def run(self, text: str) -> str:
        return text


async def handle(batch: Batch[str]) -> None:
    return None


@pytest.mark.parametrize(
    "options",
    [{"retry": 5}, {"group": 5}, {"batch_size": "x"}, {"batch_size": 1.5}, {"handler": None}],
    ids=str,
)
async def test_options_of_the_wrong_type(tmp_path: Path, options: dict[str, Any]) -> None:
    """`consume` refuses them; it does not find out when a message is lost by it."""
    async with Runtime(tmp_path) as rt:
        with pytest.raises(CallerError):
            rt.consume("q", options.pop("handler", handle), **options)


async def test_a_handler_that_empties_its_batch(tmp_path: Path) -> None:
    """What a handler takes out of `batch.messages` is settled like the rest."""

    async def take_all(batch: Batch[str]) -> None:
        while batch.messages:
            batch.messages.pop()

    async with Runtime(tmp_path) as rt:
        rt.consume("q", take_all, max_wait=0)
        queue = rt.get(Queue, "q")
        await queue.send_batch(["a", "b"])
        for _ in range(500):
            if (await queue.stats()).acked == 2:
                break
            await asyncio.sleep(0.002)
        stats = await queue.stats()
        assert (stats.acked, stats.depth) == (2, 0)


async def test_a_correlation_id_that_is_no_text(tmp_path: Path) -> None:
    """The message is a dead letter; no run is stored that nobody could read again."""
    async with Runtime(tmp_path) as rt:
        five: Any = lambda id_, text: 5  # noqa: E731
        rt.bind("q", Echo, correlation_id=five, retry=Retry(0, "1ms"))
        queue = rt.get(Queue, "q")
        await queue.send("a")
        for _ in range(500):
            if (await queue.stats()).dead:
                break
            await asyncio.sleep(0.002)
        dead = await queue.dead()
        assert "must be a text; got 5" in dead[0].error
        assert rt.runs() == []
