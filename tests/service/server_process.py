"""A server in a process of its own, as users start it, and what it said."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
# Nothing is expected to take so long; a server that hangs fails its test then.
PATIENCE_SECONDS = 60


class ServerProcess:
    """`python -m ARGUMENTS` in the checkout.  Killed at the end, with those that it started."""

    def __init__(self, *arguments: object, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *[str(one) for one in arguments]],
            cwd=ROOT,
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._more = threading.Condition()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._more:
                    self._lines.append(line)
                    self._more.notify_all()
        with self._more:
            self._lines.append("")  # the end
            self._more.notify_all()

    def said(self, pattern: str) -> re.Match[str]:
        """The first match in what it says, as soon as there is one."""
        with self._more:
            self._more.wait_for(
                lambda: re.search(pattern, self.text) or self._lines[-1:] == [""], PATIENCE_SECONDS
            )
            found = re.search(pattern, self.text)
        assert found is not None, self.text
        return found

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def text(self) -> str:
        """All that it said so far."""
        return "".join(self._lines)

    def address(self) -> str:
        """`127.0.0.1:PORT`, when it serves."""
        return self.said(r"http://(127\.0\.0\.1:\d+)")[1]

    def send_signal(self, number: int = signal.SIGTERM) -> None:
        """To the process itself, as an operating system does that stops it."""
        self._process.send_signal(number)

    def ended(self) -> int:
        """Its exit code, when it has ended; minus the number of a signal that killed it."""
        code = self._process.wait(PATIENCE_SECONDS)
        self._reading.join(PATIENCE_SECONDS)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._reading.join()
