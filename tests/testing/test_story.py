"""testing/story.py: the same seed tells the same story, on any machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from holdfast.testing import simulate
from tests.testing.support import FiveSteps, Tally

ROOT = Path(__file__).parents[2]
TELL = """
import asyncio
from holdfast import Counter, Queue, Runtime, Workflow
from holdfast.testing import simulate
from tests.testing.support import FiveSteps

async def body(n: int) -> int:
    await asyncio.gather(*[asyncio.sleep(n % 3) for _ in range(3)])
    done, _ = await asyncio.wait({asyncio.create_task(asyncio.sleep(i % 2, i)) for i in range(5)})
    return sum(task.result() * 10 ** place for place, task in enumerate(done))

class Wide(Workflow):
    async def run(self, n: int) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(self.step(body, n + i, name=f"b{i}")) for i in range(4)}
        return [task.result() for task in tasks]

def bind(rt: Runtime) -> None:
    rt.bind("numbers", Wide)

with simulate(seed=11, setup=bind) as sim:
    sim.crash_at_random(0.1, most=3)
    sim.fail_commit(5)
    sim.send("numbers", *range(5), copies=2, mix=True)
    runs = [sim.start(FiveSteps, n) for n in range(3)]
    for run in runs:
        sim.result(run)
    sim.run_until_idle()
    print(sim.story.digest(), len(sim.story.lines), sim.callbacks, sim.life)
"""


def told(hash_seed: str, padding: int) -> str:
    """What a process with this hash seed, and objects at other addresses, tells."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    code = f"padding = [object() for _ in range({padding})]\n{TELL}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_tell_one_story() -> None:
    """Neither hash seeds nor addresses decide anything."""
    first = told("1", 0)
    assert first == told("2", 12_345)
    assert int(first.split()[3]) > 1


def test_seeds_tell_other_stories() -> None:
    """Runs side by side take their turns in another order; alone the order of asyncio is one of them."""

    def digest(seed: int) -> str:
        with simulate(seed=seed) as sim:
            runs = [sim.start(Tally, 3) for _ in range(4)]
            for run in runs:
                sim.result(run)
            return sim.story.digest()

    assert digest(5) == digest(5)
    assert len({digest(seed) for seed in range(5)}) > 1


def test_a_story_is_text_and_data() -> None:
    """One line for each thing, with its virtual time, under the life it happened in."""
    with simulate() as sim:
        sim.crash_at("commit", 3)
        sim.result(sim.start(FiveSteps, 5, id="1"))
        text = str(sim.story)
        assert text.startswith("life 1\n       0.000 s  opened\n")
        assert "0.000 s  body: FiveSteps/1 step add begins, attempt 1\n" in text
        assert "commit 3: FiveSteps/1 double done at attempt 1: 12\n" in text
        assert "crash: after commit 3\nlife 2\n" in text
        assert [line.life for line in sim.story.lines if line.what == "opened"] == [1, 2]


def test_memory_of_the_process_decides_nothing() -> None:
    """A large value that was freed makes a real runtime trim its memory; a story stays the same by that."""

    def callbacks(size: int) -> int:
        with simulate() as sim:
            sim.advance("1m")
            filled = [bytes(1000) for _ in range(size)]
            sim.advance("1m")
            del filled
            sim.advance("5m")
            return sim.callbacks

    assert callbacks(0) == callbacks(20_000)
