"""P4 and P9 over a power cut: at every point of a real run, a disk that kept what was flushed, the rest torn.

A shim written in C (write_trace.c) writes down what a runtime at work writes and flushes, and what it told
the outside in between.  From that come the files that a power cut may leave (power_cut_images.py); each is
opened, checked against what had been told, and some are let go on to the end.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import Runtime
from holdfast.storage.check import check
from tests.faults.power_cut_images import Image, images
from tests.faults.power_cut_run import Errand, Tally

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled shim."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("writing system calls down needs a C compiler and Linux")
    library = tmp_path_factory.mktemp("trace") / "write_trace.so"
    source = str(HERE / "write_trace.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), source, "-ldl"], check=True)
    return library


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of small files are opened in it."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=place if place.is_dir() else None) as folder:
        yield Path(folder)


def work(shim: Path, folder: Path, runs: int) -> tuple[Path, bytes]:
    """Let a child work; its trace, and the data file as the trace found it."""
    trace, base = folder / "trace", folder / "base"
    child = subprocess.run(
        [sys.executable, "-m", "tests.faults.power_cut_run", *map(str, (folder / "data", trace, base, runs))],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=300,
        env={**os.environ, "LD_PRELOAD": str(shim)},
    )
    assert child.returncode == 0, child.stderr
    return trace, base.read_bytes()


def _write(folder: Path, image: Image) -> None:
    folder.mkdir()
    (folder / "data.mdb").write_bytes(image.data)


async def look(folder: Path, image: Image, *, go_on: bool) -> None:
    """Everything told is there, nothing is torn; and, going on, every run takes effect exactly once."""
    _write(folder, image)
    where = f"event {image.event}, {image.variant}"
    problems = [problem.text for problem in check(folder) if problem.kind != "orphan"]
    assert problems == [], where
    told = {"started": set[int](), "done": set[int](), "plain": {0}}
    for note in image.notes:
        what, text = note.split()
        told[what].add(int(text))
    async with Runtime(folder, types=[Errand, Tally], min_free_bytes=0) as rt:
        found = {int(info.id): info.status for info in rt.runs(Errand, limit=10_000)}
        assert told["started"] <= found.keys(), where
        assert {found[number] for number in told["done"]} <= {"complete"}, where
        assert await rt.get(Tally, "plain").value() >= max(told["plain"]), where
        if go_on:
            for number in found:
                assert await rt.run(Errand, str(number)).result() == 2 * number, where
            for name in ("steps", "calls"):
                assert await rt.get(Tally, name).value() == len(found), f"{name}: {where}"
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("runs", "torn", "every", "least"),
    [(20, 3, 5, 200), pytest.param(120, 6, 10, 3_000, marks=pytest.mark.slow)],
)
async def test_a_power_cut_loses_nothing_that_was_told(
    shim: Path, tmp_path: Path, memory: Path, runs: int, torn: int, every: int, least: int
) -> None:
    """At each write and each flush: what was told is there, and every `every`-th disk goes on to the end."""
    trace, base = work(shim, tmp_path, runs)
    seen = mixed = 0
    image = Image(base, [], 0, "before")
    for image in images(trace, base, random.Random(runs), torn):
        await look(memory / "data", image, go_on=seen % every == 0)
        seen += 1
        mixed += image.variant.startswith("torn")
    assert f"done {runs - 1}" in image.notes
    assert f"plain {runs}" in image.notes
    assert seen > least
    assert mixed > seen / 3


async def test_a_disk_that_forgets_what_it_flushed_is_found(shim: Path, tmp_path: Path, memory: Path) -> None:
    """The test tests something: with the flushes taken away, some disk lacks what was told."""
    trace, base = work(shim, tmp_path, 10)
    last = list(images(trace, base, random.Random(0), 0))[-1]
    with pytest.raises(AssertionError, match="event"):
        await look(memory / "data", Image(base, last.notes, 0, "nothing flushed"), go_on=False)
