"""The order in which anyio's cancel scopes are cancelled inside `run()`.

A cancel scope, and so a task group of anyio, keeps the scopes within it in a set, and cancels them in the
order of that set.  By their addresses it would be another one in each process, and with it the order in which
clean-up code asks for its steps: uses of one name would change places.  So scopes that are made in a run's
loop are numbered as its tasks are, and hash by their numbers.  All others hash as before.

anyio has no place where that could be asked for, so its class is given another `__init__` and `__hash__`,
once and only when somebody imported anyio.  A version of it that keeps its scopes otherwise is left alone.
"""

from __future__ import annotations

import sys
import weakref
from asyncio.events import (  # what a loop that is no policy's uses to say that it runs
    _get_running_loop,  # pyright: ignore[reportPrivateUsage]
)
from importlib import import_module
from typing import Any, Final

_BACKEND: Final = "anyio._backends._asyncio"
# By the identity of a scope that lives: its number, and what takes the entry away when it is freed.
_numbers: dict[int, tuple[int, weakref.ref[object]]] = {}
_done = False


def order_cancel_scopes() -> None:
    """Let cancel scopes of runs be ordered, when anyio is there; called whenever run() goes on."""
    global _done
    if _done or "anyio" not in sys.modules:
        return
    _done = True
    try:
        scopes: Any = import_module(_BACKEND).CancelScope
        make = scopes.__init__
        weakref.ref(scopes())
    except (ImportError, AttributeError, TypeError):
        return  # another anyio than is known here

    def init(scope: object, *args: Any, **kwargs: Any) -> None:
        make(scope, *args, **kwargs)
        next_number = getattr(_get_running_loop(), "next_hash", None)  # only a run's loop has it
        if next_number is not None:
            key = id(scope)
            _numbers[key] = next_number(), weakref.ref(scope, lambda _: _numbers.pop(key, None))

    def number(scope: object) -> int:
        known = _numbers.get(id(scope))
        return object.__hash__(scope) if known is None else known[0]

    scopes.__init__, scopes.__hash__ = init, number
