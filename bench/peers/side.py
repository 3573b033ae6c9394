"""The parent's half: a peer as a side of the bench, a process a repetition."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

from ..recovery import CHECKOUT, measure_recovery
from ..scenarios import Case
from ..sides import Side, SideFailed
from ..workload import Sample
from . import PEERS, Peer
from .protocol import MARK, Unavailable

# Of one repetition, the start of a server included.
DEADLINE_SECONDS = 300.0


class PeerSide:
    """One peer, with the interpreter in whose environment it is installed."""

    def __init__(self, name: str, peer: Peer, python: str, place: Path) -> None:
        """Raises Unavailable where the peer cannot run."""
        self._name = name
        self._peer = peer
        self._python = python
        found = self._ask("check", (), place)
        self.versions: dict[str, str] = found["versions"]
        self._answers = set(found["answers"])

    def answers(self, case: Case) -> bool:
        """Whether the case is one for peers, and this one has such a thing."""
        return case.peers is not None and case.workload in self._answers

    def measure(self, case: Case, folder: Path, slow_sync_seconds: float) -> Sample:
        """One repetition, in processes that live no longer than it.  A disk made slow is not the peer's."""
        if slow_sync_seconds:
            raise SideFailed(f"{self._name} cannot be measured on a disk made slow")
        assert case.peers is not None
        if case.workload == "recovery":
            block, resume = (self._command(what, case.peers, folder) for what in ("block", "resume"))
            try:
                return measure_recovery(block, resume, case.peers[0])
            except (RuntimeError, AssertionError, subprocess.SubprocessError) as error:
                raise SideFailed(f"recovery: {error}") from None
        found = self._ask(case.workload, case.peers, folder)
        return Sample(found["units"], found["seconds"], found["latencies"], found["counts"])

    def _command(self, workload: str, arguments: tuple[int, ...], folder: Path) -> list[str]:
        task = {
            "workload": workload,
            "arguments": arguments,
            "folder": str(folder.resolve()),
            "variant": self._peer.variant,
        }
        return [self._python, "-m", self._peer.module, json.dumps(task)]

    def _ask(self, workload: str, arguments: tuple[int, ...], folder: Path) -> dict[str, Any]:
        process = subprocess.Popen(
            self._command(workload, arguments, folder),
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            said_out, said_err = process.communicate(timeout=DEADLINE_SECONDS)
        except BaseException as error:
            # With all that it started: a server would outlive it.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise SideFailed(f"{workload} took more than {DEADLINE_SECONDS:g} s") from None
            raise
        for line in reversed(said_out.splitlines()):
            if line.startswith(MARK):
                found: dict[str, Any] = json.loads(line.removeprefix(MARK))
                if "unavailable" in found:
                    raise Unavailable(found["unavailable"])
                return found
        missing = re.search(r"^ModuleNotFoundError: No module named '([^']+)'", said_err, re.MULTILINE)
        if missing:
            raise Unavailable(f"{missing[1]} is not installed (pip install -e '.[peers]')")
        said = said_err.strip().splitlines() or ["nothing was said"]
        raise SideFailed(f"{workload} ended with status {process.returncode}: {said[-1]}")


def load_peers(
    names: list[str], python: str, place: Path
) -> tuple[dict[str, Side], dict[str, str | None], dict[str, str]]:
    """The peers that can run here, their versions, and why the others cannot."""
    sides: dict[str, Side] = {}
    versions: dict[str, str | None] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            side = PeerSide(name, PEERS[name], python, place)
        except (Unavailable, SideFailed) as why:
            skipped[name] = str(why)
        else:
            sides[name] = side
            versions |= side.versions
    return sides, versions, skipped
