# pyright: reportMissingImports=false, reportMissingModuleSource=false
"""DBOS: workflows and steps in a system database, transactions of the application in a data source.

Each caller is a thread that calls the workflow, which then runs in that thread: DBOS's own way for code
without asyncio, and the one with the least in between.  Store and count are transactions of the data source,
so they take effect exactly once; the data source records its step in the same transaction.

What it syncs: with SQLite as shipped (rollback journal, synchronous=FULL, which is SQLite's default) and with
WAL every commit is synced, one after the other; PostgreSQL syncs its log, and commits of several connections
share a sync.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, SetWorkflowID, SQLAlchemyDatasource
from sqlalchemy.exc import SQLAlchemyError

from ..recovery import BLOCKED, STEPS, since_start
from ..workload import Event, Sample, make_events, validate
from .protocol import Task, Unavailable, drive_threads, serve

POSTGRESQL = "HOLDFAST_TEST_POSTGRESQL"

# Connections to PostgreSQL: more than these only wait for one another on two cores.
CONNECTIONS = 20

# Runs before the first one that is timed, for connections, code and caches.
WARM_UP = 10


def check(task: Task) -> dict[str, str]:
    """Its version; for PostgreSQL also whether that can be reached, and is durable."""
    versions = {"dbos": version("dbos"), "sqlite": sqlite3.sqlite_version}
    if task.variant == "postgresql":
        url = os.environ.get(POSTGRESQL)
        if not url:
            raise Unavailable(f"{POSTGRESQL} names no server")
        try:
            engine = sa.create_engine(url)
            with engine.connect() as connection:
                off = [
                    name
                    for name in ("fsync", "synchronous_commit")
                    if connection.execute(sa.text(f"SHOW {name}")).scalar() == "off"
                ]
                versions["postgresql"] = str(connection.execute(sa.text("SHOW server_version")).scalar())
            engine.dispose()
        except SQLAlchemyError as error:
            raise Unavailable(f"{POSTGRESQL} cannot be reached: {str(error).splitlines()[0]}") from None
        if off:
            raise Unavailable(
                f"the server of {POSTGRESQL} runs with {' and '.join(off)} off: it is not durable"
            )
    return versions


@contextmanager
def urls_of(task: Task) -> Iterator[tuple[str, str]]:
    """Addresses of the system database and of the application's, the same in all processes of a folder."""
    folder = task.folder
    if task.variant != "postgresql":
        system, application = folder / "system.sqlite", folder / "application.sqlite"
        if task.variant == "sqlite-wal":
            for file in (system, application):
                with sqlite3.connect(file) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")  # stays with the file
                connection.close()
        yield f"sqlite:///{system}", f"sqlite:///{application}"
        return
    note = folder / "postgresql-database"
    if not note.exists():
        note.write_text(f"bench_{uuid.uuid4().hex}")
    name = note.read_text()
    admin = sa.make_url(os.environ[POSTGRESQL])
    engine = sa.create_engine(admin, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as control:
            there = "SELECT 1 FROM pg_database WHERE datname = :name"
            if not control.execute(sa.text(there), {"name": name}).scalar():
                control.execute(sa.text(f'CREATE DATABASE "{name}"'))
        url = admin.set(database=name).render_as_string(hide_password=False)
        try:
            yield url, url
        finally:
            with engine.connect() as control:
                control.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    finally:
        engine.dispose()


TABLES = (
    "CREATE TABLE IF NOT EXISTS events (event_id TEXT PRIMARY KEY, body TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS metrics (name TEXT PRIMARY KEY, events BIGINT NOT NULL, "
    "amount BIGINT NOT NULL, last_event_at DOUBLE PRECISION NOT NULL)",
    "INSERT INTO metrics VALUES ('all', 0, 0, 0.0) ON CONFLICT DO NOTHING",
)


class Application:
    """The workflows, registered with DBOS, on open databases."""

    def __init__(self, system_url: str, application_url: str) -> None:
        DBOS(
            config={
                "name": "bench",
                "system_database_url": system_url,
                "sys_db_pool_size": CONNECTIONS,
                "log_level": "ERROR",
                "application_version": "1",
                "executor_id": "bench",
            }
        )
        pool = {} if application_url.startswith("sqlite") else {"pool_size": CONNECTIONS}
        self.source = source = SQLAlchemyDatasource.create(application_url, engine_kwargs=pool)
        with source.engine.begin() as connection:
            for statement in TABLES:
                connection.execute(sa.text(statement))

        @DBOS.step()  # type: ignore[untyped-decorator]
        def validate_step(event: dict[str, Any]) -> int:
            return validate(Event(**event)).amount

        @source.transaction()  # type: ignore[untyped-decorator]
        def store(event: dict[str, Any]) -> bool:
            done = source.sql_session().execute(
                sa.text("INSERT INTO events VALUES (:id, :body) ON CONFLICT DO NOTHING"),
                {"id": event["event_id"], "body": json.dumps(event)},
            )
            return bool(done.rowcount)

        # One row for all: SERIALIZABLE, the default, would make each fail the others in PostgreSQL.
        level = "SERIALIZABLE" if application_url.startswith("sqlite") else "READ COMMITTED"

        @source.transaction(isolation_level=level)  # type: ignore[untyped-decorator]
        def count(amount: int) -> None:
            source.sql_session().execute(
                sa.text(
                    "UPDATE metrics SET events = events + 1, amount = amount + :amount, last_event_at = :at "
                    "WHERE name = 'all'"
                ),
                {"amount": amount, "at": time.time()},
            )

        @DBOS.workflow()  # type: ignore[untyped-decorator]
        def pipeline(event: dict[str, Any]) -> dict[str, Any]:
            amount = validate_step(event)
            stored = store(event)
            count(amount)
            return {"event_id": event["event_id"], "stored": stored, "amount": amount}

        @DBOS.step()  # type: ignore[untyped-decorator]
        def trivial(number: int) -> int:
            return number

        @DBOS.workflow()  # type: ignore[untyped-decorator]
        def steps(count: int) -> int:
            return sum(trivial(number) for number in range(1, count + 1))

        self.in_second = threading.Semaphore(0)
        self.blocks = False

        @DBOS.step()  # type: ignore[untyped-decorator]
        def second_step() -> int:
            if self.blocks:
                self.in_second.release()
                threading.Event().wait()
            return 2

        @DBOS.workflow()  # type: ignore[untyped-decorator]
        def three_steps() -> int:
            first: int = trivial(1)
            second: int = second_step()
            third: int = trivial(STEPS)
            return first + second + third

        self.pipeline, self.steps, self.three_steps = pipeline, steps, three_steps


@contextmanager
def opened(task: Task) -> Iterator[Application]:
    """DBOS launched on the folder's databases."""
    with urls_of(task) as (system, application):
        app = Application(system, application)
        DBOS.launch()
        yield app
        DBOS.destroy()
        app.source.engine.dispose()


def pipeline(task: Task) -> Sample:
    """One unit: an event's workflow."""
    n_events, in_flight = task.arguments
    with opened(task) as app:

        def act(event: Event) -> None:
            with SetWorkflowID(event.event_id):
                app.pipeline({name: getattr(event, name) for name in event.__struct_fields__})

        drive_threads(make_events(WARM_UP, n_events), 1, act)
        sample = drive_threads(make_events(n_events), in_flight, act)
        with app.source.engine.connect() as connection:
            counted = connection.execute(sa.text("SELECT events FROM metrics")).scalar()
            if counted != n_events + WARM_UP:
                raise AssertionError(f"{counted} of {n_events + WARM_UP} events were counted")
        return sample


def steps(task: Task) -> Sample:
    """One unit: a step."""
    runs, steps, in_flight = task.arguments
    with opened(task) as app:

        def act(number: int) -> None:
            with SetWorkflowID(f"run-{number:08d}"):
                app.steps(steps)

        drive_threads(range(runs, runs + WARM_UP), 1, act)
        return drive_threads(range(runs), in_flight, act, units_per_item=steps)


def block(task: Task) -> None:
    """All runs into their second step, and wait to be killed."""
    (runs,) = task.arguments
    with opened(task) as app:
        app.blocks = True

        def run(number: int) -> None:
            with SetWorkflowID(f"run-{number:08d}"):
                app.three_steps()

        for number in range(runs):
            threading.Thread(target=run, args=(number,), daemon=True).start()
        for _ in range(runs):
            app.in_second.acquire()
        print(BLOCKED, flush=True)
        threading.Event().wait()


def resume(task: Task) -> list[float]:
    """DBOS recovers its pending workflows by itself; wait for each."""
    (runs,) = task.arguments
    done: list[float] = []
    with opened(task):
        for number in range(runs):
            if DBOS.retrieve_workflow(f"run-{number:08d}").get_result() != 6:
                raise AssertionError(f"run {number} has another result")
            done.append(since_start())
    return done


if __name__ == "__main__":
    serve({"pipeline": pipeline, "steps": steps}, check, resume, block)
