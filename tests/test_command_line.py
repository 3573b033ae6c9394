"""`holdfast check`, `backup`, `runs`, `dead`, `actions`, `workflows`: text out, and an exit code."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from holdfast import Fatal, Queue, Retry, RunFailed, Runtime, Workflow
from holdfast.__main__ import main

ROOT = Path(__file__).parent.parent
_broken = {"yes": True}


class Ship(Workflow):
    """Fails as long as it is told to."""

    name = "CommandLineShip"

    async def run(self, parcel: str) -> str:
        await self.step(send_parcel, parcel)
        return f"{parcel} sent"


def send_parcel(parcel: str) -> None:
    """Fails for parcels of lead while the van is broken."""
    if parcel == "lead" and _broken["yes"]:
        raise Fatal("the van is broken")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a run that is complete, one that failed, and a dead message."""
    asyncio.run(fill(tmp_path / "store"))
    return tmp_path / "store"


async def fill(path: Path) -> None:
    _broken["yes"] = True
    async with Runtime(path) as runtime:
        await (await runtime.start(Ship, "feathers", id="f1")).result()
        run = await runtime.start(Ship, "lead", id=("l", 1))
        with pytest.raises(RunFailed):
            await run.result()
        queue = runtime.get(Queue, "parcels")
        await queue.send({"not": "a text"}, id="m1")
        runtime.bind("parcels", Ship, retry=Retry(0))
        while not (await queue.stats()).dead:  # noqa: ASYNC110  # nobody sends a signal for this
            await asyncio.sleep(0)


def run(*arguments: object) -> int:
    """The command line, in this process."""
    return main([str(argument) for argument in arguments])


def test_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sound folder is 0, one with a problem is 1 and says which."""
    assert run("check", folder) == 0
    assert "no problems" in capsys.readouterr().out
    with (
        lmdb.open(str(folder / "data.mdb"), subdir=False, lib_version=0) as env,
        env.begin(write=True) as txn,
    ):
        txn.put(b"\x7fnobody's", b"1234")
    assert run("check", folder) == 1
    assert capsys.readouterr().out.count("\n") > 1


def test_a_folder_without_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can't be opened is a sentence and exit code 2, not a trace."""
    for arguments in (["check", tmp_path], ["backup", tmp_path, tmp_path / "copy"], ["runs", tmp_path]):
        assert run(*arguments) == 2
        assert capsys.readouterr().err.startswith("holdfast: ")


def test_backup(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy opens as any other folder; nothing is overwritten."""
    copy = folder.parent / "copy"
    assert run("backup", folder, copy) == 0
    assert str(copy) in capsys.readouterr().out
    assert run("check", copy) == 0
    assert run("backup", folder, copy) == 2


def test_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs are listed with status, by status if asked."""
    assert run("runs", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["complete" in line for line in lines] == [True, False]
    assert run("runs", folder, "--status", "failed") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "CommandLineShip/l/1" in line
    assert "the van is broken" in line


async def test_beside_the_owner(folder: Path) -> None:
    """Looking, checking and copying work while a process has the folder open; what needs it alone says so."""
    async with Runtime(folder):
        for arguments in (["check"], ["runs"], ["backup", folder.parent / "copy"]):
            done = in_a_child(arguments[0], folder, *arguments[1:])
            assert done.returncode == 0, done.stderr
        done = in_a_child("dead", folder, "list")
        assert done.returncode == 0
        assert "CommandLineShip/l/1" in done.stdout
        assert "Queue/parcels/m1" in done.stdout
        done = in_a_child("dead", folder, "redrive", "Queue/parcels/m1")
        assert done.returncode == 2
        assert f"in use by process {os.getpid()}" in done.stderr
        assert "or ask its owner: --url" in done.stderr


def in_a_child(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "holdfast", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_dead(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dead letters are listed and shown; redriven ones go on."""
    assert run("dead", folder, "list") == 0
    listed = capsys.readouterr().out
    assert "CommandLineShip/l/1" in listed
    assert "Queue/parcels/m1" in listed
    assert run("dead", folder, "show", "CommandLineShip/l/1") == 0
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("the van is broken", "lead", "send_parcel"))
    assert run("dead", folder, "show", "CommandLineShip/f1") == 1
    _broken["yes"] = False
    assert run("dead", folder, "redrive", "CommandLineShip/l/1") == 0
    assert "complete: lead sent" in capsys.readouterr().out
    assert run("dead", folder, "redrive", "Queue/parcels/m1") == 0
    assert "back in queue" in capsys.readouterr().out
    assert run("dead", folder, "list") == 0
    assert capsys.readouterr().out == ""
    assert run("dead", folder, "redrive", "Nobody/1") == 2
    assert "--import" in capsys.readouterr().err


def test_actions_and_workflows_of_a_module_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names, parameters and what is told of them; importing is registering."""
    (tmp_path / "listed_app.py").write_text(
        "from holdfast import WorkflowContext, action, workflow\n"
        "@action\n"
        "async def listed_action(cents: int, currency: str = 'EUR') -> None:\n"
        "    'Charge.'\n"
        "@workflow(title='Listed', version='3', author='us', tags=('a', 'b'))\n"
        "async def listed_flow(wf: WorkflowContext) -> None:\n"
        "    'Do it.'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert run("actions", "listed_app") == 0
    assert "listed_action(cents: int, currency: str = 'EUR')\n    Charge.\n" in capsys.readouterr().out
    assert run("workflows", "listed_app") == 0
    assert "listed_flow  Listed  (version 3; us; a, b)\n    Do it.\n" in capsys.readouterr().out
    assert run("actions", "no_such_module") == 2


class Ugly(Workflow):
    """Fails with what a terminal would obey."""

    name = "CommandLineUgly"
    retry = Retry(0)

    async def run(self) -> None:
        raise ValueError("one\ntwo \x1b[31mred")


def test_listings_have_one_line_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Line ends and control characters of a program's errors are shown, and don't reach the terminal."""

    async def fill_ugly() -> None:
        async with Runtime(tmp_path / "f") as runtime:
            with pytest.raises(RunFailed):
                await (await runtime.start(Ugly, id="u")).result()

    asyncio.run(fill_ugly())
    for arguments in (("runs",), ("history",), ("dead", "list"), ("dead", "show")):
        address = ["CommandLineUgly/u"] if arguments[-1] in ("history", "show") else []
        assert run(arguments[0], tmp_path / "f", *arguments[1:], *address) == 0
        told = capsys.readouterr().out
        assert "one\\ntwo \\x1b[31mred" in told and "\x1b" not in told


def test_redrive_without_its_module(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A module that isn't there is named on one line."""
    assert run("dead", folder, "redrive", "CommandLineShip/l/1", "--import", "no_such_module") == 2
    assert "no module 'no_such_module'" in capsys.readouterr().err
