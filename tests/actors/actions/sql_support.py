"""Databases for the tests of SQL actions: SQLite always, PostgreSQL where its URL is given."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

POSTGRESQL = "HOLDFAST_TEST_POSTGRESQL"
KINDS = ("sqlite", "postgresql")
_numbers = itertools.count(1)

accounts = sa.Table(
    "accounts",
    sa.MetaData(),
    sa.Column("name", sa.String(20), primary_key=True),
    sa.Column("cents", sa.Integer, nullable=False),
)
bookings = sa.Table(
    "bookings", accounts.metadata, sa.Column("account", sa.String(20)), sa.Column("cents", sa.Integer)
)


@contextmanager
def fresh_url(kind: str, folder: Path) -> Iterator[URL]:
    """The URL of a database with empty tables, a new one each time; skips where there is no such server."""
    name = f"holdfast_{os.getpid()}_{next(_numbers)}"
    if kind == "sqlite":
        url = URL.create("sqlite", database=str(folder / f"{name}.db"))
        make_tables(url)
        yield url
        return
    server = os.environ.get(POSTGRESQL)
    if server is None:
        pytest.skip(f"no PostgreSQL: {POSTGRESQL} holds no URL (.ci/run starts a server and sets it)")
    engine = sa.create_engine(server)
    try:
        with engine.begin() as connection:
            connection.execute(sa.schema.CreateSchema(name))
        url = engine.url.update_query_dict({"options": f"-csearch_path={name}"})
        make_tables(url)
        yield url
        with engine.begin() as connection:
            connection.execute(sa.schema.DropSchema(name, cascade=True))
    finally:
        engine.dispose()


def make_tables(url: URL) -> None:
    """Two accounts without anything on them."""
    engine = sa.create_engine(url)
    accounts.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(accounts.insert(), [{"name": "ann", "cents": 0}, {"name": "bob", "cents": 0}])
    engine.dispose()


def booked(engine: Engine) -> list[tuple[str, int]]:
    """What was booked."""
    with engine.connect() as connection:
        return [
            (row.account, row.cents)
            for row in connection.execute(bookings.select().order_by(bookings.c.cents))
        ]
