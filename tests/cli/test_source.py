"""Where commands look: beside a living owner, behind a killed one, over HTTP, and where nothing is."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import Child, Served, cli, environment, fill


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` in it, and cli_app.py."""
    folder = tmp_path_factory.mktemp("cli")
    fill(folder)
    return folder


@pytest.fixture
def owner(place: Path) -> Iterator[Child]:
    """A living owner that commits again and again."""
    child = Child(place, "cli_app.py", "stay")
    yield child
    child.close()


@pytest.fixture
def served(place: Path) -> Iterator[Served]:
    """The folder's service."""
    child = Served(place, "serve", "data", "--import", "cli_app")
    yield child
    child.close()


LOOKS = [
    ("runs",), ("queues",), ("actors",), ("dead", "list"), ("dead", "causes"), ("top", "--once"),
    ("run", "CliShip/f1"), ("history", "CliShip/f1"), ("get", "Counter", "visits"), ("keys", "CliShip"),
    ("query", "Counter"), ("queue", "messages", "parcels"), ("queue", "show", "parcels"), ("doctor",),
    ("dead", "show", "CliShip/l2"),
]  # fmt: skip
COPIES = [("check", "data"), ("backup", "data", "copied"), ("export", "data", "--out", "out.jsonl")]


def in_folder(look: tuple[str, ...]) -> tuple[str, ...]:
    return (look[0], "data", *look[1:])


def test_looking_works_beside_a_living_owner(place: Path, owner: Child) -> None:
    """Whatever only looks does so while another process commits, and that one goes on."""
    for look in LOOKS:
        done = cli(place, *in_folder(look))
        assert done.returncode == 0, (look, done.stderr)
        assert done.stdout
    for copy in COPIES:
        done = cli(place, *copy)
        assert done.returncode == 0, (copy, done.stderr)
    assert owner.process.poll() is None


def test_writing_beside_a_living_owner_is_refused(place: Path, owner: Child) -> None:
    """The sentence names the owner, and the way that there is."""
    for write in (
        ("dead", "data", "redrive", "CliShip/l2", "--import", "cli_app"),
        ("dead", "data", "drop", "CliShip/l2", "--reason", "old"),
        ("queue", "data", "drain", "parcels"),
    ):
        done = cli(place, *write)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"in use by process {owner.process.pid}" in done.stderr
        assert "or ask its owner: --url" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_killed_owner_leaves_a_folder_to_look_into(place: Path) -> None:
    """Behind kill -9 everything is there, and doctor says that nobody has it open."""
    child = Child(place, "cli_app.py", "stay")
    os.kill(child.process.pid, signal.SIGKILL)
    child.close()
    assert "CliShip/f1" in cli(place, "runs", "data").stdout
    assert "no process has the folder open" in cli(place, "doctor", "data").stdout


def test_doctor_names_the_owner(place: Path, owner: Child) -> None:
    """It is told without taking the lock from it."""
    assert f"process {owner.process.pid} has the folder open" in cli(place, "doctor", "data").stdout


def test_a_service_shows_what_its_folder_shows(place: Path, served: Served) -> None:
    """The same JSON from both sides, for runs, their steps and dead letters."""
    for look in (("runs",), ("run", "CliShip/f1"), ("dead", "list"), ("keys", "CliShip")):
        online = cli(place, *look, "--json", HOLDFAST_URL=served.url, HOLDFAST_TOKEN=served.token)
        offline = cli(place, *in_folder(look), "--json")
        assert online.returncode == offline.returncode == 0, (look, online.stderr, offline.stderr)
        assert without_fingerprints(json.loads(online.stdout)) == without_fingerprints(
            json.loads(offline.stdout)
        )


def without_fingerprints(value: object) -> object:
    """JSON without what the service changes by running."""
    if isinstance(value, dict):
        return {name: without_fingerprints(one) for name, one in value.items() if name != "fingerprint"}
    return [without_fingerprints(one) for one in value] if isinstance(value, list) else value


def test_every_look_works_over_http(place: Path, served: Served) -> None:
    """With the URL and the token in the environment the folder is left out."""
    for look in LOOKS:
        done = cli(place, *look, HOLDFAST_URL=served.url, HOLDFAST_TOKEN=served.token)
        assert done.returncode == 0, (look, done.stderr)
        assert done.stdout


def test_writes_go_to_the_owner(place: Path, served: Served) -> None:
    """A queue is drained and opened again, a letter is let go on, over HTTP."""
    where = ("--url", served.url, "--token", served.token)
    drained = cli(place, "queue", *where, "drain", "parcels", "--reason", "moving")
    assert "Queue/parcels: draining" in drained.stdout, drained.stderr
    assert "draining" in cli(place, "queues", "data").stdout
    assert "Queue/parcels: open" in cli(place, "queue", *where, "resume", "parcels").stdout
    told = cli(place, "dead", *where, "redrive", "CliShip/l2", "--reason", "the van is mended")
    assert told.stdout == "CliShip/l2 goes on\n", told.stderr


def test_a_folder_that_is_named_counts_more_than_the_environment(place: Path) -> None:
    """HOLDFAST_URL is for commands without a folder."""
    assert cli(place, "runs", "data", HOLDFAST_URL="http://127.0.0.1:9").returncode == 0


def test_a_wrong_token_is_one_sentence(place: Path, served: Served) -> None:
    """401 is exit code 2."""
    done = cli(place, "runs", "--url", served.url, "--token", "wrong-but-long-enough")
    assert (done.returncode, done.stderr) == (2, "holdfast: this token is not known here\n")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "ftp://x", "127.0.0.1:8470", "http://"])
def test_a_wrong_url_is_one_sentence(place: Path, url: str) -> None:
    """Nobody there, or no address of HTTP: exit code 2, no trace."""
    done = cli(place, "runs", "--url", url)
    assert done.returncode == 2
    assert done.stderr.startswith("holdfast: ")
    assert done.stderr.count("\n") == 1


def test_not_found_is_one(place: Path) -> None:
    """A run, an actor, a type, a queue or a letter that isn't there: exit code 1 and a sentence."""
    for look in (
        ("run", "data", "CliShip/none"), ("history", "data", "Nobody/1"), ("get", "data", "Counter", "none"),
        ("keys", "data", "Nobody"), ("queue", "data", "show", "none"), ("dead", "data", "show", "CliShip/f1"),
    ):  # fmt: skip
        done = cli(place, *look)
        assert (done.returncode, done.stdout) == (1, ""), look
        assert done.stderr.startswith("holdfast: ") and done.stderr.count("\n") == 1


def test_a_closed_pipe_ends_it(place: Path) -> None:
    """`| head` had enough: no trace and exit code 0."""
    command = f"{sys.executable} -m holdfast export data | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    first, code = done.stdout.splitlines()
    assert json.loads(first)["holdfast_export"] == 1
    assert code == "0"


def test_a_foreign_or_broken_folder_is_one_sentence(place: Path, tmp_path: Path) -> None:
    """No store, a store of somebody else, one that is cut off, a file in place of a folder."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "data.mdb").write_bytes(b"not LMDB" * 2048)
    (tmp_path / "cut").mkdir()
    whole = (place / "data" / "data.mdb").read_bytes()
    (tmp_path / "cut" / "data.mdb").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "file").touch()
    for name in ("empty", "foreign", "cut", "file", "none"):
        for command in ("runs", "check", "doctor", "export", "top"):
            done = cli(tmp_path, command, name)
            assert (done.returncode, done.stdout) == (2, ""), (name, command, done)
            assert done.stderr.startswith("holdfast: ") and done.stderr.count("\n") == 1


def test_a_terminal_gets_a_table_that_fits(place: Path) -> None:
    """On a narrow terminal no line is longer than it; the run is named all the same."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", "runs", "data"],
            cwd=place, env=environment(TERM="xterm", NO_COLOR="1"), check=False,
            stdin=follower, stdout=follower, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = os.read(leader, 65_536).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert "CliShip/f1" in told
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in told.splitlines()) <= 60
