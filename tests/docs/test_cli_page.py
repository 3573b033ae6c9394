"""docs/cli.md: the table has every command, and the examples do what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from holdfast.cli.root import holdfast
from tests.cli.support import Served

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
URL = "http://127.0.0.1:8470"


class Step(NamedTuple):
    """One command of the page, what it prints, and its exit code."""

    command: str
    output: list[str]
    code: int


def steps() -> Iterator[Step]:
    """All commands, in order."""
    for block in CONSOLE.findall(PAGE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.splitlines()
            code = 0
            if output and (found := re.fullmatch(r"\(exit code (\d)\)", output[-1])):
                code = int(found[1])
                output.pop()
            yield Step(command, output, code)


def matches(told: str, expected: list[str]) -> bool:
    """Whether lines are as the page has them; blanks count once, and `...` stands for anything."""
    text = "\n".join(" ".join(line.split()) for line in told.splitlines())
    wanted = "\n".join(" ".join(line.split()) for line in expected)
    pattern = ".*".join(map(re.escape, wanted.split("...")))
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def test_every_command_is_on_the_page() -> None:
    """The table has the names and the first sentences of click's own tree."""
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert rows == {name: first_line(command) for name, command in holdfast.commands.items()}


def first_line(command: click.Command) -> str:
    return (command.help or "").strip().splitlines()[0]


def test_every_command_but_those_told_elsewhere_has_an_example() -> None:
    """A command that is on no line of the page's examples is one of README.md."""
    shown = {shlex.split(step.command)[1] for step in steps() if step.command.startswith("holdfast ")}
    assert set(holdfast.commands) - shown == {"demo"}


def test_examples(tmp_path: Path) -> None:
    """Run in order, each command prints what stands below it."""
    (tmp_path / "app.py").write_text(PROGRAM.findall(PAGE)[0], encoding="utf-8")
    subprocess.run([sys.executable, "app.py"], cwd=tmp_path, check=True, capture_output=True)
    served: Served | None = None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    try:
        for step in steps():
            words = shlex.split(step.command)
            if words[-1] == "&":
                served = Served(tmp_path, *words[1:-1])
                environment["HOLDFAST_TOKEN"] = served.token
                continue
            if words[0] == "touch":
                (tmp_path / words[1]).touch()
                continue
            if served is not None:
                words = [served.url if word == URL else word for word in words]
            done = subprocess.run(
                [sys.executable, "-m", "holdfast", *words[1:]],
                cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            told = done.stdout if served is None else done.stdout.replace(served.url, URL)
            assert done.returncode == step.code, (step.command, done.stdout, done.stderr)
            assert matches(told, step.output), f"{step.command}\n{told}"
    finally:
        if served is not None:
            served.close()
