"""What event loops of our own have in common: that of a run, and that of a simulated process.

asyncio keeps futures and tasks in sets: what is left over by `wait`, what a `TaskGroup` cancels.  By their
addresses the order would be another one in each process.  Here they hash by a number that their loop gives
them when it is first asked for, so the order follows from what the code does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, NoReturn, Protocol, TypeVar, cast

import msgspec

T = TypeVar("T")

# 2^64 / the golden ratio: numbers in a row get hashes that differ in their low bits too.
HASH_STRIDE: Final = 0x9E3779B97F4A7C15
HASH_MASK: Final = (1 << 60) - 1


class NumberingLoop(Protocol):
    """A loop that numbers its futures and tasks."""

    def next_hash(self) -> int:
        """The hash of one more future or task."""
        ...


class LoopHandle(msgspec.Struct, eq=False):
    """A scheduled callback; made by msgspec, which takes a third of the time."""

    callback: Callable[..., object] | None
    args: tuple[Any, ...]
    context: Context

    def cancel(self) -> None:
        """Don't call it."""
        self.callback = None

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.callback is None


class NumberedFuture(asyncio.Future[T]):
    """A future that hashes by its number."""

    __slots__ = ("_hash",)

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash: int = cast("NumberingLoop", self.get_loop()).next_hash()
            return self._hash


class NumberedTask(asyncio.Task[T]):  # pyright: ignore[reportGeneralTypeIssues]
    """A task that hashes by its number."""

    __slots__ = ("_hash",)

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash: int = cast("NumberingLoop", self.get_loop()).next_hash()
            return self._hash


def refuse_the_rest(loop_class: type, refusal: Callable[[str], Exception]) -> None:
    """Let every method of a loop that the class doesn't have raise `refusal(name)`.

    They are added to the class when its module is imported, so a type checker goes on thinking that it is
    abstract.
    """
    for name in dir(asyncio.AbstractEventLoop):
        if not name.startswith("_") and name not in loop_class.__dict__:
            setattr(loop_class, name, _refused(name, refusal))


def _refused(name: str, refusal: Callable[[str], Exception]) -> Callable[..., NoReturn]:
    def refused(self: object, *args: object, **kwargs: object) -> NoReturn:
        raise refusal(name)

    refused.__name__ = name
    return refused
