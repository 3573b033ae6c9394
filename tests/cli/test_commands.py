"""Commands in this process: arguments, output, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

from holdfast.__main__ import main
from holdfast.cli.root import COMPLETION_VARIABLE, holdfast
from tests.cli.support import cli, environment, fill


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` in it, and cli_app.py."""
    folder = tmp_path_factory.mktemp("commands")
    fill(folder)
    return folder


@pytest.fixture
def data(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The stored folder's name, without what the environment says."""
    for name in ("HOLDFAST_URL", "HOLDFAST_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return str(place / "data")


def test_every_command_helps_with_an_example() -> None:
    """A newcomer sees what it does and how it is called."""
    for name, command in holdfast.commands.items():
        text = command.help or ""
        assert "Example" in text, name
        assert f"holdfast {name}" in text, name
        assert len(text.strip().splitlines()[0]) <= 60, name


def test_no_command_is_help_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    """On the error output; with --help on the output, and 0."""
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "Commands:" in capsys.readouterr().out
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"], ["runs"], ["runs", "a", "b"], ["run", "a"], ["runs", "a", "--nonsense"],
        ["dead", "a", "eat"],
        ["runs", "a", "--status", "happy"], ["runs", "a", "--ref", "x"], ["new", "x"],
        ["queue", "a", "eat", "q"],
        ["query", "a", "T", "novalue"], ["dead", "a", "show"], ["workflows"],
        ["dev", "m:rt", "--fault", "step:x"],
        ["dev", "m:rt", "--fault", "step:x:0"], ["export", "a", "--json"], ["run", "a", "noslash"],
    ],
)  # fmt: skip
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence and exit code 2."""
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("holdfast: ")
    assert told.err.count("\n") == 1


def test_every_look_has_json(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One document each, with stable names."""
    wanted: dict[tuple[str, ...], set[str]] = {
        ("runs",): {"runs", "next"},
        ("run", "CliShip/f1"): {"run", "input", "output", "steps"},
        ("history", "CliShip/f1"): {"run", "history"},
        ("queues",): {"queues"},
        ("queue", "messages", "parcels"): {"messages"},
        ("dead", "list"): {"dead_letters"},
        ("dead", "causes"): {"causes", "more"},
        ("actors",): {"types"},
        ("keys", "CliShip"): {"keys"},
        ("query", "Counter", "value=1"): {"actors"},
        ("schedules",): {"schedules"},
        ("doctor",): {"where", "findings", "versions"},
        ("doctor", "--release"): {"where", "findings", "versions", "release"},
        ("check",): {"folder", "problems"},
    }
    for (name, *rest), names in wanted.items():
        main([name, data, *rest, "--json"])
        assert set(parsed(capsys)) >= names, name
    assert main(["top", data, "--once", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert {one["workflow"]: one["runs"] for one in json.loads(line)["workflows"] if one["runs"]} == {
        "CliShip": {"complete": 1, "failed": 2},
        "CliWait": {"waiting": 1},
    }


def parsed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_filters_and_pages_of_runs(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As over HTTP; a page tells where the next one begins."""
    assert main(["runs", data, "--workflow", "CliShip", "--status", "failed", "--tag", "kind:lead"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    seen: list[str] = []
    cursor: list[str] = []
    for _ in range(4):
        assert main(["runs", data, "--newest", "--limit", "1", *cursor, "--json"]) == 0
        page = parsed(capsys)
        seen += [run["id"] for run in page["runs"]]
        cursor = ["--cursor", str(page["next"])]
    assert seen == ["w", "l2", "l/1", "f1"]
    assert main(["runs", data, "--limit", "1"]) == 0
    assert "--cursor" in capsys.readouterr().err


def test_a_run_by_its_key_as_it_is_listed(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A tuple is found as it is shown, and as JSON behind a tilde."""
    for name in ("CliShip/l/1", 'CliShip/~["l",1]'):
        assert main(["run", data, name]) == 0
        told = capsys.readouterr().out
        assert told.startswith("CliShip/l/1: failed\n")
        assert "ValueError: the van is broken" in told


def test_doctor_says_what_is_wrong(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Dead letters by cause with what to do; not ready for a release, so exit code 1."""
    assert main(["doctor", data]) == 0
    told = capsys.readouterr().out
    assert "2 failed runs of CliShip" in told
    assert "`redrive` lets them go on" in told
    assert "no process has the folder open" in told
    assert main(["doctor", data, "--release"]) == 1
    assert "[ ] no dead letters" in capsys.readouterr().out


def test_restore_refuses_what_is_broken_or_used(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup with a flipped bit is not restored, and nothing is left of it."""
    assert main(["backup", data, str(tmp_path / "backup")]) == 0
    assert main(["restore", str(tmp_path / "backup"), str(tmp_path / "new")]) == 0
    assert main(["restore", str(tmp_path / "backup"), str(tmp_path / "new")]) == 2
    file = tmp_path / "backup" / "data.mdb"
    file.write_bytes(file.read_bytes().replace(b"the van is broken", b"the van is BROKEN"))
    assert main(["restore", str(tmp_path / "backup"), str(tmp_path / "other")]) == 2
    assert "is not sound" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_export_through_a_pipe(place: Path, tmp_path: Path) -> None:
    """`holdfast export a | holdfast import - b`."""
    command = (
        f"{sys.executable} -m holdfast export data | {sys.executable} -m holdfast import - {tmp_path}/new"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=place,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert cli(tmp_path, "runs", "new").stdout == cli(place, "runs", "data").stdout


def test_dev_shows_steps_and_makes_them_fail(place: Path, tmp_path: Path) -> None:
    """Each record is a line as it becomes durable; the attempt that was named fails, the next one doesn't."""
    (tmp_path / "dev_app.py").write_text(
        "from holdfast import Retry, Runtime, Workflow\n"
        "class CliDev(Workflow):\n"
        "    retry = Retry(2, '1ms')\n"
        "    async def run(self, n: int) -> int:\n"
        "        return await self.step(twice, n)\n"
        "def twice(n: int) -> int:\n    return 2 * n\n"
        "rt = Runtime('data')\n"
    )
    done = cli(
        tmp_path, "dev", "dev_app:rt", "--start", "CliDev=21", "--fault", "step:twice:2",
        "--fault", "step:twice:1", "--runs", "1", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["kind"] for line in lines] == [
        "Started",
        "AttemptFailed",
        "AttemptFailed",
        "StepDone",
        "Finished",
    ]
    assert "asked for with --fault step:twice:1" in lines[1]["text"]
    assert "complete: 42" in lines[-1]["text"]
    assert cli(tmp_path, "dev", "dev_app:rt", "--start", "Nobody").returncode == 2


def test_without_its_libraries_it_says_what_to_install(tmp_path: Path) -> None:
    """One sentence, exit code 2, no trace."""
    for library in ("click", "httpx2"):
        code = (
            f"import sys; sys.modules[{library!r}] = None; "
            "from holdfast.__main__ import main; sys.exit(main(['runs']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr == f"holdfast needs {library}; install it with: pip install 'holdfast[cli]'\n"


def completed(*words: str, incomplete: str = "") -> list[str]:
    """What a shell is offered."""
    shell = ShellComplete(holdfast, {}, "holdfast", COMPLETION_VARIABLE)
    return [one.value for one in shell.get_completions(list(words), incomplete)]


def test_completion(data: str) -> None:
    """Commands, and in a folder runs, types and verbs."""
    assert "doctor" in completed(incomplete="do")
    assert "CliShip/f1" in completed("run", data, incomplete="CliShip/f")
    assert completed("keys", data, incomplete="Cou") == ["Counter"]
    assert completed("dead", data, incomplete="red") == ["redrive"]
    assert completed("run", f"{data}-none") == []


def test_completion_scripts(place: Path) -> None:
    """click's own, for the shells that it knows."""
    done = cli(place, **{COMPLETION_VARIABLE: "bash_source"})
    assert done.returncode == 0
    assert "complete" in done.stdout


def test_groups_have_only_commands() -> None:
    """The tree is one level deep, so the table in docs/cli.md is whole."""
    assert not [name for name, one in holdfast.commands.items() if isinstance(one, click.Group)]


def test_init_and_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sample, and what to do with it; nothing is overwritten."""
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert "pytest saga.py" in capsys.readouterr().out
    assert main(["init"]) == 2
    assert os.listdir(tmp_path) == ["saga.py"]
