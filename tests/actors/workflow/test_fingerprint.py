"""The fingerprint of a workflow's code: what changes it, what doesn't, and that it is the same everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from holdfast import Runtime, Workflow
from holdfast.actors.workflow.divergence import code_changed
from holdfast.actors.workflow.fingerprint import fingerprint
from holdfast.actors.workflow.head import RunHead

ROOT = Path(__file__).parents[3]
SOURCE = '''
from holdfast import Workflow

LIMIT = 3

def body(n: int) -> int:
    return n + 1

class Base(Workflow):
    async def shared(self, n: int) -> str:
        return f"{n} done"

class Sample(Base):
    delay = "1s"

    async def run(self, n: int) -> str:
        """What it does."""
        if n in {"a", "b", "c", "d"}:  # a set of constants lies in another order in each process
            return "no"
        picked = [await self.step(body, one) for one in range(n) if one < LIMIT]
        return await self.shared(len(picked)) + self.word

    @property
    def word(self) -> str:
        return "well"
'''


def of(source: str) -> str:
    """The fingerprint of `Sample` as it stands in a source."""
    names: dict[str, object] = {"__name__": "sample"}
    exec(compile(source, "sample.py", "exec"), names)  # noqa: S102  # our own text, above
    made = names["Sample"]
    assert isinstance(made, type)
    return fingerprint(made, Workflow)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("range(n)", "range(n + 1)"),
        ("one < LIMIT", "one <= LIMIT"),
        ('return "no"', 'return "NO"'),
        ("{n} done", "{n} made"),
        ('"well"', '"ill"'),
        ("self.shared(", "self.shared2("),
    ],
)
def test_code_of_the_class_and_its_bases_changes_it(old: str, new: str) -> None:
    """Code, constants and names, in run(), in helpers, in properties, in base classes, in inner functions."""
    assert old in SOURCE
    assert of(SOURCE.replace(old, new)) != of(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a set of constants lies", "# another comment:"),
        ('"""What it does."""', '"""Something else."""'),
        ("\n\nLIMIT", "\n\n\n\n\nLIMIT"),
        ("LIMIT = 3", "LIMIT = 4"),
        ("return n + 1", "return n + 2"),
        ('delay = "1s"', 'delay = "2s"'),
    ],
)
def test_what_lies_elsewhere_does_not(old: str, new: str) -> None:
    """Comments, lines, docstrings, bodies of steps, constants of the module and attributes of the class."""
    assert old in SOURCE
    assert of(SOURCE.replace(old, new)) == of(SOURCE)


def test_it_is_the_same_in_every_process() -> None:
    """Neither addresses nor the hashes of texts get into it."""
    program = (
        f"from {__name__} import of, SOURCE; print(of(SOURCE))"
        if __name__.startswith("tests.")
        else "raise SystemExit('the module of this test has another name')"
    )
    found = {of(SOURCE)}
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout.strip())
    assert len(found) == 1


class Short(Workflow):
    """A run with nothing to do."""

    name = "FingerprintShort"

    async def run(self) -> str:
        return "done"


async def test_it_is_shown_with_the_run(rt: Runtime) -> None:
    """What is known of a run has the fingerprint of the code that last drove it."""
    run = await rt.start(Short, id="s")
    await run.result()
    assert (await run.info()).fingerprint == fingerprint(Short, Workflow)
    assert [info.fingerprint for info in rt.runs(Short)] == [fingerprint(Short, Workflow)]


def test_heads_without_one_are_read() -> None:
    """A run that was stored before there were fingerprints has none, and a divergence says so."""
    stored = msgspec.msgpack.encode(["waiting", 1, 2, None, "c"])
    head = msgspec.msgpack.decode(stored, type=RunHead)
    assert head == RunHead("waiting", 1, 2, None, "c", "", 0)
    assert code_changed(head.fingerprint, "0123456789ab") == "whether the code has changed since is not known"
