"""actors/json_log.py, workflow/run_log.py: what log lines bear, and that a replay writes none."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import Batch, JsonLogFormatter, Queue, Retry, RunFailed, Runtime, Workflow
from holdfast.actors.json_log import MAX_FIELD_CHARACTERS
from tests.actors.workflow.support import until

_log = logging.getLogger("holdfast.tests.json_log")


class Lines(logging.Handler):
    """Lines in JSON, read again."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLogFormatter())
        self.found: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(json.loads(self.format(record)))

    def with_(self, text: str) -> list[dict[str, Any]]:
        """The lines with a text in their message."""
        return [one for one in self.found if text in one["message"]]

    def said(self) -> list[dict[str, Any]]:
        """The lines of runs themselves."""
        return [one for one in self.found if one["logger"] == "holdfast.run"]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("holdfast")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def body(number: int) -> int:
    _log.info("in the body", extra={"number": number})
    if number < 0:
        raise ValueError("negative")
    return number


class LoggedRun(Workflow):
    retry = Retry(1, delay=0)

    async def run(self, number: int) -> int:
        self.log.info("began with %d", number, extra={"number": number})
        await self.step(body, number)
        self.log.warning("waits")
        await self.wait("go")
        self.log.info("goes on")
        return number


async def test_of_the_library(folder: Path, lines: Lines) -> None:
    """What the library says of runs and attempts bears workflow, run, correlation id, step, attempt, time."""
    async with Runtime(folder) as rt:
        run = await rt.start(LoggedRun, -1, id="one", correlation_id="c-1")
        with pytest.raises(RunFailed):
            await run.result()
    run_fields = {"workflow": "LoggedRun", "run_id": "LoggedRun/one", "correlation_id": "c-1"}
    again, final, failed = (
        *lines.with_("failed, next in"),
        *lines.with_("failed for good"),
        *lines.with_("is kept as a dead letter"),
    )
    for line in (again, final, failed):
        assert {name: line[name] for name in run_fields} == run_fields
        assert line["logger"] == "holdfast.workflow"
        assert line["duration_ms"] >= 0
    assert [(line["step"], line["attempt"]) for line in (again, final)] == [("body", 1), ("body", 2)]
    assert "StepError" in failed["error"]


async def test_of_a_body(folder: Path, lines: Lines) -> None:
    """A line that a step's body writes itself bears its run, step, attempt and correlation id."""
    async with Runtime(folder) as rt:
        run = await rt.start(LoggedRun, 1, id="one", correlation_id="c-1")
        await run.send("go")
        await run.result()
    (line,) = lines.with_("in the body")
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "holdfast.tests.json_log",
        "message": "in the body",
        "number": 1,
        "workflow": "LoggedRun",
        "run_id": "LoggedRun/one",
        "correlation_id": "c-1",
        "step": "body",
        "attempt": 1,
    }


async def test_silent_on_replay(folder: Path, lines: Lines) -> None:
    """`self.log` writes each line once, also over a crash; what is new after it is written."""
    async with Runtime(folder) as rt:
        await rt.start(LoggedRun, 1, id="one", correlation_id="c-1")
        await until(lambda: bool(lines.with_("waits")))
        await rt.store.wait_durable(rt.store.newest)
        shutil.copytree(folder, folder.with_name("crashed"))  # as a killed process leaves it
    async with Runtime(folder.with_name("crashed"), types=[LoggedRun]) as rt:
        await rt.run(LoggedRun, "one").send("go")
        assert await rt.run(LoggedRun, "one").result() == 1
    said = lines.said()
    assert [line["message"] for line in said] == ["began with 1", "waits", "goes on"]
    assert {(line["run_id"], line["correlation_id"]) for line in said} == {("LoggedRun/one", "c-1")}
    assert said[0]["number"] == 1


class LoggedSteps(Workflow):
    async def run(self) -> None:
        self.log.info("first")
        await self.step(body, 1)
        self.log.info("second")
        await self.step(waits_for_ever)


async def waits_for_ever() -> None:
    await asyncio.Event().wait()


async def test_silent_behind_a_step(folder: Path, lines: Lines) -> None:
    """What was said behind a recorded step is not said again, also where the run never came to rest."""
    async with Runtime(folder) as rt:
        await rt.start(LoggedSteps, id="one")
        await until(lambda: len(lines.said()) == 2)
    async with Runtime(folder, types=[LoggedSteps]) as rt:
        await until(lambda: bool(lines.with_("goes on")))
        (deed,) = [one for one in rt.engine.live_runs() if one.has_begun]
        assert not deed.replaying
    assert [line["message"] for line in lines.found if line["logger"] == "holdfast.run"] == [
        "first",
        "second",
    ]


async def test_queued_run(folder: Path, lines: Lines) -> None:
    """A run that waited on disk for a place says all when it begins."""
    async with Runtime(folder, max_running=1) as rt:
        first = await rt.start(LoggedSteps, id="first")
        second = await rt.start(LoggedSteps, id="second")
        assert (await second.info()).status == "queued"
        await first.terminate()
        await until(lambda: len(lines.said()) == 4)
    said = [line["run_id"] for line in lines.said()]
    assert said == ["LoggedSteps/first"] * 2 + ["LoggedSteps/second"] * 2


async def test_a_look_says_nothing(folder: Path, lines: Lines) -> None:
    """Who looks at a run behind a record (`rt.debug`) causes no line."""
    async with Runtime(folder) as rt:
        run = await rt.start(LoggedRun, 1, id="one")
        await run.send("go")
        await run.result()
        before = len(lines.said())
        await rt.debug(LoggedRun, "one")
        after = len(lines.said())
    assert (before, after) == (3, 3)


async def test_of_messages(folder: Path, lines: Lines) -> None:
    """What is said of a message bears its queue and id."""

    async def handler(batch: Batch[int]) -> None:
        raise ValueError("no")

    async with Runtime(folder) as rt:
        rt.consume("logged-in", handler, body=int, max_wait=0, retry=Retry(0))
        await rt.get(Queue, "logged-in").send(7, id="m")
        await until(lambda: bool(lines.with_("is a dead letter")))
    (line,) = lines.with_("is a dead letter")
    assert (line["queue"], line["message_id"]) == ("logged-in", "m")
    (line,) = lines.with_("the handler of")
    assert (line["queue"], line["message_ids"]) == ("logged-in", ["m"])
    assert "ValueError: no" in line["error"]


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("not even that")


def formatted(**fields: object) -> dict[str, Any]:
    """A record with these fields, as JSON, read again."""
    own = {"msg": "%s", "args": ("text",), "name": "n", "levelname": "INFO"}
    record = logging.makeLogRecord({**own, **fields})
    line = JsonLogFormatter().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_what_json_has_no_form_for() -> None:
    """Such a field is shown as Python does, or by its type where even that fails; the line is written."""
    assert formatted(it={1, 2})["it"] in ([1, 2], [2, 1])
    assert formatted(it=Lines)["it"] == repr(Lines)
    assert formatted(it=Unshowable())["it"] == "Unshowable"
    assert formatted(it="a\nb\ud800", also=float("nan"), bytes=b"\xff")["message"] == "text"


def test_long_fields_are_cut() -> None:
    """No field makes a line without end."""
    assert len(formatted(it="x" * 100_000)["it"]) < MAX_FIELD_CHARACTERS + 100  # and how much is missing
