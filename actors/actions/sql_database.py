"""A SQL database that actions work in, and the table in it that makes their effects happen once (extra
`sql`).

Through SQLAlchemy's plain engine, in threads: every driver has one, and nothing of it needs an event loop.

    key taken? - no -> INSERT the key -> handler -> UPDATE with the result -> COMMIT
               - yes -> its result                                                  (all in one transaction)

Promises
  * The key's row, its result and what the handler wrote are committed together or not at all.  So whatever
    happens between that commit and ours, the next attempt finds the row and repeats nothing.
  * Two attempts with one key at the same time: one waits for the other's transaction, and finds its row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import sqlalchemy as sa
from sqlalchemy import exc

from ...runtime.durations import Duration, to_seconds
from ...storage.errors import CallerError
from ..errors import ActionKeyReused, Fatal, TransactionConflict

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

TABLE: Final = "holdfast_actions"
# Longest key that an action has, see context.py.
_KEY_CHARACTERS: Final = 255
# Transactions that the database undid because of another one: serialization failure, deadlock.
_CONFLICTS: Final = frozenset({"40001", "40P01"})
# The same of SQLite, which has no SQLSTATE: busy, and locked by another connection of the process.
_SQLITE_CONFLICTS: Final = frozenset({5, 6})
# A row that was there when we inserted and is gone when we look was rolled back: we may have the key then.
_CLAIMS: Final = 5
_ENDED: Final = (
    "action {}: its handler committed or rolled back by itself, so its effect and its result are not one; "
    "leave that to the action"
)


class SqlDatabase:
    """A database by its engine; give one to the runtime's `deps`.

        rt = Runtime("data", deps=[SqlDatabase(create_engine("postgresql+psycopg://..."))])

    Several databases are told apart by their types: derive a class for each, and name it in `sql_action`.

    table, schema   where the keys and results are kept; the table is made when it isn't there
    """

    def __init__(self, engine: Engine, *, table: str = TABLE, schema: str | None = None) -> None:
        """Nothing is connected yet."""
        if not isinstance(engine, sa.Engine):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CallerError(f"SqlDatabase needs an engine of sqlalchemy.create_engine; got {engine!r}")
        self.engine = engine
        self.results = sa.Table(
            table,
            sa.MetaData(schema=schema),
            sa.Column("key", sa.String(_KEY_CHARACTERS), primary_key=True),
            sa.Column("action", sa.String(100), nullable=False),
            sa.Column("parameters", sa.LargeBinary, nullable=False),
            sa.Column("done_at", sa.DateTime(timezone=True), nullable=False, index=True),
            sa.Column("result", sa.LargeBinary),
        )
        self._made = False
        self._making = threading.Lock()

    def make_table(self) -> None:
        """Make the table of keys and results unless it is there; by itself with the first action."""
        with self._making:
            if self._made:
                return
            try:
                self.results.metadata.create_all(self.engine)
            except exc.DBAPIError:
                # Another process may have made it just now; else looking tells what is wrong.
                if not sa.inspect(self.engine).has_table(self.results.name, self.results.schema):
                    raise
            self._made = True

    def forget(self, older_than: Duration) -> int:
        """Delete rows of actions done so long ago; returns how many there were.

        A row is needed until the step that it belongs to is recorded: for moments, or for as long as no
        process had the folder open in between.  Take longer than that may be.  It blocks; call it in a
        thread.
        """
        self.make_table()
        before = datetime.now(UTC) - timedelta(seconds=to_seconds(older_than, what="older_than"))
        with self.engine.begin() as connection:
            return connection.execute(sa.delete(self.results).where(self.results.c.done_at < before)).rowcount

    def run_once(
        self,
        action: str,
        key: str,
        parameters: bytes,
        isolation: str,
        handler: Callable[[Connection], bytes],
    ) -> bytes:
        """Run `handler` in a transaction unless the key was used; the result that it encoded, now or then.

        Raises what the handler raises, `TransactionConflict` when the database undid the transaction because
        of another one, and `ActionKeyReused`.  It blocks.
        """
        self.make_table()
        try:
            for _ in range(_CLAIMS):
                done = self._try_once(action, key, parameters, isolation, handler)
                if done is not None:
                    return done
        except exc.DBAPIError as error:
            undone = _conflict(action, error)
            if undone is None:
                raise
            raise undone from error
        raise TransactionConflict(
            f"action {action}: others began with key {key!r} {_CLAIMS} times and gave up"
        )

    def run(self, action: str, isolation: str, handler: Callable[[Connection], bytes]) -> bytes:
        """Run `handler` in a transaction of its own, tied to no key; otherwise as `run_once`."""
        try:
            with self._connect(isolation) as connection, connection.begin():
                return handler(connection)
        except exc.DBAPIError as error:
            undone = _conflict(action, error)
            if undone is None:
                raise
            raise undone from error

    def _try_once(
        self,
        action: str,
        key: str,
        parameters: bytes,
        isolation: str,
        handler: Callable[[Connection], bytes],
    ) -> bytes | None:
        table = self.results
        with self._connect(isolation) as connection:
            known = self._look_up(connection, action, key, parameters)
            if known is not None:
                return known
            with connection.begin() as transaction:
                row = {"key": key, "action": action, "parameters": parameters, "done_at": datetime.now(UTC)}
                try:
                    # First of all, so that whoever has the key too waits here and not behind half of the
                    # work.
                    connection.execute(sa.insert(table).values(row))
                except exc.IntegrityError:
                    transaction.rollback()
                    return None
                result = handler(connection)
                if not transaction.is_active:
                    raise Fatal(_ENDED.format(action))
                connection.execute(sa.update(table).where(table.c.key == key).values(result=result))
            return result

    def _look_up(self, connection: Connection, action: str, key: str, parameters: bytes) -> bytes | None:
        table = self.results
        with connection.begin():
            found = connection.execute(
                sa.select(table.c.parameters, table.c.result).where(table.c.key == key)
            ).one_or_none()
        if found is None:
            return None
        if bytes(found.parameters) != parameters:
            raise ActionKeyReused(f"action {action}: the key {key!r} was used with other parameters")
        if found.result is None:
            raise Fatal(_ENDED.format(action))
        return bytes(found.result)

    def _connect(self, isolation: str) -> Connection:
        connection = self.engine.connect()
        try:
            return connection.execution_options(isolation_level=cast("Any", isolation))
        except exc.ArgumentError as error:
            connection.close()
            raise Fatal(
                f"{self.engine.dialect.name} has no isolation level {isolation!r}: {error}"
            ) from error


def _conflict(action: str, error: exc.DBAPIError) -> TransactionConflict | None:
    """The error of a transaction that was undone because of another one; None for any other."""
    original: object = error.orig
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    code = getattr(original, "sqlite_errorcode", None)
    if state in _CONFLICTS:
        return TransactionConflict(f"action {action}: the database undid it (SQLSTATE {state}): {original}")
    if isinstance(code, int) and code & 0xFF in _SQLITE_CONFLICTS:
        return TransactionConflict(f"action {action}: the database was busy: {original}")
    return None
