"""actors/actions/sql_action.py, sql_database.py: transactions whose effect happens once, on real
databases.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from holdfast import ActionContext, CallerError, Fatal, Retry, RunFailed, Runtime, Workflow
from holdfast.actors.errors import ActionKeyReused, InvalidAction, TransactionConflict
from holdfast.actors.workflow.journal import AttemptFailed
from holdfast.sql import SqlDatabase, sql_action
from holdfast.testing import Crash, Storm, check_replay, simulate
from tests.actors.actions.sql_support import KINDS, accounts, booked, bookings, fresh_url

KILL_RUN = Path(__file__).parent / "sql_kill_run.py"
RAN: list[int] = []


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """A fresh database."""
    RAN.clear()
    with fresh_url(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def database(url: URL) -> Iterator[SqlDatabase]:
    """The same, as actions use it."""
    made = SqlDatabase(sa.create_engine(url))
    yield made
    made.engine.dispose()


class Ledger(SqlDatabase):
    """Another database, told apart by its type."""


@sql_action()
def book(db: Connection, context: ActionContext, account: str, cents: int) -> int:
    """Book an amount; the balance after it."""
    RAN.append(cents)
    db.execute(bookings.insert().values(account=account, cents=cents))
    if cents < 0:
        raise ValueError(f"no {cents}")
    total = sa.select(sa.func.sum(bookings.c.cents)).where(bookings.c.account == account)
    return int(db.execute(total).scalar_one())


@sql_action(Ledger, isolation="READ UNCOMMITTED", retry=Retry(0))
def isolation_of(db: Connection) -> str:
    """The level that the database tells."""
    return str(db.execute(sa.text("SHOW transaction_isolation")).scalar_one())


class Two(Workflow):
    """Two bookings."""

    retry = Retry(1, "10ms")

    async def run(self, cents: int) -> list[object]:
        first = await self.run_action(book, "ann", cents)
        assert_type(first, int)
        second = await self.actions.book(account="ann", cents=cents)
        return [first, second]


# -- one transaction ---------------------------------------------------------------------------------------


async def test_it_commits_when_the_handler_returns_and_rolls_back_when_it_raises(
    database: SqlDatabase, folder: Path
) -> None:
    """In a run, by a key, and as a plain call with the runtime."""
    async with Runtime(folder, deps=[database]) as rt:
        assert await (await rt.start(Two, 5)).result() == [5, 10]
        with pytest.raises(ValueError, match="no -1"):
            await book.once(rt, "k", "bob", -1)
        assert await asyncio.gather(*[book.once(rt, "k2", "bob", 3) for _ in range(5)]) == [3] * 5
        assert await rt.actions.execute("book", {"account": "bob", "cents": 4}) == 7
        with pytest.raises(RunFailed, match="tried 2 times and failed: ValueError: no -1"):
            await (await rt.start(Two, -1)).result()
    assert booked(database.engine) == [("bob", 3), ("bob", 4), ("ann", 5), ("ann", 5)]
    assert RAN == [5, 5, -1, 3, 4, -1, -1]
    with pytest.raises(CallerError, match="action book was called as a plain function"):
        await book("ann", 1)


async def test_without_a_database_in_deps_it_says_so(folder: Path) -> None:
    """With the type that is wanted."""
    async with Runtime(folder) as rt:
        with pytest.raises(CallerError, match=r"rt.deps holds no Ledger"):
            await isolation_of.once(rt, "k")


async def test_the_isolation_level_is_that_of_the_decorator(url: URL, folder: Path) -> None:
    """A level that the database doesn't have fails the step at once."""
    ledger = Ledger(sa.create_engine(url), table="keys_of_ledger")

    @sql_action(Ledger, isolation="REPEATABLE READ")
    def repeatable(db: Connection) -> str:
        return str(db.execute(sa.text("SHOW transaction_isolation")).scalar_one())

    class Asks(Workflow):
        async def run(self) -> str:
            return await self.run_action(repeatable)

    async with Runtime(folder, deps=[ledger]) as rt:
        run = await rt.start(Asks)
        if ledger.engine.dialect.name == "sqlite":
            with pytest.raises(
                RunFailed, match="tried once and failed: Fatal: sqlite has no isolation level"
            ):
                await run.result()
        else:
            assert await run.result() == "repeatable read"
            assert await isolation_of.once(rt, "k") == "read uncommitted"
            assert sa.inspect(ledger.engine).has_table("keys_of_ledger")
    ledger.engine.dispose()


# -- once --------------------------------------------------------------------------------------------------


def test_a_crash_between_the_two_commits_repeats_nothing(database: SqlDatabase) -> None:
    """The database committed, the process died before the checkpoint: the next attempt finds the row."""
    with simulate(deps=[database]) as sim:
        run = sim.start(Two, 5, id="t")
        sim.crash_at("step", 1, "after", step="book")
        sim.crash_at("step", 3, "after", step="book")
        assert sim.result(run) == [5, 10]
        assert sim.life == 3
    assert RAN == [5, 5]
    assert booked(database.engine) == [("ann", 5), ("ann", 5)]


@pytest.mark.parametrize("kind", KINDS)
def test_books_are_right_wherever_it_crashes(kind: str, tmp_path: Path) -> None:
    """Each commit and each body, before and after."""
    with fresh_url(kind, tmp_path) as first, fresh_url(kind, tmp_path) as second:
        engines = [sa.create_engine(one) for one in (first, second)]
        used: list[sa.Engine] = []

        def make() -> list[SqlDatabase]:
            engine = engines[len(used) % 2]
            used.append(engine)
            with engine.begin() as connection:
                connection.execute(bookings.delete())
            return [SqlDatabase(engine)]

        def seen(database: SqlDatabase) -> object:
            return booked(database.engine)

        for n in range(1, 4):
            for crash in (
                Crash("commit", n, "before"),
                Crash("commit", n, "after"),
                Crash("step", n, "after", "book"),
            ):
                check_replay(Two, [5], Storm(crashes=(crash,)), deps=make, observe=seen)
        for engine in engines:
            engine.dispose()


@pytest.mark.parametrize("kind", KINDS)
def test_kill_nine_between_the_two_commits(kind: str, tmp_path: Path) -> None:
    """The same with a real process and a real signal."""
    with fresh_url(kind, tmp_path) as url:
        shown = url.render_as_string(hide_password=False)
        command = [sys.executable, str(KILL_RUN), shown, str(tmp_path / "data")]
        killed = subprocess.run([*command, "kill"], capture_output=True, text=True, check=False, timeout=60)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        engine = sa.create_engine(url)
        assert booked(engine) == [("ann", 5)]
        again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (again.returncode, again.stdout) == (0, "5\n"), again.stderr
        assert booked(engine) == [("ann", 5)]
        engine.dispose()


def test_two_attempts_at_the_same_time_take_effect_once(database: SqlDatabase) -> None:
    """The one waits for the other's transaction, and gets its result; when that one fails, it has the key."""
    for key, first_fails in (("k1", False), ("k2", True)):
        holds, goes_on = threading.Event(), threading.Event()
        results: list[object] = []

        def first(db: Connection) -> bytes:
            holds.set()  # noqa: B023  # joined before the next round
            goes_on.wait(10)  # noqa: B023
            if first_fails:  # noqa: B023
                raise ValueError("given up")
            return b"first"

        def attempt(handler: Any) -> None:
            try:
                results.append(database.run_once("a", key, b"p", "SERIALIZABLE", handler))  # noqa: B023
            except (ValueError, TransactionConflict) as error:
                results.append(error)  # noqa: B023

        one = threading.Thread(target=attempt, args=(first,))
        two = threading.Thread(target=attempt, args=(lambda db: b"second",))
        one.start()
        assert holds.wait(10)
        two.start()
        goes_on.set()
        one.join(20)
        two.join(20)
        if first_fails:
            assert b"second" in results and any(isinstance(result, ValueError) for result in results)
        else:
            # Told as a conflict where the database says so: the next attempt would get the row.
            assert set(map(type, results)) <= {bytes, TransactionConflict} and b"second" not in results
            assert database.run_once("a", key, b"p", "SERIALIZABLE", lambda db: b"third") == b"first"


async def test_a_key_is_for_one_effect_in_the_database_too(database: SqlDatabase, folder: Path) -> None:
    """Also when our own record of it is gone."""
    async with Runtime(folder, deps=[database]) as rt:
        await book.once(rt, "k", "ann", 5)
        await rt.actions.release("book", "book/k")
        assert await book.once(rt, "k", "ann", 5) == 5
        await rt.actions.release("book", "book/k")
        with pytest.raises(ActionKeyReused, match="the key 'book/k' was used with other parameters"):
            await book.once(rt, "k", "ann", 6)
    assert booked(database.engine) == [("ann", 5)]


def test_old_keys_can_be_forgotten(database: SqlDatabase) -> None:
    """Rows older than what is given."""
    database.run_once("a", "k", b"p", "SERIALIZABLE", lambda db: b"first")
    assert database.forget("1h") == 0
    assert database.run_once("a", "k", b"p", "SERIALIZABLE", lambda db: b"second") == b"first"
    assert database.forget(0) == 1
    assert database.run_once("a", "k", b"p", "SERIALIZABLE", lambda db: b"second") == b"second"


# -- conflicts ---------------------------------------------------------------------------------------------


@sql_action(retry=Retry(3, "1ms"))
def raise_balance(db: Connection, context: ActionContext, by: int) -> int:
    """Read, then write; in the first attempt somebody else writes in between."""
    balance = db.execute(sa.select(accounts.c.cents).where(accounts.c.name == "ann")).scalar_one()
    if context.attempt == 1:
        with context.deps.get(SqlDatabase).engine.begin() as other:
            other.execute(accounts.update().values(cents=100))
    db.execute(accounts.update().values(cents=balance + by))
    return int(balance + by)


@sql_action(retry=Retry(3, "1ms"))
def crosses(db: Connection, context: ActionContext) -> None:
    """Lock ann, then bob; in the first attempt somebody else has bob and wants ann."""
    db.execute(accounts.update().where(accounts.c.name == "ann").values(cents=1))
    if context.attempt > 1:
        return
    engine = context.deps.get(SqlDatabase).engine
    has_bob, ended = threading.Event(), threading.Event()

    def other() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL deadlock_timeout = '60s'"))
            connection.execute(accounts.update().where(accounts.c.name == "bob").values(cents=2))
            has_bob.set()
            connection.execute(accounts.update().where(accounts.c.name == "ann").values(cents=2))
        ended.set()

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    assert has_bob.wait(10)
    db.execute(sa.text("SET LOCAL deadlock_timeout = '10ms'"))
    db.execute(accounts.update().where(accounts.c.name == "bob").values(cents=1))


@pytest.mark.parametrize(("act", "state"), [("raise_balance", "40001"), ("crosses", "40P01")])
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_what_the_database_undid_is_tried_again_as_an_attempt(
    database: SqlDatabase, folder: Path, act: str, state: str
) -> None:
    """A serialization failure and a deadlock: in the history with the SQLSTATE, and right in the end."""

    class Conflicting(Workflow):
        async def run(self) -> object:
            return await (
                self.actions.raise_balance(by=5) if act == "raise_balance" else self.actions.crosses()
            )

    async with Runtime(folder, deps=[database]) as rt:
        run = await rt.start(Conflicting)
        assert await run.result() == (105 if act == "raise_balance" else None)
        (failed,) = [record for record in await run.history() if isinstance(record, AttemptFailed)]
        assert failed.error.type == "TransactionConflict"
        assert f"SQLSTATE {state}" in failed.error.message
        if act == "raise_balance":
            with database.engine.begin() as connection:
                connection.execute(accounts.update().values(cents=0))
            assert await raise_balance.once(rt, "k", 5) == 105


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_busy_sqlite_is_a_conflict(url: URL, folder: Path) -> None:
    """It has no SQLSTATE, but says that another has the lock."""
    database = SqlDatabase(sa.create_engine(url, connect_args={"timeout": 0}))
    database.make_table()
    with database.engine.connect() as other:
        other.execute(accounts.update().values(cents=1))
        with pytest.raises(TransactionConflict, match=r"the database was busy: database is locked"):
            database.run("a", "SERIALIZABLE", lambda db: bytes(db.execute(accounts.delete()).rowcount))
    database.engine.dispose()


# -- definitions -------------------------------------------------------------------------------------------


def test_what_can_be_no_sql_action_is_refused() -> None:
    """Where it is decorated."""

    async def slow(db: Connection) -> None: ...
    def bare() -> None: ...

    decorate: Any = sql_action()
    with pytest.raises(InvalidAction, match="slow is async; a SQL action is a plain function"):
        decorate(slow)
    with pytest.raises(InvalidAction, match="must take 1 parameters before its own"):
        decorate(bare)
    with pytest.raises(InvalidAction, match=r"isolation must be one of READ UNCOMMITTED.*; got 'AUTOCOMMIT'"):
        sql_action(isolation="AUTOCOMMIT")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidAction, match="expected SqlDatabase or a class derived from it"):
        sql_action(int)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(CallerError, match="SqlDatabase needs an engine"):
        SqlDatabase("sqlite://")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert [one.name for one in book.parameters] == ["account", "cents"]


async def test_a_handler_that_commits_by_itself_is_told(database: SqlDatabase, folder: Path) -> None:
    """At once, and again when the key is used again."""

    @sql_action()
    def wilful(db: Connection) -> None:
        db.commit()

    async with Runtime(folder, deps=[database]) as rt:
        for _ in range(2):
            with pytest.raises(Fatal, match="its handler committed or rolled back by itself"):
                await wilful.once(rt, "k")


async def test_a_result_that_can_not_be_stored_rolls_back(database: SqlDatabase, folder: Path) -> None:
    """Once, since another attempt would end alike."""

    @sql_action()
    def odd(db: Connection) -> int:
        db.execute(bookings.insert().values(account="ann", cents=1))
        return "odd"  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    class Odd(Workflow):
        async def run(self) -> int:
            return await self.run_action(odd)

    async with Runtime(folder, deps=[database]) as rt:
        with pytest.raises(
            RunFailed, match="tried once and failed: Fatal: action odd returned a str that can't"
        ):
            await (await rt.start(Odd)).result()
    assert booked(database.engine) == []
