"""Exported runs, and the commands that look at one run: history, debug, export-run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from holdfast import Runtime, Workflow
from holdfast.__main__ import main
from holdfast.actors.errors import InvalidExport
from holdfast.storage.errors import CallerError
from holdfast.testing import ReplayViolation, replay_exported


async def double(n: int) -> int:
    return 2 * n


class Doubles(Workflow):
    """Doubles a number until it is told to stop."""

    step_name = "double"

    async def run(self, n: int) -> int:
        self.set_status("doubling")
        self.data["first"] = n
        while (await self.wait("more", "stop")).name == "more":
            n = await self.step(double, n, name=type(self).step_name)
        return n


class Other(Workflow):
    """Another one."""

    async def run(self) -> None:
        """Nothing."""


async def make(path: Path) -> str:
    """A folder with one run that has ended; the run as a file."""
    async with Runtime(path, switch_interval_seconds=None) as rt:
        run = await rt.start(Doubles, 5, id=("d", 1))
        for name in ("more", "more", "stop"):
            await run.send(name)
        assert await run.result() == 20
        return await run.export()


async def test_an_exported_run_replays_against_the_same_code(tmp_path: Path) -> None:
    """State, data and variables at any record, without the folder it came from."""
    text = await make(tmp_path / "data")

    def look() -> None:
        view = replay_exported(Doubles, text)
        assert (view.state, view.data, view.has_ended) == ("doubling", {"first": 5}, True)
        (tmp_path / "run.json").write_text(text)
        view = replay_exported(Doubles, tmp_path / "run.json", at=5)
        assert view.variables["n"] in ("5", "10")

    await asyncio.to_thread(look)


async def test_changed_code_is_found(tmp_path: Path) -> None:
    """The violation says where code and journal part."""
    text = await make(tmp_path / "data")
    Doubles.step_name = "twice"
    try:

        def look() -> None:
            with pytest.raises(ReplayViolation, match=r"Doubles/d/1 doesn't replay.*step double"):
                replay_exported(Doubles, text)

        await asyncio.to_thread(look)
    finally:
        Doubles.step_name = "double"


def test_what_is_no_exported_run_is_told() -> None:
    """Nonsense, a newer format, and a run of another workflow."""
    with pytest.raises(InvalidExport, match="no exported run"):
        replay_exported(Doubles, "[]")
    good = {
        "holdfast_run": 1,
        "workflow": "Doubles",
        "id": "x",
        "status": "complete",
        "fingerprint": "",
        "records": [{"position": 0, "at": "", "text": "", "stored": "AAAA"}],
    }
    for change, match in (
        ({"holdfast_run": 2}, "format 2"),
        ({"records": []}, "no records"),
        ({"workflow": "Other"}, "is one of Other"),
        ({"records": [{"position": 0, "at": "", "text": "", "stored": "?"}]}, "base 64"),
    ):
        text = msgspec.json.encode({**good, **change}).decode()
        with pytest.raises(CallerError, match=match):
            replay_exported(Doubles, text)


async def test_the_commands_show_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """history, debug at a record, and the file."""
    folder = tmp_path / "data"
    exported = await make(folder)

    def commands() -> None:
        assert main(["history", str(folder), "Doubles/d/1"]) == 0
        out = capsys.readouterr().out
        assert "Doubles/d/1: complete, doubling, 9 records" in out
        assert "event more" in out
        assert main(["export-run", str(folder), "Doubles/d/1"]) == 0
        assert capsys.readouterr().out == exported
        assert main(["debug", str(folder), "Doubles/d/1", __name__, "--at", "4"]) == 0
        out = capsys.readouterr().out
        assert "state      doubling" in out
        assert "variable   n = 5" in out
        assert "asked for  double" in out
        assert main(["history", str(folder), "Doubles/none"]) == 1
        assert "there is no run Doubles/none" in capsys.readouterr().err
        assert main(["debug", str(folder), "Nobody/1", __name__]) == 2
        assert "no workflow named 'Nobody'" in capsys.readouterr().err

    await asyncio.to_thread(commands)
