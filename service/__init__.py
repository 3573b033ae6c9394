"""What people and other programs reach a runtime by: HTTP, WebSocket and server-sent events.

Needs `holdfast[service]`.

    from holdfast.service import Token, event_stream, http_app, serve_websocket

The adapters are for Starlette, and so for FastAPI; they know the runtime, which knows nothing of them.
"""

from .access import Token
from .app import http_app
from .event_stream import event_stream
from .websocket import serve_websocket

__all__ = ["Token", "event_stream", "http_app", "serve_websocket"]
