"""The runtime of an application, as its handlers find it: by its lifespan (actors/embedding.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from starlette.applications import Starlette
from starlette.requests import HTTPConnection

from ..actors.embedding import STATE_NAME
from ..runtime.errors import NotRunning

if TYPE_CHECKING:
    from ..actors.system import Runtime


def runtime_of(asked: HTTPConnection | Starlette) -> Runtime:
    """The runtime whose lifespan the application of a request or WebSocket has, or that application itself.

    Raises `NotRunning` when it has none, or its lifespan was not begun.
    """
    app: object = asked
    if isinstance(asked, HTTPConnection):
        found: object = getattr(asked.state, STATE_NAME, None)
        if found is not None:
            return cast("Runtime", found)
        app = asked.scope.get("app")
    found = getattr(getattr(app, "state", None), STATE_NAME, None)
    if found is None:
        raise NotRunning(
            "this application has no runtime: give it lifespan=rt.lifespan, or rt.lifespan_with(your own), "
            "and let its server or test run the lifespan"
        )
    return cast("Runtime", found)
