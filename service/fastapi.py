"""What endpoints of FastAPI depend on: the runtime, and the actor that a request means.

    @app.post("/carts/{user}/items")
    async def add(item: Item, cart: Annotated[Cart, Depends(actor(Cart, "user"))]) -> int:
        return await cart.add(item.sku, item.count)

The dependencies are coroutines, since FastAPI calls plain functions in a thread, where no runtime serves.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection

from ..runtime.actor import Actor
from .runtime_of import runtime_of

if TYPE_CHECKING:
    from ..actors.system import Runtime
    from ..runtime.address import GivenKey

A = TypeVar("A", bound=Actor)


async def runtime(connection: HTTPConnection) -> Runtime:
    """The runtime of the application; see `runtime_of`."""
    return runtime_of(connection)


def actor(
    actor_type: type[A],
    key: str | Callable[..., GivenKey | Awaitable[GivenKey]] = "key",
    *,
    key_type: type[str] | type[int] | type[UUID] = str,
) -> Callable[..., Awaitable[A]]:
    """A dependency: the ref of an actor of this type.  Nothing is touched by that.

    key        the path parameter that is its key, or a dependency that returns the key (who is logged in,
               say)
    key_type   how the path parameter is read; 422 for what isn't one

    A key that no actor can have (longer than 500 bytes, say) raises `InvalidKey`.
    """

    async def find(connection: HTTPConnection, **given: GivenKey) -> A:
        (found,) = given.values()
        return runtime_of(connection).get(actor_type, found)

    # FastAPI reads the parameters here, so the documents have the path parameter with its type.
    by_position, by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    name, annotation = (key, key_type) if isinstance(key, str) else ("key", Annotated[object, Depends(key)])
    find.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("connection", by_position, annotation=HTTPConnection),
            inspect.Parameter(name, by_name, annotation=annotation),
        ]
    )
    return find
