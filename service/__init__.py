"""What people and other programs reach a runtime by: WebSocket and server-sent events.

Needs `holdfast[service]`.

    from holdfast.service import serve_websocket, event_stream

The adapters are for Starlette, and so for FastAPI; they know the runtime, which knows nothing of them.
"""

from .event_stream import event_stream
from .websocket import serve_websocket

__all__ = ["event_stream", "serve_websocket"]
