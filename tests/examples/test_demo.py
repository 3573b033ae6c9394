"""The demo: exact counters whatever is sent, and whatever kills it."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import subprocess
import sys
from collections import Counter as Tally
from pathlib import Path

import pytest

from holdfast import Runtime
from holdfast.__main__ import main
from holdfast.actors.folder_view import FolderView
from holdfast.actors.workflow.journal import StepDone
from holdfast.examples.events_pipeline.demo import NotADemo, Options, Report, remove_demo, run_demo
from holdfast.examples.events_pipeline.events import EventStatus, pack, unpack
from holdfast.examples.events_pipeline.intake import Intake, OtherSource
from holdfast.examples.events_pipeline.metrics import Figure
from holdfast.examples.events_pipeline.source import BadInput, FileEvents, MadeUpEvents, Source
from holdfast.storage.check import check
from tests.examples.pipeline_support import ROOT, DemoProcess, open_pipeline

EVENTS = 600
DUPLICATES = 20
INVALID = 2


class Shown:
    """Remembers what was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []

    def show(self, sent: int, processed: int) -> None:
        self.shown.append((sent, processed))


async def demo(source: Source, folder: Path, in_flight: int = 1_000) -> Report:
    """The demo in this process."""
    return await run_demo(source, Options(folder=folder, in_flight=in_flight), Shown())


def counters(figures: dict[str, Figure]) -> tuple[Figure, ...]:
    """total, pending, delivered, failed, depth, dead letters."""
    names = (
        "events:total",
        "events:pending",
        "events:delivered",
        "events:failed",
        "queue:depth",
        "dlq:count",
    )
    return tuple(figures[f"metrics:{name}"] for name in names)


# -- killed --------------------------------------------------------------------------------------------------


def finished_steps(folder: Path) -> set[tuple[str, str]]:
    """The (run, step) that a folder has a checkpoint of."""
    with FolderView(folder) as view:
        return {
            (run.removeprefix("ProcessEvent/"), record.name)
            for run, records in view.journals().items()
            for record in records
            if isinstance(record, StepDone)
        }


async def check_outcome(folder: Path) -> None:
    """Counters, rows and dead letters are those of a demo that nobody killed."""
    failed = EVENTS * INVALID // 100
    async with open_pipeline(folder) as pipeline:
        assert counters(await pipeline.figures()) == (EVENTS, 0, EVENTS - failed, failed, 0, failed)
        assert await pipeline.store.recount() == {
            "pending": 0,
            "delivered": EVENTS - failed,
            "failed": failed,
        }
        rows = await pipeline.store.select(EventStatus.DELIVERED, limit=EVENTS)
        rows += await pipeline.store.select(EventStatus.FAILED, limit=EVENTS)
        assert {row.event_id for row in rows} == {f"order-{n:07d}" for n in range(EVENTS)}
        # Stored by one call each, however often the step began.
        assert {row.retry_count for row in rows} == {0}
        assert len(await pipeline.dead_letters(EVENTS)) == failed


def kill_and_go_on(folder: Path, *, kills: int, seed: int) -> None:
    """Kill the demo at random moments, then let it end; check what it did in between."""
    chance = random.Random(seed)
    process = DemoProcess(
        folder, f"--events={EVENTS}", f"--duplicates={DUPLICATES}", f"--invalid={INVALID}", "--in-flight=100"
    )
    begun = Tally[tuple[str, str]]()
    finished: set[tuple[str, str]] = set()
    happened = 0
    for number in range(kills + 1):
        # A share of what is left, so that every kill finds work: 3 steps for each event.
        left = max(2, (3 * EVENTS - len(finished)) // (kills + 1 - number))
        steps = process.run(kill_after=chance.randint(1, left) if number < kills else None)
        happened += not process.finished
        again = finished & set(steps)
        assert not again, f"seed {seed}: steps that had a checkpoint ran again: {sorted(again)[:5]}"
        begun.update(steps)
        finished = finished_steps(folder)
        assert check(folder) == []
    assert process.finished, process.output
    assert happened == kills
    # At least once, and once more at most for each crash: only what was in progress began anew.
    assert set(begun) >= {step for step in finished if not step[1].startswith("EventStore/")}
    assert max(begun.values()) <= 1 + kills
    asyncio.run(check_outcome(folder))


def test_killed_three_times(tmp_path: Path) -> None:
    """Killed at random moments it goes on: no finished step runs again, every counter is exact."""
    kill_and_go_on(tmp_path / "store", kills=3, seed=random.randrange(1_000_000))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_twenty_times(tmp_path: Path, seed: int) -> None:
    """The same, twenty times on one folder."""
    kill_and_go_on(tmp_path / "store", kills=20, seed=seed)


async def test_sending_goes_on_behind_what_was_acknowledged(tmp_path: Path) -> None:
    """A source that was sent in part is sent from there on; a full one not at all."""
    source = MadeUpEvents(300)
    async with Runtime(tmp_path) as runtime:
        intake = runtime.get(Intake, "demo")
        assert await intake.begin(source.name) == 0
    report = await demo(source, tmp_path)
    assert (report.resumed_at, report.acknowledged, report.runs) == (0, 300, 300)
    again = await demo(source, tmp_path)
    assert (again.resumed_at, again.acknowledged, again.runs, again.commits) == (300, 0, 0, 0)
    assert again.figures == report.figures


async def test_messages_that_were_sent_twice_join_their_runs(tmp_path: Path) -> None:
    """Messages whose cursor was lost are sent again, and change nothing."""
    source = MadeUpEvents(50)
    first = await demo(source, tmp_path)
    async with Runtime(tmp_path) as runtime:
        intake = runtime.get(Intake, "demo")
        assert await intake.forget() == 50
    second = await demo(source, tmp_path)
    assert (second.acknowledged, second.runs) == (50, 0)
    assert second.figures == first.figures


# -- what is sent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 7, 1_000])
async def test_duplicates_and_invalid_events(tmp_path: Path, in_flight: int) -> None:
    """An event that is sent twice counts once; an invalid one is a dead letter."""
    source = MadeUpEvents(200, duplicates_percent=30, invalid_percent=5)
    report = await demo(source, tmp_path, in_flight)
    assert (report.events, report.messages, report.acknowledged) == (200, 260, 260)
    assert counters(report.figures) == (200, 0, 190, 10, 0, 10)


def write_lines(path: Path, lines: list[object]) -> Path:
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def webhook(number: int) -> dict[str, object]:
    """A line as a web hook's recorder writes it: deep, with text of many alphabets."""
    user = {"login": "octo-ünïcode-猫", "id": number, "site_admin": False, "score": 0.5, "email": None}
    return {
        "event_id": f"hook-{number}",
        "payload": {
            "action": "opened",
            "issue": {"user": user, "labels": [{"name": "a" * 500}] * 20},
            "n": -1,
        },
        "metadata": {"source": "a recorder", "file": f"{number}.json"},
        "timestamp": "2023-05-13T22:09:38.000-04:00",
    }


@pytest.mark.parametrize("name", ["hooks.jsonl", "hooks.jsonl.gz"])
async def test_a_file_of_web_hooks(tmp_path: Path, name: str) -> None:
    """Lines become rows with their payload as it was; copies have ids of their own."""
    path = write_lines(tmp_path / name, [webhook(number) for number in range(20)])
    source = FileEvents(path, repeat=3)
    report = await demo(source, tmp_path / "store")
    assert counters(report.figures) == (60, 0, 60, 0, 0, 0)
    async with open_pipeline(tmp_path / "store") as pipeline:
        for event_id in ("hook-7", "hook-7#2", "hook-7#3"):
            row = await pipeline.store.get(event_id)
            assert row is not None
            assert unpack(row.payload) == webhook(7)["payload"]
            assert unpack(row.metadata) == webhook(7)["metadata"]


async def test_a_file_with_lines_that_are_no_events(tmp_path: Path) -> None:
    """What doesn't decode is a dead letter of the queue, what isn't valid one of the workflow."""
    lines: list[object] = [
        webhook(1),
        {"payload": {"no": "id"}},
        {"event_id": 5, "payload": {}},
        {"event_id": "has blanks in it", "payload": {}},
        {"event_id": "no-payload"},
        {"event_id": "text", "payload": "text"},
        {"event_id": "late", "payload": {}, "timestamp": "yesterday"},
        webhook(1),
    ]
    report = await demo(FileEvents(write_lines(tmp_path / "lines.jsonl", lines)), tmp_path / "store")
    assert counters(report.figures) == (4, 0, 2, 2, 0, 5)
    async with open_pipeline(tmp_path / "store") as pipeline:
        dead = await pipeline.dead_letters()
        assert sorted(one.kind for one in dead) == ["message", "message", "message", "run", "run"]
        wanted = ("$.event_id", "without blanks", "payload", "$.payload", "$.timestamp")
        assert all(any(part in one.error for one in dead) for part in wanted)


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    """Such a file is refused before anything is sent, with the line."""
    path = tmp_path / "bad.jsonl"
    path.write_text('{"payload": {}}\n\n["a list"]\n')
    with pytest.raises(BadInput, match="line 3: expected a JSON object"):
        FileEvents(path)
    path.rename(tmp_path / "bad.jsonl.gz")
    with pytest.raises(BadInput, match="no gzip file"):
        FileEvents(tmp_path / "bad.jsonl.gz")


def test_a_source_follows_from_its_arguments() -> None:
    """The same arguments give the same messages, from any number on."""
    source = MadeUpEvents(40, duplicates_percent=25, invalid_percent=10)
    messages = list(source.bodies())
    assert len(messages) == source.messages == 50
    same = MadeUpEvents(40, duplicates_percent=25, invalid_percent=10)
    assert same.name == source.name
    assert [pack(one) for one in messages[17:]] == [pack(one) for one in same.bodies(17)]
    assert MadeUpEvents(41).name != MadeUpEvents(40).name


# -- the command ---------------------------------------------------------------------------------------------


async def test_a_folder_belongs_to_one_source(tmp_path: Path) -> None:
    """Other arguments on the same folder are refused, not mixed in."""
    await demo(MadeUpEvents(10), tmp_path)
    with pytest.raises(OtherSource, match=r"10 events.*11 events"):
        await demo(MadeUpEvents(11), tmp_path)


def test_fresh_deletes_demos_only(tmp_path: Path) -> None:
    """`--fresh` removes what a demo left, and refuses a folder with anything else in it."""
    folder = tmp_path / "store"
    remove_demo(folder)
    asyncio.run(demo(MadeUpEvents(1), folder))
    (folder / "thesis.txt").touch()
    with pytest.raises(NotADemo, match=r"thesis\.txt"):
        remove_demo(folder)
    (folder / "thesis.txt").unlink()
    remove_demo(folder)
    assert not folder.exists()


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints what came of it; started again it says that all was done."""
    arguments = ["demo", "--events=30", "--invalid=10", f"--folder={tmp_path / 'store'}", "--loop=asyncio"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for name, value in (("events", 30), ("success", 27), ("failure", 3), ("metrics:dlq:count", 3)):
        assert [str(value)] == [
            line.split("│")[2].strip() for line in shown.splitlines() if line.startswith(f"│ {name} ")
        ]
    assert all(name in shown for name in ("runs/s", "p50", "p99", "commits", "bytes on disk"))
    assert main(arguments) == 0
    assert "All of it was done before" in capsys.readouterr().out
    assert main([*arguments, "--events=31"]) == 2
    assert "--fresh" in capsys.readouterr().err


def test_without_rich_it_says_what_to_install(tmp_path: Path) -> None:
    """The demo needs the extra `cli`, and says so."""
    code = (
        "import sys; sys.modules['rich'] = None; from holdfast.__main__ import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "holdfast demo needs rich; install it with: pip install 'holdfast[cli]'\n"
