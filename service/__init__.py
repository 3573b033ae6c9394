"""What people and other programs reach a runtime by: HTTP, WebSocket and server-sent events.

Needs `holdfast[service]`.

    from holdfast.service import Token, event_stream, http_app, serve_websocket
    from holdfast.service.fastapi import actor, runtime
    from holdfast.service.aiohttp import add_runtime

The adapters are for Starlette, and so for FastAPI; they know the runtime, which knows nothing of them.
"""

from ..actors.errors import MissingPackage

try:
    from .access import Token
    from .app import http_app
    from .error_handler import error_handler
    from .event_stream import event_stream
    from .runtime_of import runtime_of
    from .websocket import serve_websocket
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing not in ("anyio", "starlette"):
        raise
    raise MissingPackage(
        f"the service of Holdfast needs {missing}, which isn't installed: pip install 'holdfast[service]'"
    ) from error

__all__ = ["Token", "error_handler", "event_stream", "http_app", "runtime_of", "serve_websocket"]
