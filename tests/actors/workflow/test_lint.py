"""`holdfast lint`: what run() does that replay would do otherwise is named, and nothing else is."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from holdfast.__main__ import main
from holdfast.actors.workflow.lint import Finding, lint_source, lint_targets
from holdfast.storage.errors import CallerError

ROOT = Path(__file__).parents[3]

HEAD = """\
import asyncio, concurrent.futures, os, random, socket, threading, time, uuid
import datetime as dt
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from time import monotonic as ticks
from uuid import uuid4

import httpx2
import requests

from holdfast import Counter, Workflow

CACHE = {}
SEEN: list[int] = []
COUNT = 0

async def body(*args): ...

class Flow(Workflow):
    total = 0

"""


def lint(run: str) -> list[Finding]:
    """The findings in a workflow whose run() has this body."""
    source = f"{HEAD}    async def run(self, input):\n{textwrap.indent(textwrap.dedent(run), ' ' * 8)}"
    return lint_source(source, "flow.py")


@pytest.mark.parametrize(
    ("line", "does", "instead"),
    [
        ("time.time()", "calls time.time()", "self.now()"),
        ("ticks()", "calls time.monotonic()", "self.now()"),
        ("time.strftime('%H')", "calls time.strftime()", "self.now()"),
        ("datetime.now(UTC)", "calls datetime.datetime.now()", "self.now()"),
        ("dt.datetime.utcnow()", "calls datetime.datetime.utcnow()", "self.now()"),
        ("date.today()", "calls datetime.date.today()", "self.now()"),
        ("time.sleep(1)", "calls time.sleep()", "await self.sleep(...)"),
        ("random.randint(1, 6)", "calls random.randint()", "self.random"),
        ("random.Random()", "calls random.Random()", "self.random"),
        ("os.urandom(8)", "calls os.urandom()", "self.random"),
        ("uuid.uuid1()", "calls uuid.uuid1()", "self.uuid()"),
        ("uuid4()", "calls uuid.uuid4()", "self.uuid()"),
        ("open('x')", "calls open()", "a step"),
        ("with open('x') as f: pass", "calls open()", "a step"),
        ("Path('x').read_text()", "calls .read_text()", "a step"),
        ("socket.create_connection(('a', 1))", "calls socket.create_connection()", "a step"),
        ("requests.get('x')", "calls requests.get()", "a step"),
        ("await httpx2.AsyncClient().get('x')", "calls httpx2.AsyncClient()", "a step"),
        ("await asyncio.open_connection('a', 1)", "calls asyncio.open_connection()", "a step"),
        ("threading.Thread(target=body).start()", "calls threading.Thread()", "thread=True"),
        ("concurrent.futures.ThreadPoolExecutor()", "calls concurrent.futures.", "thread=True"),
        ("await asyncio.to_thread(body)", "calls asyncio.to_thread()", "thread=True"),
        ("asyncio.get_running_loop().run_in_executor(None, body)", "calls .run_in_executor()", "thread=True"),
        ("os.environ['HOME']", "reads os.environ", "the input"),
        ("os.getenv('HOME')", "calls os.getenv()", "the input"),
        ("hash(input)", "calls hash()", "a value that is stored"),
        ("CACHE[input] = 1", "writes CACHE[input]", "local variables"),
        ("del CACHE[input]", "writes CACHE[input]", "local variables"),
        ("SEEN.append(1)", "changes SEEN", "local variables"),
        ("CACHE.setdefault('x', []).append(1)", "changes CACHE", "local variables"),
        ("global COUNT; COUNT += 1", "writes the global COUNT", "local variables"),
        ("Flow.total += 1", "writes Flow.total", "local variables"),
        ("type(self).total = 1", "writes type(self).total", "local variables"),
        ("self.__class__.total = 1", "writes self.__class__.total", "local variables"),
        ("for x in {1, 2}: pass", "goes through a set", "sorted(...)"),
        ("[x for x in set(input)]", "goes through a set", "sorted(...)"),
        ("list(set(input))", "goes through a set", "sorted(...)"),
        ("from time import time as t; t()", "calls time.time()", "self.now()"),
        ("f = lambda: time.time()", "calls time.time()", "self.now()"),
        ("await self.step(body, time.time())", "calls time.time()", "self.now()"),
        ("await self.step(partial(body, uuid4()))", "calls uuid.uuid4()", "self.uuid()"),
        ("def inner(): return time.time()\ninner()", "calls time.time()", "self.now()"),
    ],
)
def test_what_is_named(line: str, does: str, instead: str) -> None:
    """One finding, with the line, what is done and what to use."""
    (finding,) = lint(line)
    assert finding.does.startswith(does)
    assert instead in finding.rule.instead
    assert str(finding).startswith(f"flow.py:{HEAD.count(chr(10)) + 2}:")
    assert ": Flow.run " in str(finding)


@pytest.mark.parametrize(
    "line",
    [
        "self.now(); self.random.random(); self.uuid()",
        "await self.step(lambda: time.time())",
        "await self.step(body, input, name='x')",
        "def inner(): return time.time()\nawait self.step(inner)",
        "async with self.group() as g: g.step(lambda: open('x'))",
        "random.Random(input).random()",
        "datetime.fromisoformat(input)",
        "time.strftime('%H', time.gmtime(0))",
        "time = self.now()\ntime.time()",
        "open = self.helper\nopen()",
        "mine = []\nmine.append(1)\nmine[0] = 2",
        "CACHE.get(input); CACHE[input]; len(SEEN)",
        "for x in sorted({1, 2}): pass",
        "for x in [1, 2]: pass",
        "self.total = 1",
        "await self.runtime.get(Counter, 'x').increment()",
        "await asyncio.gather(self.sleep(1), asyncio.sleep(2))",
        "uuid.UUID(input); uuid.uuid5(uuid.NAMESPACE_DNS, 'x')",
        "time.time()  # holdfast: allow",
        "print(input)",
    ],
)
def test_what_is_allowed(line: str) -> None:
    """What replay does in the same way, what lies in steps, and what is said to be all right."""
    assert lint(line) == []


def test_helpers_of_the_class_and_the_module_are_followed() -> None:
    """By name, however they are called, from wherever run() gets there; others are left alone."""
    source = textwrap.dedent("""\
        import time
        from holdfast import Workflow

        def stamp():
            return time.time()

        def elsewhere():
            return time.time()

        class Base(Workflow):
            async def inherited(self):
                return time.monotonic()

            async def nobody_calls_it(self):
                return time.time()

        class Flow(Base):
            async def run(self):
                await self.helper()

            async def helper(self):
                stamp()
                await self.inherited()
                await self.step(self.as_step)
                await self.step(elsewhere)

            async def as_step(self):
                return time.time()
        """)
    found = lint_source(source, "flow.py")
    assert [(one.line, one.function) for one in found] == [(5, "stamp"), (12, "Flow.inherited")]


def test_functions_that_are_workflows_are_looked_at() -> None:
    """By their decorator, bare or called, under any name of the module; what they call is followed."""
    source = """
import time
import holdfast
from holdfast import workflow
from holdfast import workflow as durable

def helper(): return time.time()

@workflow
async def bare(wf): return time.time()

@workflow(title="x")
async def called(wf, n):
    await wf.actions.read_text(path="x")
    await wf.run_action(helper, n)
    return helper()

@durable(name="X")
async def renamed(ctx): return time.monotonic()

@holdfast.workflow
async def dotted(ctx):
    await ctx.step(time.time)
    return time.time_ns()

@other
async def none_of_them(wf): return time.time()
"""
    assert [(finding.line, finding.function, finding.does) for finding in lint_source(source, "flow.py")] == [
        (7, "helper", "calls time.time()"),
        (10, "bare", "calls time.time()"),
        (19, "renamed", "calls time.monotonic()"),
        (24, "dotted", "calls time.time_ns()"),
    ]


def test_what_is_a_workflow() -> None:
    """By its base, under any name, or by the steps of its run(); actors and others are left alone."""
    source = textwrap.dedent("""\
        import time
        import holdfast
        import holdfast as h
        from holdfast import Actor, Workflow as W
        from app import Base

        class A(holdfast.Workflow):
            async def run(self): time.time()

        class B(h.Workflow):
            async def run(self): time.time()

        class C(W):
            async def run(self): time.time()

        class D(C):
            async def run(self): time.time()

        class E(Base):
            async def run(self):
                await self.step(print)
                time.time()

        class F(Base):
            async def run(self): time.time()

        class G(Actor):
            async def run(self): time.time()
        """)
    assert [one.function for one in lint_source(source, "flow.py")] == [
        "A.run", "B.run", "C.run", "D.run", "E.run"
    ]  # fmt: skip


def test_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files, folders and modules; exit codes 0, 1 and 2."""
    bad, good = tmp_path / "bad.py", tmp_path / "sub" / "good.py"
    good.parent.mkdir()
    (tmp_path / ".hidden").mkdir()
    bad.write_text(f"{HEAD}    async def run(self):\n        time.time()\n", encoding="utf-8")
    good.write_text(f"{HEAD}    async def run(self):\n        self.now()\n", encoding="utf-8")
    (tmp_path / ".hidden" / "x.py").write_text(bad.read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["lint", str(good)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["lint", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{bad}:{HEAD.count(chr(10)) + 2}:9: Flow.run calls time.time(): the clock shows")
    assert line.endswith("; use self.now()")
    (tmp_path / "sub" / "broken.py").write_text("def (", encoding="utf-8")
    assert main(["lint", str(tmp_path)]) == 2
    assert "broken.py can't be read as Python" in capsys.readouterr().err
    assert main(["lint", "no.such.module"]) == 2
    with pytest.raises(CallerError, match="neither a path nor a module"):
        lint_targets(["sys"])


def test_targets_where_nothing_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without code, and packages whose import fails or ends the process, are told."""
    (tmp_path / "no_code").mkdir()
    with pytest.raises(CallerError, match="no Python file"):
        lint_targets([str(tmp_path / "no_code")])
    for name, source in (("lint_raises", "1 / 0\n"), ("lint_exits", "import sys\nsys.exit(0)\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CallerError, match="ZeroDivisionError"):
        lint_targets(["lint_raises.inner"])
    with pytest.raises(CallerError, match="SystemExit"):
        lint_targets(["lint_exits.inner"])


def test_our_own_workflows_are_clean() -> None:
    """The examples keep to what they teach."""
    assert lint_targets([str(ROOT / "examples"), "holdfast.examples.events_pipeline.workflow"]) == []
