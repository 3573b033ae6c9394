"""`holdfast replay`: which stored runs would diverge with the present code, without any effect."""

from __future__ import annotations

import abc
import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from holdfast import Counter, Retry, Runtime, Workflow
from holdfast.__main__ import main
from holdfast.actors.folder_replay import Replayed, replay_folder
from holdfast.actors.replay_report import exit_code, report_lines
from holdfast.storage.errors import FolderRefused
from tests.actors.workflow.support import settle

ROOT = Path(__file__).parents[2]
CHANGED: set[str] = set()
SEEN: list[str] = []


class Parcel(Workflow):
    """Ends, sleeps, waits for retries, or counts, as its input says."""

    name = "ReplayParcel"
    retry = Retry(5, 3600, "constant", jitter=0)

    async def run(self, kind: str) -> str:
        await self.step(mark, "first", name="renamed" if f"first {kind}" in CHANGED else "first")
        await self.runtime.get(Counter, "parcels").increment()
        if kind == "ends":
            return "changed" if "result" in CHANGED else "ended"
        if kind == "fails":
            raise ValueError("as it is")
        if kind == "retries":
            await self.step(broken)
        await self.sleep(86_400)
        return await self.step(mark, "never reached")


async def mark(what: str) -> str:
    SEEN.append(what)
    return what


async def broken() -> None:
    SEEN.append("broken")
    raise OSError("not today")


KINDS = ["ends", "fails", "sleeps", "retries"]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CHANGED.clear()
    SEEN.clear()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A folder with a run of each kind, closed."""
    async with Runtime(tmp_path / "store") as rt:
        for kind in KINDS:
            await rt.start(Parcel, kind, id=kind)
        await settle(rt)
    SEEN.clear()
    return tmp_path / "store"


def digest(path: Path) -> str:
    """Of the data of a folder, byte by byte."""
    return hashlib.sha256((path / "data.mdb").read_bytes()).hexdigest()


def verdicts(replayed: list[Replayed]) -> dict[str, str]:
    return {one.id: one.verdict for one in replayed}


async def test_what_fits_fits_and_nothing_happens(path: Path) -> None:
    """No step begins, no actor is called, no byte of the folder changes, and nothing of the copy is left."""
    before, files = digest(path), sorted(os.listdir(path.parent))
    replayed = await replay_folder(path, ended=True, scratch=path.parent)
    assert verdicts(replayed) == dict.fromkeys(KINDS, "fits")
    assert exit_code(replayed) == 0
    assert SEEN == []
    assert digest(path) == before
    assert sorted(os.listdir(path.parent)) == files
    async with Runtime(path) as rt:
        assert await rt.get(Counter, "parcels").get() == 4


async def test_ended_runs_are_left_out_by_default(path: Path) -> None:
    """They will never be replayed."""
    assert verdicts(await replay_folder(path)) == {"sleeps": "fits", "retries": "fits"}


async def test_what_diverges_is_told_with_all_that_a_stuck_run_says(path: Path) -> None:
    """First difference, line, both sequences; the others fit."""
    CHANGED.add("first sleeps")
    replayed = await replay_folder(path, ended=True)
    assert verdicts(replayed) == {**dict.fromkeys(KINDS, "fits"), "sleeps": "diverges"}
    assert exit_code(replayed) == 1
    text = "\n".join(report_lines(replayed))
    assert "diverges: ReplayParcel/sleeps (waiting, 3 records)" in text
    assert "record 1 of the journal is step first (use 1), but run() waits for step renamed (use 1)" in text
    line = Parcel.run.__code__.co_firstlineno + 1
    assert f"    at {__file__}:{line} in Parcel.run\n" in text
    assert "    recorded:  1 step first (use 1), 2 step Counter/parcels.increment (use 1)\n" in text
    assert "    requested: step renamed (use 1)\n" in text
    assert "the code of the class has not changed since" in text
    assert text.endswith("1 of 4 runs would diverge")
    async with Runtime(path) as rt:
        assert {info.status for info in rt.runs(Parcel, status="stuck")} == set()


async def test_attempts_count_as_in_a_stuck_run(path: Path) -> None:
    """A step that is being retried must be asked for."""
    CHANGED.add("first retries")
    assert verdicts(await replay_folder(path))["retries"] == "diverges"


async def test_ended_runs_must_end_as_they_did(path: Path) -> None:
    """With the same result, or a failure where it failed."""
    CHANGED.add("result")
    replayed = await replay_folder(path, ended=True)
    assert verdicts(replayed) == {**dict.fromkeys(KINDS, "fits"), "ends": "diverges"}
    assert "run() returns another result than is recorded" in "\n".join(report_lines(replayed))


async def test_a_stuck_run_is_replayed_too(path: Path) -> None:
    """Whether the fix of a stuck run fits can be known before the folder is opened with it."""
    CHANGED.update({"first sleeps", "first retries"})
    async with Runtime(path) as rt:
        for kind in ("sleeps", "retries"):
            rt.engine.resume(rt.run(Parcel, kind)._ref)
        await settle(rt)
        assert {info.status for info in rt.runs(Parcel, status="stuck")} == {"stuck"}
    assert set(verdicts(await replay_folder(path)).values()) == {"diverges"}
    CHANGED.clear()
    assert set(verdicts(await replay_folder(path)).values()) == {"fits"}


async def test_beside_a_living_owner(path: Path) -> None:
    """The owner goes on, and its folder is read as of one moment."""
    async with Runtime(path) as rt:
        done = await asyncio.to_thread(child, path, "tests.actors.test_folder_replay")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[:2] == [
            "WORKFLOW      FITS  DIVERGES  UNKNOWN",
            "ReplayParcel     2         0        0",
        ]
        await rt.get(Counter, "parcels").increment()


def child(path: Path, target: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "holdfast", "replay", str(path), target, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


async def test_a_class_that_is_not_there(path: Path) -> None:
    """Runs that nobody can replay are told, and give an exit code of their own."""
    done = await asyncio.to_thread(child, path, "holdfast")
    assert done.returncode == 2
    assert "ReplayParcel     0         0        2" in done.stdout
    assert "no class named 'ReplayParcel' is imported" in done.stdout
    assert "0 of 2 runs would diverge, 2 could not be replayed" in done.stdout


def test_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One workflow by name, a module in a package, and what is wrong: exit code 2 and a sentence."""

    async def fill() -> None:
        async with Runtime(tmp_path / "store") as rt:
            await rt.start(Parcel, "sleeps", id="s")
            await settle(rt)

    asyncio.run(fill())
    folder = str(tmp_path / "store")
    assert main(["replay", folder, f"{__name__}:Parcel"]) == 0
    assert "0 of 1 runs would diverge" in capsys.readouterr().out
    assert main(["replay", folder, f"{__name__.rpartition('.')[0]}:test_folder_replay", "--ended"]) == 0
    capsys.readouterr()
    for target in ("no_such_module", f"{__name__}:Nobody", f"{__name__}:mark", "tests.nowhere:x"):
        assert main(["replay", folder, target]) == 2
        assert target in capsys.readouterr().err
    (tmp_path / "broken_module_of_replay.py").write_text("1 / 0\n", encoding="utf-8")
    sys.path.insert(0, str(tmp_path))
    try:
        assert main(["replay", folder, "broken_module_of_replay"]) == 2
    finally:
        sys.path.remove(str(tmp_path))
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "nothing"), __name__]) == 2


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("ends_when_imported", "SystemExit"),
        ("package_that_raises.inner", "ZeroDivisionError"),
        ("plain_module.inner", "no package"),
        ("plain_module.py", "no package"),
        ("./plain_module", "no name of a module"),
        ("..plain_module", "no name of a module"),
        ("", "no name of a module"),
    ],
)
def test_targets_that_can_not_be_imported(
    target: str,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is exit code 2 and a sentence; a module that ends the process must not look like a success."""
    (tmp_path / "ends_when_imported.py").write_text("import sys\nsys.exit(0)\n", encoding="utf-8")
    (tmp_path / "plain_module.py").write_text("", encoding="utf-8")
    (tmp_path / "package_that_raises").mkdir()
    (tmp_path / "package_that_raises" / "__init__.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["replay", str(tmp_path / "nothing"), target]) == 2
    assert told in capsys.readouterr().err


def test_a_scratch_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scratch = str(tmp_path / "nowhere")
    assert main(["replay", str(tmp_path / "nothing"), __name__, "--scratch", scratch]) == 2
    assert scratch in capsys.readouterr().err


def test_deps_that_end_the_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deps_that_exit.py").write_text("import sys\ndef deps(): sys.exit(0)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["replay", str(tmp_path / "nothing"), __name__, "--deps", "deps_that_exit:deps"]) == 2
    assert "SystemExit" in capsys.readouterr().err


class Bank(abc.ABC):
    """A client that run() takes from deps to name a step's body."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def charge(self, order: str) -> str:
        return f"{order} at {self.url}"

    @abc.abstractmethod
    def close(self) -> None: ...


class RealBank(Bank):
    def close(self) -> None: ...


class Settings(msgspec.Struct):
    """What run() reads itself."""

    days: int


class Paying(Workflow):
    """Uses deps in run()."""

    name = "ReplayPaying"

    async def run(self, order: str) -> str:
        bank = self.runtime.deps.get(Bank)  # type: ignore[type-abstract]
        paid = await self.step(bank.charge, order)
        if order == "later":
            await self.sleep(86_400 * self.runtime.deps.get(Settings).days)
        return paid


def make_deps() -> list[object]:
    return [Settings(1)]


def make_nothing() -> list[object]:
    raise ValueError("no settings")


def test_deps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Blank objects name the bodies of steps; what run() reads itself must be given."""

    async def fill() -> None:
        async with Runtime(tmp_path / "store", deps=[RealBank("x"), Settings(1)]) as rt:
            await (await rt.start(Paying, "now", id="now")).result()
            await rt.start(Paying, "later", id="later")
            await settle(rt)

    asyncio.run(fill())
    command = ["replay", str(tmp_path / "store"), f"{__name__}:Paying", "--ended"]
    assert main(command) == 1
    text = capsys.readouterr().out
    assert "1 of 2 runs would diverge" in text
    assert "run() raised CallerError: rt.deps holds no Settings" in text
    assert main([*command, "--deps", f"{__name__}:make_deps"]) == 0
    capsys.readouterr()
    for function in ("make_nothing", "no_such_function"):
        assert main([*command, "--deps", f"{__name__}:{function}"]) == 2
        assert function in capsys.readouterr().err


async def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """Nothing is made of it."""
    with pytest.raises(FolderRefused):
        await replay_folder(tmp_path / "nothing")
    assert os.listdir(tmp_path) == []


def test_many_runs_with_one_reason_are_one_finding() -> None:
    """The first are shown, the others counted."""
    many = [Replayed("W", str(n), "waiting", 2, "diverges", "the same") for n in range(10)]
    lines = report_lines([*many, Replayed("V", "v", "running", 1, "fits")])
    assert sum(line == "    the same" for line in lines) == 3
    assert "and 7 more runs of W for the same reason" in lines
    assert lines[0].split() == ["WORKFLOW", "FITS", "DIVERGES", "UNKNOWN"]
    assert lines[1].split() == ["V", "1", "0", "0"]
    assert lines[-1] == "10 of 11 runs would diverge"
