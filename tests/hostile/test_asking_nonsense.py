"""What `run()` asks for and can't have: the run fails with words, at once, and doesn't wait for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from holdfast import Retry, RunFailed, Runtime, Workflow, action
from holdfast.actors.errors import InvalidEvent, InvalidParameters


async def fails() -> None:
    raise ValueError("no")


async def coroutine_condition() -> bool:
    return False


class Ask(Workflow):
    retry = Retry(0)

    async def run(self, what: str) -> object:
        return await ASKED[what](self)


ASKED: dict[str, Callable[[Any], Any]] = {
    "must be a Retry; got '3'": lambda run: run.step(fails, retry="3"),
    "must be a Retry; got 3": lambda run: run.step(fails, retry=3),
    "the heartbeat of step fails must be more than 0": lambda run: run.step(fails, heartbeat=0),
    "until() takes a function; got 5": lambda run: run.until(5),
    "must give a value and not <coroutine": lambda run: run.until(coroutine_condition),
    "must give a value and not <OpFuture": lambda run: run.until(lambda: run.step(fails)),
    "Ask/a: a wait needs at least one type": lambda run: run.wait(),
    "Ask/a: a wait takes types of events": lambda run: run.wait_event(5),
    "run_action takes an action, made with @action; got 5": lambda run: run.run_action(5),
    "run() can't list runs": lambda run: run.runtime.runs(),
    "run() can't read the audit": lambda run: run.runtime.audit(),
}


@pytest.mark.parametrize("what", ASKED)
async def test_what_run_asks_for_is_checked(tmp_path: Path, what: str) -> None:
    """A retry that is none was found out only when the step failed, and left the run as running for ever."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Ask, what, id="a")
        with pytest.raises(RunFailed) as failure:
            await asyncio.wait_for(run.result(), 5)
        assert what in str(failure.value)


@pytest.mark.parametrize("event", [None, {"by": "ann"}, ["approve"], ("approve",), {1}])
async def test_an_event_without_its_name(tmp_path: Path, event: object) -> None:
    """It would be kept as an event called dict, and no wait would ever take it."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Ask, "must be a Retry; got 3", id="a")
        with pytest.raises(InvalidEvent, match="an instance of an event type, or a name and a payload"):
            await run.send(cast("Any", event))


@action
async def echo(number: int, text: str) -> int:
    """Give the number back."""
    return number


@pytest.mark.parametrize(("number", "text"), [(2**70, "a"), (1, "\ud800")])
async def test_parameters_of_the_right_type_that_can_not_be_stored(
    tmp_path: Path, number: int, text: str
) -> None:
    """They are refused as parameters are."""
    async with Runtime(tmp_path) as rt:
        with pytest.raises(InvalidParameters, match="can't be stored"):
            await echo.once(rt, "key", number, text)
