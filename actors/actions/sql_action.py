"""`@sql_action`: an action whose handler works in a transaction of a SQL database (extra `sql`).

    @sql_action(isolation="SERIALIZABLE")
    def book(db: Connection, account: str, cents: int) -> int:
        \"\"\"Book an amount; the balance after it.\"\"\"
        db.execute(...)

The transaction is committed when the handler returns and rolled back when it raises.  Where the action has a
key (in a step, or by `once`) its effect in the database happens exactly once: see sql_database.py.

Promises
  * In a run: one effect in the database for each step, whatever crashes come in between, also between the
    database's commit and ours.
  * What the database undid because of another transaction (SQLSTATE 40001, 40P01) is tried again, as
    attempts of the step; outside of runs too.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    get_args,
    overload,
)

import msgspec

from ...runtime.codec import BAD_VALUE, ENCODER, reason
from ...runtime.durations import Duration
from ..errors import Fatal, InvalidAction
from ..workflow.retry import Retry
from ..workflow.step_plan import MAX_RESULT_BYTES
from .action import KEEP, Action
from .context import ActionContext
from .handler import Handler, in_thread
from .parameters import digest_of
from .sql_database import SqlDatabase

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

P = ParamSpec("P")
R = TypeVar("R")
Isolation = Literal["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


class _Decorate(Protocol):
    """What `@sql_action(...)` is applied to, for type checkers."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Connection, ActionContext, P], R], /
    ) -> Action[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Connection, P], R], /) -> Action[P, R]: ...


def sql_action(
    database: type[SqlDatabase] = SqlDatabase,
    *,
    isolation: Isolation = "SERIALIZABLE",
    name: str | None = None,
    description: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    keep: Duration = KEEP,
) -> _Decorate:
    """Make a plain function an action in a transaction; it gets the connection first, then, if it wants, the
    context.

    database    type of the database, which has to be in the runtime's `deps`
    isolation   of the transaction
    name, description, retry, timeout, keep   as for `action`

    The handler runs in a thread and must neither commit nor roll back by itself.  Raises `InvalidAction`.
    """
    if isolation not in get_args(Isolation):
        raise InvalidAction(f"isolation must be one of {', '.join(get_args(Isolation))}; got {isolation!r}")
    given = cast("object", database)
    if not isinstance(given, type) or not issubclass(given, SqlDatabase):
        raise InvalidAction(f"expected SqlDatabase or a class derived from it; got {database!r}")

    def perform(handler: Handler, context: ActionContext, values: tuple[object, ...]) -> Awaitable[object]:
        return _in_transaction(context.deps.get(database), isolation, handler, context, values)

    def decorate(function: Callable[..., object]) -> Action[..., Any]:
        if inspect.iscoroutinefunction(function):
            raise InvalidAction(
                f"{function.__qualname__} is async; a SQL action is a plain function, which runs in a "
                "thread with a plain connection"
            )
        return Action[..., Any](
            function,
            name=name,
            description=description,
            retry=retry,
            timeout=timeout,
            keep=keep,
            leading=1,
            perform=perform,
        )

    return cast("_Decorate", decorate)


async def _in_transaction(
    database: SqlDatabase,
    isolation: Isolation,
    handler: Handler,
    context: ActionContext,
    values: tuple[object, ...],
) -> object:
    def handle(connection: Connection) -> bytes:
        return _encode(context.action, handler, handler.call((connection,), context, values))

    def blocking() -> bytes:
        if not context.is_keyed:
            return database.run(context.action, isolation, handle)
        return database.run_once(
            context.action, context.idempotency_key, digest_of(values), isolation, handle
        )

    encoded = cast("bytes", await in_thread(blocking))
    return msgspec.msgpack.decode(encoded, type=handler.result_hint)


def _encode(action: str, handler: Handler, result: object) -> bytes:
    """The stored form of a result; raises `Fatal`, which rolls the transaction back."""
    try:
        encoded = ENCODER.encode(result)
        msgspec.msgpack.decode(encoded, type=handler.result_hint)
    except BAD_VALUE as error:
        raise Fatal(
            f"action {action} returned a {type(result).__qualname__} that can't be stored as annotated: "
            f"{reason(error)}"
        ) from error
    if len(encoded) > MAX_RESULT_BYTES:
        raise Fatal(f"action {action} returned {len(encoded)} bytes; at most {MAX_RESULT_BYTES} are allowed")
    return encoded
