"""What `rt.asgi` makes its app with: the service, imported when it is first asked for.

The runtime stands below the service and must not know it; the front door knows both, and puts them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from holdfast.actors.system import Runtime

if TYPE_CHECKING:
    from holdfast.actors.embedding import AsgiApp, AsgiOptions, EmbeddingCalls


def make_asgi_app(runtime: EmbeddingCalls, options: AsgiOptions, /) -> AsgiApp:
    """See `Runtime.asgi`."""
    from holdfast.service import http_app

    return cast("AsgiApp", http_app(cast("Runtime", runtime), **cast("dict[str, Any]", options)))


def plug_in() -> None:
    """From now on a runtime knows how."""
    Runtime.make_asgi_app = staticmethod(make_asgi_app)
