"""The reviewer's seven checks: start it, send events end to end, then look at what it left, piece by piece.

The pipeline runs once, as a user starts it, in a process of its own; the checks look at its folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.examples.events_pipeline.events import EventStatus, unpack
from tests.examples.pipeline_support import ROOT, open_pipeline

VALID, INVALID, TWICE = 40, 4, 5


class Deployed:
    """What the process left."""

    def __init__(self, folder: Path, done: subprocess.CompletedProcess[str]) -> None:
        self.folder = folder
        self.done = done
        lines = (folder / "events.log").read_text().splitlines()
        self.log: list[dict[str, object]] = [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The pipeline, run once on events of all sorts."""
    folder = tmp_path_factory.mktemp("checks")
    events: list[dict[str, object]] = [
        {"event_id": f"good-{n}", "payload": {"n": n}, "correlation_id": f"request-{n}"} for n in range(VALID)
    ]
    events += [{"event_id": f"wrong-{n}", "payload": n, "metadata": {"n": n}} for n in range(INVALID - 1)]
    events.append({"event_id": "no-payload"})
    events += events[:TWICE]
    file = folder / "events.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    command = [sys.executable, "-m", "holdfast", "demo", f"--input={file}", f"--folder={folder / 'store'}"]
    done = subprocess.run(
        [*command, "--log-level=INFO"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return Deployed(folder / "store", done)


def test_1_it_starts_and_ends(deployed: Deployed) -> None:
    """The process does its work and ends well."""
    assert (deployed.done.returncode, deployed.done.stderr) == (0, "")


def test_2_end_to_end(deployed: Deployed) -> None:
    """Every event that was sent has come out: its three steps are in the log, once each."""
    for n in range(VALID):
        steps = [
            line["message"]
            for line in deployed.log
            if line["event_id"] == f"good-{n}" and str(line["message"]).endswith(" is done")
        ]
        assert steps == ["validate-event is done", "store-event is done", "update-metrics is done"]


async def test_3_rows(deployed: Deployed) -> None:
    """A row for each event, with its payload and status."""
    async with open_pipeline(deployed.folder) as pipeline:
        rows = await pipeline.store.select(EventStatus.DELIVERED, limit=1_000)
        assert {row.event_id: unpack(row.payload) for row in rows} == {
            f"good-{n}": {"n": n} for n in range(VALID)
        }
        assert [row.created_at for row in rows] == sorted(row.created_at for row in rows)
        assert await pipeline.store.select(EventStatus.PENDING) == []


async def test_4_counters(deployed: Deployed) -> None:
    """Every counter is exact, and equals a recount of the rows."""
    async with open_pipeline(deployed.folder) as pipeline:
        figures = await pipeline.figures()
        assert figures.pop("metrics:last_processed_at") is not None
        # The event without a payload never became a run, so it is no event that was counted.
        assert figures == {
            "metrics:events:total": VALID + INVALID - 1,
            "metrics:events:pending": 0,
            "metrics:events:delivered": VALID,
            "metrics:events:failed": INVALID - 1,
            "metrics:queue:depth": 0,
            "metrics:dlq:count": INVALID,
        }
        recount = await pipeline.store.recount()
        assert recount == {"pending": 0, "delivered": VALID, "failed": INVALID - 1}


async def test_5_invalid_payloads(deployed: Deployed) -> None:
    """They are told by the field, never tried again, and harm no other event."""
    async with open_pipeline(deployed.folder) as pipeline:
        rows = await pipeline.store.select(EventStatus.FAILED)
        assert {row.event_id: unpack(row.payload) for row in rows} == {f"wrong-{n}": n for n in range(3)}
        for letter in await pipeline.dead_letters():
            assert "payload" in letter.error
            assert letter.attempts == 1


def test_6_logs(deployed: Deployed) -> None:
    """Each line has both ids; those of an event have its own; failures have error and attempt."""
    assert all({"correlation_id", "event_id", "level", "time"} <= line.keys() for line in deployed.log)
    of_events = [line for line in deployed.log if line["event_id"] is not None]
    assert len(of_events) > 3 * VALID
    for n in range(VALID):
        ids = {line["correlation_id"] for line in of_events if line["event_id"] == f"good-{n}"}
        assert ids == {f"request-{n}"}
    failures = [line for line in deployed.log if line["level"] != "INFO"]
    # The message that didn't even decode is known by its own id.
    assert {line["event_id"] or line["message_id"] for line in failures} > {f"wrong-{n}" for n in range(3)}
    assert len([line for line in failures if "message_id" in line]) == 1
    assert all(line["error"] and line["retry_attempt"] == 1 for line in failures)


async def test_7_dead_letters(deployed: Deployed) -> None:
    """What failed is kept with its body and can be let go on; from the outside they are listed as well."""
    async with open_pipeline(deployed.folder) as pipeline:
        dead = {letter.id: letter for letter in await pipeline.dead_letters()}
        assert {letter.queue for letter in dead.values()} == {"event-dlq"}
        runs = {f"wrong-{n}/main" for n in range(INVALID - 1)}
        assert runs < dead.keys()
        (message,) = [letter for letter in dead.values() if letter.kind == "message"]
        assert isinstance(message.body, dict)
        assert message.body["event_id"] == "no-payload"
    listed = list_dead(deployed.folder)
    assert all(f"ProcessEvent/{run}" in listed for run in runs)
    assert f"Queue/event-queue/{message.id}" in listed


def list_dead(folder: Path) -> str:
    """What `holdfast dead FOLDER list` prints."""
    command = [sys.executable, "-m", "holdfast", "dead", str(folder), "list"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
