# pyright: reportMissingImports=false, reportMissingModuleSource=false
"""huey with SQLite as a durable queue: an event is three chained tasks, a message is one.

The consumer is a process of its own with a few worker threads, as huey's documentation runs it; the caller
waits for results with huey's own polling.  There is no memory of steps: a task that a crash interrupts is
gone, with the event.

What it syncs: WAL with synchronous=FULL (asked for by `fsync=True`), so each enqueue, each take and each
result is a synced commit, one after the other.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huey import SqliteHuey
from huey.consumer import Consumer

from ..recovery import CHECKOUT
from ..workload import Event, Sample, make_events, validate
from .protocol import Task, drive_threads, serve

WORKERS = 4
# Of the caller who waits for a result, and of workers that find nothing: huey's own are a tenth of a second,
# which would be most of what is measured.
POLL_SECONDS = 0.005


def check(task: Task) -> dict[str, str]:
    """Its version."""
    return {"huey": version("huey"), "sqlite": sqlite3.sqlite_version}


class Application:
    """The tasks, on a folder; the same in the consumer's process and in the caller's."""

    def __init__(self, folder: Path) -> None:
        self.huey = huey = SqliteHuey("bench", filename=str(folder / "huey.sqlite"), fsync=True)
        self._rows = folder / "application.sqlite"
        self._local = threading.local()
        self.handled: list[tuple[str, float]] = []

        # As `Any`: the decorator makes more of a function than a function.
        self.validate: Any
        self.store: Any
        self.count: Any
        self.message: Any

        @huey.task()  # type: ignore[untyped-decorator]
        def validate_task(event: dict[str, Any]) -> tuple[dict[str, Any], int]:
            return event, validate(Event(**event)).amount

        # What a task returns is what the next one of the chain is called with.
        @huey.task()  # type: ignore[untyped-decorator]
        def store_task(event: dict[str, Any], amount: int) -> tuple[str, bool, int]:
            with self._transaction() as connection:
                done = connection.execute(
                    "INSERT INTO events VALUES (?, ?) ON CONFLICT DO NOTHING",
                    (event["event_id"], json.dumps(event)),
                )
                return event["event_id"], bool(done.rowcount), amount

        @huey.task()  # type: ignore[untyped-decorator]
        def count_task(event_id: str, stored: bool, amount: int) -> tuple[str, bool, int]:
            with self._transaction() as connection:
                connection.execute(
                    "UPDATE metrics SET events = events + 1, amount = amount + ?, last_event_at = ?",
                    (amount, time.time()),
                )
            return event_id, stored, amount

        @huey.task()  # type: ignore[untyped-decorator]
        def message_task(event: dict[str, Any]) -> None:
            self.handled.append((event["event_id"], time.time()))

        self.validate, self.store, self.count, self.message = (
            validate_task,
            store_task,
            count_task,
            message_task,
        )

    def make_tables(self) -> None:
        """Once a folder."""
        with self._transaction() as connection:
            connection.execute("CREATE TABLE events (event_id TEXT PRIMARY KEY, body TEXT NOT NULL)")
            connection.execute("CREATE TABLE metrics (events INTEGER, amount INTEGER, last_event_at REAL)")
            connection.execute("INSERT INTO metrics VALUES (0, 0, 0.0)")

    def counted(self) -> int:
        """How many events the metrics hold."""
        with self._transaction() as connection:
            found: int = connection.execute("SELECT events FROM metrics").fetchone()[0]
            return found

    def process(self, event: Event) -> None:
        """One event through the chain, until its result is there."""
        chain = self.validate.s(asdict_of(event)).then(self.store).then(self.count)
        *_, last = self.huey.enqueue(chain)
        last.get(blocking=True, timeout=120, backoff=1.0, max_delay=POLL_SECONDS, preserve=False)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = sqlite3.connect(
                self._rows, timeout=30.0, isolation_level=None
            )
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def asdict_of(event: Event) -> dict[str, Any]:
    """The event as plain data."""
    return {name: getattr(event, name) for name in event.__struct_fields__}


HANDLED = "handled.json"


def consume(folder: Path, messages: int) -> None:
    """The consumer's process: work until told to end, and note when `messages` of them were handled."""
    app = Application(folder)
    consumer = Consumer(
        app.huey,
        workers=WORKERS,
        periodic=False,
        initial_delay=POLL_SECONDS,
        backoff=1.0,
        max_delay=POLL_SECONDS,
    )
    consumer.start()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    noted = not messages
    while not ended.wait(0.002):
        # Settled, too: the queue is empty and what a worker had in hand has ended.
        if not noted and len(app.handled) >= messages:
            aside = folder / "handled.aside"
            aside.write_text(json.dumps([app.handled, time.time()]))
            aside.rename(folder / HANDLED)
            noted = True
    os._exit(0)


@contextmanager
def consumer_of(folder: Path, messages: int = 0) -> Iterator[None]:
    """A consumer's process."""
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, "consume", str(folder), str(messages)], cwd=CHECKOUT
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_handled(folder: Path) -> tuple[dict[str, float], float]:
    """When each message was handled, and when all were."""
    until = time.monotonic() + 120
    while not (folder / HANDLED).exists():
        if time.monotonic() > until:
            raise TimeoutError("the consumer did not handle all messages in two minutes")
        time.sleep(0.002)
    handled, ended = json.loads((folder / HANDLED).read_text())
    return dict(handled), ended


def pipeline(task: Task) -> Sample:
    """One unit: an event through three chained tasks."""
    n_events, in_flight = task.arguments
    app = Application(task.folder)
    app.make_tables()
    with consumer_of(task.folder):
        app.process(Event("warm-up", "paid", "a", 1, 0.0, ""))  # so that the consumer is there
        sample = drive_threads(make_events(n_events), in_flight, app.process)
    if (counted := app.counted()) != n_events + 1:
        raise AssertionError(f"{counted} of {n_events + 1} events were counted")
    return sample


def queue_send(task: Task) -> Sample:
    """One unit: a task enqueued, durable."""
    messages, senders = task.arguments
    app = Application(task.folder)
    return drive_threads(make_events(messages), senders, lambda event: app.message(asdict_of(event)))


def queue_consume(task: Task) -> Sample:
    """One unit: a task that waited; from the first one handled, since the consumer's process has to start."""
    messages, *_ = task.arguments
    app = Application(task.folder)
    for event in make_events(messages):
        app.message(asdict_of(event))
    with consumer_of(task.folder, messages):
        handled, ended = wait_handled(task.folder)
    began = min(handled.values())
    return Sample(messages, ended - began, sorted(at - began for at in handled.values()))


def queue_both(task: Task) -> Sample:
    """One unit: a task enqueued and run."""
    messages, senders, *_ = task.arguments
    app = Application(task.folder)
    sent: dict[str, float] = {}
    with consumer_of(task.folder, messages):
        time.sleep(1.0)  # until the consumer is there

        def send(event: Event) -> None:
            sent[event.event_id] = time.time()
            app.message(asdict_of(event))

        drive_threads(make_events(messages), senders, send)
        handled, ended = wait_handled(task.folder)
    return Sample(messages, ended - min(sent.values()), sorted(at - sent[id] for id, at in handled.items()))


if __name__ == "__main__":
    if sys.argv[1] == "consume":
        consume(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        serve(
            {
                "pipeline": pipeline,
                "queue_send": queue_send,
                "queue_consume": queue_consume,
                "queue_both": queue_both,
            },
            check,
        )
