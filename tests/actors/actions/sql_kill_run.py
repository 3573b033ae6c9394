"""A process that books once, and may be killed between the database's commit and its own checkpoint.

python sql_kill_run.py URL FOLDER [kill]
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from holdfast import Runtime, Workflow
from holdfast.sql import SqlDatabase, sql_action


@sql_action()
def book_and_die(db: Connection, account: str, cents: int) -> int:
    """Book; the balance after it."""
    db.execute(
        sa.text("INSERT INTO bookings VALUES (:account, :cents)"), {"account": account, "cents": cents}
    )
    total = sa.text("SELECT sum(cents) FROM bookings WHERE account = :account")
    return int(db.execute(total, {"account": account}).scalar_one())


class Booking(Workflow):
    """One booking."""

    async def run(self) -> int:
        return await self.run_action(book_and_die, "ann", 5)


def dying(_: object, function: Callable[..., Any]) -> Callable[..., Any]:
    """The body of a step, and then the end of the process."""

    async def body(*args: object) -> object:
        await function(*args)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    return body


async def main() -> None:
    """Start the run, or go on with it."""
    database = SqlDatabase(sa.create_engine(sys.argv[1]))
    async with Runtime(sys.argv[2], deps=[database]) as rt:
        if "kill" in sys.argv:
            rt.engine.wrap_body = dying
        run = await rt.start(Booking, id="b", on_conflict="join")
        sys.stdout.write(f"{await run.result()}\n")


if __name__ == "__main__":
    asyncio.run(main())
